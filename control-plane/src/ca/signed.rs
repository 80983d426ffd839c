//! Is a token genuine? By the public keys that tokens are signed with.

use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

use super::{
    attest::{Claims, Refusal, Verify},
    keys::TokenKeys,
};
use crate::world::objects::Name;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 10;

/// Tokens that are signed with keys that we have.
#[derive(Debug, Clone)]
pub struct SignedTokens {
    /// The keys.
    pub keys: TokenKeys,
    /// Who must have issued a token; `None` accepts any issuer whose key we have.
    pub issuer: Option<String>,
    /// For whom a token must be.
    pub audience: String,
}

#[derive(Debug, Deserialize)]
struct Said {
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
    node: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    #[serde(default)]
    uid: String,
}

#[tonic::async_trait]
impl Verify for SignedTokens {
    async fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let said = self.read(token)?;
        let bound = said.kubernetes.ok_or(Refusal::Unbound)?;
        let pod = bound.pod.filter(|pod| !pod.uid.is_empty()).ok_or(Refusal::Unbound)?;
        let account = bound.serviceaccount.name;
        if said.sub != format!("system:serviceaccount:{}:{account}", bound.namespace) {
            return Err(Refusal::Subject);
        }
        let node = bound.node.map(|node| node.name);
        let name = Name::new(&bound.namespace, pod.name);
        Ok(Claims { account, pod: name, pod_uid: pod.uid, node })
    }
}

impl SignedTokens {
    fn read(&self, token: &str) -> Result<Said, Refusal> {
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
            match decode::<Said>(token, &key.key, &validation) {
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
