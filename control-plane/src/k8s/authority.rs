//! The root, in a Secret of our own namespace, in the form that cert-manager writes: `tls.crt` (who signs, and whoever is
//! between it and a root), `tls.key`, `ca.crt` (the roots).
//!
//! Made once, by whichever replica comes first, if it is not there. Whoever brings one of their own changes it there, without
//! a restart: how a new root takes over is in `overlap`.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use time::OffsetDateTime;

use super::{Pause, conflict, not_found, overlap};
use crate::ca::{
    overlap::Record,
    root::{BadMaterial, Material, Root},
    roots::Roots,
};

/// Name of the Secret.
pub const SECRET: &str = "tulle-ca";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOTS: &str = "ca.crt";

/// Tries to reach the API server at the start, before giving up: the kubelet tries again.
const TRIES: usize = 8;

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthorityError {
    #[error("Secret {SECRET}: {0}")]
    Api(#[from] kube::Error),
    #[error("ConfigMap tulle-roots of the control plane's namespace: {0}")]
    Record(kube::Error),
    #[error("Secret {SECRET}: {0} is missing")]
    Missing(&'static str),
    #[error("Secret {SECRET}: {0}; put it right, or delete it to have one made")]
    Bad(#[from] BadMaterial),
    #[error("making a root: {0}")]
    Make(String),
}

/// The root of the Secret, made if that is not there, and those that are trusted beside it.
pub(super) async fn load_or_make(
    client: &Client,
    namespace: &str,
    trust_domain: &str,
) -> Result<Roots, AuthorityError> {
    let mut pause = Pause::default();
    let mut tries = 0;
    let (secret, record) = loop {
        tries += 1;
        match get(client, namespace, trust_domain).await {
            Err(AuthorityError::Api(error) | AuthorityError::Record(error))
                if tries < TRIES && passes(&error) =>
            {
                tracing::warn!(%error, "Secret {SECRET} cannot be had; trying again");
                pause.wait().await;
            }
            had => break had?,
        }
    };
    let root = Root::from_pem(&material(secret)?, trust_domain)?;
    Ok(Roots::new(record.in_force(&root, &root, OffsetDateTime::now_utc())))
}

async fn get(
    client: &Client,
    namespace: &str,
    trust_domain: &str,
) -> Result<(Secret, Record), AuthorityError> {
    let secret = get_or_make(&Api::namespaced(client.clone(), namespace), trust_domain).await?;
    let record = overlap::read(client, namespace).await.map_err(AuthorityError::Record)?;
    Ok((secret, record))
}

/// Whether it may be over the next time: a refusal is not.
fn passes(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 409)
}

async fn get_or_make(api: &Api<Secret>, trust_domain: &str) -> Result<Secret, AuthorityError> {
    match api.get(SECRET).await {
        Ok(secret) => return Ok(secret),
        Err(error) if not_found(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let made = Root::generate(trust_domain).map_err(|e| AuthorityError::Make(e.to_string()))?;
    let of = |name: &str, pem: &str| (name.to_owned(), ByteString(pem.as_bytes().to_vec()));
    let data = [of(CERTIFICATE, &made.certificates), of(KEY, &made.key), of(ROOTS, &made.roots)];
    let labels = [("app.kubernetes.io/managed-by".to_owned(), super::MANAGER.to_owned())];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(secret) => {
            tracing::info!(secret = SECRET, "made a new root");
            Ok(secret)
        }
        // Another replica was faster: its root is ours.
        Err(error) if conflict(&error) => Ok(api.get(SECRET).await?),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn material(secret: Secret) -> Result<Material, AuthorityError> {
    let mut data = secret.data.unwrap_or_default();
    let mut text = |name: &'static str| {
        let bytes = data.remove(name).map(|ByteString(bytes)| bytes);
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(AuthorityError::Missing(name))
    };
    Ok(Material { certificates: text(CERTIFICATE)?, key: text(KEY)?, roots: text(ROOTS)? })
}
