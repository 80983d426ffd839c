//! The model: one plain type per resource, the same on both ends of the wire.
//!
//! ```text
//! [ Listener ] -> [ RouteConfiguration ] -> [ Cluster ] -> [ Endpoints ]      [ Workload ] [ Host ]
//! ```
//!
//! Each file holds a type, its `encode` to the Envoy message (or our own, for [`Workload`]
//! and [`Host`]), its
//! `decode`, and the round-trip test. A value that a type can hold is valid; whatever is not, and
//! every field or filter on the wire that would change behaviour and that the model cannot express,
//! is an [`Invalid`] with the resource, the field and the reason.

mod access;
mod cluster;
mod difference;
mod endpoint;
pub mod envoy;
mod feature;
pub mod grpc;
mod host;
mod knob;
mod lane;
mod listener;
mod near;
mod origin;
mod re2;
mod route;
mod telemetry;
mod wire;
mod workload;

pub use access::{Access, AccessMode, AccessRule, Caller};
pub use cluster::{
    Balance, BalanceError, Cluster, Ejection, Limits, Released, RetryBudget, ServicePort,
    UpstreamProtocol,
};
pub use endpoint::{Endpoint, Endpoints, Health};
pub use feature::{Feature, Features};
pub use host::Host;
pub use knob::{ClientCert, Form, Knob, Knobs};
pub use lane::Lane;
pub use listener::{ByName, Listener};
pub use near::{Here, Near};
pub use origin::{Origin, Setter};
pub use re2::beyond_re2;
pub use route::{
    Action, Backend, Filter, HeaderMatch, HeaderModifier, Match, Mirror, PathMatch, PathRewrite,
    QueryMatch, Redirect, Regex, Retry, RouteConfiguration, Rule, Stick, StringMatch, Timeouts,
};
pub use telemetry::{LogFormat, Logs, Metrics, Otlp, OtlpProtocol, Tag, Telemetry, Traces};
pub use workload::{
    ExternalTraffic, InboundPort, MTLS_MODE, MtlsMode, TRUST_DOMAINS, Workload, mtls_port,
};

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

/// The kinds of resource, in the order in which a server sends them (make before break).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// [`Workload`], our own type.
    Workload,
    /// [`Cluster`], CDS.
    Cluster,
    /// [`Endpoints`], EDS.
    Endpoints,
    /// [`Listener`], LDS.
    Listener,
    /// [`RouteConfiguration`], RDS.
    Route,
    /// [`Host`], our own type.
    Host,
}

/// A decoded resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "each variant is the type that it holds")]
pub enum Resource {
    Workload(Workload),
    Cluster(Cluster),
    Endpoints(Endpoints),
    Listener(Listener),
    Route(RouteConfiguration),
    Host(Host),
}

/// Why a resource was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: {field}: {reason}")]
pub struct Invalid {
    /// The resource's name.
    pub resource: String,
    /// Path of the field in the wire message, `virtual_hosts[0].routes[2].match`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A SPIFFE id, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
///
/// <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>; the path form is the one
/// that Kubernetes meshes share.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the trust domain and the namespace end: they are asked for with each request.
    ends: [usize; 2],
}

const SCHEME: &str = "spiffe://";
const NAMESPACE: &str = "/ns/";
const ACCOUNT: &str = "/sa/";

impl SpiffeId {
    /// The id of a ServiceAccount.
    pub fn service_account(trust_domain: &str, namespace: &str, account: &str) -> Self {
        let domain_end = SCHEME.len() + trust_domain.len();
        let ends = [domain_end, domain_end + NAMESPACE.len() + namespace.len()];
        let text = [SCHEME, trust_domain, NAMESPACE, namespace, ACCOUNT, account].concat();
        Self { text: text.into(), ends }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `TRUST-DOMAIN`.
    pub fn trust_domain(&self) -> &str {
        self.part(SCHEME.len(), self.ends[0])
    }

    /// `NAMESPACE`.
    pub fn namespace(&self) -> &str {
        self.part(self.ends[0] + NAMESPACE.len(), self.ends[1])
    }

    /// `SERVICE-ACCOUNT`.
    pub fn account(&self) -> &str {
        self.part(self.ends[1] + ACCOUNT.len(), self.text.len())
    }

    fn part(&self, begin: usize, end: usize) -> &str {
        self.text.get(begin..end).unwrap_or_default()
    }
}

/// A text that is no [`SpiffeId`] of a ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
pub struct BadSpiffeId(pub String);

impl FromStr for SpiffeId {
    type Err = BadSpiffeId;

