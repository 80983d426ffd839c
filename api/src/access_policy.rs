use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    PodSelector, PolicyStatus,
    validate::{Problem, Problems, Validate, is_trust_domain},
};

/// Who may connect to pods.
#[derive(
    CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize,
)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    shortname = "ap",
    category = "tulle",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    doc = "AccessPolicy says who may connect to pods. With a selector it is about those pods of its namespace, without one about the whole namespace, and in the namespace of the control plane (`tulle-system`) without one about the whole mesh. Pods that no policy is about let everybody in. Those that one is about let in only whom a rule of any of these policies lets in: a policy without rules is how a namespace, or the mesh, denies by default.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessPolicySpec {
    /// The pods of this namespace that it is about. Absent: all of them; in the namespace
    /// of the control plane: all pods of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelector>,
    /// `Enforce` (the default) refuses whom no rule lets in. `Audit` refuses nobody: it counts and
    /// logs who would be refused if this policy were enforced, too.
    pub mode: AccessMode,
    /// Who is let in: whom any of these admits. None: nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub rules: Vec<AccessRule>,
}

/// Whether a policy refuses anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// It does.
    #[default]
    Enforce,
    /// It only tells whom it would.
    Audit,
}

/// Callers that are let in, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRule {
    /// Who is let in: each that one of these is about.
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-validations" = [{
            "rule": "size(self) > 0",
            "message": "it is empty, which lets nobody in; write `peers: All` to let everybody in",
        }])
    )]
    pub from: Vec<Caller>,
    /// The containers' ports, not those of a Service, to which they are let in. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(range(min = 1)),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = [{
                "rule": "size(self) > 0",
                "message": "it is empty; leave it out for all ports",
            }]
        )
    )]
    pub ports: Option<Vec<u16>>,
}

/// One caller, or several that have something in common. Callers are known by the certificates that
/// they prove to have; who sends plaintext is known to nobody, and only `peers: All` is about him.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.identity) ? 1 : 0) + (has(self.peers) ? 1 : 0) + (has(self.namespace) || has(self.serviceAccount) ? 1 : 0) == 1",
    "message": "write one of `identity`, `peers`, or `namespace` and `serviceAccount`",
}]))]
pub struct Caller {
    /// Pods of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 63),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "message": "it is no name of a namespace; `peers: Authenticated` means all of them",
        }])
    )]
    pub namespace: Option<String>,
    /// Pods with this ServiceAccount, of `namespace`, or of the policy's own if that is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "message": "it is no name of a ServiceAccount",
        }])
    )]
    pub service_account: Option<String>,
    /// A SPIFFE id, for callers of another trust domain: one that a MeshTLS lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        extend("x-kubernetes-validations" = [{
            "rule": "self.matches('^spiffe://[a-z0-9._-]+/ns/[a-z0-9.-]+/sa/[a-z0-9.-]+$')",
            "message": "write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT",
        }])
    )]
    pub identity: Option<String>,
    /// `Authenticated` are all pods of the mesh. `All` is everybody, also who has no certificate and
    /// sends plaintext (as far as MeshTLS lets him).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Peers")] // else the field's own text is lost
    pub peers: Option<Peers>,
}

/// Callers of whom nothing else is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Peers {
    /// Who has an identity of the mesh.
    Authenticated,
    /// Everybody.
    All,
}

impl Validate for AccessPolicy {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        if let Some(selector) = &self.spec.selector {
            selector.check("spec.selector", &mut problems);
        }
        for (i, rule) in self.spec.rules.iter().enumerate() {
            rule.check(&format!("spec.rules[{i}]"), &mut problems);
        }
        problems.into_vec()
    }
}

impl AccessRule {
    fn check(&self, field: &str, problems: &mut Problems) {
        let from = format!("{field}.from");
        problems.check(self.from.is_empty(), &from, || {
            "it is empty, which lets nobody in; write `peers: All` to let everybody in".to_owned()
        });
        for (i, caller) in self.from.iter().enumerate() {
            caller.check(&format!("{from}[{i}]"), problems);
        }
        let Some(ports) = &self.ports else {
            return;
        };
        problems.check(ports.is_empty(), &format!("{field}.ports"), || {
            "it is empty; leave it out for all ports".to_owned()
        });
        for (i, port) in ports.iter().enumerate() {
            let field = format!("{field}.ports[{i}]");
            problems.check(*port == 0, &field, || "0 is no port".to_owned());
            let twice = ports.iter().take(i).any(|earlier| earlier == port);
            problems.check(twice, &field, || format!("{port} is listed twice"));
        }
    }
}

