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
