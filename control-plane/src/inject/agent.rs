//! The agent in place of the sidecar, for applications that speak xDS themselves: gRPC.
//!
//! ```text
//!  tulle-agent ──► /var/run/tulle-grpc: bootstrap.json, certificates/ ──► application
//! ```
//!
//! Nothing is redirected, so nothing needs a privilege. Every container of the pod sees the folder,
//! is told of the bootstrap, and is in the group that may read the key.

use k8s_openapi::{
    api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, Volume, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{AGENT, PROXY_UID, Settings, annotations::Overrides, sidecar};

const FOLDER: (&str, &str) = ("tulle-grpc", "/var/run/tulle-grpc");
/// Where the agent carries xDS connections from, on loopback.
pub(super) const ADS_PORT: i32 = 15012;
const BOOTSTRAP: &str = "/var/run/tulle-grpc/bootstrap.json";
const VARIABLE: &str = "GRPC_XDS_BOOTSTRAP";

/// What all containers of the pod's own get.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// Set unless the container sets it itself.
    pub variable: EnvVar,
    /// Mounted in each.
    pub mount: VolumeMount,
    /// A group that all processes are in.
    pub group: i64,
}

pub(super) fn shared() -> Shared {
    Shared {
        variable: EnvVar {
            name: VARIABLE.to_owned(),
            value: Some(BOOTSTRAP.to_owned()),
            ..EnvVar::default()
        },
        mount: sidecar::mount(FOLDER, Some(true)),
        group: PROXY_UID,
    }
}

/// The agent itself: a native sidecar, so that the application starts with certificates in place.
pub(super) fn container(overrides: &Overrides, settings: &Settings) -> Container {
    let sidecar = sidecar::proxy(overrides, None, settings);
    let args = ["agent", "--files", "/var/run/tulle-grpc/certificates"];
    let ads = ADS_PORT.to_string();
    let more = ["--ads", &ads, "--grpc-bootstrap", BOOTSTRAP];
    let mut mounts = sidecar.volume_mounts.unwrap_or_default();
    mounts.push(sidecar::mount(FOLDER, None));
    Container {
        name: AGENT.to_owned(),
        args: Some(args.into_iter().chain(more).map(str::to_owned).collect()),
        // It carries no traffic that could be drained.
        lifecycle: None,
        volume_mounts: Some(mounts),
        ..sidecar
    }
}

/// The sidecar's volumes, and that of the application's files: in memory, because of the key.
pub(super) fn volumes() -> Vec<Volume> {
    let mut volumes = sidecar::volumes();
    volumes.push(Volume {
        name: FOLDER.0.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("1Mi".to_owned())),
        }),
        ..Volume::default()
    });
    volumes
}