    fn from_str(text: &str) -> Result<Self, BadSpiffeId> {
        let bad = || BadSpiffeId(text.chars().take(256).collect());
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(bad)?.split('/');
        let [domain, ns, namespace, sa, account] =
            std::array::from_fn(|_| parts.next().unwrap_or_default());
        let segment = |part: &str| {
            let is_of = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !part.is_empty() && part.bytes().all(is_of)
        };
        let well_formed = text.len() <= 2048
            && (ns, sa) == ("ns", "sa")
            && [domain, namespace, account].into_iter().all(segment)
            && parts.next().is_none();
        well_formed.then(|| Self::service_account(domain, namespace, account)).ok_or_else(bad)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The application protocol that a port declares (Kubernetes `appProtocol` or the port's name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum Protocol {
    /// Not declared: detected.
    #[default]
    Detect,
    /// HTTP of either version.
    Http,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`).
    Http2,
    /// gRPC: HTTP/2 whose outcome is in `grpc-status`.
    Grpc,
    /// Opaque bytes.
    Tcp,
}

impl Protocol {
    /// Whether rules for HTTP apply for certain.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}

impl Kind {
    /// Every kind, in sending order.
    pub const ALL: [Self; 6] =
        [Self::Workload, Self::Cluster, Self::Endpoints, Self::Listener, Self::Route, Self::Host];

    /// The type URL on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Workload => "type.googleapis.com/tulle.xds.v1.Workload",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Host => "type.googleapis.com/tulle.xds.v1.Host",
        }
    }

    /// The pod, `NAMESPACE/POD`, whose own the resource of this name is: nobody else may see it.
    pub fn owner(self, name: &str) -> Option<&str> {
        match self {
            Self::Workload => Some(name),
            Self::Listener => envoy::own_listener(name).map(|(_, pod)| pod),
            Self::Cluster | Self::Endpoints | Self::Route | Self::Host => None,
        }
    }

    /// The kind with this type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl Resource {
    /// The kind of this resource.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Workload(_) => Kind::Workload,
            Self::Cluster(_) => Kind::Cluster,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Listener(_) => Kind::Listener,
            Self::Route(_) => Kind::Route,
            Self::Host(_) => Kind::Host,
        }
    }

    /// The name under which clients subscribe.
    pub fn name(&self) -> &str {
        match self {
            Self::Workload(r) => &r.name,
            Self::Cluster(r) => &r.name,
            Self::Endpoints(r) => &r.name,
            Self::Listener(r) => &r.name,
            Self::Route(r) => &r.name,
            Self::Host(r) => &r.name,
        }
    }

    /// The message's bytes, without the `Any` around them. Deterministic: equal resources have
    /// equal bytes on every replica.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Workload(r) => r.encode(),
            Self::Cluster(r) => r.encode(),
            Self::Endpoints(r) => r.encode(),
            Self::Listener(r) => r.encode(),
            Self::Route(r) => r.encode(),
            Self::Host(r) => r.encode(),
        }
    }

    /// Decodes a message of type `kind` that was announced as `name`.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, its name is another one, or it says something
    /// that the model cannot express and that would change behaviour.
    pub fn decode(kind: Kind, name: &str, bytes: &[u8]) -> Result<Self, Invalid> {
        Ok(match kind {
            Kind::Workload => Self::Workload(Workload::decode(name, bytes)?),
            Kind::Cluster => Self::Cluster(Cluster::decode(name, bytes)?),
            Kind::Endpoints => Self::Endpoints(Endpoints::decode(name, bytes)?),
            Kind::Listener => Self::Listener(Listener::decode(name, bytes)?),
            Kind::Route => Self::Route(RouteConfiguration::decode(name, bytes)?),
            Kind::Host => Self::Host(Host::decode(name, bytes)?),
        })
    }
}

#[cfg(test)]
mod tests;
