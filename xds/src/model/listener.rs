use std::{collections::HashSet, net::SocketAddr, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::listener::v3::{self as pb, filter, listener_filter},
        extensions::filters::{
            http::router::v3::Router,
            listener::{http_inspector::v3::HttpInspector, tls_inspector::v3::TlsInspector},
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{
                        RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
                    },
                    http_filter,
                },
                tcp_proxy::v3::{
                    TcpProxy,
                    tcp_proxy::{
                        ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
                    },
                },
            },
        },
    },
    google::protobuf::Any,
};
use prost::Message as _;
use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::{
    Backend, Invalid, Origin, Protocol, ServicePort, Setter,
    wire::{self, At as _, bad},
};

/// How long stock Envoy waits for a client that may speak HTTP before it takes it for opaque.
const DETECTION_TIMEOUT: Duration = Duration::from_millis(100);

/// What an outbound address stands for: a port of a Service (at its cluster IP), or of a pod.
///
/// Named after the address: `10.96.0.7:9080`, `[fd00:96::7]:9080`. Envoy's `Listener` with
/// `bind_to_port: false`: an HTTP connection manager where the protocol may be HTTP, a TCP proxy
/// where it may be opaque, `envoy.filters.listener.http_inspector` before both where it is detected; and a
/// TCP proxy for each group of server names, `envoy.filters.listener.tls_inspector` before them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listener {
    /// The address as text; equal to `address.to_string()`.
    pub name: String,
    /// The address that applications dial.
    pub address: SocketAddr,
    /// What the Service declares.
    pub protocol: Protocol,
    /// The Service behind the address; `None` for a pod's own address.
    pub service: Option<ServicePort>,
    /// Name of the [`RouteConfiguration`](super::RouteConfiguration) for HTTP; `None` exactly if
    /// the protocol is [`Protocol::Tcp`].
    pub route: Option<String>,
    /// Where opaque bytes go, by weight, which is at least 1 each (those with 0 are not sent); no
    /// filters. Empty exactly if the protocol is declared HTTP.
    pub backends: Vec<Backend>,
    /// TLS connections that go elsewhere, by the server that the client names. No name is twice in all of
    /// them; empty where the protocol is declared HTTP.
    pub by_name: Vec<ByName>,
    /// Whether opaque bytes that name none of these servers are refused, rather than going to `backends`.
    pub only_named: bool,
    /// How long opaque connections may carry no byte in either direction; `None` is no bound, as it is
    /// where nothing is opaque.
    pub idle: Option<Duration>,
    /// The object that this listener stands for.
    pub origin: Origin,
    /// What of it policies set, by field.
    pub setters: Vec<Setter>,
}

/// Where the clients of some TLS servers go. The TLS stays theirs: nothing of it is ended or looked into.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByName {
    /// What clients may call the server (SNI, RFC 6066, 3), at least one: in lower case, whole or as
    /// `*.shop.example`, which is each name that has labels in place of the asterisk. The whole name comes
    /// before any other, and of these the longest.
    pub names: Vec<String>,
    /// As [`Listener::backends`].
    pub backends: Vec<Backend>,
}

