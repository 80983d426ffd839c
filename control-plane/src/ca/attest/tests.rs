use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use super::*;
use crate::ca::{keys::TokenKeys, signed::SignedTokens};
use crate::world::objects::Pod;

struct Issuer {
    directory: tempfile::TempDir,
    key: KeyPair,
    attestor: Attestor,
}

fn issuer() -> Issuer {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, jwks(&key, "k1").to_string()).unwrap();
    let roster = Roster::default();
    let pod = pod("reviews", "uid-1");
    roster.set(&pod.name, Some(&pod), "");
    let attestor = Attestor {
        tokens: Arc::new(SignedTokens {
            keys: TokenKeys::new(path),
            issuer: Some("https://issuer".to_owned()),
            audience: "tulle".to_owned(),
        }),
        trust_domain: "cluster.local".to_owned(),
        roster,
    };
    Issuer { directory, key, attestor }
}

fn pod(account: &str, uid: &str) -> Pod {
    Pod::plain(Name::new("shop", "reviews-1"), account, uid)
}

fn jwks(key: &KeyPair, id: &str) -> Value {
    let point = key.der_bytes();
    json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id,
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
    }]})
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer", "aud": ["tulle"], "exp": now() + 600, "nbf": now(), "iat": now(),
        "sub": "system:serviceaccount:shop:reviews",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "reviews", "uid": "sa-uid"},
            "pod": {"name": "reviews-1", "uid": "uid-1"},
        },
    })
}

fn sign(key: &KeyPair, claims: &Value) -> String {
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::ES256) };
    encode(&header, claims, &EncodingKey::from_ec_der(key.serialized_der())).unwrap()
}

impl Issuer {
    async fn refusal(&self, change: impl FnOnce(&mut Value)) -> Refusal {
        let mut claims = claims();
        change(&mut claims);
        self.attestor.attest(&sign(&self.key, &claims)).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_good_token_proves_pod_and_account() {
    let issuer = issuer();
    let attested = issuer.attestor.attest(&sign(&issuer.key, &claims())).await.unwrap();
    assert_eq!(attested.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/reviews");
    assert_eq!(attested.pod, Name::new("shop", "reviews-1"));
    assert_eq!(attested.pod_uid, "uid-1");
}

#[tokio::test]
async fn each_claim_counts() {
    let issuer = issuer();
    let refusal = |change: fn(&mut Value)| issuer.refusal(change);
    assert!(matches!(refusal(|c| c["aud"] = json!(["api"])).await, Refusal::Audience(_)));
    assert!(matches!(refusal(|c| c["aud"] = Value::Null).await, Refusal::Audience(_)));
    assert!(matches!(refusal(|c| c["iss"] = json!("https://other")).await, Refusal::Issuer(_)));
    assert!(matches!(refusal(|c| c["exp"] = json!(now() - 60)).await, Refusal::Expired));
    assert!(matches!(refusal(|c| c["nbf"] = json!(now() + 60)).await, Refusal::Early));
    assert!(matches!(refusal(|c| c["kubernetes.io"] = Value::Null).await, Refusal::Unbound));
    assert!(matches!(refusal(|c| c["kubernetes.io"]["pod"] = Value::Null).await, Refusal::Unbound));
    let subject = |c: &mut Value| c["sub"] = json!("system:serviceaccount:shop:admin");
    assert!(matches!(issuer.refusal(subject).await, Refusal::Subject));
    let other = |c: &mut Value| c["kubernetes.io"]["pod"]["uid"] = json!("uid-0");
    assert!(matches!(issuer.refusal(other).await, Refusal::OtherPod(_)));
    let gone = |c: &mut Value| c["kubernetes.io"]["pod"]["name"] = json!("reviews-0");
    assert!(matches!(issuer.refusal(gone).await, Refusal::NoPod(_)));
    assert!(matches!(refusal(|c| c["exp"] = Value::Null).await, Refusal::Malformed));
}

#[tokio::test]
async fn the_pod_must_run_as_the_account() {
    let issuer = issuer();
    let pod = pod("other", "uid-1");
    issuer.attestor.roster.set(&pod.name, Some(&pod), "");
    assert!(matches!(issuer.refusal(|_| {}).await, Refusal::OtherAccount(..)));
    let moved = |c: &mut Value| c["kubernetes.io"]["node"] = json!({"name": "n2"});
    issuer.attestor.roster.set(&pod.name, Some(&self::pod("reviews", "uid-1")), "");
    assert!(matches!(issuer.refusal(moved).await, Refusal::OtherNode(..)));
    issuer.attestor.roster.set(&pod.name, None, "");
    assert!(matches!(issuer.refusal(|_| {}).await, Refusal::NoPod(_)));
}

#[tokio::test]
async fn only_trusted_keys_sign() {
    let issuer = issuer();
    let stranger = KeyPair::generate().unwrap();
    let forged = sign(&stranger, &claims());
    assert!(matches!(issuer.attestor.attest(&forged).await.unwrap_err(), Refusal::Signature));
    // Without signature, and signed with the public key as if it were a shared secret.
    let parts: Vec<_> = forged.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let unsigned = format!("{none}.{}.", parts[1]);
    assert!(matches!(issuer.attestor.attest(&unsigned).await.unwrap_err(), Refusal::Malformed));
    let secret = EncodingKey::from_secret(issuer.key.der_bytes());
    let confused = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
    assert!(matches!(issuer.attestor.attest(&confused).await.unwrap_err(), Refusal::Signature));
    for junk in ["", "a.b.c", "..", "\u{0}"] {
        assert!(matches!(issuer.attestor.attest(junk).await.unwrap_err(), Refusal::Malformed));
    }
}

#[tokio::test]
async fn keys_are_read_anew_and_outlive_a_broken_file() {
    let issuer = issuer();
    issuer.attestor.attest(&sign(&issuer.key, &claims())).await.unwrap();
    let next = KeyPair::generate().unwrap();
    let path = issuer.directory.path().join("keys.json");
    let both = [jwks(&issuer.key, "k1")["keys"][0].clone(), jwks(&next, "k1")["keys"][0].clone()];
    std::fs::write(&path, json!({"keys": both}).to_string()).unwrap();
    issuer.attestor.attest(&sign(&next, &claims())).await.unwrap();
    issuer.attestor.attest(&sign(&issuer.key, &claims())).await.unwrap();
    std::fs::write(&path, "junk").unwrap();
    issuer.attestor.attest(&sign(&next, &claims())).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    issuer.attestor.attest(&sign(&next, &claims())).await.unwrap();
}
