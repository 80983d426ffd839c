//! Who is to use which endpoint.

use tulle_xds::model::Near;

use super::*;

fn nears(service: Service, change: impl Fn(&mut SliceEndpoint)) -> Vec<Near> {
    let pod = pod("a", "web", 9);
    let mut slice = slice("e", "web", &pod);
    slice.endpoints.iter_mut().for_each(change);
    let (service, slice) =
        (Object::Service(Arc::new(service)), Object::EndpointSlice(Arc::new(slice)));
    let world = world([Object::Pod(Arc::new(pod)), service, slice]);
    match get(&world, Kind::Endpoints, "service/shop/web/80") {
        Some(Resource::Endpoints(all)) => all.endpoints.into_iter().map(|e| e.near).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn local_endpoints_are_for_their_node_and_hints_are_told() {
    let everywhere = service("web", "web", 1);
    let local = Service { node_local: true, ..everywhere.clone() };
    assert_eq!(nears(everywhere.clone(), |_| {}), [Near::default()]);
    let node = "n1".to_owned();
    assert_eq!(nears(local.clone(), |_| {}), [Near { node, ..Near::default() }]);
    // Nobody can tell who is near it.
    assert_eq!(nears(local, |endpoint| endpoint.node.clear()), []);
    let hinted = nears(everywhere, |endpoint| {
        endpoint.for_zones = vec!["a".to_owned(), "b".to_owned()];
        endpoint.for_nodes = vec!["n1".to_owned()];
    });
    let for_zones = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(hinted, [Near { for_zones, for_nodes: vec!["n1".to_owned()], node: String::new() }]);
}

#[test]
fn a_workload_knows_its_node_and_the_nodes_zone() {
    let pod = Pod { node: "n1".to_owned(), ..pod("a", "web", 9) };
    let mut world = world([Object::Pod(Arc::new(pod))]);
    let place = |world: &World| match get(world, Kind::Workload, "shop/a") {
        Some(Resource::Workload(workload)) => (workload.node, workload.zone),
        other => panic!("{other:?}"),
    };
    assert_eq!(place(&world), ("n1".to_owned(), String::new()));
    let (name, zone) = (Name::new("", "n1"), "a".to_owned());
    world.apply(
        Event::Apply(Object::Node(Arc::new(objects::Node { name, zone }))),
        &mut Dirty::new(),
    );
    assert_eq!(place(&world), ("n1".to_owned(), "a".to_owned()));
}

/// What Envoy and gRPC see of a pod on `n1` in zone `a` and one on `n2` in zone `b`, by who asks: the last numbers of
/// their addresses.
fn shown(key: &Key, local: bool, change: impl Fn(&mut SliceEndpoint)) -> BTreeMap<String, Vec<u8>> {
    let mut objects = vec![Object::Service(Arc::new(Service {
        node_local: local,
        ..service("web", "web", 100)
    }))];
    for (last, node, zone) in [(11, "n1", "a"), (12, "n2", "b")] {
        let pod = Pod { meshed: false, ..pod(node, "web", last) };
        let mut slice = slice(node, "web", &pod);
        let endpoint = &mut slice.endpoints[0];
        (endpoint.node, endpoint.zone) = (node.to_owned(), zone.to_owned());
        change(endpoint);
        let name = Name::new("", node);
        objects.push(Object::Node(Arc::new(objects::Node { name, zone: zone.to_owned() })));
        objects.extend([Object::Pod(Arc::new(pod)), Object::EndpointSlice(Arc::new(slice))]);
    }
    let contents = contents(&world(objects), &settings(), key);
    let listed = |bytes: Option<Bytes>| {
        let bytes = bytes.expect("it exists");
        let holds =
            |last: &u8| bytes.windows(9).any(|part| part == format!("10.0.0.{last}").as_bytes());
        [11, 12].into_iter().filter(holds).collect::<Vec<_>>()
    };
    let by = |what: &'static str, all: BTreeMap<Arc<str>, Option<Bytes>>| {
        all.into_iter().map(move |(place, bytes)| (format!("{what} {place}"), bytes))
    };
    let places = by("node", contents.by_node).chain(by("zone", contents.by_zone));
    let all = places.chain([("elsewhere".to_owned(), contents.shared)]);
    all.map(|(place, bytes)| (place, listed(bytes))).collect()
}

#[test]
fn who_cannot_choose_is_told_of_those_near_it_alone() {
    let expected = |all: &[(&str, &[u8])]| {
        all.iter().map(|(place, lasts)| ((*place).to_owned(), lasts.to_vec())).collect()
    };
    for dialect in [Dialect::Envoy, Dialect::Grpc] {
        let key = Key { dialect, ..Key::new(Kind::Endpoints, "service/shop/web/80") };
        assert_eq!(shown(&key, false, |_| {}), expected(&[("elsewhere", &[11, 12])]));
        let local = expected(&[("node n1", &[11]), ("node n2", &[12]), ("elsewhere", &[])]);
        assert_eq!(shown(&key, true, |_| {}), local, "{dialect:?}");
        let zones = expected(&[("zone a", &[11]), ("zone b", &[12]), ("elsewhere", &[11, 12])]);
        let by_zone =
            |endpoint: &mut SliceEndpoint| endpoint.for_zones = vec![endpoint.zone.clone()];
        assert_eq!(shown(&key, false, by_zone), zones, "{dialect:?}");
        let nodes = expected(&[("node n1", &[11]), ("node n2", &[12]), ("elsewhere", &[11, 12])]);
        let by_node =
            |endpoint: &mut SliceEndpoint| endpoint.for_nodes = vec![endpoint.node.clone()];
        assert_eq!(shown(&key, false, by_node), nodes, "{dialect:?}");
    }
    // Our own proxy chooses itself.
    let own = shown(&Key::new(Kind::Endpoints, "service/shop/web/80"), true, |_| {});
    assert_eq!(own, expected(&[("elsewhere", &[11, 12])]));
}
