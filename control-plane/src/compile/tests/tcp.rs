//! Where opaque connections go.

use tulle_xds::model::ByName;

use super::{
    routes::{consumer_yaml, route_yaml, said, yaml},
    *,
};
use crate::convert::convert;

/// Two Services whose port 80 is opaque, and one that speaks HTTP; with these routes.
fn shop(routes: &str) -> World {
    let opaque = |name, last| {
        let mut service = service(name, "db", last);
        service.ports[0].name = "tcp".to_owned();
        service
    };
    let services = [opaque("s0", 100), opaque("s1", 101), service("s2", "web", 102)];
    let services = services.map(|service| Object::Service(Arc::new(service)));
    world(services.into_iter().chain(yaml(routes)))
}

/// The shares at `s0`, as callers in a namespace see them.
fn shares(world: &World, from: &str) -> Vec<(String, u32)> {
    match seen(world, Kind::Listener, "10.0.0.100:80", from) {
        Some(Resource::Listener(listener)) => {
            listener.backends.into_iter().map(|b| (b.cluster, b.weight)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn share(service: &str, weight: u32) -> (String, u32) {
    (format!("service/shop/{service}/80"), weight)
}

fn tcp(name: &str, backends: &str) -> String {
    route_yaml("TCPRoute", name, &format!("rules: [{{backendRefs: [{backends}]}}]"))
}

/// Names of servers, and where they are.
type Named = (String, String);

/// Where TLS goes by its server's name at `s0`, and whether nothing else goes anywhere.
fn by_name(world: &World, from: &str) -> (Vec<Named>, bool) {
    match seen(world, Kind::Listener, "10.0.0.100:80", from) {
        Some(Resource::Listener(listener)) => {
            let one = |b: ByName| (b.names.join(" "), b.backends[0].cluster.clone());
            (listener.by_name.into_iter().map(one).collect(), listener.only_named)
        }
        other => panic!("{other:?}"),
    }
}

fn named(names: &str, service: &str) -> Named {
    (names.to_owned(), share(service, 1).0)
}

fn tls(name: &str, hostnames: &str, backend: &str) -> String {
    let rules = format!("rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]");
    route_yaml("TLSRoute", name, &format!("hostnames: [{hostnames}], {rules}"))
}

fn complaints_of(world: &World, name: &str) -> String {
    said(world, objects::Kind::TcpRoute, name).join("; ")
}

#[test]
fn connections_go_where_a_tcp_route_says() {
    let world = shop("");
    assert_eq!(shares(&world, "shop"), [share("s0", 1)]);
    let weights =
        "{name: s0, port: 80, weight: 9}, {name: s1, port: 80}, {name: s2, port: 80, weight: 0}";
    let world = shop(&tcp("split", weights));
    assert_eq!(shares(&world, "shop"), [share("s0", 9), share("s1", 1)]);
    assert_eq!(complaints_of(&world, "split"), "");
    let standing = standing(&world, &reference("split")).unwrap();
    assert!(
        standing.parents[0].accepted.holds && standing.parents[0].resolved.as_ref().unwrap().holds
    );
    // It is in force where this listener is.
    let from = contributors(&world, Kind::Listener, "10.0.0.100:80");
    assert!(from[0].1.all.contains(&reference("split")), "{from:?}");
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef { kind: objects::Kind::TcpRoute, name: Name::new("shop", name) }
}

#[test]
fn a_share_that_leads_nowhere_is_refused_and_named() {
    let world = shop(&tcp("bad", "{name: gone, port: 80}, {name: s1, port: 80, weight: 3}"));
    assert_eq!(shares(&world, "shop"), [("invalid".to_owned(), 1), share("s1", 3)]);
    let expected =
        "spec.rules[0].backendRefs[0]: there is no Service shop/gone; its share is refused";
    assert_eq!(complaints_of(&world, "bad"), expected);
    let world = shop(&tcp("none", "{name: s1, port: 80, weight: 0}"));
    assert_eq!(shares(&world, "shop"), [("invalid".to_owned(), 1)]);
    let expected = "no backend has a weight above 0; connections are refused";
    assert!(complaints_of(&world, "none").ends_with(expected));
}

#[test]
fn the_first_of_several_is_in_force_and_http_is_not_its_business() {
    let world = shop(&(tcp("b", "{name: s2, port: 80}") + &tcp("a", "{name: s1, port: 80}")));
    assert_eq!(shares(&world, "shop"), [share("s1", 1)]);
    assert_eq!(complaints_of(&world, "a"), "");
    let expected = "port 80 has another TCPRoute, which is older or first by name; this one is not in force there";
    assert_eq!(complaints_of(&world, "b"), format!("spec.parentRefs[0]: {expected}"));
    assert_eq!(standing(&world, &reference("b")).unwrap().parents[0].accepted.reason, "Conflicted");

    let web = tcp("a", "{name: s1, port: 80}").replace("name: s0", "name: s2");
    let http = route_yaml("HTTPRoute", "h", "rules: [{backendRefs: [{name: s1, port: 80}]}]");
    let world = shop(&(web + &http));
    assert!(complaints_of(&world, "a").contains("port 80 declares HTTP"));
    assert_eq!(
        standing(&world, &reference("a")).unwrap().parents[0].accepted.reason,
        "UnsupportedProtocol"
    );
    // Nor are connections an HTTPRoute's.
    assert_eq!(shares(&world, "shop"), [share("s0", 1)]);
}

#[test]
fn a_consumers_route_is_for_its_own_namespace() {
    let rules = "rules: [{backendRefs: [{name: s1, namespace: shop, port: 80}]}]";
    let world = shop(&consumer_yaml("TCPRoute", "mine", rules));
    assert_eq!(shares(&world, "far"), [share("s1", 1)]);
    assert_eq!(shares(&world, "shop"), [share("s0", 1)]);
}

#[test]
fn tls_goes_where_the_name_of_its_server_leads() {
    let routes = tls("b", "'*.x', a.x", "s2") + &tls("a", "a.x, b.x", "s1");
    let world = shop(&routes);
    let expected = vec![named("a.x b.x", "s1"), named("*.x", "s2")];
    assert_eq!(by_name(&world, "shop"), (expected.clone(), true), "nothing else is anybody's");
    let tls_route =
        |name| ObjectRef { kind: objects::Kind::TlsRoute, name: Name::new("shop", name) };
    let complaints = said(&world, objects::Kind::TlsRoute, "b").join("; ");
    let lost = "spec.hostnames[1]: not in force at port 80: TLSRoute shop/a says it of the same, and is \
                older or first by name";
    assert_eq!(complaints, lost);
    assert!(standing(&world, &tls_route("b")).unwrap().parents[0].accepted.holds);
    let from = contributors(&world, Kind::Listener, "10.0.0.100:80");
    assert!(from[0].1.all.contains(&tls_route("a")), "{from:?}");
    assert_eq!(from[0].1.needs.len(), 2, "older sidecars know none of it");
    // What names no server is a TCPRoute's.
    let world = shop(&(routes.clone() + &tcp("t", "{name: s1, port: 80}")));
    assert_eq!(by_name(&world, "shop"), (expected, false));
    assert_eq!(shares(&world, "shop"), [share("s1", 1)]);
    // All its names are another one's.
    let world = shop(&(routes + &tls("c", "b.x", "s0")));
    let verdict = &standing(&world, &tls_route("c")).unwrap().parents[0].accepted;
    assert_eq!((verdict.holds, verdict.reason), (false, "Conflicted"));
}

#[test]
fn a_consumers_names_are_for_its_own_namespace() {
    let rules = "hostnames: [a.x], rules: [{backendRefs: [{name: s1, namespace: shop, port: 80}]}]";
    let world = shop(&(consumer_yaml("TLSRoute", "mine", rules) + &tls("all", "b.x", "s2")));
    assert_eq!(by_name(&world, "far"), (vec![named("a.x", "s1")], true));
    assert_eq!(by_name(&world, "shop"), (vec![named("b.x", "s2")], true));
}

#[test]
fn what_is_no_name_of_a_server_is_refused() {
    for (hostnames, reason) in [
        ("10.1.2.3", "is an address"),
        ("'*'", "is no DNS name"),
        ("a.*.x", "is no DNS name"),
        ("A.x", "is no DNS name"),
        ("-a.x", "is no DNS name"),
        ("", "is empty"),
    ] {
        let yaml = tls("a", hostnames, "s1");
        let outcome = convert(&serde_yaml_ng::from_str(&yaml).unwrap());
        assert!(outcome.object.is_none(), "{hostnames}");
        let faults = format!("{:?}", outcome.faults);
        assert!(faults.contains(reason), "{hostnames}: {faults}");
    }
}
