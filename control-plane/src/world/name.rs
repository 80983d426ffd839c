//! What objects are called.

use std::{fmt, sync::Arc};

/// A namespaced name; of a cluster-scoped object the namespace is empty. Cheap to clone: every index
/// holds one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name inside of it.
    pub name: Arc<str>,
}

impl Name {
    /// `namespace/name`.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self { namespace: namespace.as_ref().into(), name: name.as_ref().into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kinds of object that the world knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the Kubernetes kind of that name")]
pub enum Kind {
    Namespace,
    ServiceAccount,
    Pod,
    Service,
    EndpointSlice,
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    TlsRoute,
    ReferenceGrant,
    TrafficPolicy,
    MeshConfig,
    MeshTls,
    AccessPolicy,
    Telemetry,
    Node,
    ReplicaSet,
    Release,
    Lane,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Namespace,
        Self::ServiceAccount,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TcpRoute,
        Self::TlsRoute,
        Self::ReferenceGrant,
        Self::TrafficPolicy,
        Self::MeshConfig,
        Self::MeshTls,
        Self::AccessPolicy,
        Self::Telemetry,
        Self::Node,
        Self::ReplicaSet,
        Self::Release,
        Self::Lane,
    ];

    /// Whether it is a route.
    pub fn is_route(self) -> bool {
        matches!(self, Self::HttpRoute | Self::GrpcRoute | Self::TcpRoute | Self::TlsRoute)
    }

    /// Whether such an object refers to others, so that only the world can tell what is wrong with
    /// it.
    pub fn refers(self) -> bool {
        self.is_route() || self == Self::TrafficPolicy
    }

    /// Whether we write a status of such an object.
    pub fn has_status(self) -> bool {
        let others = [
            Self::MeshTls,
            Self::MeshConfig,
            Self::AccessPolicy,
            Self::Telemetry,
            Self::Release,
            Self::Lane,
        ];
        self.refers() || others.contains(&self)
    }

    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TcpRoute => "TCPRoute",
            Self::TlsRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::MeshConfig => "MeshConfig",
            Self::MeshTls => "MeshTLS",
            Self::AccessPolicy => "AccessPolicy",
            Self::Telemetry => "Telemetry",
            Self::Node => "Node",
            Self::ReplicaSet => "ReplicaSet",
            Self::Release => "Release",
            Self::Lane => "Lane",
        }
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}
