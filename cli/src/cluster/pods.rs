//! Pods with sidecars, and programs run in them.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{AttachParams, ListParams},
};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tulle_control_plane::inject::INJECTED;

use super::{Unreachable, chain};

/// Why a pod does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no cluster.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The API server refused something.
    #[error("{what}: {}", chain(source))]
    Refused {
        /// What was tried.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// No pod with a sidecar is called like that.
    #[error("the cluster has no pod {name} with a sidecar; `tulle proxy status` lists them")]
    NoPod {
        /// What was asked for.
        name: String,
    },
    /// Several are.
    #[error("{name} can be {fitting}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Which they are.
        fitting: String,
    },
    /// The program failed there.
    #[error("{command} in pod {pod}: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// Where.
        pod: String,
        /// What it said.
        said: String,
    },
}

pub(crate) fn refused(what: &str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Refused { what: what.to_owned(), source: Box::new(source) }
}

/// All pods with a sidecar, as `namespace` and `name`, in order.
pub(crate) async fn injected(client: &Client) -> Result<Vec<(String, String)>, Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list_metadata(&ListParams::default()).await.map_err(refused("all pods"))?;
    let injected = pods.items.into_iter().map(|pod| pod.metadata).filter(|metadata| {
        metadata.deletion_timestamp.is_none()
            && metadata.annotations.as_ref().is_some_and(|all| all.contains_key(INJECTED))
    });
    let mut names: Vec<_> = injected.filter_map(|pod| Some((pod.namespace?, pod.name?))).collect();
    names.sort();
    Ok(names)
}

/// A pod by its name, the beginning of it, or either with the namespace in front.
pub(crate) fn find<'a>(
    pods: &'a [(String, String)],
    wanted: &str,
) -> Result<&'a (String, String), Error> {
    let (namespace, name) = match wanted.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, wanted),
    };
    let there = || pods.iter().filter(|(ns, _)| namespace.is_none_or(|wanted| wanted == ns));
    let mut fitting: Vec<_> = there().filter(|(_, pod)| pod == name).collect();
    if fitting.is_empty() {
        let begins = |pod: &str| pod.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        fitting = there().filter(|(_, pod)| begins(pod)).collect();
    }
    match fitting.as_slice() {
        [pod] => Ok(pod),
        [] => Err(Error::NoPod { name: wanted.to_owned() }),
        several => {
            let names: Vec<_> = several.iter().map(|(ns, pod)| format!("{ns}/{pod}")).collect();
            Err(Error::Ambiguous { name: wanted.to_owned(), fitting: names.join(" or ") })
        }
    }
}

/// What a program prints that is run in a container.
pub(crate) async fn exec(
    client: &Client,
    (namespace, pod): (&str, &str),
    container: &str,
    command: &[&str],
) -> Result<String, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let how = AttachParams::default().container(container).stdout(true).stderr(true);
    let place = format!("{namespace}/{pod}");
    let what = format!("{} in pod {place}", command.join(" "));
    let mut process =
        Box::pin(api.exec(pod, command.iter().copied(), &how)).await.map_err(refused(&what))?;
    let (out, err) = (process.stdout(), process.stderr());
    let (out, err) = tokio::join!(whole(out), whole(err));
    let status = match process.take_status() {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(out),
        status => {
            let said = if err.trim().is_empty() {
                status.and_then(|status| status.message).unwrap_or_default()
            } else {
                err.trim().to_owned()
            };
            Err(Error::Failed { command: command.join(" "), pod: place, said })
        }
    }
}

/// All of it, as far as it comes; what is cut off is no JSON then.
async fn whole(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let cut_off = from.read_to_end(&mut bytes).await.is_err();
        if cut_off {
            bytes.clear();
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_by_the_beginning_of_their_name() {
        let pods = [("shop", "cart-1-a"), ("shop", "web-1-c"), ("test", "web-1-d")]
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        let found = |name: &str| find(&pods, name).map(|(ns, pod)| format!("{ns}/{pod}"));
        assert_eq!(found("cart-1-a").unwrap(), "shop/cart-1-a");
        assert_eq!(found("cart").unwrap(), "shop/cart-1-a");
        assert_eq!(found("test/web").unwrap(), "test/web-1-d");
        assert_eq!(
            found("web").unwrap_err().to_string(),
            "web can be shop/web-1-c or test/web-1-d"
        );
        assert!(matches!(found("we"), Err(Error::NoPod { .. })));
    }
}
