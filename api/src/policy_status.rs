use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has become of it. Written by the control plane, read by nobody but people and their tools.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// On how many proxies it is in force, of how many that use it: `12/12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<String>,
    /// `Accepted` says whether it can be used, and else why not; `InForce` whether every proxy that
    /// uses it has taken its latest version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// The same for each object that it is attached to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ancestors: Vec<Ancestor>,
}

/// What has become of a policy where it is attached, as Gateway API tells it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ancestor {
    /// What it is attached to.
    pub ancestor_ref: AncestorRef,
    /// Who says so: `tulle.dev/mesh`.
    pub controller_name: String,
    /// `Accepted` and `InForce`.
    #[serde(default)]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// An object that a policy is attached to, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AncestorRef {
    /// Group of its kind; empty for Service and Namespace.
    #[serde(default)]
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if its kind has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// A part of it: the name of a Service's port, or of a rule of a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// A part of it: a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}
