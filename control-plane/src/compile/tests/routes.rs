//! Routes and policies, told as the YAML that people write.

use tulle_xds::model::{Action, PathMatch, Rule};

use super::*;
use crate::convert::convert;

pub(super) const WEB: &str = "service/shop/s0/80";

/// Objects from YAML documents; each must apply.
pub(super) fn yaml(text: &str) -> Vec<Object> {
    let documents = text.split("---").filter(|document| !document.trim().is_empty());
    let object = |document: &str| {
        let value = serde_yaml_ng::from_str(document).unwrap();
        let outcome = convert(&value);
        outcome.object.unwrap_or_else(|| panic!("{:?}", outcome.faults))
    };
    documents.map(object).collect()
}

pub(super) fn route_yaml(kind: &str, name: &str, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, \
         metadata: {{namespace: shop, name: {name}}}, \
         spec: {{parentRefs: [{{group: '', kind: Service, name: s0}}], {rest}}}}}\n"
    )
}

pub(super) fn policy_yaml(name: &str, target: &str, rest: &str) -> String {
    let group = if target.contains("Route") { "gateway.networking.k8s.io" } else { "" };
    format!(
        "---\n{{apiVersion: tulle.dev/v1alpha1, kind: TrafficPolicy, \
         metadata: {{namespace: shop, name: {name}}}, \
         spec: {{targetRefs: [{{group: '{group}', {target}}}], {rest}}}}}\n"
    )
}

pub(super) fn shop(text: &str) -> World {
    let services = [service("s0", "web", 100), service("s1", "api", 101)];
    let services = services.map(|service| Object::Service(Arc::new(service)));
    world(services.into_iter().chain(yaml(text)))
}

pub(super) fn rules(world: &World) -> Vec<Rule> {
    match get(world, Kind::Route, WEB) {
        Some(Resource::Route(route)) => route.rules,
        other => panic!("{other:?}"),
    }
}

pub(super) fn said(world: &World, kind: objects::Kind, name: &str) -> Vec<String> {
    let object = ObjectRef { kind, name: Name::new("shop", name) };
    let complaints = complaints(world, &object).into_iter();
    complaints.map(|c| format!("{}: {}", c.field, c.reason)).collect()
}

#[test]
fn rules_of_several_routes_are_one_list_in_order() {
    let b = "rules: [{matches: [{path: {value: /}}, {path: {value: /a}}], backendRefs: [{name: s1, port: 80}]}]";
    let a = "rules: [{matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: s1, port: 80}]}, \
             {matches: [{path: {value: /a/}, method: GET}], backendRefs: [{name: s1, port: 80}]}]";
    let world = shop(&(route_yaml("HTTPRoute", "b", b) + &route_yaml("HTTPRoute", "a", a)));
    let found: Vec<_> = rules(&world)
        .into_iter()
        .map(|rule| (rule.matches.path, rule.origin.name, rule.origin.rule))
        .collect();
    let prefix = |path: &str| PathMatch::Prefix(path.to_owned());
    let expected = [
        (PathMatch::Exact("/a".to_owned()), "a", "0"),
        (prefix("/a"), "a", "1"),
        (prefix("/a"), "b", "0"),
        (prefix(""), "b", "0"),
    ];
    assert_eq!(found, expected.map(|(path, n, r)| (path, n.to_owned(), r.to_owned())));
    assert_eq!(said(&world, objects::Kind::HttpRoute, "a"), [""; 0]);
}

