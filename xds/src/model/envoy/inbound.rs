use std::{collections::BTreeSet, net::SocketAddr};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{AccessLogFilter, ResponseFlagFilter, access_log_filter::FilterSpecifier},
        core::v3::TrafficDirection,
        listener::v3::{
            self as pb, AdditionalAddress, ListenerFilterChainMatchPredicate,
            listener_filter_chain_match_predicate::{MatchSet, Rule},
        },
        route::v3::{
            HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
            header_matcher::HeaderMatchSpecifier, route, route_action, route_match::PathSpecifier,
        },
    },
    extensions::filters::{
        listener::{
            http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
            tls_inspector::v3::TlsInspector,
        },
        network::{
            http_connection_manager::v3::{
                HttpConnectionManager, LocalReplyConfig, ResponseMapper,
                http_connection_manager::{
                    CodecType, ForwardClientCertDetails, RouteSpecifier,
                    SetCurrentClientCertDetails,
                },
            },
            tcp_proxy::v3::tcp_proxy::ClusterSpecifier,
        },
    },
    r#type::{
        matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
        v3::Int32Range,
    },
};
use prost::Message as _;

use super::{INBOUND, LOCAL, LOCAL_HTTP1, access, http, log::Direction, route::header, tls};
use crate::model::{ClientCert, Knob, MtlsMode, Protocol, Workload, wire};

/// Where the redirection sends what comes for the application.
const PORT: u16 = 15006;

/// Takes every connection to the application: from sidecars by mTLS, from others as the port's mode
/// allows.
pub fn inbound(workload: &Workload) -> Bytes {
    let mut addresses = workload.addresses.iter().map(|ip| SocketAddr::new(*ip, PORT));
    let also = |address| AdditionalAddress {
        address: wire::address(address),
        ..AdditionalAddress::default()
    };
    let message = pb::Listener {
        name: format!("{INBOUND}{}", workload.name),
        address: addresses.next().and_then(wire::address),
        additional_addresses: addresses.map(also).collect(),
        traffic_direction: TrafficDirection::Inbound.into(),
        listener_filters: vec![
            http::listener_filter("original_dst", &OriginalDst::default()),
            http::listener_filter("tls_inspector", &TlsInspector::default()),
            pb::ListenerFilter {
                filter_disabled: on_ports(declared(workload)),
                ..http::listener_filter("http_inspector", &HttpInspector::default())
            },
        ],
        listener_filters_timeout: wire::duration(http::DETECTION_TIMEOUT),
        continue_on_listener_filters_timeout: true,
        filter_chains: chains(workload),
        ..pb::Listener::default()
    };
    message.encode_to_vec().into()
}

/// Ports whose protocol needs no detection.
fn declared(workload: &Workload) -> Vec<u16> {
    let declared = workload.ports.iter().filter(|port| port.protocol != Protocol::Detect);
    declared.map(|port| port.port).collect()
}

fn on_ports(ports: Vec<u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let port = |port: u16| ListenerFilterChainMatchPredicate {
        rule: Some(Rule::DestinationPortRange(Int32Range {
            start: port.into(),
            end: i32::from(port) + 1,
        })),
    };
    let mut rules: Vec<_> = ports.into_iter().map(port).collect();
    match rules.len() {
        0 | 1 => rules.pop(),
        // Envoy wants two rules at least.
        _ => Some(ListenerFilterChainMatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet { rules })),
        }),
    }
}

/// For ports that are like most, and for each other port its own.
fn chains(workload: &Workload) -> Vec<pb::FilterChain> {
    let mut chains = for_port(workload, None, Protocol::Detect, workload.default_mtls);
    let told: BTreeSet<u16> = access::ports(&workload.access).collect();
    for port in &workload.ports {
        let like_most = (port.protocol, port.mtls) == (Protocol::Detect, workload.default_mtls);
        if !like_most || told.contains(&port.port) {
            chains.extend(for_port(workload, Some(port.port), port.protocol, port.mtls));
        }
    }
    chains
}

