use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Duration, PolicyStatus, RetryOn, TargetRef,
    validate::{Problem, Problems, Validate},
};

/// How callers in the mesh treat requests to what it is attached to.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    shortname = "tp",
    category = "tulle",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    doc = "TrafficPolicy says how callers in the mesh treat requests to a Service, to what a route matches, or to everything in a namespace: retries, timeouts, limits, ejection, load balancing. Policies merge field by field: a route's rule before the route, before the Service's port, before the Service, before the Namespace.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRefs[0].name")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// What it is attached to: objects of its own namespace.
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-validations" = [
            { "rule": "size(self) > 0", "message": "a policy has 1 to 16 targets; name one" },
            {
                "rule": "self.all(a, self.exists_one(b, a == b))",
                "message": "the same target is listed twice",
            },
        ])
    )]
    pub target_refs: Vec<TargetRef>,
    /// Which failures of idempotent requests are tried again. Absent: only what was never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Bounds on time. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Bounds on what one calling pod may have open at once (circuit breaking). What is above is
    /// answered at once with 503 and reason `overflow`. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Leaves out endpoints that keep failing, for a while (outlier detection). Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// How an endpoint is chosen. Absent: the less loaded of two random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
}

/// When and how often a request is tried again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retries {
    /// Tries after the first. Default: 2. 0 switches retries off that a less specific policy asks
    /// for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub attempts: Option<u32>,
    /// What is tried again: `5xx`, single statuses (`503`), `reset`, `connect`, gRPC codes
    /// (`unavailable`). Default: `[5xx, reset, connect]`. Statuses and resets are retried for
    /// idempotent methods only, gRPC codes for every call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub when: Vec<RetryOn>,
    /// Longest time of each try. Default: none but the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) > duration('0s')",
        "message": "it must be longer than 0s; leave it out for the default",
    }]))]
    pub per_try_timeout: Option<Duration>,
    /// Pauses between tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Bound on retries of all requests together, so that they cannot make an overload worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
}

/// Pauses between tries: random, up to a bound that doubles with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.max) || duration(self.max) >= (has(self.base) ? duration(self.base) : duration('25ms'))",
    "message": "`max` is shorter than `base` (which is 25ms where it is left out); write a longer one",
    "fieldPath": ".max",
}]))]
pub struct Backoff {
    /// The first pause's bound. Default: 25ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) > duration('0s')",
        "message": "it must be longer than 0s; leave it out for the default",
    }]))]
    pub base: Option<Duration>,
    /// The bound's own bound. Default: ten times the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// Bound on retries of all requests together, per calling pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Retries in flight may be at most this share of the requests in flight. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub percent: Option<u32>,
    /// So many retries at once are always allowed. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_concurrency: Option<u32>,
}

/// Bounds on time. `0s` switches off a bound that a less specific policy sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the request's arrival to the end of the response, all tries included. `timeouts` of an
    /// HTTPRoute come before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// Longest time in which a stream or connection carries no byte in either direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
}

/// Bounds on what one calling pod may have open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,
    /// Requests that wait for a connection. 0: none waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
}

/// Leaves out endpoints that fail several times in a row. One endpoint always stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.maxTime) || duration(self.maxTime) >= (has(self.baseTime) ? duration(self.baseTime) : duration('30s'))",
    "message": "`maxTime` is shorter than `baseTime` (which is 30s where it is left out); write a longer one",
    "fieldPath": ".maxTime",
}]))]
pub struct Ejection {
    /// So many server errors in a row (5xx, or a gRPC status that means one). Default: 5; 0: never.
    #[serde(rename = "consecutive5xx", skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx: Option<u32>,
    /// So many failures in a row to connect, resets or timeouts. Default: 5; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_local_failures: Option<u32>,
    /// An endpoint is left out for this long times the number of its ejections so far. Default:
    /// 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) > duration('0s')",
        "message": "it must be longer than 0s; leave it out for the default",
    }]))]
    pub base_time: Option<Duration>,
    /// Longest time out. Default: 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Duration>,
    /// How often it is looked whether an endpoint may come back. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) > duration('0s')",
        "message": "it must be longer than 0s; leave it out for the default",
    }]))]
    pub interval: Option<Duration>,
    /// Largest share of the endpoints that may be left out at once. Default: 10; one always may, if
    /// there is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub max_percent: Option<u32>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.choices) || self.policy == 'LeastRequest'",
    "message": "only LeastRequest makes a choice; leave it out",
    "fieldPath": ".choices",
}]))]
pub struct LoadBalancing {
    /// `LeastRequest` (the default) compares a few random endpoints and takes the least loaded,
    /// `RoundRobin` goes through them in turn, `Random` does what it says.
    pub policy: BalancePolicy,
    /// For `LeastRequest`: how many endpoints are compared. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    pub choices: Option<u32>,
}

