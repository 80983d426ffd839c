//! What the cluster's own injector goes by.

use std::{collections::BTreeMap, io};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, api::ListParams};
use tulle_control_plane::inject::{BadInjection, Injection};

use crate::{
    cluster::{self, Reach},
    install::INJECTION,
};

/// An installation.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) injection: Injection,
    /// What of its text was passed over.
    pub(super) warnings: Vec<String>,
    /// Labels of all namespaces, by name.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// Why nothing is known of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no cluster.
    #[error(transparent)]
    Unreachable(#[from] cluster::Unreachable),
    /// It does not give what is asked for.
    #[error("{what}: {}", cluster::chain(source))]
    Refused {
        /// What that is.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The settings cannot be understood.
    #[error(transparent)]
    Injection(#[from] BadInjection),
    /// There is no runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Asks the cluster, whose control plane is in `namespace`.
pub(super) fn read(reach: &Reach, namespace: &str) -> Result<Installed, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = reach.client().await?;
        let (name, file) = INJECTION;
        let what = format!("ConfigMap {namespace}/{name}");
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let map = api.get(name).await.map_err(|error| refused(&what, error))?;
        let text = map.data.unwrap_or_default().remove(file).unwrap_or_default();
        let (injection, warnings) = Injection::parse(&format!("{what}, {file}"), &text)?;
        let all: Api<Namespace> = Api::all(client);
        let all = all.list_metadata(&ListParams::default()).await;
        let all = all.map_err(|error| refused("all namespaces", error))?;
        let labels = all.items.into_iter().map(|n| n.metadata);
        let namespaces =
            labels.filter_map(|m| Some((m.name?, m.labels.unwrap_or_default()))).collect();
        Ok(Installed { injection, warnings, namespaces })
    })
}

fn refused(what: &str, source: kube::Error) -> Error {
    Error::Refused { what: what.to_owned(), source: Box::new(source) }
}
