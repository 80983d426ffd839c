//! What the mesh needs to know of each Kubernetes object, in plain types.
//!
//! Conversion has happened before (`convert`): a field that is here was understood. Texts such as
//! `appProtocol` are kept as they were said; what they mean is for `compile` to decide.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use tulle_xds::model::{Knobs, SpiffeId};

pub use super::{
    lane::Lane,
    name::{Kind, Name, ObjectRef},
    policy::{Settings, TrafficPolicy},
    release::{Life, Release, ReplicaSet, Target},
    route::{
        BackendRef, Grantee, MirrorRef, ParentRef, ReferenceGrant, Route, RouteRule, RuleAction,
        RuleTimeouts,
    },
    telemetry::{Said, Telemetry},
};

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// An object. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the type that it holds")]
pub enum Object {
    Namespace(Arc<Namespace>),
    ServiceAccount(Arc<ServiceAccount>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    HttpRoute(Arc<Route>),
    GrpcRoute(Arc<Route>),
    TcpRoute(Arc<Route>),
    TlsRoute(Arc<Route>),
    ReferenceGrant(Arc<ReferenceGrant>),
    TrafficPolicy(Arc<TrafficPolicy>),
    MeshConfig(Arc<MeshConfig>),
    MeshTls(Arc<MeshTls>),
    AccessPolicy(Arc<AccessPolicy>),
    Telemetry(Arc<Telemetry>),
    Node(Arc<Node>),
    ReplicaSet(Arc<ReplicaSet>),
    Release(Arc<Release>),
    Lane(Arc<Lane>),
}

impl Object {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::TcpRoute(_) => Kind::TcpRoute,
            Self::TlsRoute(_) => Kind::TlsRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::MeshConfig(_) => Kind::MeshConfig,
            Self::MeshTls(_) => Kind::MeshTls,
            Self::AccessPolicy(_) => Kind::AccessPolicy,
            Self::Telemetry(_) => Kind::Telemetry,
            Self::Node(_) => Kind::Node,
            Self::ReplicaSet(_) => Kind::ReplicaSet,
            Self::Release(_) => Kind::Release,
            Self::Lane(_) => Kind::Lane,
        }
    }

    /// The name of the object.
    pub fn name(&self) -> &Name {
        match self {
            Self::Namespace(o) => &o.name,
            Self::ServiceAccount(o) => &o.name,
            Self::Pod(o) => &o.name,
            Self::Service(o) => &o.name,
            Self::EndpointSlice(o) => &o.name,
            Self::HttpRoute(o) | Self::GrpcRoute(o) | Self::TcpRoute(o) | Self::TlsRoute(o) => {
                &o.name
            }
            Self::ReferenceGrant(o) => &o.name,
            Self::TrafficPolicy(o) => &o.name,
            Self::MeshConfig(o) => &o.name,
            Self::MeshTls(o) => &o.name,
            Self::AccessPolicy(o) => &o.name,
            Self::Telemetry(o) => &o.name,
            Self::Node(o) => &o.name,
            Self::ReplicaSet(o) => &o.name,
            Self::Release(o) => &o.name,
            Self::Lane(o) => &o.name,
        }
    }

    /// Kind and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind(), name: self.name().clone() }
    }
}

/// A Namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name; the namespace part is empty.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
}

/// A Node: where pods run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Its zone; empty when unknown.
    pub zone: String,
}

/// A ServiceAccount. Only known to be there: pods name it, tokens prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its name.
    pub name: Name,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: Name,
    /// Its uid, different for each pod that ever had this name.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// `spec.serviceAccountName`, `default` if not said.
    pub service_account: String,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// Whether it shares the node's network: its addresses are then not its own.
    pub host_network: bool,
    /// Whether it has ended (`Succeeded` or `Failed`): its addresses may already be another's.
    pub ended: bool,
    /// TCP ports that its containers declare.
    pub ports: Vec<ContainerPort>,
    /// Whether it has our sidecar.
    pub meshed: bool,
    /// Which of its ports lead to that.
    pub redirected: Redirected,
    /// Settings of its sidecar.
    pub knobs: Knobs,
    /// Its controller, `(kind, name)`.
    pub owner: Option<(String, String)>,
    /// `spec.nodeName`; empty until that is decided.
    pub node: String,
    /// Whether it calls itself a replica of the control plane, and is ready; of others nobody asks that, as they change often.
    pub replica: bool,
    /// How its containers are.
    pub life: Life,
}

/// What pods belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// `Deployment`, `StatefulSet`, …, or `Pod`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

const TEMPLATE_HASH: &str = "pod-template-hash";
const REVISION_HASH: &str = "controller-revision-hash";

impl Pod {
    /// What owns it. Behind a ReplicaSet stands the Deployment: the controller names the one after the other and the
    /// template's hash.
    pub fn workload(&self) -> Workload {
        let (kind, name) = match &self.owner {
            Some((kind, name)) if kind == "ReplicaSet" => {
                let hash = self.labels.get(TEMPLATE_HASH).map(|hash| format!("-{hash}"));
                match hash.and_then(|suffix| name.strip_suffix(&suffix)) {
                    Some(deployment) => ("Deployment".to_owned(), deployment.to_owned()),
                    None => (kind.clone(), name.clone()),
                }
            }
            Some((kind, name)) => (kind.clone(), name.clone()),
            None => ("Pod".to_owned(), self.name.name.to_string()),
        };
        Workload { namespace: Arc::clone(&self.name.namespace), kind, name }
    }

