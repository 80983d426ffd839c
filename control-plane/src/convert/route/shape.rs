//! What HTTPRoute and GRPCRoute, rules and backends write alike, once.
//!
//! The generated types have a type of their own for each place where a filter can stand. They check
//! that an object has the right fields; what they took in is then read as these.

use serde::Deserialize;

/// `spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) hostnames: Vec<String>,
    #[serde(default)]
    pub(super) parent_refs: Vec<Parent>,
    #[serde(default)]
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parent {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) port: Option<i32>,
    pub(super) section_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) matches: Vec<Match>,
    pub(super) filters: Vec<Filter>,
    pub(super) backend_refs: Vec<Backend>,
    pub(super) timeouts: Timeouts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Timeouts {
    pub(super) request: Option<String>,
    pub(super) backend_request: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Match {
    pub(super) path: Option<TypedValue>,
    pub(super) method: Option<Method>,
    pub(super) headers: Vec<TypedValue>,
    pub(super) query_params: Vec<TypedValue>,
}

/// A condition on a text: on the path, or on what has `name`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TypedValue {
    pub(super) name: String,
    pub(super) r#type: Option<String>,
    pub(super) value: Option<String>,
}

/// HTTP's is a word; gRPC's names service and method.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Method {
    Http(String),
    Grpc { service: Option<String>, method: Option<String>, r#type: Option<String> },
}

#[derive(Debug, Deserialize)]
pub(super) struct Backend {
    #[serde(flatten)]
    pub(super) to: Referent,
    pub(super) weight: Option<i32>,
    #[serde(default)]
    pub(super) filters: Vec<Filter>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Referent {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) port: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    pub(super) r#type: String,
    pub(super) request_header_modifier: Option<Headers>,
    pub(super) response_header_modifier: Option<Headers>,
    pub(super) request_redirect: Option<Redirect>,
    pub(super) url_rewrite: Option<Rewrite>,
    pub(super) request_mirror: Option<Mirror>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Headers {
    pub(super) set: Vec<Header>,
    pub(super) add: Vec<Header>,
    pub(super) remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Redirect {
    pub(super) scheme: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) port: Option<i32>,
    pub(super) path: Option<PathRewrite>,
    pub(super) status_code: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Rewrite {
    pub(super) hostname: Option<String>,
    pub(super) path: Option<PathRewrite>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PathRewrite {
    pub(super) r#type: String,
    pub(super) replace_full_path: Option<String>,
    pub(super) replace_prefix_match: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mirror {
    pub(super) backend_ref: Referent,
    pub(super) percent: Option<i32>,
    pub(super) fraction: Option<Fraction>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Fraction {
    pub(super) numerator: i32,
    pub(super) denominator: Option<i32>,
}