#[test]
fn each_bad_reference_is_named_and_its_share_fails() {
    let refs = "rules: [{backendRefs: [{name: gone, port: 80}, {name: s1, port: 81}, \
                {name: x, namespace: other, port: 80}, {name: s1, port: 80, weight: 7}]}, \
                {matches: [{path: {value: /x}}], backendRefs: [{name: gone, port: 80}]}]";
    let world = shop(&route_yaml("HTTPRoute", "a", refs));
    let rules = rules(&world);
    assert_eq!(rules[0].action, Action::Fail(http::StatusCode::INTERNAL_SERVER_ERROR));
    let Action::Forward(backends) = &rules[1].action else { panic!("{rules:?}") };
    let shares: Vec<_> = backends.iter().map(|b| (&*b.cluster, b.weight)).collect();
    let invalid = ("invalid", 1);
    assert_eq!(shares, [invalid, invalid, invalid, ("service/shop/s1/80", 7)]);
    let found = said(&world, objects::Kind::HttpRoute, "a").join("\n");
    for part in [
        "spec.rules[0].backendRefs[0]: there is no Service shop/gone",
        "spec.rules[0].backendRefs[1]: Service shop/s1 has no TCP port 81; it has 80 (http)",
        "spec.rules[0].backendRefs[2]: no ReferenceGrant in namespace other lets HTTPRoute",
        "spec.rules[1].backendRefs[0]: there is no Service shop/gone",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
}

#[test]
fn copies_go_where_they_can_and_the_rest_is_named() {
    let filters = |targets: &[&str]| {
        let filter = |name: &&str| {
            format!(
                "{{type: RequestMirror, requestMirror: {{percent: 5, backendRef: {{name: {name}, port: 80}}}}}}"
            )
        };
        let filters: Vec<_> = targets.iter().map(filter).collect();
        format!(
            "rules: [{{filters: [{}], backendRefs: [{{name: s0, port: 80}}]}}]",
            filters.join(", ")
        )
    };
    let route = route_yaml("HTTPRoute", "a", &filters(&["gone", "s1", "s0"]));
    let limits = policy_yaml("p", "kind: HTTPRoute, name: a", "limits: {requests: 1}");
    let world = shop(&(route + &limits));
    let rule = rules(&world).remove(0);
    let Action::Forward(backends) = &rule.action else { panic!("{rule:?}") };
    assert_eq!(backends[0].cluster, "service/shop/s0/80/HTTPRoute/shop/a");
    // A route's limits are about its requests, not about copies of them.
    let mirrors: Vec<_> = rule.mirrors.iter().map(|m| (&*m.cluster, m.millionths)).collect();
    assert_eq!(mirrors, [("service/shop/s1/80", 50_000), ("service/shop/s0/80", 50_000)]);
    let found = said(&world, objects::Kind::HttpRoute, "a");
    let expected = "spec.rules[0].filters[0].requestMirror.backendRef: there is no Service \
                    shop/gone; no copies are sent";
    assert_eq!(found, [expected]);
}

#[test]
fn an_idle_time_is_a_rules_and_an_opaque_listeners() {
    let idle = policy_yaml("p", "kind: Service, name: s0", "timeouts: {idle: 5s}");
    let five = Some(std::time::Duration::from_secs(5));
    let listener = |world: &World| match get(world, Kind::Listener, "10.0.0.100:80") {
        Some(Resource::Listener(listener)) => listener.idle,
        other => panic!("{other:?}"),
    };
    let mut world = shop(&idle);
    assert_eq!((rules(&world)[0].timeouts.idle, listener(&world)), (five, None));
    let policy = ObjectRef { kind: objects::Kind::TrafficPolicy, name: Name::new("shop", "p") };
    assert_eq!(said(&world, policy.kind, "p"), [""; 0]);

    // Where a port declares nothing, some connections are opaque, and the policy is behind that.
    let mut undeclared = service("s0", "web", 100);
    undeclared.ports[0].name = "web".to_owned();
    let event = Event::Apply(Object::Service(Arc::new(undeclared)));
    world.apply(event, &mut Dirty::new());
    assert_eq!((rules(&world)[0].timeouts.idle, listener(&world)), (five, five));
    let behind = contributors(&world, Kind::Listener, "10.0.0.100:80");
    assert_eq!(behind[0].1.all, [policy.clone()].into());
    let mut dirty = Dirty::new();
    world.apply(Event::Delete(policy), &mut dirty);
    assert!(dirty.contains(&subject(Kind::Listener, "10.0.0.100:80").unwrap()));
    assert_eq!((rules(&world)[0].timeouts.idle, listener(&world)), (None, None));

    // A route says otherwise.
    let here = "rules: [{backendRefs: [{name: s1, port: 80}]}]";
    let off = policy_yaml("q", "kind: HTTPRoute, name: a", "timeouts: {idle: 0s}");
    let world = shop(&(idle + &off + &route_yaml("HTTPRoute", "a", here)));
    assert_eq!(rules(&world)[0].timeouts.idle, None);
}

#[test]
fn what_grpc_without_a_proxy_does_not_do_is_known() {
    let rules = "rules: [{backendRefs: [{name: s0, port: 80}]}, \
                 {matches: [{method: {service: a.B}}], filters: [\
                 {type: RequestMirror, requestMirror: {backendRef: {name: s1, port: 80}}}, \
                 {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}], \
                 backendRefs: [{name: s0, port: 80}]}]";
    let world = shop(&route_yaml("GRPCRoute", "a", rules));
    let object = ObjectRef { kind: objects::Kind::GrpcRoute, name: Name::new("shop", "a") };
    let standing = standing(&world, &object).unwrap();
    assert_eq!(standing.beyond_grpc, ["spec.rules[1]: mirrors, header changes"]);
}

#[test]
fn a_reference_grant_lets_in() {
    let refs = "rules: [{backendRefs: [{name: x, namespace: other, port: 80}]}]";
    let mut foreign = service("x", "x", 102);
    foreign.name = Name::new("other", "x");
    let mut world = shop(&route_yaml("HTTPRoute", "a", refs));
    world.apply(Event::Apply(Object::Service(Arc::new(foreign))), &mut Dirty::new());
    assert!(matches!(rules(&world)[0].action, Action::Fail(_)));
    let grant = "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, \
                 metadata: {namespace: other, name: g}, spec: {to: [{group: '', kind: Service}], \
                 from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]}}";
    let mut dirty = Dirty::new();
    world.apply(Event::Apply(yaml(grant).remove(0)), &mut dirty);
    assert!(dirty.contains(&subject(Kind::Route, WEB).unwrap()));
    assert!(matches!(rules(&world)[0].action, Action::Forward(_)));
}

#[test]
fn what_is_not_in_force_says_so() {
    let here = "rules: [{backendRefs: [{name: s1, port: 80}]}]";
    let missing = route_yaml("HTTPRoute", "m", here).replace("name: s0", "name: s0, port: 81");
    let grpc = route_yaml("GRPCRoute", "g", here);
    let world = shop(&(missing + &grpc + &route_yaml("HTTPRoute", "h", here)));
    assert_eq!(rules(&world).iter().map(|r| &*r.origin.name).collect::<Vec<_>>(), ["g"]);
    let found = said(&world, objects::Kind::HttpRoute, "h").join("\n");
    assert!(found.contains("spec.parentRefs[0]: port 80 has a GRPCRoute"), "{found}");
    let found = said(&world, objects::Kind::HttpRoute, "m").join("\n");
    assert!(found.contains("has no such port; it has 80 (http)"), "{found}");
}

#[test]
fn a_whole_service_means_its_ports_that_speak_http() {
    let here = "rules: [{backendRefs: [{name: s1, port: 80}]}]";
    let both = "---\n{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: both}, \
                spec: {ports: [{name: http, port: 80}, {name: https, port: 443}]}}\n";
    let to = |name, parent| route_yaml("HTTPRoute", name, here).replace("name: s0", parent);
    let world =
        shop(&(both.to_owned() + &to("all", "name: both") + &to("tls", "name: both, port: 443")));
    assert_eq!(said(&world, objects::Kind::HttpRoute, "all"), [""; 0]);
    let found = said(&world, objects::Kind::HttpRoute, "tls").join("\n");
    assert!(found.contains("port 443 declares opaque TCP"), "{found}");
}

/// A route in namespace `far` for its calls of Service `shop/s0`.
pub(super) fn consumer_yaml(kind: &str, name: &str, rest: &str) -> String {
    route_yaml(kind, name, rest)
        .replace("{namespace: shop", "{namespace: far")
        .replace("kind: Service, name: s0", "kind: Service, namespace: shop, name: s0")
}

/// Which routes' rules there are for callers in `shop`, in `far`, and anywhere else.
fn seen_from(world: &World) -> [Vec<String>; 3] {
    ["shop", "far", "elsewhere"].map(|namespace| {
        let Some(Resource::Route(route)) = seen(world, Kind::Route, WEB, namespace) else {
            panic!("{namespace}");
        };
        route
            .rules
            .iter()
            .map(|rule| format!("{}/{}", rule.origin.namespace, rule.origin.name))
            .collect()
    })
}

/// GEP-1426, "Namespace boundaries" and "Multiple routes for a Service".
#[test]
fn a_consumers_routes_take_the_place_of_the_producers_for_its_own_calls() {
    let to_s1 = "rules: [{backendRefs: [{name: s1, namespace: shop, port: 80}]}]";
    let consumer = |kind, name| consumer_yaml(kind, name, to_s1);
    let producer = |kind, name| route_yaml(kind, name, to_s1);
    let own = consumer("HTTPRoute", "c");
    for (text, shop_, far, elsewhere) in [
        (own.clone(), "shop/s0", "far/c", "shop/s0"),
        (own.clone() + &producer("HTTPRoute", "p"), "shop/p", "far/c", "shop/p"),
        // Merged among themselves, never with the producer's.
        (
            own.clone() + &consumer("HTTPRoute", "d") + &producer("HTTPRoute", "p"),
            "shop/p",
            "far/c far/d",
            "shop/p",
        ),
        // A GRPCRoute comes before an HTTPRoute of the same callers only.
        (own.clone() + &producer("GRPCRoute", "g"), "shop/g", "far/c", "shop/g"),
        (own.clone() + &consumer("GRPCRoute", "g"), "shop/s0", "far/g", "shop/s0"),
        (own.replace("name: s0", "name: s0, port: 81"), "shop/s0", "shop/s0", "shop/s0"),
    ] {
        let seen = seen_from(&shop(&text)).map(|routes| routes.join(" "));
        assert_eq!(seen, [shop_, far, elsewhere], "{text}");
    }
}

#[test]
fn a_consumers_route_needs_no_grant_and_has_its_own_policies() {
    let rest = "rules: [{backendRefs: [{name: s1, namespace: shop, port: 80}]}]";
    let policy = policy_yaml("t", "kind: HTTPRoute, name: c", "timeouts: {request: 3s}");
    let policy = policy.replace("namespace: shop", "namespace: far");
    let world = shop(&(consumer_yaml("HTTPRoute", "c", rest) + &policy));
    let Some(Resource::Route(route)) = seen(&world, Kind::Route, WEB, "far") else { panic!() };
    assert!(matches!(route.rules[0].action, Action::Forward(_)));
    assert_eq!(route.rules[0].timeouts.request, Some(std::time::Duration::from_secs(3)));
    let far = ObjectRef { kind: objects::Kind::HttpRoute, name: Name::new("far", "c") };
    assert_eq!(complaints(&world, &far), []);
    // Of a route for everybody a grant is asked.
    let both = "parentRefs: [{group: '', kind: Service, name: own}, ";
    let both = consumer_yaml("HTTPRoute", "c", rest).replace("parentRefs: [", both);
    let said = complaints(&shop(&both), &far);
    assert!(
        said.iter().any(|c| c.reason.contains("no ReferenceGrant in namespace shop")),
        "{said:?}"
    );
}

/// Routes and policies that refer to each other and to the Services of the other objects.
pub(super) fn object() -> impl Strategy<Value = Object> {
    let small = || 0..3_u8;
    let route = (small(), small(), small(), any::<[bool; 4]>(), 0..4_usize).prop_map(
        |(n, parent, backend, [other_port, named, foreign, consumer], kind)| {
            let kind = ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"][kind];
            let port = if other_port { 81 } else { 80 };
            let name = if named { "name: r, " } else { "" };
            let namespace = if foreign { "namespace: other, " } else { "" };
            let hostnames =
                if kind == "TLSRoute" { format!("hostnames: [n{n}.x, n.x], ") } else { String::new() };
            let rules = format!(
                "{hostnames}rules: [{{{name}backendRefs: [{{name: s{backend}, {namespace}port: {port}}}]}}]"
            );
            let yaml_of = if consumer { consumer_yaml } else { route_yaml };
            let text = yaml_of(kind, &format!("r{n}"), &rules);
            yaml(&text.replace("name: s0", &format!("name: s{parent}"))).remove(0)
        },
    );
    let policy = (small(), small(), 0..5_usize, any::<[bool; 3]>()).prop_map(
        |(n, target, kind, [section, limits, whole])| {
            let what = match kind {
                0 => "kind: Namespace, name: shop".to_owned(),
                1 => format!("kind: HTTPRoute, name: r{target}"),
                2 => format!("kind: GRPCRoute, name: r{target}, sectionName: r"),
                _ if section => format!("kind: Service, name: s{target}, sectionName: http"),
                _ => format!("kind: Service, name: s{target}"),
            };
            let what = if whole { what.replace(", sectionName: r", "") } else { what };
            let rest = match (limits, whole) {
                (true, _) => format!("limits: {{requests: {}, connections: {}}}", n + 1, n / 2 + 1),
                (false, true) => {
                    format!("retries: {{attempts: {}}}, timeouts: {{idle: 1s}}", n + 1)
                }
                (false, false) => "retries: {attempts: 4}".to_owned(),
            };
            yaml(&policy_yaml(&format!("t{n}"), &what, &rest)).remove(0)
        },
    );
    let grant = any::<bool>().prop_map(|http| {
        Object::ReferenceGrant(Arc::new(objects::ReferenceGrant {
            name: Name::new("other", "g"),
            from: vec![objects::Grantee {
                kind: if http { objects::Kind::HttpRoute } else { objects::Kind::GrpcRoute },
                namespace: "shop".to_owned(),
            }],
            to: vec![None],
        }))
    });
    let foreign = (small(), any::<bool>()).prop_map(|(n, there)| {
        let mut service = service(&format!("s{n}"), "web", 200);
        service.name = Name::new("other", format!("s{n}"));
        service.ports[0].port = if there { 80 } else { 81 };
        service.cluster_ips.clear();
        Object::Service(Arc::new(service))
    });
    prop_oneof![3 => route, 3 => policy, 1 => grant, 1 => foreign]
}

/// Every object that there can be something to say about.
pub(super) fn references() -> [ObjectRef; 30] {
    use objects::Kind::{GrpcRoute, HttpRoute, TcpRoute, TlsRoute, TrafficPolicy};
    let kinds = [HttpRoute, GrpcRoute, TcpRoute, TrafficPolicy, TlsRoute];
    std::array::from_fn(|i| {
        let kind = kinds[i % kinds.len()];
        let letter = if kind == TrafficPolicy { "t" } else { "r" };
        let namespace = if i < 15 { "shop" } else { "far" };
        let name = Name::new(namespace, format!("{letter}{}", i / kinds.len() % 3));
        ObjectRef { kind, name }
    })
}
