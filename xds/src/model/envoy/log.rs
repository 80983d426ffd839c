//! Envoy's access log: JSON on its standard output, with the names that our own proxy's lines have, where
//! Envoy has the value. What our own calls `reason` Envoy says as `response_flags` and `detail`.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType},
    google::protobuf::{Any, Value, value::Kind},
};
use prost::Message as _;

/// Which traffic a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

/// In every line.
const ALL: [(&str, &str); 8] = [
    ("time", "%EMIT_TIME(%Y-%m-%dT%H:%M:%E6SZ)%"),
    ("duration_ms", "%DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("upstream", "%UPSTREAM_HOST%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("destination", "%DOWNSTREAM_LOCAL_ADDRESS%"),
];

/// Of requests.
const REQUEST: [(&str, &str); 9] = [
    ("protocol", "%PROTOCOL%"),
    ("method", "%REQ(:METHOD)%"),
    ("host", "%REQ(:AUTHORITY)%"),
    ("path", "%PATH(NQ:PATH)%"),
    ("status", "%RESPONSE_CODE%"),
    ("grpc_status", "%GRPC_STATUS(SNAKE_STRING)%"),
    ("detail", "%RESPONSE_CODE_DETAILS%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("first_byte_ms", "%RESPONSE_DURATION%"),
];

/// Of opaque connections.
const CONNECTION: [(&str, &str); 1] = [("protocol", "tcp")];

const INBOUND: [(&str, &str); 2] =
    [("direction", "inbound"), ("peer", "%DOWNSTREAM_PEER_URI_SAN%")];

const OUTBOUND: [(&str, &str); 4] = [
    ("direction", "outbound"),
    ("peer", "%UPSTREAM_PEER_URI_SAN%"),
    ("service", "%UPSTREAM_CLUSTER%"),
    ("route", "%METADATA(ROUTE:dev.tulle:origin)%"),
];

/// A line for each request.
pub(super) fn requests(direction: Direction) -> Vec<AccessLog> {
    log(direction, &REQUEST)
}

/// A line for each opaque connection.
pub(super) fn connections(direction: Direction) -> Vec<AccessLog> {
    log(direction, &CONNECTION)
}

fn log(direction: Direction, own: &[(&str, &str)]) -> Vec<AccessLog> {
    let side: &[_] = match direction {
        Direction::Inbound => &INBOUND,
        Direction::Outbound => &OUTBOUND,
    };
    let fields = ALL.iter().chain(own).chain(side).map(|(name, format)| {
        ((*name).to_owned(), Value { kind: Some(Kind::StringValue((*format).to_owned())) })
    });
    let format =
        Format { json_format: Some(Fields { fields: fields.collect() }), omit_empty_values: true };
    let value = Stdout { log_format: Some(format) }.encode_to_vec();
    let type_url =
        "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog".to_owned();
    vec![AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: None,
        config_type: Some(ConfigType::TypedConfig(Any { type_url, value })),
    }]
}

/// Envoy's `StdoutAccessLog`. The generated messages have a map in it whose order is random.
#[derive(Clone, PartialEq, prost::Message)]
struct Stdout {
    #[prost(message, optional, tag = "1")]
    log_format: Option<Format>,
}

/// `SubstitutionFormatString`.
#[derive(Clone, PartialEq, prost::Message)]
struct Format {
    #[prost(message, optional, tag = "2")]
    json_format: Option<Fields>,
    #[prost(bool, tag = "3")]
    omit_empty_values: bool,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
struct Fields {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}
