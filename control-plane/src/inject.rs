//! Adds the sidecar to pods: a pure function, the same for the webhook, `tulle inject` and
//! `tulle local`.
//!
//! ```text
//!  pod ──► is it wanted? ──► can it be? ──► annotations ──► [ Additions ] ──► pod with sidecar
//!             Skip             Refusal        Refusal
//! ```
//!
//! What is there stays as it is, but for the probes that the kubelet makes over the network, which
//! ask the sidecar from now on ([`Rewrite`]). [`Additions`] are all that changes. Init containers
//! come in this order: `tulle-redirect`, `tulle-proxy` (a native sidecar: an init container that is
//! never waited for to end), then the pod's own, which so have the network of the mesh.

pub mod admission;
mod agent;
mod annotations;
mod apply;
mod drain;
mod envoy;
mod later;
mod nodes;
mod probes;
mod read;
mod resources;
mod settings;
mod sidecar;

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use agent::Shared;
use annotations::Overrides;
pub use annotations::{BadAnnotation, Slip, slips, unknown_label};
pub(crate) use annotations::{EXCLUDE_INBOUND_PORTS, INCLUDE_INBOUND_PORTS};
pub use probes::{Handler, List, ProbeKey, Rewrite};
pub use read::{BadInjection, read};
pub use settings::{FailurePolicy, Injection, LogLevel, PullPolicy, Resources, Settings, Webhook};

/// Label of a namespace or a pod; a pod's wins.
pub const LABEL: &str = "tulle.dev/inject";
/// Annotation of pods that have a sidecar; its value is the version that injected it.
pub const INJECTED: &str = "tulle.dev/injected";
/// Annotation of pods that the kubelet writes for others to see: those from files of its node.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Name of the sidecar's container.
pub const PROXY: &str = "tulle-proxy";
/// Name of the agent's container, in pods whose applications speak xDS themselves.
pub const AGENT: &str = "tulle-agent";
/// Annotation of pods whose traffic tulle-cni redirects: what, as options of `tulle-proxy redirect`.
pub const REDIRECTION: &str = "tulle.dev/redirect";
/// Name of the init container that redirects the pod's traffic to the sidecar, or waits until
/// tulle-cni has.
pub const REDIRECT: &str = "tulle-redirect";
/// The sidecar's uid and gid: its own traffic is told apart by it.
pub const PROXY_UID: i64 = 5050;

/// Ports of sidecar and agent in the pod: outbound, inbound, xDS, probes, status, and DNS for each of
/// the three resolvers that a pod may have.
const PROXY_PORTS: [i32; 8] =
    [15001, 15006, agent::ADS_PORT, 15020, sidecar::STATUS_PORT, sidecar::DNS_PORT, 15054, 15055];

/// Containers by which other meshes are recognised, and the mesh.
const OTHER_MESHES: [(&str, &str); 5] = [
    ("istio-proxy", "Istio"),
    ("linkerd-proxy", "Linkerd"),
    ("kuma-sidecar", "Kuma"),
    ("consul-dataplane", "Consul"),
    ("osm-envoy", "Open Service Mesh"),
];

/// Who carries a pod's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataPlane {
    /// The sidecar.
    #[default]
    Tulle,
    /// Stock Envoy in the sidecar's place, with the agent beside it.
    Envoy,
    /// The application, which is gRPC's and speaks xDS; the agent enrols for it.
    Grpc,
}

impl std::str::FromStr for DataPlane {
    type Err = UnknownDataPlane;

    fn from_str(text: &str) -> Result<Self, UnknownDataPlane> {
        match text {
            "tulle" => Ok(Self::Tulle),
            "envoy" => Ok(Self::Envoy),
            "grpc" => Ok(Self::Grpc),
            _ => Err(UnknownDataPlane("it must be tulle, envoy or grpc".to_owned())),
        }
    }
}

/// A text that names no [`DataPlane`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownDataPlane(String);

/// What was decided about a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It has a sidecar now.
    Injected {
        /// The pod with everything added.
        pod: Box<Pod>,
        /// For whoever applied it: what was probably meant otherwise.
        warnings: Vec<String>,
    },
    /// It gets none.
    Skipped(Skip),
}

/// What is to be done about a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Add this.
    Inject(Box<Additions>),
    /// Leave it as it is.
    Skip(Skip),
}