fn for_port(
    workload: &Workload,
    port: Option<u16>,
    protocol: Protocol,
    mtls: MtlsMode,
) -> Vec<pb::FilterChain> {
    let only = |transport: &str, protocols: Vec<String>| pb::FilterChainMatch {
        destination_port: port.and_then(|port| wire::uint(port.into())),
        transport_protocol: transport.to_owned(),
        application_protocols: protocols,
        ..pb::FilterChainMatch::default()
    };
    let access = access::filter(&workload.access, port);
    let chain = |matches, filter| pb::FilterChain {
        filter_chain_match: Some(matches),
        filters: access.iter().cloned().chain([filter]).collect(),
        ..pb::FilterChain::default()
    };
    let meshed = |offers: &str, speaks: &[&str], filter| pb::FilterChain {
        transport_socket: Some(tls::from(&workload.trust_domains, speaks)),
        ..chain(only("tls", vec![offers.to_owned()]), filter)
    };
    let local = || ClusterSpecifier::Cluster(LOCAL.to_owned());
    let opaque = || http::tcp_filter("inbound", Direction::Inbound, local(), None);
    // The caller's Service may declare nothing where our port declares HTTP.
    let bytes = if protocol.is_http() { from_sidecar(workload, CodecType::Auto) } else { opaque() };
    let mut chains = vec![
        meshed(
            tls::HTTP2,
            &[tls::STANDARD_HTTP2, tls::HTTP2],
            from_sidecar(workload, CodecType::Http2),
        ),
        meshed(tls::HTTP1, &[tls::HTTP1], from_sidecar(workload, CodecType::Http1)),
        meshed(tls::TCP, &[tls::TCP], bytes),
    ];
    if mtls == MtlsMode::Permissive {
        match protocol {
            Protocol::Detect => {
                chains.push(chain(only("", http::http_versions()), from_stranger()));
                chains.push(chain(only("", Vec::new()), opaque()));
            }
            Protocol::Tcp => chains.push(chain(only("", Vec::new()), opaque())),
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
                chains.push(chain(only("", Vec::new()), from_stranger()));
            }
        }
    }
    chains
}

/// HTTP that came by mTLS: who called is told to the application, and the version that the first
/// client spoke is what the application is spoken to in.
fn from_sidecar(workload: &Workload, codec: CodecType) -> pb::Filter {
    let http1 = HeaderMatcher {
        name: http::HTTP_VERSION.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher {
                regex: r"(HTTP/)?1\.[01]".to_owned(),
                ..RegexMatcher::default()
            })),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    };
    let told = workload.knobs.get(&Knob::ForwardedClientCert).copied().unwrap_or_default();
    let details = match ClientCert::of(told) {
        ClientCert::Set => ForwardClientCertDetails::SanitizeSet,
        ClientCert::Append => ForwardClientCertDetails::AppendForward,
        ClientCert::Remove => ForwardClientCertDetails::Sanitize,
    };
    http::http_filter(&HttpConnectionManager {
        forward_client_cert_details: details.into(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        local_reply_config: Some(not_reached()),
        ..http::manager(
            "inbound",
            Direction::Inbound,
            codec,
            routes(vec![to(LOCAL_HTTP1, vec![http1]), to(LOCAL, Vec::new())]),
        )
    })
}

/// HTTP in plaintext.
fn from_stranger() -> pb::Filter {
    let routes = routes(vec![to(LOCAL, Vec::new())]);
    http::http_filter(&http::manager("inbound", Direction::Inbound, CodecType::Auto, routes))
}

fn routes(routes: Vec<Route>) -> RouteSpecifier {
    let ours = [http::HTTP_VERSION, http::NOT_REACHED, http::REASON].map(ToOwned::to_owned);
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes,
        request_headers_to_remove: ours.to_vec(),
        ..VirtualHost::default()
    };
    RouteSpecifier::RouteConfig(RouteConfiguration {
        name: "inbound".to_owned(),
        virtual_hosts: vec![host],
        ..RouteConfiguration::default()
    })
}

fn to(cluster: &str, headers: Vec<HeaderMatcher>) -> Route {
    let action = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: wire::duration(std::time::Duration::ZERO),
        ..RouteAction::default()
    };
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            headers,
            ..RouteMatch::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    }
}

/// Says to the caller's sidecar that the application could not be reached.
fn not_reached() -> LocalReplyConfig {
    let failed = ResponseFlagFilter { flags: vec!["UF".to_owned()] };
    LocalReplyConfig {
        mappers: vec![ResponseMapper {
            filter: Some(AccessLogFilter {
                filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(failed)),
            }),
            headers_to_add: vec![header(http::NOT_REACHED, "1")],
            ..ResponseMapper::default()
        }],
        ..LocalReplyConfig::default()
    }
}
