mod encoding;

pub(super) use encoding::{HTTP_OPTIONS, policy};

use std::time::Duration;

use serde::Serialize;

use super::{Origin, Protocol, Setter};

/// A set of interchangeable endpoints, and how to use them. Its endpoints are the
/// [`Endpoints`](super::Endpoints) of the same name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// `service/NAMESPACE/NAME/PORT`, `pod/NAMESPACE/NAME/PORT`, or the former with the route appended
    /// whose policies it follows, `/KIND/NAMESPACE/NAME` and perhaps `/RULE`.
    pub name: String,
    /// The Service port that it stands for; `None` for a pod.
    pub service: Option<ServicePort>,
    /// What the port declares.
    pub protocol: Protocol,
    /// HTTP version towards an endpoint without sidecar (between sidecars it is always HTTP/2).
    pub upstream_protocol: UpstreamProtocol,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Bounds per calling proxy, process-wide.
    pub limits: Limits,
    /// Removal of endpoints that fail; `None` is never.
    pub ejection: Option<Ejection>,
    /// Longest time for TCP and TLS to an endpoint.
    pub connect_timeout: Duration,
    /// The object that this cluster stands for.
    pub origin: Origin,
    /// What of it policies set, by field.
    pub setters: Vec<Setter>,
    /// What a release says of its endpoints.
    pub released: Released,
}

/// Whether a cluster's endpoints are of a version that is being released, or that is being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Released {
    /// They are of no such one.
    #[default]
    No,
    /// What came of attempts at them is reported each second.
    Counted,
    /// The same, and nothing more is sent there: what is still open ends soon.
    Retired,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ServicePort {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// The Service's port, not the container's.
    pub port: u16,
    /// Fully qualified host name, `reviews.bookstore.svc.cluster.local`.
    pub host: String,
}

/// HTTP version towards an endpoint without sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum UpstreamProtocol {
    /// The version that the client spoke.
    #[default]
    Same,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 with prior knowledge always.
    Http2,
}

/// How an endpoint is chosen, after Envoy's policies of these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Balance {
    /// The least loaded of `choices` random ones (2 to 10; 2 is power of two choices).
    LeastRequest {
        /// How many endpoints are compared.
        choices: u32,
    },
    /// One after the other, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
}

/// `choices` of [`Balance::LeastRequest`] out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("choice_count is {0}; it must be between 2 and 10")]
pub struct BalanceError(pub u32);

impl Balance {
    /// Least request over `choices` random endpoints.
    ///
    /// # Errors
    /// If `choices` is not between 2 and 10.
    pub fn least_request(choices: u32) -> Result<Self, BalanceError> {
        (2..=10)
            .contains(&choices)
            .then_some(Self::LeastRequest { choices })
            .ok_or(BalanceError(choices))
    }
}

impl Default for Balance {
    fn default() -> Self {
        Self::LeastRequest { choices: 2 }
    }
}

/// Envoy's circuit breakers: bounds on what one calling proxy has open towards the cluster. `None`
/// is no bound.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Limits {
    /// TCP connections.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests in flight.
    pub requests: Option<u32>,
    /// Share of requests that may be retries.
    pub retry_budget: RetryBudget,
}

/// Retries in flight are at most this share of active and pending requests, with a minimum
/// (Envoy's `RetryBudget`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RetryBudget {
    /// Percent, 0 to 100.
    pub percent: f64,
    /// Retries that are always allowed at once.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.0, min_concurrency: 3 }
    }
}

/// Envoy's outlier detection, the parts that look at consecutive failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ejection {
    /// So many server errors (5xx, or grpc-status that means one) in a row eject; `None` is never.
    pub consecutive_5xx: Option<u32>,
    /// So many failures to connect, resets or timeouts in a row eject; `None` is never.
    pub consecutive_local_failures: Option<u32>,
    /// An endpoint is out for this long times the number of its ejections.
    pub base_time: Duration,
    /// Longest time out.
    pub max_time: Duration,
    /// How often ejected endpoints are looked at.
    pub interval: Duration,
    /// Largest share of endpoints that may be out, percent; one always may.
    pub max_percent: u32,
}