/// The ways to choose an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum BalancePolicy {
    /// The least loaded of a few random ones.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// At random.
    Random,
}

impl Validate for TrafficPolicy {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let spec = &self.spec;
        let count = spec.target_refs.len();
        problems.check(!(1..=16).contains(&count), "spec.targetRefs", || {
            format!("there are {count}; a policy has 1 to 16 targets")
        });
        let namespace = self.metadata.namespace.as_deref();
        for (i, target) in spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{i}]");
            target.check(&field, namespace, &mut problems);
            let twice = spec.target_refs.iter().take(i).any(|earlier| earlier == target);
            problems.check(twice, &field, || "the same target is listed twice".to_owned());
        }
        if let Some(retries) = &spec.retries {
            check_retries(retries, &mut problems);
        }
        if let Some(limits) = &spec.limits {
            problems.range("spec.limits.connections", limits.connections, 1..=u32::MAX);
            problems.range("spec.limits.requests", limits.requests, 1..=u32::MAX);
        }
        if let Some(ejection) = &spec.ejection {
            check_ejection(ejection, &mut problems);
        }
        if let Some(balance) = &spec.load_balancing {
            problems.range("spec.loadBalancing.choices", balance.choices, 2..=10);
            let unused = balance.choices.is_some() && balance.policy != BalancePolicy::LeastRequest;
            problems.check(unused, "spec.loadBalancing.choices", || {
                format!("{:?} makes no choice; leave it out", balance.policy)
            });
        }
        problems.into_vec()
    }
}

fn check_retries(retries: &Retries, problems: &mut Problems) {
    problems.range("spec.retries.attempts", retries.attempts, 0..=10);
    not_zero(retries.per_try_timeout, "spec.retries.perTryTimeout", problems);
    for (i, on) in retries.when.iter().enumerate() {
        let twice = retries.when.iter().take(i).any(|earlier| earlier == on);
        let field = format!("spec.retries.when[{i}]");
        problems.check(twice, &field, || format!("{on} is listed twice"));
        let never = matches!(on, RetryOn::Grpc(code) if !code.is_retried());
        problems.check(never, &field, || {
            format!(
                "{on} cannot be retried; of the gRPC codes cancelled, deadline-exceeded, \
                 resource-exhausted, internal and unavailable can"
            )
        });
    }
    if let Some(budget) = &retries.budget {
        problems.range("spec.retries.budget.percent", budget.percent, 0..=100);
    }
    if let Some(Backoff { base, max }) = retries.backoff {
        not_zero(base, "spec.retries.backoff.base", problems);
        let base = base.unwrap_or(Duration::from_millis(25));
        below(max, base, "spec.retries.backoff.max", "base", problems);
    }
}

fn check_ejection(ejection: &Ejection, problems: &mut Problems) {
    problems.range("spec.ejection.maxPercent", ejection.max_percent, 0..=100);
    not_zero(ejection.base_time, "spec.ejection.baseTime", problems);
    not_zero(ejection.interval, "spec.ejection.interval", problems);
    let base = ejection.base_time.unwrap_or(Duration::from_millis(30_000));
    below(ejection.max_time, base, "spec.ejection.maxTime", "baseTime", problems);
}

fn not_zero(value: Option<Duration>, field: &str, problems: &mut Problems) {
    problems.check(value.is_some_and(Duration::is_zero), field, || {
        "it must be longer than 0s; leave it out for the default".to_owned()
    });
}