/// Everything that injection adds to a pod, and changes about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Additions {
    /// New annotations.
    pub annotations: BTreeMap<String, String>,
    /// Put before the pod's own init containers.
    pub init_containers: Vec<Container>,
    /// Put after the pod's own volumes.
    pub volumes: Vec<Volume>,
    /// Probes and hooks of the pod's own containers; to be changed before containers are added.
    pub rewrites: Vec<Rewrite>,
    /// What the pod's own containers share with the agent, if it has one in place of the sidecar.
    pub shared: Option<Shared>,
    /// For whoever applied it: what was probably meant otherwise.
    pub warnings: Vec<String>,
}

/// Why a pod gets no sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// Neither pod nor namespace ask for one.
    NotEnabled,
    /// The pod's label says so.
    Disabled,
    /// The namespace's label has a value that means nothing.
    NamespaceLabel(String),
    /// It has one.
    AlreadyInjected,
    /// It shares the node's network, where traffic of others would be redirected too.
    HostNetwork,
    /// It runs on Windows, where there is no sidecar for it.
    Windows,
    /// So it is on nodes of its architecture.
    Architecture,
    /// It only shows a pod that the kubelet runs by itself.
    Mirror,
    /// It has the sidecar of another mesh.
    OtherMesh {
        /// The mesh.
        mesh: &'static str,
        /// The container by which it was recognised.
        container: String,
    },
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEnabled => {
                write!(f, "neither it nor its namespace has the label {LABEL}=enabled")
            }
            Self::Disabled => write!(f, "its label {LABEL} is \"disabled\""),
            Self::NamespaceLabel(value) => {
                write!(f, "its namespace's label {LABEL} is {value:?}; only \"enabled\" injects")
            }
            Self::AlreadyInjected => f.write_str("it has a sidecar already"),
            Self::HostNetwork => f.write_str("it uses the node's network (hostNetwork: true)"),
            Self::Windows => f.write_str("it runs on Windows"),
            Self::Architecture => f.write_str(
                "its nodeSelector or node affinity wants nodes that are neither amd64 nor arm64, and \
                 there is no sidecar for others",
            ),
            Self::Mirror => write!(
                f,
                "it mirrors a static pod, which its node runs from a file: a sidecar would have to \
                 be in that file (annotation {MIRROR})"
            ),
            Self::OtherMesh { mesh, container } => {
                write!(f, "it has the sidecar of {mesh} (container {container})")
            }
        }
    }
}

/// Why a pod that asks for a sidecar cannot have one as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("label {LABEL} is {0:?}; it must be \"enabled\" or \"disabled\"")]
    Label(String),
    #[error(transparent)]
    Annotation(#[from] BadAnnotation),
    #[error(
        "container {container} runs as user {PROXY_UID}, which is the sidecar's: its traffic would \
         bypass the mesh; choose another runAsUser"
    )]
    ProxyUid { container: String },
    #[error(
        "container {container} declares port {port}, which the sidecar uses; choose another one"
    )]
    ProxyPort { container: String, port: i32 },
    #[error("volume {0} has a name that the sidecar uses; choose another one")]
    VolumeName(String),
}

