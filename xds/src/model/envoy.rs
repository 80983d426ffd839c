//! What stock Envoy is told, as a sidecar.
//!
//! ```text
//! application ─► outbound/NS/POD ─► [ 10.96.0.7:9080 ] ─► route ─► cluster ─► endpoints, mTLS by identity
//!                       └─► a pod's own address: a cluster of that name, on demand
//! mTLS or plaintext ─► inbound/NS/POD ─► inbound ─► application
//! ```
//!
//! The names are those of our own dialect, and so are the messages where they say all that Envoy
//! needs. What differs: our metadata, which Envoy could not read, is the object's name in text
//! ([`origin`]); a proxy of ours knows what to do with a meshed endpoint and with a request that was
//! never sent, Envoy has to be told. Each pod's Envoy has listeners of its own, through which
//! everything passes ([`own`]).
//!
//! **Invariants.** To a meshed endpoint there is no plaintext: without an exact match of its
//! identity the connection fails. What two sidecars say to one another (ALPN, `x-tulle-*`) is what
//! our own say, so that either may be at either end. Encoding is deterministic.

mod access;
mod cluster;
mod endpoint;
mod http;
mod inbound;
mod listener;
mod log;
mod outbound;
mod route;
mod tls;

pub use cluster::{Peers, address, cluster, own_cluster};
pub use endpoint::endpoints;
pub use inbound::inbound;
pub use listener::listener;
pub use outbound::outbound;
pub use route::route;

use envoy_types::pb::{
    envoy::config::core::v3 as core,
    google::protobuf::{Struct, Value, value},
};

use super::{Kind, Origin, Setter};

const INBOUND: &str = "inbound/";
const OUTBOUND: &str = "outbound/";

/// Clusters that every Envoy has: where the application was called, with the version of HTTP that
/// came or with HTTP/1.1; where an outbound connection was going; nowhere.
const LOCAL: &str = "local";
const LOCAL_HTTP1: &str = "local-http1";
const PASSTHROUGH: &str = "passthrough";
const REFUSED: &str = "refused";

/// The resources that the Envoy of a pod, `NAMESPACE/POD`, has beside those of Services.
pub fn own(pod: &str) -> Vec<(Kind, String)> {
    let listeners = [INBOUND, OUTBOUND].map(|side| (Kind::Listener, format!("{side}{pod}")));
    let clusters = [LOCAL, LOCAL_HTTP1, PASSTHROUGH, REFUSED];
    let clusters = clusters.map(|name| (Kind::Cluster, name.to_owned()));
    clusters.into_iter().chain(listeners).collect()
}

/// The side and the pod of a listener that is one pod's own.
pub fn own_listener(name: &str) -> Option<(Side, &str)> {
    let inbound = name.strip_prefix(INBOUND).map(|pod| (Side::Inbound, pod));
    inbound.or_else(|| name.strip_prefix(OUTBOUND).map(|pod| (Side::Outbound, pod)))
}

/// Which traffic of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// To its application.
    Inbound,
    /// From its application.
    Outbound,
}

/// Which object a resource comes from, and which policies set what of it, for who reads Envoy's
/// `/config_dump`. Not more than one entry: the order of several would be random.
fn origin(origin: &Origin, setters: &[Setter]) -> Option<core::Metadata> {
    let text = setters.iter().fold(object(origin), |text, Setter { field, origin }| {
        format!("{text}; {field} of {}", object(origin))
    });
    Some(metadata("dev.tulle", "origin", &text))
}

fn object(origin: &Origin) -> String {
    let Origin { kind, namespace, name, rule } = origin;
    let rule = if rule.is_empty() { String::new() } else { format!(" rule {rule}") };
    format!("{kind} {namespace}/{name}{rule}")
}

fn metadata(filter: &str, key: &str, text: &str) -> core::Metadata {
    core::Metadata {
        filter_metadata: [(filter.to_owned(), one_field(key, text))].into(),
        ..core::Metadata::default()
    }
}

fn one_field(key: &str, text: &str) -> Struct {
    let value = Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    Struct { fields: [(key.to_owned(), value)].into() }
}

#[cfg(test)]
mod tests;
