//! The root, in a Secret of our own namespace, in the form that cert-manager writes: `tls.crt` (who signs, and whoever is
//! between it and a root), `tls.key`, `ca.crt` (the roots).
//!
//! Made once, by whichever replica comes first, if it is not there. Whoever brings one of their own changes it there: what is
//! changed is in force at once, without a restart; what makes no root changes nothing.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{PostParams, WatchEvent, WatchParams},
};

use super::{Pause, conflict, not_found};
use crate::ca::{
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
    #[error("Secret {SECRET}: {0} is missing")]
    Missing(&'static str),
    #[error("Secret {SECRET}: {0}; put it right, or delete it to have one made")]
    Bad(#[from] BadMaterial),
    #[error("making a root: {0}")]
    Make(String),
}

/// The root of the Secret; made if that is not there.
pub(super) async fn load_or_make(
    client: &Client,
    namespace: &str,
    trust_domain: &str,
) -> Result<Roots, AuthorityError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut pause = Pause::default();
    let mut tries = 0;
    let secret = loop {
        tries += 1;
        match get_or_make(&api, trust_domain).await {
            Err(AuthorityError::Api(error)) if tries < TRIES && passes(&error) => {
                tracing::warn!(%error, "Secret {SECRET} cannot be had; trying again");
                pause.wait().await;
            }
            had => break had?,
        }
    };
    Ok(Roots::new(Root::from_pem(&material(secret)?)?))
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

/// Follows the Secret, for ever.
pub(super) async fn follow(client: Client, namespace: String, roots: Roots) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let mut pause = Pause::default();
    let mut seen = None;
    loop {
        if let Err(error) = watch(&api, &roots, &mut seen, &mut pause).await {
            tracing::warn!(%error, "Secret {SECRET} is not followed; trying again");
        }
        pause.wait().await;
    }
}

async fn watch(
    api: &Api<Secret>,
    roots: &Roots,
    seen: &mut Option<Material>,
    pause: &mut Pause,
) -> kube::Result<()> {
    let params = WatchParams::default().fields(&format!("metadata.name={SECRET}"));
    // From version 0: what is there now comes first.
    let mut events = api.watch(&params, "0").await?.boxed();
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                pause.reset();
                take(secret, roots, seen);
            }
            WatchEvent::Deleted(_) => {
                tracing::error!(
                    "Secret {SECRET} was deleted: the root stays in force until the last replica ends, and is lost then"
                );
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}

fn take(secret: Secret, roots: &Roots, seen: &mut Option<Material>) {
    let first = seen.is_none();
    let read = material(secret).and_then(|material| {
        if seen.as_ref() == Some(&material) {
            return Ok(None);
        }
        let root = Root::from_pem(&material)?;
        *seen = Some(material);
        Ok(Some(root))
    });
    match read {
        // The first one is what the process has started with.
        Ok(Some(root)) if !first || root.trusted() != roots.current().trusted() => {
            roots.replace(root);
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "the last root stays in force"),
    }
}

fn material(secret: Secret) -> Result<Material, AuthorityError> {
    let mut data = secret.data.unwrap_or_default();
    let mut text = |name: &'static str| {
        let bytes = data.remove(name).map(|ByteString(bytes)| bytes);
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(AuthorityError::Missing(name))
    };
    Ok(Material { certificates: text(CERTIFICATE)?, key: text(KEY)?, roots: text(ROOTS)? })
}
