//! Who is it? The API server says, by TokenReview.
//!
//! It checks the signature, the time, the audience, and that the pod that a token is bound to is still there with the same
//! uid: <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>. What does not even
//! say that it is for us is not asked about: strangers who send junk may not keep the API server busy with our rights.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{
    ca::attest::{Claims, Refusal, Verify},
    world::objects::Name,
};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const ACCOUNT: &str = "system:serviceaccount:";

/// Questions to the API server at once.
const AT_ONCE: usize = 32;

/// Proves by asking.
#[derive(Clone)]
pub struct TokenReviews {
    api: Api<TokenReview>,
    audience: String,
    turns: Arc<Semaphore>,
}

impl TokenReviews {
    pub(super) fn new(client: Client, audience: String) -> Self {
        Self { api: Api::all(client), audience, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[tonic::async_trait]
impl Verify for TokenReviews {
    async fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        said(token, &self.audience)?;
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|closed| Refusal::Unavailable(closed.to_string()))?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![self.audience.clone()]),
            },
            ..TokenReview::default()
        };
        let asked = self.api.create(&PostParams::default(), &review).await;
        let status = asked.map_err(|error| Refusal::Unavailable(error.to_string()))?.status;
        let status = status.unwrap_or_default();
        if status.authenticated != Some(true) {
            let error = status.error.unwrap_or_else(|| "it is not authentic".to_owned());
            return Err(Refusal::Reviewed(error));
        }
        // An authenticator that knows no audiences says none, and would take any token for ours.
        if !status.audiences.iter().flatten().any(|audience| *audience == self.audience) {
            return Err(Refusal::Audience(self.audience.clone()));
        }
        claims(status.user.unwrap_or_default())
    }
}

/// What a token says of itself, whoever signed it: that it is for `audience`, and bound to a pod.
fn said(token: &str, audience: &str) -> Result<(), Refusal> {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let said: Value = payload
        .and_then(|payload| serde_json::from_slice(&payload).ok())
        .ok_or(Refusal::Malformed)?;
    let ours = |one: &Value| one == audience;
    if !ours(&said["aud"]) && !said["aud"].as_array().is_some_and(|all| all.iter().any(ours)) {
        return Err(Refusal::Audience(audience.to_owned()));
    }
    match said["kubernetes.io"]["pod"]["uid"].is_string() {
        true => Ok(()),
        false => Err(Refusal::Unbound),
    }
}

fn claims(user: UserInfo) -> Result<Claims, Refusal> {
    let account = user.username.as_deref().and_then(|name| name.strip_prefix(ACCOUNT));
    let (namespace, account) =
        account.and_then(|name| name.split_once(':')).ok_or(Refusal::Unbound)?;
    let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
    let one = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
    let (Some(pod), Some(pod_uid)) = (one(POD_NAME), one(POD_UID)) else {
        return Err(Refusal::Unbound);
    };
    Ok(Claims {
        account: account.to_owned(),
        pod: Name::new(namespace, pod),
        pod_uid,
        node: one(NODE_NAME),
    })
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviews").field("audience", &self.audience).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, extra: &[(&str, &str)]) -> UserInfo {
        let extra = extra.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()]));
        UserInfo {
            username: Some(name.to_owned()),
            extra: Some(extra.collect()),
            ..UserInfo::default()
        }
    }

    #[test]
    fn what_is_not_for_us_is_not_asked_about() {
        let token = |claims: &str| format!("{{}}.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let bound = r#""kubernetes.io": {"pod": {"name": "web-1", "uid": "u"}}"#;
        for aud in [r#""tulle""#, r#"["api", "tulle"]"#] {
            said(&token(&format!(r#"{{"aud": {aud}, {bound}}}"#)), "tulle").unwrap();
        }
        let refusal = |token: &str| said(token, "tulle").unwrap_err();
        let other = token(&format!(r#"{{"aud": ["api"], {bound}}}"#));
        assert!(matches!(refusal(&other), Refusal::Audience(_)));
        assert!(matches!(refusal(&token(r#"{"aud": "tulle"}"#)), Refusal::Unbound));
        for junk in ["", "a.b.c", "..", "a.e30", &token("[]"), &token("{")] {
            assert!(said(junk, "tulle").is_err(), "{junk}");
        }
    }

    #[test]
    fn only_tokens_of_pods_prove_something() {
        let bound = [(POD_NAME, "web-1"), (POD_UID, "uid-1"), (NODE_NAME, "n1")];
        let claims = claims(user("system:serviceaccount:shop:web", &bound)).unwrap();
        assert_eq!(claims.pod, Name::new("shop", "web-1"));
        assert_eq!((claims.account.as_str(), claims.pod_uid.as_str()), ("web", "uid-1"));
        assert_eq!(claims.node.as_deref(), Some("n1"));
        for (name, extra) in [
            ("system:serviceaccount:shop:web", &bound[..1]),
            ("system:serviceaccount:shop:web", &[]),
            ("system:serviceaccount:shop", &bound[..]),
            ("system:node:n1", &bound[..]),
        ] {
            assert!(matches!(super::claims(user(name, extra)), Err(Refusal::Unbound)), "{name}");
        }
    }
}
