//! Names that Tulle gives by itself, which what users add cannot have.

/// Fields of a line of the access log.
pub const FIELDS: [&str; 29] = [
    "time",
    "direction",
    "protocol",
    "method",
    "host",
    "path",
    "mirror",
    "status",
    "grpc_status",
    "reason",
    "fault",
    "detail",
    "policy",
    "audit",
    "duration_ms",
    "first_byte_ms",
    "bytes_received",
    "bytes_sent",
    "tls",
    "peer",
    "peer_pod",
    "service",
    "route",
    "attempts",
    "upstream",
    "revision",
    "client",
    "destination",
    "sampled",
];

/// Fields that come with tracing.
pub const TRACE_FIELDS: [&str; 4] = ["trace_id", "span_id", "trace_flags", "trace_sampled"];

/// Attributes of spans, by OpenTelemetry's names; beside these all that begin with [`OURS`].
pub const ATTRIBUTES: [&str; 24] = [
    "client.address",
    "error.type",
    "http.request.body.size",
    "http.request.method",
    "http.request.method_original",
    "http.request.resend_count",
    "http.response.body.size",
    "http.response.status_code",
    "http.route",
    "network.peer.address",
    "network.peer.port",
    "network.protocol.name",
    "network.protocol.version",
    "network.transport",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.status_code",
    "rpc.system",
    "rpc.system.name",
    "server.address",
    "server.port",
    "url.full",
    "url.path",
    "url.scheme",
];

/// Labels of series, and of the targets that have them; beside these all that begin with [`OURS`].
pub const LABELS: [&str; 18] = [
    "error_type",
    "http_request_method",
    "http_response_status_code",
    "instance",
    "job",
    "le",
    "namespace",
    "outcome",
    "pod",
    "quantile",
    "rpc_status_code",
    "rpc_system_name",
    "server_address",
    "server_port",
    "tls_established",
    "tls_protocol_version",
    "url_scheme",
    "workload",
];

/// How names of ours begin, and those of OpenTelemetry's own SDKs.
pub const OURS: [&str; 5] = ["tulle", "otel", "telemetry", "service.", "k8s."];
