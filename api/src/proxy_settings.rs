use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Settings of every sidecar's own data path. An annotation `tulle.dev/…` of a pod comes before what
/// is said here (`maxHeadBytes` is `tulle.dev/max-head-bytes`). They hold for connections that open
/// from then on; no sidecar is started anew. What is not said has the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Open connections from clients, in each direction. The default is 20000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Once a client has begun to speak, the time in which its protocol must show. The default is
    /// `5s`, the longest `60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Duration",
        extend("x-kubernetes-validations" = [{
            "rule": "duration(self) >= duration('1ms') && duration(self) <= duration('60s')",
            "message": "it must be from 1ms to 60s",
        }])
    )]
    pub detect_timeout: Option<Duration>,
    /// Time for the head of an HTTP/1 request, and for a TLS handshake. The default is `30s`, the
    /// longest `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Duration",
        extend("x-kubernetes-validations" = [{
            "rule": "duration(self) >= duration('1ms') && duration(self) <= duration('1h')",
            "message": "it must be from 1ms to 1h",
        }])
    )]
    pub head_timeout: Option<Duration>,
    /// An HTTP connection on which no request comes for so long is closed. The default is `1h`, the
    /// longest `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Duration",
        extend("x-kubernetes-validations" = [{
            "rule": "duration(self) >= duration('1ms') && duration(self) <= duration('24h')",
            "message": "it must be from 1ms to 24h",
        }])
    )]
    pub client_idle_timeout: Option<Duration>,
    /// Bytes of a message's head or of its trailers. The default is 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8192, max = 1_048_576))]
    pub max_head_bytes: Option<u32>,
    /// Bytes of a request line; of path and authority in HTTP/2. The default is 32768.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_uri_bytes: Option<u32>,
    /// Header fields of a message. The default is 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_headers: Option<u32>,
    /// Bytes of a request's body. The default is 0, no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub max_body_bytes: Option<u64>,
    /// Streams that a peer may have open on one HTTP/2 connection. The default is 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_streams: Option<u32>,
    /// Whether names of HTTP/1 header fields keep the case in which they were sent, where both sidecars
    /// have this. Costs CPU. The default is `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve_header_case: Option<bool>,
    /// What becomes of the request header `x-forwarded-client-cert`. A copy that did not come over
    /// mTLS is removed in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForwardedClientCert")] // else the field's own text is lost
    pub forwarded_client_cert: Option<ForwardedClientCert>,
    /// What failed always has a line in the access log; of the rest one request or connection in so
    /// many has one. 1 logs all, 0 what failed alone. The default is 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub access_log_sample: Option<u32>,
}

/// What becomes of the request header `x-forwarded-client-cert`, which tells applications who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ForwardedClientCert {
    /// It names the caller, and nobody before it.
    #[default]
    Set,
    /// The caller is added to those that it names itself.
    Append,
    /// Applications get none.
    Remove,
}
