//! What policies say of pods' own addresses.

use std::time::Duration;

use tulle_xds::model::{Cluster, Ejection, Listener, Rule, Setter};

use super::{
    routes::{policy_yaml, said, yaml},
    *,
};

/// A Service without an address of its own.
fn headless(name: &str) -> Service {
    Service { cluster_ips: Vec::new(), ..service(name, "db", 0) }
}

/// A pod `db-0` behind these Services, and these policies.
fn db(services: &[Service], policies: &str) -> World {
    let services = services.iter().cloned().map(|service| Object::Service(Arc::new(service)));
    let pod = Object::Pod(Arc::new(pod("db-0", "db", 9)));
    world(services.chain([pod]).chain(yaml(policies)))
}

fn on(service: &str, rest: &str) -> String {
    policy_yaml(&format!("on-{service}"), &format!("kind: Service, name: {service}"), rest)
}

fn cluster(world: &World) -> Cluster {
    match get(world, Kind::Cluster, "pod/shop/db-0/8080") {
        Some(Resource::Cluster(cluster)) => cluster,
        other => panic!("{other:?}"),
    }
}

fn rule(world: &World) -> Rule {
    match get(world, Kind::Route, "pod/shop/db-0/8080") {
        Some(Resource::Route(mut route)) => route.rules.remove(0),
        other => panic!("{other:?}"),
    }
}

fn set_by(setters: &[Setter]) -> Vec<String> {
    setters.iter().map(|setter| format!("{} {}", setter.field, setter.origin.name)).collect()
}

fn counted(world: &World, kind: Kind, name: &str) -> Vec<String> {
    let all = contributors(world, kind, name).remove(0).1.all;
    all.iter().map(|object| object.name.name.to_string()).collect()
}

#[test]
fn a_pods_address_has_what_its_headless_service_and_its_namespace_say() {
    let policies = policy_yaml(
        "ns",
        "kind: Namespace, name: shop",
        "limits: {pending: 7, requests: 9}, loadBalancing: {policy: Random}, timeouts: {idle: 60s}",
    ) + &on(
        "db",
        "limits: {connections: 2, requests: 1}, ejection: {}, timeouts: {request: 3s}, \
         retries: {attempts: 4, budget: {percent: 50}}",
    );
    let world = db(&[headless("db")], &policies);
    let cluster = cluster(&world);
    let limits = &cluster.limits;
    assert_eq!(
        (limits.connections, limits.pending, limits.requests, limits.retry_budget.percent),
        (Some(2), Some(7), Some(1), 50.0)
    );
    // There is one endpoint: nothing to choose, nothing to eject.
    assert_eq!((cluster.balance, cluster.ejection), (Default::default(), None::<Ejection>));
    assert_eq!(
        set_by(&cluster.setters),
        [
            "spec.limits.connections on-db",
            "spec.limits.pending ns",
            "spec.limits.requests on-db",
            "spec.retries.budget.percent on-db"
        ]
    );
    let rule = rule(&world);
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!((rule.timeouts.request, rule.timeouts.idle), (seconds(3), seconds(60)));
    assert_eq!(rule.retry.map(|retry| retry.attempts), Some(4));
    assert_eq!(
        set_by(&rule.setters),
        [
            "spec.retries on-db",
            "spec.retries.attempts on-db",
            "spec.timeouts.idle ns",
            "spec.timeouts.request on-db"
        ]
    );
    for kind in [Kind::Cluster, Kind::Route] {
        assert_eq!(counted(&world, kind, "pod/shop/db-0/8080"), ["ns", "on-db"]);
    }
    // A port that no Service is about has what the Namespace says.
    assert_eq!(counted(&world, Kind::Cluster, "pod/shop/db-0/9999"), ["ns"]);
    let reason = "spec.ejection: in force for gRPC without a proxy alone: Service shop/db is \
                  headless, and whoever dials a pod has chosen already";
    assert_eq!(said(&world, objects::Kind::TrafficPolicy, "on-db"), [reason]);
}

#[test]
fn opaque_connections_to_a_pod_have_their_idle_time() {
    let tcp = |mut service: Service| {
        service.ports[0].name = "tcp".to_owned();
        service
    };
    let world = db(&[tcp(headless("db"))], &on("db", "timeouts: {idle: 5s, request: 1s}"));
    let Some(Resource::Listener(Listener { idle, setters, .. })) =
        get(&world, Kind::Listener, "10.0.0.9:8080")
    else {
        panic!("no listener")
    };
    assert_eq!(idle, Some(Duration::from_secs(5)));
    assert_eq!(set_by(&setters), ["spec.timeouts.idle on-db"]);
    assert_eq!(counted(&world, Kind::Listener, "10.0.0.9:8080"), ["on-db"]);
}

