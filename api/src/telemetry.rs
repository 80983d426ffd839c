mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, Percent, PodSelector, PolicyStatus};

/// What sidecars tell of their traffic, and to whom.
#[derive(
    CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize,
)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "Telemetry",
    plural = "telemetries",
    shortname = "tel",
    category = "tulle",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    doc = "Telemetry says what sidecars tell of their traffic, and to whom: spans, the access log, metrics. With a selector it holds for those pods of its namespace, without one for the whole namespace, and in the namespace of the control plane (`tulle-system`) without one for the whole mesh. Field by field the most specific wins; a list is one field. Without any, metrics are there to be scraped, failures and one request in 1,000 are logged, and traces of applications are passed on.",
    printcolumn(name = "Log", type_ = "string", json_path = ".spec.logs.format")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TelemetrySpec {
    /// The pods of this namespace that it holds for. Absent: all of them; in the
    /// namespace of the control plane: all pods of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelector>,
    /// Spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Traces")] // else the field's own text is lost
    pub traces: Option<Traces>,
    /// The access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Logs")]
    pub logs: Option<Logs>,
    /// Metrics of requests and connections, by who calls whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Metrics")]
    pub metrics: Option<Metrics>,
}

/// Spans: which requests have some, and where they go. Without destinations none are made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traces {
    /// Whether no spans are made, whatever a less specific Telemetry says. What applications send of
    /// traces is passed on in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// The share of requests that are sampled, of those that come without a decision: `1%` (the
    /// default), `0.1%`, `100%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub sampling: Option<Percent>,
    /// Formats of headers that are read and written. `W3C` always is one; `B3` adds Zipkin's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub propagation: Option<BTreeSet<Propagation>>,
    /// Who gets the spans. An empty list: nobody, whatever a less specific Telemetry says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    pub destinations: Option<Vec<Destination>>,
    /// More attributes of each span.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub tags: Option<Vec<Tag>>,
}

/// The access log: which lines it has, and where they go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logs {
    /// How a line looks on the standard output. `JSON` (the default) is an object with everything,
    /// `Envoy` the default text of that proxy, `None` writes no lines there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LogFormat")]
    pub format: Option<LogFormat>,
    /// A CEL expression over the request: it has a line if that is true, `response.code >= 500`.
    /// Empty, as by default, is the rule `failed || audit != '' || sampled`: what failed, and of the rest one in
    /// 1,000. How many that is, MeshConfig's `spec.proxy.accessLogSample` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub filter: Option<String>,
    /// More fields of each line. Envoy's text has none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub fields: Option<Vec<Tag>>,
    /// Who gets the lines beside the standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    pub destinations: Option<Vec<Destination>>,
}

/// Metrics of requests and connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether nothing is counted by who calls whom, but for what policy forbade. `tulle stat` then shows
    /// nothing of these pods. The sidecar's own metrics stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Who is sent them, beside whoever scrapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    pub destinations: Option<Vec<Destination>>,
    /// How often they are sent. The default is `60s`; from `1s` to `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Duration",
        extend("x-kubernetes-validations" = [{
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
            "message": "it must be from 1s to 1h",
        }])
    )]
    pub interval: Option<Duration>,
    /// More labels of each series of who calls whom. Each value makes series of its own, so that each
    /// tag has `maxValues`; what `tulle stat` says is summed over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub tags: Option<Vec<MetricTag>>,
}

/// Formats of the headers by which traces hang together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Propagation {
    /// `traceparent` and `tracestate`, <https://www.w3.org/TR/trace-context/>.
    W3C,
    /// Zipkin's `b3` and `x-b3-…`, <https://github.com/openzipkin/b3-propagation>.
    B3,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// A JSON object.
    #[serde(rename = "JSON")]
    Json,
    /// Envoy's default text.
    Envoy,
    /// No lines on the standard output.
    None,
}

/// A receiver of OpenTelemetry's protocol (OTLP), as a collector is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// Where it is, `http://collector.observability:4317`; `https` for TLS. With its port, without a
    /// path.
    #[schemars(
        length(min = 1, max = 300),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[[][0-9A-Fa-f:.]+[]]):[0-9]{1,5}$')",
            "message": "write http://HOST:PORT or https://HOST:PORT, without a path",
        }])
    )]
    pub endpoint: String,
    /// How it is spoken to: `GRPC` (the default; usually port 4317) or `HTTP` (4318).
    #[serde(default)]
    pub protocol: Protocol,
    /// Sent with everything. Whoever may read this object may read them: a secret does not belong
    /// here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub headers: Vec<Header>,
}

/// The two ways to speak to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// gRPC.
    #[default]
    #[serde(rename = "GRPC")]
    Grpc,
    /// Protobuf in HTTP/1.1 bodies.
    #[serde(rename = "HTTP")]
    Http,
}

/// A header field.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Its name, in lower case.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-validations" = [
            {
                "rule": "self.matches('^[a-z0-9][a-z0-9_.-]*$')",
                "message": "a name has lower-case letters, digits, `-`, `_` and `.`",
            },
            {
                "rule": "!(self in ['connection', 'content-encoding', 'content-length', 'content-type', 'host', 'te', 'transfer-encoding', 'upgrade', 'user-agent']) && !self.startsWith('grpc-')",
                "message": "the protocol says this one by itself; leave it out",
            },
        ])
    )]
    pub name: String,
    /// Its value.
    #[schemars(
        length(max = 4096),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^[ -~]*$')",
            "message": "a value has printable ASCII characters",
        }])
    )]
    pub value: String,
}

/// Something more that is said of each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tag {
    /// What it is called.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^[A-Za-z_][A-Za-z0-9_.-]*$')",
            "message": "a name begins with a letter and has letters, digits, `_`, `.` and `-`",
        }])
    )]
    pub name: String,
    /// A CEL expression over the request: `request.headers['x-tenant']`. Where it is empty or
    /// cannot be worked out, nothing is said.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// A label more of each series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricTag {
    /// What it is called; for Prometheus with `_` for each `.`.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^[A-Za-z_][A-Za-z0-9_.]*$')",
            "message": "a name begins with a letter and has letters, digits, `_` and `.`",
        }])
    )]
    pub name: String,
    /// A CEL expression over the request: `request.headers['x-tenant']`. Where it is empty or cannot
    /// be worked out, the series has no such label. What is longer than 128 bytes is cut.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
    /// Values that a sidecar tells apart, those that come first; what comes beyond is `other`. A value
    /// makes room once nothing was counted of it for ten minutes. The default is 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_values: Option<u32>,
}

/// Without the value, which may be a credential.
impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Header").field("name", &self.name).finish_non_exhaustive()
    }
}
