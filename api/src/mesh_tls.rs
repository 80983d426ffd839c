use std::collections::{BTreeMap, BTreeSet};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    PolicyStatus,
    validate::{Problem, Problems, Validate, is_trust_domain},
};

/// Whether pods accept plaintext, and from which trust domains they accept peers.
#[derive(
    CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize,
)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "MeshTLS",
    root = "MeshTls",
    plural = "meshtls",
    singular = "meshtls",
    shortname = "mtls",
    category = "tulle",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    doc = "MeshTLS says whether pods accept plaintext, and from which trust domains they accept peers. With a selector it holds for those pods of its namespace, without one for the whole namespace, and in the namespace of the control plane (`tulle-system`) without one for the whole mesh. Field by field the most specific wins. Without any, pods are `Permissive`.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshTlsSpec {
    /// The pods of this namespace that it holds for. Absent: all of them; in the
    /// namespace of the control plane: all pods of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelector>,
    /// `Strict` refuses whoever does not present a certificate of the mesh. `Permissive` also
    /// accepts plaintext, and counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")] // else the field's own text is lost
    pub mode: Option<Mode>,
    /// Single ports that differ: a metrics port that is scraped in plaintext, for instance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port"])
    )]
    pub ports: Vec<PortMode>,
    /// Trust domains besides the mesh's own whose peers are accepted, `example.org`. Their root
    /// certificates must be among the mesh's roots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 255)),
        extend("x-kubernetes-validations" = [{
            "rule": "self.all(domain, domain.matches('^[a-z0-9._-]+$'))",
            "message": "a trust domain has lower-case letters, digits, `.`, `-` and `_`, as in example.org",
        }])
    )]
    pub trust_domains: Vec<String>,
}

/// Which pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSelector {
    /// Labels that a pod must have, each with this value.
    #[schemars(
        extend("maxProperties" = 64, "x-kubernetes-validations" = [{
            "rule": "size(self) > 0",
            "message": "it is empty; leave out `selector` to mean all pods",
        }])
    )]
    pub match_labels: BTreeMap<String, String>,
}

/// The mode of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMode {
    /// The container's port, not a Service's.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Whether it accepts plaintext.
    pub mode: Mode,
}

/// Whether plaintext is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Mutual TLS, and plaintext too.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl PodSelector {
    pub(crate) fn check(&self, field: &str, problems: &mut Problems) {
        problems.check(self.match_labels.is_empty(), &format!("{field}.matchLabels"), || {
            "it is empty; leave out `selector` to mean all pods".to_owned()
        });
    }
}

impl Validate for MeshTls {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let spec = &self.spec;
        if let Some(selector) = &spec.selector {
            selector.check("spec.selector", &mut problems);
        }
        let mut seen = BTreeSet::new();
        for (i, PortMode { port, .. }) in spec.ports.iter().enumerate() {
            let field = format!("spec.ports[{i}].port");
            problems.check(*port == 0, &field, || "0 is no port".to_owned());
            problems.check(!seen.insert(port), &field, || format!("{port} is listed twice"));
        }
        for (i, domain) in spec.trust_domains.iter().enumerate() {
            problems.check(!is_trust_domain(domain), &format!("spec.trustDomains[{i}]"), || {
                format!(
                    "{domain:?} is no trust domain: lower-case letters, digits, `.`, `-` and `_`, \
                     as in example.org"
                )
            });
        }
        problems.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: &str) -> Vec<String> {
        let spec = serde_yaml_ng::from_str(spec).expect("a spec");
        MeshTls::new("x", spec).problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_one() {
        let spec = "
            selector: {matchLabels: {app: reviews}}
            mode: Strict
            ports: [{port: 9090, mode: Permissive}]
            trustDomains: [example.org]";
        assert_eq!(problems(spec), [""; 0]);
    }

    #[test]
    fn each_problem_is_named() {
        let spec = "
            selector: {matchLabels: {}}
            ports: [{port: 0, mode: Strict}, {port: 80, mode: Strict}, {port: 80, mode: Strict}]
            trustDomains: ['spiffe://example.org']";
        let found = problems(spec);
        let fields: Vec<&str> = found.iter().filter_map(|p| Some(p.split_once(": ")?.0)).collect();
        assert_eq!(
            fields,
            [
                "spec.selector.matchLabels",
                "spec.ports[0].port",
                "spec.ports[2].port",
                "spec.trustDomains[0]"
            ]
        );
    }

    #[test]
    fn a_mode_is_spelt_as_documented() {
        let error = serde_yaml_ng::from_str::<MeshTlsSpec>("mode: strict").expect_err("case");
        assert!(error.to_string().contains("unknown variant `strict`"), "{error}");
    }
}