#[test]
fn envoy_has_for_a_pods_address_what_holds_for_bytes() {
    let limits = "limits: {connections: 2, requests: 1}";
    let world = db(&[headless("db")], &on("db", limits));
    let key = Key { dialect: Dialect::Envoy, ..Key::new(Kind::Cluster, "10.0.0.9:8080") };
    let bytes = contents(&world, &settings(), &key).shared.expect("a cluster");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let origin = "Pod shop/db-0; spec.limits.connections of TrafficPolicy shop/on-db";
    assert!(text.contains(origin) && !text.contains("requests"), "{text:?}");
    let without = contents(&db(&[headless("db")], ""), &settings(), &key).shared;
    assert_ne!(without.map(|bytes| bytes.len()), Some(bytes.len()));
    assert_eq!(counted(&world, Kind::Cluster, "10.0.0.9:8080"), ["on-db"]);
    let requests = db(&[headless("db")], &on("db", "limits: {requests: 1}"));
    assert_eq!(counted(&requests, Kind::Cluster, "10.0.0.9:8080"), [""; 0]);
}

/// Services (headless or with an address), what their policies say, and what the pod's address has:
/// its limit on connections, tries, and the policies that count.
#[test]
fn of_several_services_the_headless_speak_and_must_not_contradict_each_other() {
    let (a, b, c) = (headless("a"), headless("b"), service("c", "db", 100));
    let limit = |n: u8| format!("limits: {{connections: {n}}}");
    let retries = |n: u8| format!("retries: {{attempts: {n}}}");
    let ns = policy_yaml("ns", "kind: Namespace, name: shop", &limit(8));
    for (what, services, policies, connections, attempts, behind) in [
        ("one with an address", vec![&c], on("c", &limit(1)), Some(1), None, vec!["on-c"]),
        (
            "headless first",
            vec![&a, &c],
            on("a", &limit(1)) + &on("c", &limit(2)),
            Some(1),
            None,
            vec!["on-a"],
        ),
        ("headless but silent", vec![&a, &c], on("c", &limit(2)), None, None, vec![]),
        ("one of two is silent", vec![&a, &b], on("b", &limit(2)), Some(2), None, vec!["on-b"]),
        (
            "both say the same",
            vec![&a, &b],
            on("a", &limit(2)) + &on("b", &limit(2)),
            Some(2),
            None,
            vec!["on-a", "on-b"],
        ),
        (
            "they contradict each other",
            vec![&a, &b],
            on("a", &limit(1)) + &on("b", &limit(2)),
            None,
            None,
            vec![],
        ),
        (
            "the Namespace decides",
            vec![&a, &b],
            on("a", &limit(1)) + &on("b", &limit(2)) + &ns,
            Some(8),
            None,
            vec!["ns"],
        ),
        (
            "retries are one thing",
            vec![&a, &b],
            on("a", &(retries(1) + ", " + &limit(3))) + &on("b", &retries(2)),
            Some(3),
            None,
            vec!["on-a"],
        ),
        (
            "retries that nobody contradicts",
            vec![&a, &b],
            on("a", &retries(1)),
            None,
            Some(1),
            vec![],
        ),
    ] {
        let services: Vec<_> = services.into_iter().cloned().collect();
        let world = db(&services, &policies);
        assert_eq!(cluster(&world).limits.connections, connections, "{what}");
        assert_eq!(rule(&world).retry.map(|retry| retry.attempts), attempts, "{what}");
        assert_eq!(counted(&world, Kind::Cluster, "pod/shop/db-0/8080"), behind, "{what}");
    }
}

#[test]
fn a_policy_says_where_another_contradicts_it() {
    let policies =
        on("a", "limits: {connections: 1, pending: 5}") + &on("b", "limits: {connections: 2}");
    let mut world = db(&[headless("a"), headless("b")], &policies);
    let policy = |name: &str| ObjectRef {
        kind: objects::Kind::TrafficPolicy,
        name: Name::new("shop", name),
    };
    let reason = |other: &str| {
        format!(
            "spec.limits.connections: not in force at the address of pod shop/db-0: Service \
             shop/{other}, which is headless and selects it, too, has another value"
        )
    };
    assert_eq!(said(&world, objects::Kind::TrafficPolicy, "on-a"), [reason("b")]);
    assert_eq!(said(&world, objects::Kind::TrafficPolicy, "on-b"), [reason("a")]);
    let standing = standing(&world, &policy("on-a")).unwrap();
    assert!(standing.parents[0].accepted.holds);
    assert_eq!(standing.parents[0].accepted.message, reason("b"));
    // An edit of the one is news about the other.
    let mut dirty = Dirty::new();
    let edited = yaml(&on("b", "limits: {connections: 1}")).remove(0);
    world.apply(Event::Apply(edited), &mut dirty);
    assert!(dirty.contains(&crate::world::Subject::Policy(policy("on-a"))), "{dirty:?}");
    assert_eq!(said(&world, objects::Kind::TrafficPolicy, "on-a"), [""; 0]);
}