impl Caller {
    fn check(&self, field: &str, problems: &mut Problems) {
        let by_name = self.namespace.is_some() || self.service_account.is_some();
        let said = [self.identity.is_some(), self.peers.is_some(), by_name];
        problems.check(said.iter().filter(|said| **said).count() != 1, field, || {
            "write one of `identity`, `peers`, or `namespace` and `serviceAccount`".to_owned()
        });
        let wrong = |text: &Option<String>, good: fn(&str) -> bool| {
            text.as_deref().filter(|text| !good(text)).map(ToOwned::to_owned)
        };
        if let Some(text) = wrong(&self.namespace, |text| is_name(text, 63, "-")) {
            problems.check(true, &format!("{field}.namespace"), || {
                format!(
                    "{text:?} is no name of a namespace; `peers: Authenticated` means all of them"
                )
            });
        }
        if let Some(text) = wrong(&self.service_account, |text| is_name(text, 253, "-.")) {
            problems.check(true, &format!("{field}.serviceAccount"), || {
                format!("{text:?} is no name of a ServiceAccount")
            });
        }
        if let Some(text) = wrong(&self.identity, is_identity) {
            problems.check(true, &format!("{field}.identity"), || {
                format!("{text:?}: write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")
            });
        }
    }
}

/// Lower-case letters and digits, and inside of them also `others`.
fn is_name(text: &str, most: usize, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=most).contains(&text.len())
        && text.chars().all(|c| plain(c) || others.contains(c))
        && text.starts_with(plain)
        && text.ends_with(plain)
}

/// That of a ServiceAccount.
fn is_identity(text: &str) -> bool {
    let segment = |part: &str| {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        !part.is_empty() && part.bytes().all(allowed)
    };
    let parts: Vec<&str> = text.split('/').collect();
    let [scheme, "", domain, "ns", namespace, "sa", account] = parts[..] else {
        return false;
    };
    text.len() <= 512
        && scheme == "spiffe:"
        && is_trust_domain(domain)
        && segment(namespace)
        && segment(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: &str) -> Vec<String> {
        let spec = serde_yaml_ng::from_str(spec).expect("a spec");
        AccessPolicy::new("x", spec).problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_one_and_what_is_not_said() {
        let spec = "
selector: {matchLabels: {app: payments}}
mode: Audit
rules:
- from: [{serviceAccount: cart}, {namespace: monitoring}, {namespace: a, serviceAccount: b.c}]
  ports: [8080, 9090]
- from: [{identity: spiffe://example.org/ns/far/sa/away}]
- from: [{peers: All}]
  ports: [80]";
        assert_eq!(problems(spec), [""; 0]);
        let nothing: AccessPolicySpec = serde_yaml_ng::from_str("{}").expect("a spec");
        assert_eq!((nothing.mode, nothing.rules.len()), (AccessMode::Enforce, 0));
    }

    #[test]
    fn each_problem_is_named() {
        let spec = "
selector: {matchLabels: {}}
rules:
- from: []
  ports: []
- from:
  - {}
  - {namespace: a, peers: All}
  - {namespace: '*'}
  - {serviceAccount: A}
  - {identity: cart}
  - {identity: spiffe://example.org/ns/a/sa/}
  ports: [0, 80, 80]";
        let found = problems(spec);
        let fields: Vec<&str> = found.iter().filter_map(|p| Some(p.split_once(": ")?.0)).collect();
        assert_eq!(
            fields,
            [
                "spec.selector.matchLabels",
                "spec.rules[0].from",
                "spec.rules[0].ports",
                "spec.rules[1].from[0]",
                "spec.rules[1].from[1]",
                "spec.rules[1].from[2].namespace",
                "spec.rules[1].from[3].serviceAccount",
                "spec.rules[1].from[4].identity",
                "spec.rules[1].from[5].identity",
                "spec.rules[1].ports[0]",
                "spec.rules[1].ports[2]",
            ]
        );
    }

    /// A template that leaves something out must not open what was meant to be closed.
    #[test]
    fn from_must_be_said() {
        for rule in ["{}", "{from: null}", "{ports: [80]}"] {
            let spec = format!("rules: [{rule}]");
            assert!(serde_yaml_ng::from_str::<AccessPolicySpec>(&spec).is_err(), "{rule}");
        }
    }
}
