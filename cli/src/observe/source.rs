//! Whom to ask.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tulle_runtime::http::exchange;

use super::Error;
use crate::{
    cluster::{Reach, tunnel::Tunnel},
    local,
};

/// Which control plane.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Where {
    /// Ask the mesh of `tulle local` that was started under this name, and no cluster.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kubeconfig", "context"])]
    name: Option<String>,
    /// Namespace of the control plane.
    #[arg(long, value_name = "NAMESPACE", default_value = "tulle-system")]
    system_namespace: String,
    #[command(flatten)]
    reach: Reach,
}

/// A control plane, and how it is reached.
pub(crate) enum Source {
    /// Of `tulle local`: its admin socket.
    Local(PathBuf),
    /// Of a cluster: one of its replicas, any of which asks the others.
    Cluster(Box<Tunnel>),
}

impl Where {
    /// The mesh of `tulle local`, if that is meant.
    pub(crate) fn local(&self) -> Option<&str> {
        let runs = || !self.reach.is_said() && local::runs(local::MESH);
        self.name.as_deref().or_else(|| runs().then_some(local::MESH))
    }

    /// The cluster, if that is meant.
    pub(crate) fn cluster(&self) -> &Reach {
        &self.reach
    }
}

impl Source {
    /// The one that is meant.
    pub(crate) async fn find(place: &Where) -> Result<Self, Error> {
        if let Some(mesh) = place.local() {
            return Ok(Self::Local(local::control_plane_socket(mesh)));
        }
        Ok(Self::Cluster(Box::new(Tunnel::find(&place.reach, &place.system_namespace).await?)))
    }

    /// The answer to a request of no body.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        match self {
            Self::Local(socket) => {
                let failed = |source| Error::Local { socket: socket.display().to_string(), source };
                exchange(socket, request).await.map_err(|error| failed(error.into()))
            }
            Self::Cluster(tunnel) => Ok(tunnel.send(request).await?),
        }
    }

    /// The text at this path.
    pub(crate) async fn get(&self, path: &str) -> Result<String, Error> {
        self.ask(Method::GET, path).await
    }

    /// What is said to this, if it is no refusal.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Result<String, Error> {
        let request = Request::builder().method(method).uri(path).body(Bytes::new());
        let request = request.map_err(|error| Error::Usage(error.to_string()))?;
        let answer = self.send(request).await?;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        match answer.status() {
            status if status.is_success() => Ok(body),
            StatusCode::SERVICE_UNAVAILABLE => Err(Error::Away(body.trim().to_owned())),
            _ => Err(Error::Refused(body.trim().to_owned())),
        }
    }
}
