//! Token → identity and pod.
//!
//! The token is a Kubernetes ServiceAccount token that is bound to a pod, for our audience. It
//! proves the ServiceAccount by its signature, and the pod because that pod still exists with the
//! same uid and ServiceAccount.

use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use tulle_xds::model::SpiffeId;

use super::keys::{BadKeys, TokenKeys};
use crate::{roster::Roster, world::objects::Name};

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 10;

/// Proves identities.
#[derive(Debug, Clone)]
pub struct Attestor {
    /// Keys that tokens are signed with.
    pub keys: TokenKeys,
    /// Who must have issued a token; `None` accepts any issuer whose key we have.
    pub issuer: Option<String>,
    /// For whom a token must be.
    pub audience: String,
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
    #[error("pod {0} does not exist (yet)")]
    NoPod(Name),
    #[error("pod {0} is not the one that the token is bound to: its uid is another")]
    OtherPod(Name),
    #[error("pod {0} does not run as ServiceAccount {1}")]
    OtherAccount(Name, String),
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

/// <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>
#[derive(Debug, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    #[serde(default)]
    uid: String,
}

impl Attestor {
    /// What `token` proves.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn attest(&self, token: &str) -> Result<Attested, Refusal> {
        let claims = self.verify(token)?;
        let bound = claims.kubernetes.ok_or(Refusal::Unbound)?;
        let pod = bound.pod.filter(|pod| !pod.uid.is_empty()).ok_or(Refusal::Unbound)?;
        let account = bound.serviceaccount.name;
        if claims.sub != format!("system:serviceaccount:{}:{account}", bound.namespace) {
            return Err(Refusal::Subject);
        }
        let name = Name::new(&bound.namespace, pod.name);
        let member = self.roster.get(&name).ok_or_else(|| Refusal::NoPod(name.clone()))?;
        if member.uid != pod.uid {
            return Err(Refusal::OtherPod(name));
        }
        if member.service_account != account {
            return Err(Refusal::OtherAccount(name, account));
        }
        let identity = SpiffeId::service_account(&self.trust_domain, &bound.namespace, &account);
        Ok(Attested { identity, pod: name, pod_uid: pod.uid, workload: member.workload })
    }

    fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let header = decode_header(token).map_err(|_malformed| Refusal::Malformed)?;
        let keys = self.keys.current()?;
        let candidates = keys.iter().filter(|key| {
            let same_id = header.kid.is_none() || key.id.is_none() || header.kid == key.id;
            same_id && key.algorithm == header.alg
        });
        let mut refusal = Refusal::Signature;
        for key in candidates {
            let mut validation = Validation::new(key.algorithm);
            validation.leeway = LEEWAY;
            validation.validate_nbf = true;
            validation.set_required_spec_claims(&["exp", "aud", "sub"]);
            validation.set_audience(&[&self.audience]);
            if let Some(issuer) = &self.issuer {
                validation.set_issuer(&[issuer]);
                validation.required_spec_claims.insert("iss".to_owned());
            }
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => match self.refusal(error.kind()) {
                    // Perhaps another key fits.
                    Refusal::Signature => {}
                    other => refusal = other,
                },
            }
        }
        Err(refusal)
    }

    fn refusal(&self, error: &ErrorKind) -> Refusal {
        match error {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Refusal::Signature,
            ErrorKind::ExpiredSignature => Refusal::Expired,
            ErrorKind::ImmatureSignature => Refusal::Early,
            ErrorKind::InvalidAudience => Refusal::Audience(self.audience.clone()),
            ErrorKind::InvalidIssuer => Refusal::Issuer(self.issuer.clone().unwrap_or_default()),
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => {
                Refusal::Audience(self.audience.clone())
            }
            _ => Refusal::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
