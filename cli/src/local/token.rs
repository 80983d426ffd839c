//! Workload tokens in the form of Kubernetes' bound ServiceAccount tokens.
//!
//! One ES256 key per run of the mesh. The control plane holds the public half (a JWKS file) and
//! checks tokens with it as it would check those of a cluster.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Who signs: what Kubernetes calls itself by default.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc";

/// Signs the tokens of one mesh.
pub(super) struct Signer {
    key: EncodingKey,
    id: String,
    public: Value,
}

/// Whose token it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bearer<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) pod_uid: &'a str,
    pub(super) service_account: &'a str,
}

/// No token could be signed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign workload tokens: {0}")]
pub(crate) struct SignError(String);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// The crypto library has no randomness.
    pub(super) fn generate() -> Result<Self, SignError> {
        let failed = |what: &dyn std::fmt::Display| SignError(what.to_string());
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|error| failed(&error))?;
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).map_err(|error| failed(&error))?;
        // An uncompressed point (SEC 1, 2.3.3): 4, then x and y of 32 bytes each.
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(SignError("the public key has an unknown form".to_owned()));
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638: the thumbprint of the key is its id.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        let public = json!({
            "keys": [{
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y,
            }]
        });
        Ok(Self { key: EncodingKey::from_ec_der(pkcs8.as_ref()), id, public })
    }

    /// The public key as a JWKS (RFC 7517).
    pub(super) fn jwks(&self) -> String {
        self.public.to_string()
    }

    /// A token for `audience`, valid from `now` (seconds since 1970) for `lifetime` seconds.
    ///
    /// # Errors
    /// The crypto library refused.
    pub(super) fn sign(
        &self,
        bearer: Bearer<'_>,
        audience: &str,
        now: u64,
        lifetime: u64,
    ) -> Result<String, SignError> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &claims(bearer, audience, now, lifetime), &self.key)
            .map_err(|error| SignError(error.to_string()))
    }
}

#[derive(Serialize)]
struct Claims {
    aud: Vec<String>,
    exp: u64,
    iat: u64,
    nbf: u64,
    iss: &'static str,
    jti: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Value,
}

fn claims(bearer: Bearer<'_>, audience: &str, now: u64, lifetime: u64) -> Claims {
    let Bearer { namespace, pod, pod_uid, service_account } = bearer;
    Claims {
        aud: vec![audience.to_owned()],
        exp: now + lifetime,
        iat: now,
        nbf: now,
        iss: ISSUER,
        jti: uuid::Uuid::new_v4().to_string(),
        sub: format!("system:serviceaccount:{namespace}:{service_account}"),
        kubernetes: json!({
            "namespace": namespace,
            "pod": {"name": pod, "uid": pod_uid},
            "serviceaccount": {
                "name": service_account,
                "uid": stable_uid(&format!("ServiceAccount/{namespace}/{service_account}")),
            },
        }),
    }
}

/// A UUID that the same object always gets: of objects whose making nobody records.
pub(super) fn stable_uid(of: &str) -> String {
    let digest = Sha256::digest(of);
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(digest) {
        *byte = from;
    }
    // RFC 9562, 5.8: version 8, the bits are ours.
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};

    use super::*;

    const BEARER: Bearer<'_> =
        Bearer { namespace: "shop", pod: "cart-1", pod_uid: "u-1", service_account: "cart" };

    #[test]
    fn a_token_verifies_against_the_published_key_and_says_who_bears_it() {
        let signer = Signer::generate().unwrap();
        let now = jsonwebtoken::get_current_timestamp();
        let token = signer.sign(BEARER, "tulle", now, 600).unwrap();

        let keys: JwkSet = serde_json::from_str(&signer.jwks()).unwrap();
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["tulle"]);
        validation.set_issuer(&[ISSUER]);
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;

        assert_eq!(claims["sub"], "system:serviceaccount:shop:cart");
        assert_eq!(claims["kubernetes.io"]["pod"], json!({"name": "cart-1", "uid": "u-1"}));
        assert_eq!(claims["kubernetes.io"]["namespace"], "shop");
        assert_eq!(claims["exp"], now + 600);

        validation.set_audience(&["other"]);
        assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_err());
    }

    #[test]
    fn uids_of_service_accounts_are_stable() {
        assert_eq!(stable_uid("a"), stable_uid("a"));
        assert_ne!(stable_uid("a"), stable_uid("b"));
    }
}
