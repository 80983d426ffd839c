//! Token → identity and pod.
//!
//! The token is a Kubernetes ServiceAccount token that is bound to a pod, for our audience. It
//! proves the ServiceAccount by its signature, and the pod because that pod still exists with the
//! same uid and ServiceAccount.

use std::{fmt, sync::Arc};

use tulle_xds::model::SpiffeId;

use super::keys::BadKeys;
use crate::{roster::Roster, world::objects::Name};

/// Whoever can tell whether a token is genuine.
#[tonic::async_trait]
pub trait Verify: fmt::Debug + Send + Sync {
    /// What a token says, if it is genuine, in time, for our audience, and bound to a pod.
    ///
    /// # Errors
    /// Why it is not.
    async fn verify(&self, token: &str) -> Result<Claims, Refusal>;
}

/// What a genuine token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The ServiceAccount, of the pod's namespace.
    pub account: String,
    /// The pod that it is bound to.
    pub pod: Name,
    /// Its uid.
    pub pod_uid: String,
    /// The node that the pod runs on, where the token says it.
    pub node: Option<String>,
}

/// Proves identities.
#[derive(Debug, Clone)]
pub struct Attestor {
    /// Who says whether a token is genuine.
    pub tokens: Arc<dyn Verify>,
    /// Trust domain of the identities.
    pub trust_domain: String,
    /// The pods that there are.
    pub roster: Roster,
}

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The identity.
    pub identity: SpiffeId,
    /// The pod.
    pub pod: Name,
    /// Its uid.
    pub pod_uid: String,
    /// Name of the workload that it is of.
    pub workload: String,
}

/// Why nothing was proven.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("no token keys: {0}")]
    Keys(#[from] BadKeys),
    #[error("the token is malformed")]
    Malformed,
    #[error("the token is not signed with a key that is trusted")]
    Signature,
    #[error("the token is for another audience; it must be for {0:?}")]
    Audience(String),
    #[error("the token is not from issuer {0:?}")]
    Issuer(String),
    #[error("the token has expired; read the file anew at each use")]
    Expired,
    #[error("the token is not valid yet; do the clocks agree?")]
    Early,
    #[error("the token is not bound to a pod; use a projected ServiceAccount token")]
    Unbound,
    #[error("the token's subject is not the ServiceAccount that it is bound to")]
    Subject,
    #[error("the API server refuses the token: {0}")]
    Reviewed(String),
    #[error("the API server cannot be asked about the token: {0}")]
    Unavailable(String),
    #[error("pod {0} does not exist (yet)")]
    NoPod(Name),
    #[error("pod {0} is not the one that the token is bound to: its uid is another")]
    OtherPod(Name),
    #[error("pod {0} does not run as ServiceAccount {1}")]
    OtherAccount(Name, String),
    #[error("pod {0} does not run on node {1}, where the token was made")]
    OtherNode(Name, String),
}

impl Attestor {
    /// What `token` proves.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub async fn attest(&self, token: &str) -> Result<Attested, Refusal> {
        let Claims { account, pod: name, pod_uid, node } = self.tokens.verify(token).await?;
        let member = self.roster.get(&name).ok_or_else(|| Refusal::NoPod(name.clone()))?;
        if member.uid != pod_uid {
            return Err(Refusal::OtherPod(name));
        }
        if member.service_account != account {
            return Err(Refusal::OtherAccount(name, account));
        }
        if let Some(node) = node.filter(|node| *node != member.here.node) {
            return Err(Refusal::OtherNode(name, node));
        }
        let identity = SpiffeId::service_account(&self.trust_domain, &name.namespace, &account);
        Ok(Attested { identity, pod: name, pod_uid, workload: member.owner.1 })
    }
}

#[cfg(test)]
mod tests;
