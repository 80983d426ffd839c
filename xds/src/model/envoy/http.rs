//! What all of Envoy's HTTP listeners have in common, and its other filters.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                DataSource, Http1ProtocolOptions, Http2ProtocolOptions, SubstitutionFormatString,
                TypedExtensionConfig, data_source,
                http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
                substitution_format_string,
            },
            listener::v3::{self as pb, filter, listener_filter},
        },
        extensions::{
            filters::{
                common::set_filter_state::v3::{
                    FilterStateValue,
                    filter_state_value::{self, SharedWithUpstream},
                },
                http::router::v3::Router,
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager, HttpFilter,
                        http_connection_manager::{
                            CodecType, RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
                        },
                        http_filter,
                    },
                    set_filter_state::v3::Config as SetFilterState,
                    tcp_proxy::v3::{
                        TcpProxy,
                        tcp_proxy::{ClusterSpecifier, OnDemand},
                    },
                },
            },
            http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
        },
    },
    google::protobuf::Any,
};
use prost::Name;

use super::{
    REFUSED,
    log::{self, Direction},
};
use crate::model::wire;

/// What one sidecar says to the other.
pub(super) const HTTP_VERSION: &str = "x-tulle-http-version";
pub(super) const NOT_REACHED: &str = "x-tulle-not-reached";
pub(super) const REASON: &str = "x-tulle-reason";

/// How long Envoy waits for a client that may speak HTTP before it takes it for opaque.
pub(super) const DETECTION_TIMEOUT: Duration = Duration::from_millis(100);

/// As its inspector calls them.
pub(super) fn http_versions() -> Vec<String> {
    ["http/1.0", "http/1.1", "h2c"].map(ToOwned::to_owned).into()
}

/// HTTP without anything that nobody asked for: no time limits, no headers of Envoy's, the case of
/// HTTP/1 header names kept.
pub(super) fn manager(
    name: &str,
    direction: Direction,
    codec: CodecType,
    routes: RouteSpecifier,
) -> HttpConnectionManager {
    let router = Router { suppress_envoy_headers: true, ..Router::default() };
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(wire::pack(&router))),
        ..HttpFilter::default()
    };
    let websocket =
        UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() };
    HttpConnectionManager {
        stat_prefix: name.to_owned(),
        access_log: log::requests(direction),
        codec_type: codec.into(),
        route_specifier: Some(routes),
        http_filters: vec![router],
        upgrade_configs: vec![websocket],
        stream_idle_timeout: wire::duration(Duration::ZERO),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        generate_request_id: wire::boolean(false),
        use_remote_address: wire::boolean(false),
        skip_xff_append: true,
        http_protocol_options: Some(http1()),
        http2_protocol_options: Some(Http2ProtocolOptions {
            allow_connect: true,
            ..Http2ProtocolOptions::default()
        }),
        ..HttpConnectionManager::default()
    }
}

/// HTTP/1 as it comes.
pub(super) fn http1() -> Http1ProtocolOptions {
    let formatter = TypedExtensionConfig {
        name: "preserve_case".to_owned(),
        typed_config: Some(wire::pack(&PreserveCaseFormatterConfig::default())),
    };
    Http1ProtocolOptions {
        accept_http_10: true,
        enable_trailers: true,
        header_key_format: Some(HeaderKeyFormat {
            header_format: Some(HeaderFormat::StatefulFormatter(formatter)),
        }),
        ..Http1ProtocolOptions::default()
    }
}

pub(super) fn http_filter(manager: &HttpConnectionManager) -> pb::Filter {
    filter("http_connection_manager", manager)
}

/// Opaque bytes, which may pause for so long; `None` is no bound (Envoy's default is an hour).
pub(super) fn tcp_filter(
    name: &str,
    direction: Direction,
    to: ClusterSpecifier,
    idle: Option<Duration>,
) -> pb::Filter {
    filter("tcp_proxy", &tcp(name, direction, to, idle))
}

/// Opaque bytes to a cluster that has the name of where the connection was going, and that is asked for
/// when it is needed.
pub(super) fn by_address() -> [pb::Filter; 2] {
    let none = ClusterSpecifier::Cluster(REFUSED.to_owned());
    let proxy = TcpProxy {
        on_demand: Some(OnDemand { odcds_config: wire::ads(), ..OnDemand::default() }),
        ..tcp("pods", Direction::Outbound, none, None)
    };
    let cluster = "envoy.tcp_proxy.cluster";
    [
        state(cluster, "%DOWNSTREAM_LOCAL_ADDRESS%", SharedWithUpstream::None),
        filter("tcp_proxy", &proxy),
    ]
}

fn tcp(name: &str, direction: Direction, to: ClusterSpecifier, idle: Option<Duration>) -> TcpProxy {
    TcpProxy {
        stat_prefix: name.to_owned(),
        access_log: log::connections(direction),
        idle_timeout: wire::duration(idle.unwrap_or_default()),
        cluster_specifier: Some(to),
        ..TcpProxy::default()
    }
}

/// Says to the next sidecar what is inside, in place of what the cluster says.
pub(super) fn says(alpn: &str) -> pb::Filter {
    state("envoy.network.application_protocols", alpn, SharedWithUpstream::Once)
}

/// Sets a value of the connection that other filters look at.
fn state(name: &str, format: &str, shared: SharedWithUpstream) -> pb::Filter {
    use filter_state_value::{Key, Value};

    let text = DataSource {
        specifier: Some(data_source::Specifier::InlineString(format.to_owned())),
        ..DataSource::default()
    };
    let value = SubstitutionFormatString {
        format: Some(substitution_format_string::Format::TextFormatSource(text)),
        ..SubstitutionFormatString::default()
    };
    let state = SetFilterState {
        on_new_connection: vec![FilterStateValue {
            key: Some(Key::ObjectKey(name.to_owned())),
            value: Some(Value::FormatString(value)),
            shared_with_upstream: shared.into(),
            ..FilterStateValue::default()
        }],
        ..SetFilterState::default()
    };
    filter("set_filter_state", &state)
}

pub(super) fn filter(name: &str, config: &impl Name) -> pb::Filter {
    pb::Filter {
        name: format!("envoy.filters.network.{name}"),
        config_type: Some(filter::ConfigType::TypedConfig(wire::pack(config))),
    }
}

/// Looks at the first bytes or at the socket.
pub(super) fn listener_filter(name: &str, config: &impl Name) -> pb::ListenerFilter {
    let config: Any = wire::pack(config);
    pb::ListenerFilter {
        name: format!("envoy.filters.listener.{name}"),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..pb::ListenerFilter::default()
    }
}
