//! Policies of several levels, and where they count.

use tulle_xds::model::Action;

use super::{
    routes::{WEB, policy_yaml, route_yaml, rules, said, shop},
    *,
};

#[test]
fn policies_merge_field_by_field() {
    let route = "rules: [{name: r, timeouts: {request: 3s}, backendRefs: [{name: s1, port: 80}]}, \
                 {matches: [{path: {value: /x}}], backendRefs: [{name: s1, port: 80}]}]";
    let text = route_yaml("HTTPRoute", "a", route)
        + &policy_yaml(
            "ns",
            "kind: Namespace, name: shop",
            "timeouts: {request: 9s}, limits: {requests: 7}, retries: {budget: {percent: 50}}",
        )
        + &policy_yaml(
            "svc",
            "kind: Service, name: s0",
            "retries: {attempts: 5, perTryTimeout: 2s}",
        )
        + &policy_yaml(
            "port",
            "kind: Service, name: s0, sectionName: http",
            "loadBalancing: {policy: Random}",
        )
        + &policy_yaml(
            "rule",
            "kind: HTTPRoute, name: a, sectionName: r",
            "retries: {attempts: 1, when: [503, unavailable]}, limits: {requests: 1}",
        )
        + &policy_yaml(
            "svc2",
            "kind: Service, name: s0",
            "retries: {attempts: 9, perTryTimeout: 1s}",
        );
    let world = shop(&text);
    let rules = rules(&world);
    let seconds = |n| Some(std::time::Duration::from_secs(n));
    let times: Vec<_> = rules.iter().map(|r| (r.timeouts.request, r.timeouts.per_try)).collect();
    assert_eq!(times, [(seconds(9), seconds(2)), (seconds(3), seconds(2))]);
    let retry: Vec<_> = rules.iter().map(|r| r.retry.clone().unwrap()).collect();
    assert_eq!((retry[0].attempts, retry[0].statuses.len(), retry[0].on_connect), (5, 100, true));
    assert_eq!(
        (retry[1].attempts, &retry[1].grpc_statuses[..], retry[1].on_reset),
        (1, &[14][..], false)
    );
    let cluster = |name: &str| match get(&world, Kind::Cluster, name) {
        Some(Resource::Cluster(cluster)) => cluster,
        other => panic!("{other:?}"),
    };
    let s0 = cluster(WEB);
    assert_eq!((s0.limits.requests, s0.balance), (Some(7), tulle_xds::model::Balance::Random));
    assert_eq!(s0.limits.retry_budget.percent.to_string(), "50");
    assert_eq!(cluster("service/shop/s1/80").balance, tulle_xds::model::Balance::default());
    // The rule with limits of its own has a cluster of its own.
    let clusters: Vec<_> = rules
        .iter()
        .map(|rule| match &rule.action {
            Action::Forward(backends) => backends[0].cluster.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    let own = "service/shop/s1/80/HTTPRoute/shop/a/r";
    assert_eq!(clusters, ["service/shop/s1/80", own]);
    let limits = cluster(own).limits;
    assert_eq!((limits.requests, limits.retry_budget.percent.to_string()), (Some(1), "50".into()));
    assert_eq!(cluster("service/shop/s1/80").limits.requests, Some(7));
    for (kind, name) in [
        (Kind::Cluster, "service/shop/s1/80/HTTPRoute/shop/a"),
        (Kind::Cluster, "service/shop/s0/80/HTTPRoute/shop/a/r"),
        (Kind::Endpoints, "service/shop/s1/80/HTTPRoute/shop/a/x"),
    ] {
        assert_eq!(get(&world, kind, name), None, "{name}");
    }
    let policy = objects::Kind::TrafficPolicy;
    let found = said(&world, policy, "svc2");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(
        "spec.retries.attempts: not in force for Service shop/s0: TrafficPolicy shop/svc says"
    ));
    assert_eq!(said(&world, policy, "rule"), [""; 0]);
    assert_eq!(said(&world, policy, "svc"), [""; 0]);
}

#[test]
fn a_rule_remembers_who_set_what() {
    let route = "rules: [{name: r, timeouts: {request: 3s}, backendRefs: [{name: s1, port: 80}]}]";
    let on_rule = "kind: HTTPRoute, name: a, sectionName: r";
    let text = route_yaml("HTTPRoute", "a", route)
        + &policy_yaml("ns", "kind: Namespace, name: shop", "timeouts: {request: 9s, idle: 9s}")
        + &policy_yaml("svc", "kind: Service, name: s0", "retries: {perTryTimeout: 2s}")
        + &policy_yaml("rule", on_rule, "retries: {attempts: 1}, timeouts: {idle: 1s}");
    let setters = rules(&shop(&text)).remove(0).setters;
    let set = setters.iter().map(|setter| format!("{} {}", setter.field, setter.origin.name));
    // The route's own field, then the most specific policy.
    assert_eq!(
        set.collect::<Vec<_>>(),
        [
            "spec.retries rule",
            "spec.retries.attempts rule",
            "spec.retries.perTryTimeout svc",
            "spec.timeouts.idle rule",
            "spec.rules[0].timeouts.request a"
        ]
    );
}

#[test]
fn a_policy_counts_where_its_fields_are_in_force_also_in_a_routes_own_cluster() {
    let route = "rules: [{name: r, backendRefs: [{name: s1, port: 80}]}, \
                 {matches: [{path: {value: /x}}], backendRefs: [{name: s1, port: 80}]}]";
    let rule = "kind: HTTPRoute, name: a, sectionName: r";
    let text = route_yaml("HTTPRoute", "a", route)
        + &policy_yaml("ns", "kind: Namespace, name: shop", "limits: {requests: 7, pending: 3}")
        + &policy_yaml("rule", rule, "limits: {requests: 1}");
    let world = shop(&text);
    let from = |name: &str| -> Vec<String> {
        let views = contributors(&world, Kind::Cluster, name);
        views[0].1.all.iter().map(|object| object.name.name.to_string()).collect()
    };
    assert_eq!(from("service/shop/s1/80/HTTPRoute/shop/a/r"), ["ns", "rule"]);
    assert_eq!(from("service/shop/s1/80"), ["ns"]);
    assert_eq!(from("service/shop/s1/80/HTTPRoute/shop/a"), [""; 0], "there is none");
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let world = shop(
        &(policy_yaml("a", "kind: Service, name: gone", "limits: {requests: 1}")
            + &policy_yaml(
                "b",
                "kind: Service, name: s0, sectionName: x",
                "limits: {requests: 1}",
            )
            + &policy_yaml("c", "kind: GRPCRoute, name: r", "retries: {}")),
    );
    let policy = objects::Kind::TrafficPolicy;
    assert_eq!(said(&world, policy, "a"), ["spec.targetRefs[0]: there is no Service shop/gone"]);
    let reason = "Service shop/s0 has no port with the name \"x\"";
    assert_eq!(said(&world, policy, "b"), [format!("spec.targetRefs[0].sectionName: {reason}")]);
    assert_eq!(said(&world, policy, "c"), ["spec.targetRefs[0]: there is no GRPCRoute shop/r"]);
}
