//! The way to a cluster: which one, and objects of any kind in it.

pub(crate) mod ask;
pub(crate) mod pods;
pub(crate) mod tunnel;

use std::path::PathBuf;

use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Reach {
    /// File that says how clusters are reached (default: $KUBECONFIG, then ~/.kube/config).
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of that file (default: the current one).
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Why no cluster can be spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The file is not there, or is none.
    #[error(
        "no cluster is known: {0}; set KUBECONFIG or --kubeconfig to the file that says how it is reached"
    )]
    Kubeconfig(String),
    /// What it says cannot be used.
    #[error("cannot speak to the cluster: {0}")]
    Client(#[source] Box<kube::Error>),
}

impl Reach {
    /// Whether somebody has said which cluster.
    pub(crate) fn is_said(&self) -> bool {
        let variable = std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
        self.kubeconfig.is_some() || self.context.is_some() || variable
    }

    /// A client. Nothing is sent yet.
    pub(crate) async fn client(&self) -> Result<Client, Unreachable> {
        let config = self.config().await?;
        Client::try_from(config).map_err(|error| Unreachable::Client(Box::new(error)))
    }

    /// How the cluster is reached, and as whom.
    pub(crate) async fn config(&self) -> Result<Config, Unreachable> {
        let unknown = |error: &dyn std::error::Error| Unreachable::Kubeconfig(chain(error));
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| unknown(&error))?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        config.map_err(|error| unknown(&error))
    }
}

/// An error and what caused it, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = error.source();
    }
    text
}

/// Objects of the kind and in the namespace of `object`, which has its `apiVersion`, `kind` and
/// `metadata`.
pub(crate) fn objects_like(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let (group, version) = match text("/apiVersion").unwrap_or_default().split_once('/') {
        Some(both) => both,
        None => ("", text("/apiVersion").unwrap_or_default()),
    };
    let kind = text("/kind").unwrap_or_default();
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &plural(kind));
    match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// As Kubernetes calls its own kinds in paths.
fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{lower}s"),
    }
}

/// What is not there is `None`.
pub(crate) fn found<T>(outcome: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
