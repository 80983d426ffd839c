//! The webhook's port: HTTPS, asked by the API server about each new pod.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use rustls::ServerConfig;
use serde_json::Value;
use tulle_runtime::http::{Handler, Terms, answer, text};

use super::TlsError;
use crate::{
    ca::server_certificate::ServerCertificate,
    inject::{
        Settings,
        admission::{self, Verdict},
    },
    metrics::{Admission, Metrics},
};

/// Where the API server asks about pods of namespaces that want sidecars.
pub(crate) const ENABLED: &str = "/inject/enabled";
/// And about single pods of others.
pub(crate) const SINGLE: &str = "/inject/single";

/// A pod is at most 1.5 MiB (what etcd takes), and comes once.
pub fn terms() -> Terms {
    Terms { body: 3 << 20, ..Terms::default() }
}

/// The TLS side of the port: whoever asks has no certificate of ours, the API server knows us by the roots in the webhook's
/// configuration.
///
/// # Errors
/// If the provider has no TLS.
pub fn tls(certificate: Arc<ServerCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What answers.
#[derive(Debug)]
pub struct Webhook {
    /// What it adds.
    pub settings: Settings,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl Webhook {
    fn decide(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let enabled = match (request.method(), request.uri().path()) {
            (&Method::POST, ENABLED) => true,
            (&Method::POST, SINGLE) => false,
            _ => return text(StatusCode::NOT_FOUND, "POST an AdmissionReview to /inject/…\n"),
        };
        let review: Value = match serde_json::from_slice(request.body()) {
            Ok(review) => review,
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("no JSON: {error}\n")),
        };
        let answered = match admission::review(&review, enabled, &self.settings) {
            Ok(answered) => answered,
            Err(reason) => return text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        };
        let pod = &answered.pod;
        let outcome = match &answered.verdict {
            Verdict::Injected => {
                tracing::info!(pod, "sidecar added");
                Admission::Injected
            }
            Verdict::Amended => {
                tracing::info!(pod, "containers came later: the sidecar makes their probes, too");
                Admission::Skipped
            }
            Verdict::Skipped(skip) => {
                tracing::debug!(pod, %skip, "no sidecar");
                Admission::Skipped
            }
            Verdict::Refused(reason) => {
                tracing::warn!(pod, reason, "pod refused");
                Admission::Refused
            }
        };
        self.metrics.admissions.get_or_create(&outcome.into()).inc();
        answer(StatusCode::OK, "application/json", answered.review.to_string())
    }
}

impl Handler for Webhook {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.decide(&request)
    }
}
