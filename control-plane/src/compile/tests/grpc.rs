use tulle_xds::cache::{Contents, Dialect, Key};

use super::*;

fn sent(world: &World, kind: Kind, name: &str) -> Option<Bytes> {
    let key = Key { dialect: Dialect::Grpc, ..Key::new(kind, name) };
    let Contents { shared, by_namespace, by_node, by_zone } = contents(world, &settings(), &key);
    assert!(by_namespace.is_empty() && by_node.is_empty() && by_zone.is_empty());
    shared
}

/// The strings in a message, at any depth: enough to see who is named, without Envoy's types.
fn names(bytes: Option<Bytes>, text: &str) -> bool {
    bytes.is_some_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

const CLUSTER: &str = "service/shop/web/80";
const MTLS: &str = "mtls/service/shop/web/80";
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn mesh(pods: &[Pod], service: Service) -> World {
    let slices = pods.iter().map(|pod| {
        Object::EndpointSlice(Arc::new(slice(&format!("web-{}", pod.name.name), "web", pod)))
    });
    let pods = pods.iter().cloned().map(|pod| Object::Pod(Arc::new(pod)));
    world(pods.chain(slices).chain([Object::Service(Arc::new(service))]))
}

#[test]
fn a_service_has_three_names_and_no_others() {
    let world = mesh(&[pod("a", "web", 9)], service("web", "web", 100));
    for host in ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
        let listener = sent(&world, Kind::Listener, &format!("{host}:80"));
        assert!(names(listener, CLUSTER), "{host}");
    }
    for other in [
        "web:80",
        "web.shop:81",
        "web.other:80",
        "web.shop.svc.elsewhere.example:80",
        "10.0.0.100:80",
        "grpc/server?xds.resource.listening_address=0.0.0.0:80",
    ] {
        assert_eq!(sent(&world, Kind::Listener, other), None, "{other}");
    }
}

#[test]
fn who_has_a_sidecar_is_reached_by_mtls_alone() {
    let meshed = pod("a", "web", 9);
    let plain = Pod { meshed: false, ..pod("b", "web", 10) };
    let address = |last: u8| format!("10.0.0.{last}");
    for (pods, mtls, plaintext) in [
        (vec![meshed.clone()], vec![9], vec![]),
        (vec![plain.clone()], vec![], vec![10]),
        // Both lists hold their own; the cluster names the one with sidecars.
        (vec![meshed, plain], vec![9], vec![10]),
        (vec![], vec![], vec![]),
    ] {
        let world = mesh(&pods, service("web", "web", 100));
        for last in [9, 10] {
            let listed = |name| names(sent(&world, Kind::Endpoints, name), &address(last));
            assert_eq!(listed(MTLS), mtls.contains(&last), "{last} by mTLS");
            assert_eq!(listed(CLUSTER), plaintext.contains(&last), "{last} in plaintext");
        }
        let secure = !mtls.is_empty();
        for text in [MTLS, IDENTITY] {
            let told = names(sent(&world, Kind::Cluster, CLUSTER), text);
            assert_eq!(told, secure, "{text} of {}", pods.len());
        }
    }
}

#[test]
fn a_port_that_declares_nothing_is_not_for_grpc() {
    let mut undeclared = service("web", "web", 100);
    undeclared.ports[0].name = "web".to_owned();
    let world = mesh(&[pod("a", "web", 9)], undeclared);
    assert_eq!(sent(&world, Kind::Listener, "web.shop:80"), None);
    for kind in [Kind::Route, Kind::Cluster, Kind::Endpoints] {
        assert_eq!(sent(&world, kind, CLUSTER), None, "{kind:?}");
    }
}

#[test]
fn what_has_nowhere_to_go_has_a_cluster_of_nobody() {
    let world = World::default();
    let message = sent(&world, Kind::Cluster, "invalid").unwrap();
    assert!(!message.is_empty());
    let endpoints = sent(&world, Kind::Endpoints, "invalid").unwrap();
    // A name, and nothing else.
    assert_eq!(endpoints.len(), "invalid".len() + 2);
}
