use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a release is. Written by the control plane alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// Where it is.
    #[schemars(with = "ReleasePhase")]
    pub phase: ReleasePhase,
    /// What it waits for, or what became of it.
    pub reason: String,
    /// Which versions there are.
    #[schemars(with = "ReleaseRevision")]
    pub revision: ReleaseRevision,
    /// The step that it is in, from 1 on; 0 before the first.
    pub step: u32,
    /// The share of the requests that the canary shall get by its step, `5 %`.
    pub weight: String,
    /// Since when it is in this step and phase, in RFC 3339's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_started_at: Option<String>,
    /// On how many proxies the weight is in force, of how many that call it: `12/12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<String>,
    /// What each gate says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["gate"])
    )]
    pub verdicts: Vec<ReleaseVerdict>,
    /// What happened, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<ReleaseEvent>,
    /// `Accepted` says whether it can be used, and else why not; `InForce` whether every proxy that calls it splits as it shall;
    /// `Released` whether the version that is wanted has taken over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// What the control plane goes on with after a restart: the evidence so far, and what it was of. For nobody else.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 65536))]
    pub memory: String,
}

/// Where a release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ReleasePhase {
    /// There is nothing to release.
    #[default]
    Idle,
    /// The canary does not serve yet.
    Waiting,
    /// In one of the steps.
    Progressing,
    /// It does not go on by itself, and goes back if it must.
    Paused,
    /// The new version replaces the old one.
    Promoting,
    /// It has.
    Promoted,
    /// The canary gets nothing more, and its pods do not become ready.
    Held,
    /// The version before is wanted again.
    RolledBack,
}

impl ReleasePhase {
    /// All of them, in the order in which a release comes through them.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Waiting,
        Self::Progressing,
        Self::Paused,
        Self::Promoting,
        Self::Promoted,
        Self::Held,
        Self::RolledBack,
    ];
}

/// Which versions there are, as `pod-template-hash` tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseRevision {
    /// The one that is replaced.
    pub stable: String,
    /// The one that replaces it; empty if none does.
    pub canary: String,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseVerdict {
    /// `errors`, `latency`, `restarts`, or the name of a query or webhook.
    pub gate: String,
    /// `Green`, `Amber` (the step does not end) or `Red`.
    pub state: String,
    /// What that comes from: `0.11 % of 1,840 requests, stable 0.10 %; evidence 0.4 of 3000`.
    pub why: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseEvent {
    /// When, in RFC 3339's form.
    pub at: String,
    /// The user who wanted it; empty if nobody did.
    pub who: String,
    /// What: `step 2 (5 %)`.
    pub did: String,
    /// Why.
    pub why: String,
}