    /// Which template it is of; empty: nobody says.
    pub fn revision(&self) -> &str {
        let hash = self.labels.get(TEMPLATE_HASH).or_else(|| self.labels.get(REVISION_HASH));
        hash.map(String::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
impl Pod {
    /// A pod of the mesh that has nothing but an identity.
    pub(crate) fn plain(name: Name, service_account: &str, uid: &str) -> Self {
        Self {
            name,
            uid: uid.to_owned(),
            labels: Default::default(),
            service_account: service_account.to_owned(),
            ips: Vec::new(),
            host_network: false,
            ended: false,
            ports: Vec::new(),
            meshed: true,
            redirected: Redirected::default(),
            knobs: BTreeMap::new(),
            owner: None,
            node: "n1".to_owned(),
            replica: false,
            life: Life::default(),
        }
    }
}

/// The ports of a pod that lead to its sidecar; behind the others is the application itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Redirected {
    /// These alone; all, if there are none.
    pub only: Vec<u16>,
    /// But not these.
    pub except: Vec<u16>,
    /// Nor these, which are the sidecar's own.
    pub own: Vec<u16>,
}

impl Redirected {
    /// Whether this port is one of them.
    pub fn has(&self, port: u16) -> bool {
        let not = self.except.contains(&port) || self.own.contains(&port);
        (self.only.is_empty() || self.only.contains(&port)) && !not
    }
}

/// A TCP port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name; empty if it has none.
    pub name: String,
    /// Its number.
    pub port: u16,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// `spec.clusterIPs`, the primary one first; empty for headless ones.
    pub cluster_ips: Vec<IpAddr>,
    /// Labels of the pods behind it; empty means that it selects none.
    pub selector: Labels,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// Whether pods that are not ready get traffic too.
    pub publish_not_ready: bool,
    /// Whether callers use endpoints on their own node alone (`internalTrafficPolicy: Local`).
    pub node_local: bool,
}

impl Service {
    /// Whether it has no address of its own: its name leads to its pods' addresses.
    pub fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty()
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number)
    }
}

/// A TCP port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: String,
    /// Its number at the cluster IP.
    pub port: u16,
    /// Where it goes on the pod.
    pub target: TargetPort,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// A port of a pod, by number or by the name that a container gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "said above")]
pub enum TargetPort {
    Number(u16),
    Name(String),
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its name.
    pub name: Name,
    /// The Service that it belongs to (label `kubernetes.io/service-name`).
    pub service: Option<Name>,
    /// Its TCP ports.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A TCP port of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port; empty if that has none.
    pub name: String,
    /// Its number on the pods.
    pub port: u16,
}

/// An endpoint of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it is ready; what is not said counts as yes.
    pub ready: bool,
    /// Whether it serves, ready or terminating; what is not said counts as yes.
    pub serving: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// The pod behind it and that pod's uid (empty if not said).
    pub pod: Option<(Name, String)>,
    /// Its zone; empty when unknown.
    pub zone: String,
    /// Its node; empty when unknown.
    pub node: String,
    /// The nodes that it is meant for, as a hint.
    pub for_nodes: Vec<String>,
    /// The zones that it is meant for, as a hint.
    pub for_zones: Vec<String>,
    /// Its name below the Service's, in lower case; empty if it has none.
    pub hostname: String,
}

/// Whether plaintext is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the mode of that name")]
pub enum MtlsMode {
    Permissive,
    Strict,
}

/// A MeshTLS: mTLS modes for the whole mesh, a namespace, or some of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshTls {
    /// Its name.
    pub name: Name,
    /// What it applies to.
    pub scope: Scope,
    /// The mode, if it says one.
    pub mode: Option<MtlsMode>,
    /// Modes of single ports.
    pub ports: BTreeMap<u16, MtlsMode>,
    /// Trust domains besides our own whose peers are accepted.
    pub trust_domains: Vec<String>,
}

/// Which pods a policy of theirs is about, from the least to the most specific.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every pod.
    Mesh,
    /// The pods of its own namespace.
    Namespace,
    /// The pods of its own namespace with these labels.
    Pods(Labels),
}

/// An AccessPolicy: who may connect to the pods that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Its name.
    pub name: Name,
    /// `metadata.creationTimestamp`, as written.
    pub created: String,
    /// What it is about.
    pub scope: Scope,
    /// Whether it only tells whom it would refuse.
    pub audit: bool,
    /// Who is let in: whom any of these admits.
    pub rules: Vec<AccessRule>,
}

/// Callers that are let in, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// Each that one of these is about.
    pub from: Vec<Caller>,
    /// Container ports; none: all.
    pub ports: Vec<u16>,
}

/// One caller, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Everybody, known or not.
    Anyone,
    /// Who has an identity of the mesh.
    Mesh,
    /// Pods of this namespace.
    Namespace(String),
    /// Pods with this ServiceAccount.
    Account(Name),
    /// This identity.
    Is(SpiffeId),
}

/// The MeshConfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// Its name.
    pub name: Name,
    /// Address ranges of pods and Services, besides those of the command line.
    pub mesh_ranges: Vec<IpNet>,
    /// Whether traffic that leaves the mesh is refused.
    pub refuse_external: Option<bool>,
    /// Whether sidecars leave names of the cluster to the pod's own resolver.
    pub pass_on_dns: Option<bool>,
    /// Settings of all sidecars.
    pub knobs: Knobs,
}

/// The address and port as listeners are named.
pub fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}
