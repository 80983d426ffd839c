use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Duration, PodSelector, PolicyStatus, ReleaseMatch,
    validate::{Problem, Problems, Validate, too_many},
};

/// Requests that take other versions of some workloads, through all services that they come to.
#[derive(
    CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize,
)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "Lane",
    plural = "lanes",
    category = "tulle",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    doc = "Lane says which requests take other versions of some workloads, through all services that they come to: where the lane has a pod of the Service that is called, that one is called, and else the usual ones. Everybody else's requests never come to a lane's pods."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LaneSpec {
    /// Requests that enter it. Absent: those whose header field `x-tulle-lane` is the lane's name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub entry: Vec<ReleaseMatch>,
    /// Its pods, in the lane's namespace. Absent: those whose label `tulle.dev/lane` is the lane's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<PodSelector>,
    /// What becomes of its requests at a Service of which it has no pod. Default: `Stable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LaneFallback")]
    pub fallback: Option<LaneFallback>,
    /// Only `0s`: a lane does not end by itself. Nobody knows for sure that no request of it comes any more, and one that ended by
    /// mistake would send its requests to everybody's pods without a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

/// What becomes of a lane's requests at a Service of which it has no pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum LaneFallback {
    /// They go where everybody's go.
    #[default]
    Stable,
    /// They are answered with 503.
    Deny,
}

impl Validate for Lane {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let LaneSpec { entry, members, ttl, .. } = &self.spec;
        too_many("spec.entry", entry.len(), 8, &mut problems);
        for (at, one) in entry.iter().enumerate() {
            one.check(&format!("spec.entry[{at}]"), &mut problems);
        }
        if let Some(members) = members {
            members.check("spec.members", &mut problems);
        }
        problems.check(ttl.is_some_and(|ttl| !ttl.is_zero()), "spec.ttl", || {
            "a lane does not end by itself: what would end it could not be told from a lane that rests, and its next request would \
             go to everybody's pods without a word. `tulle lane list` says since when none came; `kubectl delete lane` ends it"
                .to_owned()
        });
        problems.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: &str) -> Vec<String> {
        let spec = serde_yaml_ng::from_str(spec).expect("a spec");
        Lane::new("pr-1", spec).problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_ones_and_bad_ones() {
        let good = "
            entry: [{headers: [{name: x-lane, value: pr-1}]}]
            members: {matchLabels: {lane: pr-1}}
            fallback: Deny
            ttl: 0s";
        assert_eq!((problems("{}"), problems(good)), (Vec::new(), Vec::new()));
        for (spec, problem) in [
            ("entry: [{}]", "spec.entry[0]: it says nothing"),
            ("members: {matchLabels: {}}", "spec.members.matchLabels: it is empty"),
            ("ttl: 12h", "spec.ttl: a lane does not end by itself"),
        ] {
            let found = problems(spec);
            assert!(found.len() == 1 && found[0].starts_with(problem), "{spec}: {found:?}");
        }
    }
}
