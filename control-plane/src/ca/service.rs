//! The gRPC service by which workloads get their certificates.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};
use tulle_proto::ca::v1::{
    IssueRequest, IssueResponse, certificate_service_server::CertificateService,
};
use tulle_runtime::seldom::Seldom;

use super::{
    attest::{Attestor, Refusal},
    issue::{Authority, IssueError, Issued},
};
use crate::metrics::{Metrics, Outcome};

/// Longest request, in bytes: a signing request is some hundred.
pub const MAX_REQUEST: usize = 64 << 10;

/// Whoever can connect can have as many as it likes.
static REFUSALS: Seldom = Seldom::new();

/// Attests and issues.
#[derive(Debug)]
pub struct Certificates {
    /// Who asks?
    pub attestor: Attestor,
    /// Who signs?
    pub authority: Authority,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let issued = self.answer(&request).await;
        let has_one = issued.as_ref().is_ok_and(|issued| !issued.chain.is_empty());
        let outcome = if has_one { Outcome::Issued } else { Outcome::Refused };
        self.metrics.certificates.get_or_create(&outcome.into()).inc();
        issued.map(Response::new).inspect_err(|status| {
            let peer = request.remote_addr().map(|address| address.to_string());
            if let Some(unsaid) = REFUSALS.now() {
                let reason = status.message();
                tracing::warn!(peer, reason, unsaid, "no certificate was issued");
            }
        })
    }
}

impl Certificates {
    async fn answer(&self, request: &Request<IssueRequest>) -> Result<IssueResponse, Status> {
        let token = bearer(request.metadata())?;
        let attested = self.attestor.attest(token).await.map_err(|refusal| match refusal {
            // Ours to put right, not the caller's.
            Refusal::Keys(_) | Refusal::Unavailable(_) => Status::unavailable(refusal.to_string()),
            _ => Status::unauthenticated(refusal.to_string()),
        })?;
        let (pod, identity) = (&attested.pod, &attested.identity);
        let (chain, root) = match self.authority.workload(&attested, &request.get_ref().csr) {
            Ok(Issued { chain, root }) => {
                tracing::info!(%pod, %identity, "certificate issued");
                (chain, root)
            }
            // Who has a certificate learns all the same whom to trust.
            Err(IssueError::NotYet(root)) => {
                tracing::info!(%pod, %identity, "no certificate yet, the roots alone");
                (Vec::new(), root)
            }
            Err(error @ IssueError::Csr(_)) => {
                return Err(Status::invalid_argument(error.to_string()));
            }
            Err(error @ IssueError::Sign(_)) => return Err(Status::internal(error.to_string())),
        };
        Ok(IssueResponse {
            chain: chain.iter().map(|certificate| certificate.to_vec().into()).collect(),
            roots: root.trusted().iter().map(|root| root.to_vec().into()).collect(),
        })
    }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let missing = || {
        Status::unauthenticated(
            "no token; send `authorization: Bearer TOKEN` with the pod's ServiceAccount token",
        )
    };
    let header = metadata.get("authorization").ok_or_else(missing)?;
    let text = header.to_str().map_err(|_binary| missing())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).ok_or_else(missing)
}
