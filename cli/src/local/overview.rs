//! What `tulle local status` says, in the form it travels over the control socket.

use serde::{Deserialize, Serialize};

use super::objects::Note;

/// A mesh at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    /// Name of the mesh.
    pub(super) name: String,
    /// The directory it follows.
    pub(super) directory: String,
    /// The directory has been read, and everything it asks for is ready.
    pub(super) settled: bool,
    pub(super) deployments: Vec<DeploymentLine>,
    pub(super) pods: Vec<PodLine>,
    pub(super) services: Vec<ServiceLine>,
    /// Routes and policies.
    #[serde(default)]
    pub(super) objects: Vec<ObjectLine>,
    /// What could not be used.
    pub(super) problems: Vec<Note>,
    /// What has no effect here.
    pub(super) not_honoured: Vec<Note>,
    /// What holds for the whole mesh.
    pub(super) remarks: Vec<String>,
}

/// A Deployment and how far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentLine {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) wanted: i32,
    /// Ready pods of the current template.
    pub(super) ready: i32,
    /// Pods of former templates.
    pub(super) old: i32,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodLine {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) phase: String,
    pub(super) ready: bool,
    pub(super) terminating: bool,
    pub(super) ip: String,
    /// Milliseconds from its making to its first readiness.
    pub(super) ready_after_ms: Option<u64>,
    /// Why it is not ready.
    pub(super) waiting: Vec<String>,
    pub(super) containers: Vec<ContainerLine>,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerLine {
    pub(super) name: String,
    /// `app`, `sidecar` or `init`.
    pub(super) role: String,
    pub(super) ready: bool,
    pub(super) restarts: i32,
    /// Its first process, in the mesh's own process namespace.
    pub(super) pid: Option<u32>,
}

/// A Service and where it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceLine {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) ports: Vec<i32>,
    pub(super) ready_endpoints: usize,
}

/// A route or policy, as the control plane says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectLine {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) accepted: bool,
    /// A word about that.
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) in_force: ForceLine,
}

/// On how many proxies an object is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ForceLine {
    pub(super) on: usize,
    pub(super) of: usize,
    pub(super) rejections: Vec<RejectionLine>,
}

/// Why it is not on one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RejectionLine {
    pub(super) proxy: String,
    pub(super) resource: String,
    pub(super) reason: String,
}

impl PodLine {
    /// `READY` as kubectl has it: of the containers that stay, how many are ready.
    pub(super) fn ready_of(&self) -> (usize, usize) {
        let staying = self.containers.iter().filter(|container| container.role != "init");
        (staying.clone().filter(|container| container.ready).count(), staying.count())
    }

    pub(super) fn restarts(&self) -> i32 {
        self.containers.iter().map(|container| container.restarts).sum()
    }
}