impl Listener {
    /// The bytes of Envoy's message, the same for equal listeners.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Reads Envoy's message.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, it has another name, or it says something that
    /// this type cannot.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, Invalid> {
        wire::decode(
            name,
            bytes,
            |message| Self::read(name, message),
            |value, message| {
                // A label for statistics changes nothing.
                pb::Listener { stat_prefix: message.stat_prefix.clone(), ..value.message() }
            },
        )
    }

    pub(super) fn message(&self) -> pb::Listener {
        let detect = self.protocol == Protocol::Detect;
        let mut filter_chains = Vec::new();
        if self.protocol != Protocol::Tcp {
            filter_chains.push(self.http_chain(detect));
        }
        if !self.protocol.is_http() {
            filter_chains.push(self.tcp_chain(&self.backends));
        }
        filter_chains.extend(self.by_name.iter().map(|by_name| pb::FilterChain {
            filter_chain_match: Some(named(&by_name.names)),
            ..self.tcp_chain(&by_name.backends)
        }));
        let listener_filters = self.inspectors();
        let inspected = !listener_filters.is_empty();
        let service = self.service.as_ref();
        let metadata = ours::ListenerMetadata {
            protocol: wire::protocol(self.protocol),
            service: service.map(ServicePort::full_name).unwrap_or_default(),
            port: service.map(|s| s.port.into()).unwrap_or_default(),
            host: service.map(|s| s.host.clone()).unwrap_or_default(),
            origin: wire::origin(&self.origin),
            setters: wire::setters(&self.setters),
            only_named: self.only_named,
        };
        pb::Listener {
            name: self.name.clone(),
            address: wire::address(self.address),
            // One real listener takes all connections and hands them over by original destination.
            bind_to_port: wire::boolean(false),
            traffic_direction: envoy_types::pb::envoy::config::core::v3::TrafficDirection::Outbound
                .into(),
            listener_filters,
            listener_filters_timeout: inspected
                .then_some(DETECTION_TIMEOUT)
                .and_then(wire::duration),
            continue_on_listener_filters_timeout: inspected,
            filter_chains,
            metadata: wire::metadata("ListenerMetadata", &metadata),
            ..pb::Listener::default()
        }
    }

    /// What looks at a client's first bytes.
    fn inspectors(&self) -> Vec<pb::ListenerFilter> {
        let tls = || inspector("tls_inspector", wire::pack(&TlsInspector::default()));
        let http = || inspector("http_inspector", wire::pack(&HttpInspector::default()));
        let tls = (!self.by_name.is_empty()).then(tls);
        let http = (self.protocol == Protocol::Detect).then(http);
        tls.into_iter().chain(http).collect()
    }

    /// HTTP; if it is one of two chains, only what the inspector took for HTTP.
    fn http_chain(&self, detected: bool) -> pb::FilterChain {
        let versions = ["http/1.0", "http/1.1", "h2c"].map(ToOwned::to_owned);
        let filter_chain_match = detected.then(|| pb::FilterChainMatch {
            application_protocols: versions.into(),
            ..pb::FilterChainMatch::default()
        });
        let rds = Rds {
            config_source: wire::ads(),
            route_config_name: self.route.clone().unwrap_or_default(),
        };
        let router = HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(wire::pack(&Router::default()))),
            ..HttpFilter::default()
        };
        let websocket =
            UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() };
        let manager = HttpConnectionManager {
            stat_prefix: self.name.clone(),
            route_specifier: Some(RouteSpecifier::Rds(rds)),
            http_filters: vec![router],
            upgrade_configs: vec![websocket],
            // Without a policy there is no time limit (Envoy's default is 5 minutes), and the
            // server's own header stays.
            stream_idle_timeout: wire::duration(Duration::ZERO),
            server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
            ..HttpConnectionManager::default()
        };
        pb::FilterChain {
            filter_chain_match,
            filters: vec![network_filter(
                "envoy.filters.network.http_connection_manager",
                wire::pack(&manager),
            )],
            ..pb::FilterChain::default()
        }
    }

    fn tcp_chain(&self, backends: &[Backend]) -> pb::FilterChain {
        let proxy = TcpProxy {
            stat_prefix: self.name.clone(),
            // Zero is no bound; Envoy's default is an hour.
            idle_timeout: wire::duration(self.idle.unwrap_or_default()),
            cluster_specifier: Some(ClusterSpecifier::WeightedClusters(weighted(backends))),
            ..TcpProxy::default()
        };
        pb::FilterChain {
            filters: vec![network_filter("envoy.filters.network.tcp_proxy", wire::pack(&proxy))],
            ..pb::FilterChain::default()
        }
    }

    fn read(announced: &str, message: &pb::Listener) -> wire::Result<Self> {
        let name = wire::same_name(announced, &message.name)?;
        let address = wire::read_address(message.address.as_ref()).at("address")?;
        if address.to_string() != name {
            return Err(bad(format!("is {address}; the name says {name}"))).at("address");
        }
        let metadata: ours::ListenerMetadata =
            wire::read_metadata("ListenerMetadata", message.metadata.as_ref())?;
        let protocol = wire::read_protocol(metadata.protocol).at("metadata.protocol")?;
        let service = ServicePort::read(&metadata.service, metadata.port, metadata.host)
            .at("metadata.service")?;
        let (mut route, mut backends, mut by_name, mut idle) = (None, Vec::new(), Vec::new(), None);
        for (i, chain) in message.filter_chains.iter().enumerate() {
            match read_chain(chain).at_index("filter_chains", i)? {
                Chain::Http(name) => route = Some(name),
                Chain::Tcp(to, within) => {
                    idle = within;
                    match names_of(chain) {
                        [] => backends = to,
                        names => by_name.push(ByName { names: names.to_vec(), backends: to }),
                    }
                }
            }
        }
        // That the chains are those of the protocol, the comparison with what it encodes to finds.
        if route.is_none() && protocol != Protocol::Tcp {
            return Err(bad("need an HTTP connection manager for this protocol"))
                .at("filter_chains");
        }
        let mut met = HashSet::new();
        let mut names = by_name.iter().flat_map(|by_name| &by_name.names);
        if let Some(name) = names.find(|name| !is_server_name(name) || !met.insert(*name)) {
            let reason =
                format!("{name:?} is there twice, or is no name of a server in lower case");
            return Err(bad(reason)).at("filter_chains.filter_chain_match.server_names");
        }
        let origin = wire::read_origin(metadata.origin);
        let setters = wire::read_setters(metadata.setters);
        let only_named = metadata.only_named;
        Ok(Self {
            name,
            address,
            protocol,
            service,
            route,
            backends,
            by_name,
            only_named,
            idle,
            origin,
            setters,
        })
    }
}