/// Decides about a pod, and adds the sidecar to a copy of it.
///
/// `namespace_labels` are those of the pod's namespace. Doing it twice is the same as doing it
/// once.
///
/// # Errors
/// [`Refusal`] if the pod asks for a sidecar and cannot have one as it is.
pub fn inject(
    pod: &Pod,
    namespace_labels: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Decision, Refusal> {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    Ok(match plan(&pod.metadata, spec, namespace_labels, settings)? {
        Plan::Skip(skip) => Decision::Skipped(skip),
        Plan::Inject(additions) => {
            let before = serde_json::to_value(pod).expect("types of Kubernetes have string keys");
            let mut after = before;
            additions.apply(&mut after);
            let pod = serde_json::from_value(after).expect("was one, with additions of such types");
            let warnings = additions.warnings;
            Decision::Injected { pod, warnings }
        }
    })
}

/// Decides about a pod or a pod template, by its metadata and spec.
///
/// # Errors
/// As [`inject`].
pub fn plan(
    metadata: &ObjectMeta,
    spec: &PodSpec,
    namespace_labels: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Plan, Refusal> {
    if let Some(skip) =
        not_wanted(metadata, namespace_labels)?.or_else(|| not_possible(metadata, spec))
    {
        return Ok(Plan::Skip(skip));
    }
    refuse_clashes(spec)?;
    let (overrides, mut warnings) = Overrides::parse(metadata.annotations.iter().flatten())?;
    let (settings, word) = resources::settle(settings, &overrides.resources, spec)?;
    warnings.extend(word);
    let settings = &settings;
    let hold = drain::hold(overrides.drain_time, spec)?;
    let mut annotations = BTreeMap::from([(INJECTED.to_owned(), settings.version.clone())]);
    let data_plane = overrides.data_plane.unwrap_or(settings.data_plane);
    if data_plane == DataPlane::Grpc {
        return Ok(Plan::Inject(Box::new(Additions {
            annotations,
            init_containers: vec![agent::container(&overrides, settings)],
            volumes: agent::volumes(),
            rewrites: Vec::new(),
            shared: Some(agent::shared()),
            warnings,
        })));
    }
    let envoy = data_plane == DataPlane::Envoy;
    let probes = probes::plan(metadata, spec, &settings.probe_key, hold);
    warnings.extend(probes.warnings);
    let redirect = sidecar::redirect(&overrides, settings);
    if settings.cni {
        let options = sidecar::redirection(&overrides, settings);
        annotations.insert(REDIRECTION.to_owned(), options.join(" "));
    }
    let proxy = sidecar::proxy(&overrides, probes.variable, settings);
    Ok(Plan::Inject(Box::new(Additions {
        annotations,
        init_containers: match envoy {
            true => {
                let envoy = envoy::proxy(proxy.clone(), &settings.envoy_image);
                vec![redirect, envoy::agent(proxy), envoy]
            }
            false => vec![redirect, proxy],
        },
        volumes: sidecar::volumes(),
        rewrites: probes.rewrites,
        shared: None,
        warnings,
    })))
}

/// Whether a pod has no sidecar although it, or its namespace, asks for one, and it could have one.
pub fn lacks(
    metadata: &ObjectMeta,
    spec: &PodSpec,
    namespace_labels: &BTreeMap<String, String>,
) -> bool {
    let wanted = matches!(not_wanted(metadata, namespace_labels), Ok(None));
    wanted && not_possible(metadata, spec).is_none()
}

fn not_wanted(
    metadata: &ObjectMeta,
    namespace_labels: &BTreeMap<String, String>,
) -> Result<Option<Skip>, Refusal> {
    let own = metadata.labels.as_ref().and_then(|labels| labels.get(LABEL));
    match (own.map(String::as_str), namespace_labels.get(LABEL).map(String::as_str)) {
        (Some("enabled"), _) | (None, Some("enabled")) => Ok(None),
        (Some("disabled"), _) => Ok(Some(Skip::Disabled)),
        (Some(other), _) => Err(Refusal::Label(other.to_owned())),
        (None, None | Some("disabled")) => Ok(Some(Skip::NotEnabled)),
        (None, Some(other)) => Ok(Some(Skip::NamespaceLabel(other.to_owned()))),
    }
}

fn not_possible(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Skip> {
    let annotated = |name| metadata.annotations.as_ref().is_some_and(|a| a.contains_key(name));
    if annotated(INJECTED) || containers(spec).any(|c| c.name == PROXY || c.name == AGENT) {
        return Some(Skip::AlreadyInjected);
    }
    if annotated(MIRROR) {
        return Some(Skip::Mirror);
    }
    if spec.host_network == Some(true) {
        return Some(Skip::HostNetwork);
    }
    if nodes::not_linux(spec) {
        return Some(Skip::Windows);
    }
    if nodes::strange_architecture(spec) {
        return Some(Skip::Architecture);
    }
    containers(spec).find_map(|c| {
        let (_, mesh) = OTHER_MESHES.into_iter().find(|(name, _)| c.name == *name)?;
        Some(Skip::OtherMesh { mesh, container: c.name.clone() })
    })
}

fn refuse_clashes(spec: &PodSpec) -> Result<(), Refusal> {
    let pod_user = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    for container in containers(spec) {
        let user = container.security_context.as_ref().and_then(|s| s.run_as_user).or(pod_user);
        if user == Some(PROXY_UID) {
            return Err(Refusal::ProxyUid { container: container.name.clone() });
        }
        let ports = container.ports.iter().flatten().map(|p| p.container_port);
        if let Some(port) = ports.into_iter().find(|port| PROXY_PORTS.contains(port)) {
            return Err(Refusal::ProxyPort { container: container.name.clone(), port });
        }
    }
    let ours = agent::volumes();
    match spec.volumes.iter().flatten().find(|v| ours.iter().any(|o| o.name == v.name)) {
        Some(volume) => Err(Refusal::VolumeName(volume.name.clone())),
        None => Ok(()),
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

#[cfg(test)]
mod tests;
