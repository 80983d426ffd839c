use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, Percent};

/// What must hold all the while.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReleaseGates {
    /// The chance that a version which is no worse is ever stopped, by errors and latency together. Default: 0.1%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub false_alarm: Option<Percent>,
    /// Requests to the canary before a step may end. Default: 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u32>,
    /// Requests that fail: 5xx, gRPC statuses that are the server's fault, and no answer at all; each attempt counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrorsGate")]
    pub errors: Option<ErrorsGate>,
    /// Requests that take longer than nearly all of the stable version's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LatencyGate")]
    pub latency: Option<LatencyGate>,
    /// Restarts of the canary's containers in a step that are forgiven. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Questions to a Prometheus.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub queries: Vec<QueryGate>,
    /// Others who are asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub webhooks: Vec<WebhookGate>,
}

/// How many failing requests are too many.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ErrorsGate {
    /// Whether errors are not judged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// How much more often than the stable version the canary may fail. Default: 25%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub tolerate: Option<Percent>,
    /// A share of failing requests below which nobody minds. Default: 0.1%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub floor: Option<Percent>,
    /// A share that is too much, also where there is nothing to compare with. Default: 5%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub max: Option<Percent>,
}

/// How many slow requests are too many. Slow is what takes longer than nearly all of the stable version's did in the minute
/// before the step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LatencyGate {
    /// Whether durations are not judged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Nearly all: 50% to 99.9%. Default: 99%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub quantile: Option<Percent>,
    /// How much more often than the stable version the canary may be slow. Default: 25%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percent")]
    pub tolerate: Option<Percent>,
    /// For so long a new pod need not be quick. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Duration>,
}

/// A question to a Prometheus, whose answer must lie between bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryGate {
    /// What it is called.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// A PromQL expression with one number as its answer. `$namespace`, `$target` and `$revision` stand for those of the canary.
    #[schemars(length(min = 1, max = 4096))]
    pub promql: String,
    /// The most that it may be, `0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub max: Option<String>,
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub min: Option<String>,
    /// How often it is asked. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// So many bad answers in a row stop the release. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<u32>,
}

/// Somebody who is asked: an address that answers a POST with 2xx for yes, with 409 for no, and with anything else for not yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookGate {
    /// What it is called.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where it is, `https://gate.example.com/reviews`. The installation says which hosts are allowed.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// How often it is asked. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// So often in a row it must say no. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<u32>,
}

/// What becomes of a release when sidecars do not tell what happens: fewer than 80 of 100 of those that call it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NoData {
    /// For so long it only does not go on. Default: 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
    /// Then this. Default: `Pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnFail")]
    pub then: Option<OnFail>,
}

/// What becomes of a release when a step's time is over and `minRequests` were not seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LowTraffic {
    /// For so long more of them may come. Default: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// Then this. Default: `Pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnLowTraffic")]
    pub then: Option<OnLowTraffic>,
}

/// Whether the new version takes over by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Promote {
    /// After the last step.
    #[default]
    Auto,
    /// Somebody must say so: `tulle release promote`.
    Approve,
}

/// What to do where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OnFail {
    /// The canary gets nothing more.
    #[default]
    Rollback,
    /// It stays as it is until somebody decides.
    Pause,
}

/// What to do where nobody can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OnLowTraffic {
    /// It stays as it is until somebody decides.
    #[default]
    Pause,
    /// The canary gets nothing more.
    Rollback,
    /// The next step, without proof.
    Widen,
}
