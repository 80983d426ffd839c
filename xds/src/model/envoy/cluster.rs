use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            self as pb,
            cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy, TransportSocketMatch},
        },
        core::v3::{self as core, ExtraSourceAddress, Http1ProtocolOptions, Http2ProtocolOptions},
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{AutoHttpConfig, UpstreamProtocolOptions},
    },
};
use prost::Message as _;

use super::{LOCAL, LOCAL_HTTP1, PASSTHROUGH, REFUSED, endpoint, one_field, tls};
use crate::model::{
    Cluster, Endpoint, Endpoints, Limits, Origin, Setter, SpiffeId, UpstreamProtocol,
    cluster::HTTP_OPTIONS, wire,
};

/// From where the application is called: an address of its own on `lo`, that the redirection adds,
/// so that a pod that calls itself is told apart and no caller seems to be local.
const SOURCES: [&str; 2] = ["169.254.41.1", "fd00:7475:6c6c:65::1"];

/// For what no policy is about: Envoy's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is behind a cluster: Envoy chooses by it, before it knows the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// Identities of the meshed endpoints.
    pub identities: BTreeSet<SpiffeId>,
    /// Whether there are others.
    pub plaintext: bool,
}

impl Peers {
    /// Those of these endpoints.
    pub fn of(endpoints: &Endpoints) -> Self {
        let identities = endpoints.endpoints.iter().map(|endpoint| endpoint.identity.clone());
        Self {
            plaintext: endpoints.endpoints.iter().any(|endpoint| endpoint.identity.is_none()),
            identities: identities.flatten().collect(),
        }
    }
}

/// A cluster of ours, in Envoy's words.
pub fn cluster(cluster: &Cluster, peers: &Peers) -> Bytes {
    let mut message = cluster.message();
    message.metadata = super::origin(&cluster.origin, &cluster.setters);
    let upstream = upstream(cluster.upstream_protocol, peers);
    message.typed_extension_protocol_options =
        [(HTTP_OPTIONS.to_owned(), wire::pack(&upstream))].into();
    let plaintext = (endpoint::NO_IDENTITY, tls::none());
    // A peer whose version is to be found out must be able to say the standard's name for it.
    let alpn: &[&str] =
        if peers.plaintext { &[tls::HTTP2, tls::STANDARD_HTTP2] } else { &[tls::HTTP2] };
    let meshed =
        peers.identities.iter().map(|identity| (identity.as_str(), tls::to(identity, alpn)));
    message.transport_socket_matches = std::iter::once(plaintext)
        .chain(meshed)
        .map(|(identity, socket)| TransportSocketMatch {
            name: identity.to_owned(),
            r#match: Some(one_field(endpoint::IDENTITY, identity)),
            transport_socket: Some(socket),
        })
        .collect();
    message.transport_socket = Some(tls::to_nobody());
    message.encode_to_vec().into()
}

/// Between sidecars HTTP/2 always. Where some endpoints have none, each connection says.
fn upstream(declared: UpstreamProtocol, peers: &Peers) -> HttpProtocolOptions {
    let mixed = !peers.identities.is_empty() && peers.plaintext;
    if mixed && declared != UpstreamProtocol::Http2 {
        let auto = AutoHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(Http2ProtocolOptions::default()),
            ..AutoHttpConfig::default()
        };
        return HttpProtocolOptions {
            upstream_protocol_options: Some(UpstreamProtocolOptions::AutoConfig(auto)),
            ..HttpProtocolOptions::default()
        };
    }
    let all_meshed = !peers.identities.is_empty() && !peers.plaintext;
    let version = if all_meshed { UpstreamProtocol::Http2 } else { declared };
    version.message()
}

/// Where a connection to an address goes that is no Service's: to the pod there, and nobody else. Opaque,
/// whatever it is: the pod's own sidecar knows.
pub fn address(
    name: &str,
    endpoint: &Endpoint,
    limits: &Limits,
    from: &Origin,
    setters: &[Setter],
) -> Bytes {
    let there = Endpoints { name: name.to_owned(), endpoints: vec![endpoint.clone()] };
    let socket = match &endpoint.identity {
        Some(identity) => tls::to(identity, &[tls::TCP]),
        None => tls::none(),
    };
    let message = pb::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(there.message_of(endpoint::plain)),
        transport_socket: Some(socket),
        connect_timeout: wire::duration(CONNECT_TIMEOUT),
        circuit_breakers: Some(limits.message()),
        metadata: super::origin(from, setters),
        ..pb::Cluster::default()
    };
    message.encode_to_vec().into()
}

/// One of the clusters that every Envoy has; `None` if this is no name of one.
pub fn own_cluster(name: &str) -> Option<Bytes> {
    let (kind, version) = match name {
        LOCAL => (DiscoveryType::OriginalDst, UpstreamProtocol::Same),
        LOCAL_HTTP1 => (DiscoveryType::OriginalDst, UpstreamProtocol::Http1),
        PASSTHROUGH => (DiscoveryType::OriginalDst, UpstreamProtocol::Same),
        REFUSED => (DiscoveryType::Static, UpstreamProtocol::Same),
        _ => return None,
    };
    let provided = kind == DiscoveryType::OriginalDst;
    let message = pb::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        lb_policy: if provided { LbPolicy::ClusterProvided } else { LbPolicy::RoundRobin }.into(),
        connect_timeout: wire::duration(CONNECT_TIMEOUT),
        circuit_breakers: Some(Limits::default().message()),
        upstream_bind_config: matches!(name, LOCAL | LOCAL_HTTP1).then(source),
        typed_extension_protocol_options: [(
            HTTP_OPTIONS.to_owned(),
            wire::pack(&version.message()),
        )]
        .into(),
        ..pb::Cluster::default()
    };
    Some(message.encode_to_vec().into())
}

fn source() -> core::BindConfig {
    let address = |ip: &str| core::SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(0)),
        ..core::SocketAddress::default()
    };
    let [v4, v6] = SOURCES.map(address);
    core::BindConfig {
        source_address: Some(v4),
        extra_source_addresses: vec![ExtraSourceAddress {
            address: Some(v6),
            socket_options: None,
        }],
        ..core::BindConfig::default()
    }
}
