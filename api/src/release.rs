mod check;
mod gates;
mod status;
#[cfg(test)]
mod tests;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    gates::{
        ErrorsGate, LatencyGate, LowTraffic, NoData, OnFail, OnLowTraffic, Promote, QueryGate,
        ReleaseGates, WebhookGate,
    },
    status::{ReleaseEvent, ReleasePhase, ReleaseRevision, ReleaseStatus, ReleaseVerdict},
};
use crate::Duration;

/// How a workload's next version takes over from the one before.
#[derive(
    CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize,
)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "Release",
    plural = "releases",
    shortname = "rel",
    category = "tulle",
    status = "ReleaseStatus",
    namespaced,
    derive = "PartialEq",
    doc = "Release says how the next version of a workload takes over: which share of the requests it gets for how long, and what must hold all the while. Where it does worse than the version before, it gets nothing more. No other object is ever changed: sidecars split what goes to the Services of the workload.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseSpec {
    /// What is released, in the namespace of this object.
    pub target: ReleaseTarget,
    /// The Services through which it is called. Absent: all whose selector matches its pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub services: Vec<String>,
    /// The way, one step after the other. Each ends when its time is over, enough requests were seen and nothing speaks
    /// against the canary. An empty list: a rolling update that is only watched. Default: 1 % for a minute, 5 % for two,
    /// 25 % for five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = [{
        "rule": "self.map(step, has(step.weight) ? step.weight : 0).isSorted()",
        "message": "steps do not go down: each weight is at least the one before it",
    }]))]
    pub steps: Option<Vec<ReleaseStep>>,
    /// Whose requests stay with a version once they have come to it. Absent: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick_by: Option<StickBy>,
    /// What must hold all the while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReleaseGates")] // else the field's own text is lost
    pub gates: Option<ReleaseGates>,
    /// What becomes of it when sidecars do not tell what happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NoData")]
    pub no_data: Option<NoData>,
    /// What becomes of it when too few requests come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LowTraffic")]
    pub low_traffic: Option<LowTraffic>,
    /// Whether the new version takes over by itself after the last step. Default: `Auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Promote")]
    pub promote: Option<Promote>,
    /// What a gate that says no leads to. Default: `Rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnFail")]
    pub on_fail: Option<OnFail>,
    /// How long all of it may take; then `onFail`. Default: 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
}

/// What is released: one Deployment, whose pods of a new template are held back, or two workloads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.kind) && has(self.name)) != (has(self.stable) && has(self.canary)) && has(self.kind) == has(self.name) && has(self.stable) == has(self.canary)",
    "message": "write `kind` and `name` of one Deployment, or `stable` and `canary`",
}]))]
pub struct ReleaseTarget {
    /// `Deployment`: its pods of another template are the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TargetWorkload>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Of two workloads the one that is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<WorkloadRef>,
    /// The one that replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<WorkloadRef>,
}

/// The kinds of which one object can be released in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum TargetWorkload {
    /// Kubernetes' own.
    #[default]
    Deployment,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadRef {
    /// `Deployment`, `StatefulSet`, …: what its pods belong to.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A part of the way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReleaseStep {
    /// Percent of the requests that the canary gets. Default: 0.
    #[schemars(range(max = 100))]
    pub weight: u8,
    /// Requests that always go to the canary, besides: those that match one of these.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<ReleaseMatch>,
    /// Percent of the other requests of which the canary gets a copy, whose answer nobody sees: GET, HEAD and OPTIONS only.
    /// Default: 0.
    #[schemars(range(max = 100))]
    pub mirror: u8,
    /// How long it takes at least. Default: 1m.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// Whether somebody must say so before it begins: `tulle release step`. Default: no.
    pub approve: bool,
    /// Who is asked before it begins: an address that answers a POST with 2xx for yes, with 409 for no, and with
    /// anything else for not yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub webhook: String,
}

/// Requests, by all that is said here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReleaseMatch {
    /// Header fields that they have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub headers: Vec<ValueMatch>,
    /// Query parameters that they have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub query_params: Vec<ValueMatch>,
}

/// Something with a name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueMatch {
    /// How the value is compared. Default: `Exact`.
    #[serde(rename = "type", default)]
    pub how: HowMatch,
    /// Its name; of header fields without regard to case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its value, or the expression that all of it must match.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum HowMatch {
    /// It is the same.
    #[default]
    Exact,
    /// It matches the whole of a regular expression.
    RegularExpression,
}

/// Whose requests stay together: those that have the same of one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.sourceIP) && self.sourceIP ? 1 : 0) == 1",
    "message": "write one of `header`, `cookie` and `sourceIP: true`",
}]))]
pub struct StickBy {
    /// The value of this header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub header: Option<String>,
    /// The value of this cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub cookie: Option<String>,
    /// The address of whoever asks.
    #[serde(rename = "sourceIP", skip_serializing_if = "std::ops::Not::not")]
    pub source_ip: bool,
}
