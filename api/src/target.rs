use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate::Problems;

/// What a policy is attached to: an object of the policy's own namespace, or a part of it.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.kind in ['Service', 'HTTPRoute', 'GRPCRoute', 'Namespace']",
        "message": "it cannot be a target; write Service, HTTPRoute, GRPCRoute or Namespace",
        "fieldPath": ".kind",
    },
    {
        "rule": "!(self.kind in ['HTTPRoute', 'GRPCRoute']) || self.group == 'gateway.networking.k8s.io'",
        "message": "the group of routes is gateway.networking.k8s.io; write that",
        "fieldPath": ".group",
    },
    {
        "rule": "!(self.kind in ['Service', 'Namespace']) || self.group == ''",
        "message": "the group of Service and Namespace is empty; write ''",
        "fieldPath": ".group",
    },
    {
        "rule": "self.kind != 'Namespace' || !has(self.sectionName)",
        "message": "a Namespace has no sections; leave it out",
        "fieldPath": ".sectionName",
    },
]))]
pub struct TargetRef {
    /// `gateway.networking.k8s.io` for routes, empty for Service and Namespace.
    #[schemars(length(max = 253))]
    pub group: String,
    /// `Service`, `HTTPRoute`, `GRPCRoute`, or `Namespace` for the policy's own namespace.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// A part of it: the name of a Service's port, or of a rule of a route. Absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}

/// The kinds of object that a policy can be attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the Kubernetes kind of that name")]
pub enum TargetKind {
    Service,
    HttpRoute,
    GrpcRoute,
    Namespace,
}

impl TargetKind {
    const ALL: [(Self, &str, &str); 4] = [
        (Self::Service, "", "Service"),
        (Self::HttpRoute, "gateway.networking.k8s.io", "HTTPRoute"),
        (Self::GrpcRoute, "gateway.networking.k8s.io", "GRPCRoute"),
        (Self::Namespace, "", "Namespace"),
    ];
}

impl TargetRef {
    /// The kind, if it is one that a policy can be attached to.
    pub fn target_kind(&self) -> Option<TargetKind> {
        let (kind, ..) = TargetKind::ALL
            .into_iter()
            .find(|(_, group, kind)| self.group == *group && self.kind == *kind)?;
        Some(kind)
    }

    pub(crate) fn check(&self, field: &str, namespace: Option<&str>, problems: &mut Problems) {
        let Some(kind) = self.target_kind() else {
            return self.check_kind(field, problems);
        };
        let lengths = [("name", Some(&self.name)), ("sectionName", self.section_name.as_ref())];
        for (part, text) in lengths {
            let wrong = text.is_some_and(|text| !(1..=253).contains(&text.len()));
            problems.check(wrong, &format!("{field}.{part}"), || {
                "it must have 1 to 253 characters".to_owned()
            });
        }
        if kind == TargetKind::Namespace {
            problems.check(self.section_name.is_some(), &format!("{field}.sectionName"), || {
                "a Namespace has no sections; leave it out".to_owned()
            });
            let other = namespace.is_some_and(|own| own != self.name);
            problems.check(other, &format!("{field}.name"), || {
                let own = namespace.unwrap_or_default();
                format!("{:?} is not the policy's own namespace, {own:?}", self.name)
            });
        }
    }

    /// Says what is wrong with a kind that is not known: its group, or all of it.
    fn check_kind(&self, field: &str, problems: &mut Problems) {
        let same_kind = TargetKind::ALL.into_iter().find(|(_, _, kind)| self.kind == *kind);
        match same_kind {
            Some((_, group, kind)) => problems.check(true, &format!("{field}.group"), || {
                format!("{:?} has no {kind}; its group is {group:?}", self.group)
            }),
            None => problems.check(true, &format!("{field}.kind"), || {
                format!(
                    "{:?} cannot be a target; it must be Service, HTTPRoute, GRPCRoute or Namespace",
                    self.kind
                )
            }),
        }
    }
}