fn below(max: Option<Duration>, base: Duration, field: &str, of: &str, problems: &mut Problems) {
    problems.check(max.is_some_and(|max| max < base), field, || {
        format!("{} is shorter than `{of}`, {base}", max.unwrap_or(base))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> TrafficPolicy {
        let spec = serde_yaml_ng::from_str(spec).expect("a spec");
        let mut policy = TrafficPolicy::new("x", spec);
        policy.metadata.namespace = Some("bookstore".to_owned());
        policy
    }

    fn problems(spec: &str) -> Vec<String> {
        policy(spec).problems().iter().map(ToString::to_string).collect()
    }

    const ALL: &str = "
targetRefs:
- {group: '', kind: Service, name: reviews, sectionName: http}
- {group: gateway.networking.k8s.io, kind: HTTPRoute, name: reviews}
- {group: '', kind: Namespace, name: bookstore}
retries:
  attempts: 3
  when: [5xx, 429, reset, unavailable]
  perTryTimeout: 500ms
  backoff: {base: 25ms, max: 1s}
  budget: {percent: 20, minConcurrency: 3}
timeouts: {request: 10s, idle: 1h}
limits: {connections: 100, pending: 0, requests: 50}
ejection: {consecutive5xx: 5, consecutiveLocalFailures: 3, baseTime: 30s, maxTime: 5m, interval: 10s, maxPercent: 50}
loadBalancing: {policy: LeastRequest, choices: 3}
";

    #[test]
    fn every_field_survives_the_round_trip() {
        let policy = policy(ALL);
        assert_eq!(policy.problems(), []);
        let yaml = serde_yaml_ng::to_string(&policy.spec).expect("YAML");
        assert_eq!(
            serde_yaml_ng::from_str::<TrafficPolicySpec>(&yaml).expect("a spec"),
            policy.spec
        );
        assert!(yaml.contains("consecutive5xx: 5") && yaml.contains("maxTime: 5m"), "{yaml}");
    }

    #[test]
    fn each_problem_is_named() {
        let spec = "
targetRefs:
- {group: apps, kind: Service, name: reviews}
- {group: apps, kind: Deployment, name: reviews}
- {group: '', kind: Namespace, name: other, sectionName: x}
retries: {attempts: 11, when: [503, '503'], perTryTimeout: 0s, backoff: {base: 1s, max: 1ms}, budget: {percent: 101}}
limits: {connections: 0}
ejection: {baseTime: 10m, maxTime: 1m, maxPercent: 200, interval: 0s}
loadBalancing: {policy: Random, choices: 3}
";
        let fields: Vec<String> = policy(spec).problems().into_iter().map(|p| p.field).collect();
        assert_eq!(
            fields,
            [
                "spec.targetRefs[0].group",
                "spec.targetRefs[1].kind",
                "spec.targetRefs[2].sectionName",
                "spec.targetRefs[2].name",
                "spec.retries.attempts",
                "spec.retries.perTryTimeout",
                "spec.retries.when[1]",
                "spec.retries.budget.percent",
                "spec.retries.backoff.max",
                "spec.limits.connections",
                "spec.ejection.maxPercent",
                "spec.ejection.interval",
                "spec.ejection.maxTime",
                "spec.loadBalancing.choices",
            ]
        );
    }

    #[test]
    fn reasons_say_what_to_write() {
        let found = problems("targetRefs: [{group: '', kind: HTTPRoute, name: reviews}]");
        let group = "\"\" has no HTTPRoute; its group is \"gateway.networking.k8s.io\"";
        assert_eq!(found, [format!("spec.targetRefs[0].group: {group}")]);
        let found = problems("targetRefs: []");
        assert_eq!(found, ["spec.targetRefs: there are 0; a policy has 1 to 16 targets"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (field, reason) in [
            ("retry: {attempts: 3}", "unknown field `retry`"),
            ("timeouts: {request: 10}", "the unit is missing"),
            ("timeouts: {request: 10 s}", "the unit is missing"),
            ("retries: {when: [4xx]}", "is nothing to retry on"),
            ("loadBalancing: {policy: Maglev}", "unknown variant `Maglev`"),
        ] {
            let spec = format!("targetRefs: []\n{field}");
            let error = serde_yaml_ng::from_str::<TrafficPolicySpec>(&spec).expect_err(field);
            assert!(error.to_string().contains(reason), "{field}: {error}");
        }
    }
}
