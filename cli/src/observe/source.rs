//! Whom to ask.

use std::path::PathBuf;

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use tulle_runtime::http::ask;

use super::{Error, Whom};
use crate::{
    cluster::pods::{self, exec, refused},
    install::NAME,
    local,
};

/// A control plane, and how it is reached.
pub(crate) enum Source {
    /// Of `tulle local`: its admin socket.
    Local(PathBuf),
    /// Of a cluster: one of its replicas, any of which asks the others.
    Cluster { client: Client, namespace: String, replica: String },
}

impl Source {
    /// The one that is meant.
    pub(crate) async fn find(look: &Whom) -> Result<Self, Error> {
        if let Some(mesh) = &look.name {
            return Ok(Self::Local(local::control_plane_socket(mesh)));
        }
        if !look.reach.is_said() && local::runs(local::MESH) {
            return Ok(Self::Local(local::control_plane_socket(local::MESH)));
        }
        let client = look.reach.client().await.map_err(pods::Error::from)?;
        let namespace = look.system_namespace.clone();
        let replica = replica(&client, &namespace).await?;
        Ok(Self::Cluster { client, namespace, replica })
    }

    /// The answer to `GET` of this path.
    pub(crate) async fn get(&self, path: &str) -> Result<String, Error> {
        match self {
            Self::Local(socket) => {
                let failed = |source| Error::Local { socket: socket.display().to_string(), source };
                let answer = ask(socket, Method::GET, path).await;
                let (status, body) = answer.map_err(|error| failed(error.into()))?;
                let body = String::from_utf8_lossy(&body).into_owned();
                match status.is_success() {
                    true => Ok(body),
                    false => Err(Error::Refused(body.trim().to_owned())),
                }
            }
            Self::Cluster { client, namespace, replica } => {
                let command = ["/usr/bin/tulle-control-plane", "ctl", path];
                let pod = (namespace.as_str(), replica.as_str());
                Ok(exec(client, pod, "control-plane", &command).await?)
            }
        }
    }
}

/// A replica that is ready.
async fn replica(client: &Client, namespace: &str) -> Result<String, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default()
        .labels(&format!("app.kubernetes.io/name={NAME}"))
        .fields("status.phase=Running");
    let pods = api.list(&ours).await.map_err(refused("the control plane's pods"))?;
    let ready = pods.items.into_iter().filter(|pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = |kind: &str, status: &str| kind == "Ready" && status == "True";
        pod.metadata.deletion_timestamp.is_none()
            && conditions.into_iter().any(|one| ready(&one.type_, &one.status))
    });
    let mut names = ready.filter_map(|pod| pod.metadata.name);
    names.next().ok_or_else(|| Error::NoControlPlane(namespace.to_owned()))
}