pub(super) fn weighted(backends: &[Backend]) -> WeightedCluster {
    // Envoy refuses a weight of 0 here.
    let backends = backends.iter().filter(|b| b.weight > 0);
    let clusters = backends.map(|backend| ClusterWeight {
        name: backend.cluster.clone(),
        weight: backend.weight,
        ..ClusterWeight::default()
    });
    WeightedCluster { clusters: clusters.collect() }
}

enum Chain {
    Http(String),
    Tcp(Vec<Backend>, Option<Duration>),
}

fn read_chain(chain: &pb::FilterChain) -> wire::Result<Chain> {
    let [pb::Filter { config_type: Some(filter::ConfigType::TypedConfig(config)), .. }] =
        chain.filters.as_slice()
    else {
        return Err(bad("must be one filter with typed_config")).at("filters");
    };
    if config.type_url.ends_with("HttpConnectionManager") {
        let manager: HttpConnectionManager = wire::unpack(config).at("filters[0].typed_config")?;
        let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else {
            return Err(bad("must be rds")).at("filters[0].typed_config.route_specifier");
        };
        if rds.route_config_name.is_empty() {
            return Err(wire::missing()).at("filters[0].typed_config.rds.route_config_name");
        }
        return Ok(Chain::Http(rds.route_config_name));
    }
    let proxy: TcpProxy = wire::unpack(config).at("filters[0].typed_config")?;
    let idle = wire::read_duration(proxy.idle_timeout.as_ref())
        .at("filters[0].typed_config.idle_timeout")?;
    let path = "filters[0].typed_config.weighted_clusters.clusters";
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = proxy.cluster_specifier else {
        return Err(wire::missing()).at(path);
    };
    let mut sum = 0_u32;
    let backends: Vec<_> = weighted
        .clusters
        .into_iter()
        .map(|c| Backend { cluster: c.name, weight: c.weight, filters: Vec::new() })
        .collect();
    for (i, backend) in backends.iter().enumerate() {
        if backend.cluster.is_empty() || backend.weight == 0 {
            return Err(bad("needs a name and a weight of at least 1")).at_index(path, i);
        }
        sum = sum
            .checked_add(backend.weight)
            .ok_or_else(|| bad("the sum of weights exceeds 4294967295"))
            .at_index(path, i)?;
    }
    if sum == 0 {
        return Err(wire::missing()).at(path);
    }
    Ok(Chain::Tcp(backends, Some(idle).filter(|time| !time.is_zero())))
}

fn network_filter(name: &str, config: Any) -> pb::Filter {
    pb::Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// TLS clients that name one of these.
pub(super) fn named(names: &[String]) -> pb::FilterChainMatch {
    pb::FilterChainMatch {
        server_names: names.to_vec(),
        transport_protocol: "tls".to_owned(),
        ..pb::FilterChainMatch::default()
    }
}

fn names_of(chain: &pb::FilterChain) -> &[String] {
    chain.filter_chain_match.as_ref().map_or(&[], |matches| &matches.server_names)
}

/// As [`ByName::names`] says.
fn is_server_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name).split('.');
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    labels.into_iter().all(|label| !label.is_empty() && label.bytes().all(byte))
}

fn inspector(name: &str, config: Any) -> pb::ListenerFilter {
    pb::ListenerFilter {
        name: format!("envoy.filters.listener.{name}"),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..pb::ListenerFilter::default()
    }
}
