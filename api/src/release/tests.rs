use super::*;
use crate::Validate as _;

fn problems(spec: &str) -> Vec<String> {
    let spec = serde_yaml_ng::from_str(spec).expect("a spec");
    Release::new("x", spec).problems().iter().map(ToString::to_string).collect()
}

#[test]
fn good_ones() {
    for spec in [
        "target: {kind: Deployment, name: reviews}",
        "
        target: {stable: {kind: Deployment, name: v1}, canary: {kind: StatefulSet, name: v2}}
        services: [reviews]
        steps:
        - {match: [{headers: [{name: x-beta, value: '1'}]}, {queryParams: [{type: RegularExpression, name: user, value: 'a.*'}]}], for: 24h}
        - {weight: 5, for: 2m, mirror: 10}
        - {weight: 100, approve: true, webhook: 'https://gate.example.com/reviews?x=1'}
        stickBy: {cookie: sid}
        gates:
          falseAlarm: 0.1%
          minRequests: 500
          errors: {tolerate: 25%, floor: 0.1%, max: 5%}
          latency: {quantile: 99.9%, tolerate: 50%, warmup: 1m}
          restarts: 0
          queries: [{name: orders, promql: 'sum(rate(orders[1m]))', min: '0.5'}]
          webhooks: [{name: tests, url: 'http://tests.shop:8080/', every: 1m, failures: 2}]
        noData: {hold: 5m, then: Rollback}
        lowTraffic: {wait: 10m, then: Widen}
        promote: Approve
        onFail: Pause
        deadline: 2h",
        "{target: {kind: Deployment, name: reviews}, steps: [], gates: {errors: {disabled: true}}}",
    ] {
        assert_eq!(problems(spec), [""; 0], "{spec}");
    }
}

#[test]
fn each_problem_is_named() {
    for (spec, problem) in [
        ("target: {}", "spec.target: write `kind` and `name` of one Deployment, or"),
        ("target: {kind: Deployment}", "spec.target: write"),
        (
            "target: {name: a, kind: Deployment, stable: {kind: A, name: a}, canary: {kind: A, name: b}}",
            "spec.target: write",
        ),
        ("target: {stable: {kind: A, name: a}}", "spec.target: write"),
        (
            "target: {stable: {kind: A, name: a}, canary: {kind: A, name: a}}",
            "spec.target.canary: it is the stable one",
        ),
        (
            "target: {stable: {kind: A, name: a}, canary: {kind: B, name: a}}",
            "spec.target.canary.name: it is the stable one's",
        ),
    ] {
        let found = problems(spec);
        assert!(found.len() == 1 && found[0].starts_with(problem), "{spec}: {found:?}");
    }
    for (more, problem) in [
        (
            "steps: [{weight: 25}, {weight: 5}]",
            "spec.steps[1].weight: 5 is less than the 25 before it; steps do not go down",
        ),
        ("steps: [{weight: 101}]", "spec.steps[0].weight: 101 is not between 0 and 100"),
        ("steps: [{match: [{}]}]", "spec.steps[0].match[0]: it says nothing"),
        (
            "steps: [{match: [{headers: [{name: A, value: x}, {name: a, value: y}]}]}]",
            "spec.steps[0].match[0].headers: \"a\" is listed twice",
        ),
        ("steps: [{webhook: 'gate'}]", "spec.steps[0].webhook: it is no address"),
        ("steps: [{webhook: 'http://me:secret@gate/'}]", "spec.steps[0].webhook: it is no address"),
        ("services: [a, a]", "spec.services: \"a\" is listed twice"),
        ("stickBy: {header: x, cookie: y}", "spec.stickBy: write one"),
        ("stickBy: {}", "spec.stickBy: write one"),
        ("gates: {falseAlarm: 0%}", "spec.gates.falseAlarm: 0% is not between"),
        ("gates: {latency: {quantile: 100%}}", "spec.gates.latency.quantile: 100% is not between"),
        ("gates: {errors: {max: 0%}}", "spec.gates.errors.max: with 0%"),
        ("gates: {queries: [{name: a, promql: x}]}", "spec.gates.queries[0]: nothing is too much"),
        (
            "gates: {queries: [{name: a, promql: ' ', max: '1'}]}",
            "spec.gates.queries[0].promql: it is empty",
        ),
        (
            "gates: {queries: [{name: a, promql: x, max: many}]}",
            "spec.gates.queries[0].max: it is no number",
        ),
        (
            "gates: {webhooks: [{name: a, url: 'http://a'}, {name: errors, url: 'http://b'}]}",
            "spec.gates.webhooks[1].name: a gate of every release is called errors",
        ),
        (
            "gates: {queries: [{name: '', promql: x, max: '1'}]}",
            "spec.gates.queries[0].name: it must have",
        ),
        (
            "gates: {webhooks: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]}",
            "spec.gates: \"a\" is listed twice",
        ),
        (
            "gates: {webhooks: [{name: a, url: 'http://a', failures: 0}]}",
            "spec.gates.webhooks[0].failures: 0 is not between 1 and 100",
        ),
        ("deadline: 0s", "spec.deadline: 0s is no time"),
    ] {
        let found = problems(&format!("{{target: {{kind: Deployment, name: a}}, {more}}}"));
        assert!(found.len() == 1 && found[0].starts_with(problem), "{more}: {found:?}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for spec in [
        "target: {kind: ReplicaSet, name: a}",
        "{target: {kind: Deployment, name: a}, step: []}",
        "{target: {kind: Deployment, name: a}, onFail: rollback}",
    ] {
        assert!(serde_yaml_ng::from_str::<ReleaseSpec>(spec).is_err(), "{spec}");
    }
}
