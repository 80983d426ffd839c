use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use proptest::prelude::*;
use tulle_xds::model::{Health, Knob, MtlsMode, Protocol};

use super::*;
use crate::world::{
    Dirty, Event,
    objects::{
        self, AccessPolicy, ContainerPort, EndpointSlice, Life, MeshConfig, MeshTls, Name,
        Namespace, Object, ObjectRef, Pod, Redirected, Scope, Service, ServicePort, SliceEndpoint,
        SlicePort, TargetPort,
    },
};

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        mesh_ranges: vec!["10.0.0.0/8".parse().unwrap()],
    }
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn labels(app: &str) -> objects::Labels {
    [("app".to_owned(), app.to_owned())].into()
}

fn pod(name: &str, app: &str, last: u8) -> Pod {
    Pod {
        name: Name::new("shop", name),
        uid: format!("uid-{name}"),
        labels: labels(app),
        service_account: app.to_owned(),
        ips: vec![ip(last)],
        host_network: false,
        ended: false,
        ports: vec![ContainerPort { name: "web".to_owned(), port: 8080 }],
        meshed: true,
        redirected: Redirected::default(),
        knobs: BTreeMap::new(),
        owner: None,
        node: String::new(),
        replica: false,
        life: Life::default(),
    }
}

fn service(name: &str, app: &str, last: u8) -> Service {
    Service {
        name: Name::new("shop", name),
        cluster_ips: vec![ip(last)],
        selector: labels(app),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            port: 80,
            target: TargetPort::Name("web".to_owned()),
            app_protocol: None,
        }],
        publish_not_ready: false,
        node_local: false,
    }
}

fn slice(name: &str, service: &str, pod: &Pod) -> EndpointSlice {
    EndpointSlice {
        name: Name::new("shop", name),
        service: Some(Name::new("shop", service)),
        ports: vec![SlicePort { name: "http".to_owned(), port: 8080 }],
        endpoints: vec![SliceEndpoint {
            addresses: pod.ips.clone(),
            ready: true,
            serving: true,
            terminating: false,
            pod: Some((pod.name.clone(), pod.uid.clone())),
            zone: "z".to_owned(),
            node: "n1".to_owned(),
            for_nodes: Vec::new(),
            for_zones: Vec::new(),
            hostname: pod.name.name.to_string(),
        }],
    }
}

fn world(objects: impl IntoIterator<Item = Object>) -> World {
    let mut world = World::default();
    for object in objects {
        world.apply(Event::Apply(object), &mut Dirty::new());
    }
    world
}

fn get(world: &World, kind: Kind, name: &str) -> Option<Resource> {
    compile(world, &settings(), kind, name, &Callers::All)
}

/// The resource of this kind and name, as callers in `namespace` see it.
fn seen(world: &World, kind: Kind, name: &str, namespace: &str) -> Option<Resource> {
    let own = consumers(world, kind, name).into_iter().find(|own| &**own == namespace);
    compile(world, &settings(), kind, name, &own.map_or(Callers::All, Callers::Of))
}

mod access;
mod direct;
mod lane;
mod near;
mod policies;
mod release;
mod routes;
mod tcp;
mod telemetry;

#[test]
fn an_endpoint_without_its_pod_is_left_out() {
    let pod = pod("a", "web", 9);
    let objects = [
        Object::Service(Arc::new(service("web", "web", 100))),
        Object::EndpointSlice(Arc::new(slice("web-1", "web", &pod))),
    ];
    let endpoints = |world: &World| match get(world, Kind::Endpoints, "service/shop/web/80") {
        Some(Resource::Endpoints(endpoints)) => endpoints.endpoints,
        other => panic!("{other:?}"),
    };
    let mut world = world(objects);
    assert_eq!(endpoints(&world), []);
    let replaced = Pod { uid: "other".to_owned(), ..pod.clone() };
    world.apply(Event::Apply(Object::Pod(Arc::new(replaced))), &mut Dirty::new());
    assert_eq!(endpoints(&world), [], "a pod that took the name is not the endpoint");
    world.apply(Event::Apply(Object::Pod(Arc::new(pod))), &mut Dirty::new());
    let found = endpoints(&world);
    assert_eq!(found[0].health, Health::Ready);
    assert_eq!(found[0].identity.as_ref().unwrap().account(), "web");
    assert_eq!(found[0].zone, "z");
}

#[test]
fn behind_a_port_that_is_not_redirected_is_no_sidecar() {
    let meets_sidecar = |only: &[u16], except: &[u16]| {
        let redirected = Redirected { only: only.into(), except: except.into(), own: Vec::new() };
        let pod = Pod { redirected, ..pod("a", "web", 9) };
        let objects = [
            Object::Service(Arc::new(service("web", "web", 100))),
            Object::EndpointSlice(Arc::new(slice("web-1", "web", &pod))),
            Object::Pod(Arc::new(pod)),
        ];
        let Some(Resource::Endpoints(found)) =
            get(&world(objects), Kind::Endpoints, "service/shop/web/80")
        else {
            panic!("no endpoints")
        };
        found.endpoints[0].identity.is_some()
    };
    assert!(meets_sidecar(&[], &[]) && meets_sidecar(&[], &[22]) && meets_sidecar(&[8080], &[]));
    assert!(!meets_sidecar(&[], &[8080]) && !meets_sidecar(&[22], &[]));
}

#[test]
fn the_most_specific_mesh_tls_wins_field_by_field() {
    let tls = |namespace: &str, scope, mode, ports: &[(u16, objects::MtlsMode)]| {
        Object::MeshTls(Arc::new(MeshTls {
            name: Name::new(namespace, "x"),
            scope,
            mode,
            ports: ports.iter().copied().collect(),
            trust_domains: Vec::new(),
        }))
    };
    use objects::MtlsMode::{Permissive, Strict};
    let mut world = world([
        Object::Pod(Arc::new(pod("a", "web", 9))),
        tls("tulle-system", Scope::Mesh, Some(Strict), &[(8080, Permissive), (9090, Permissive)]),
        tls("shop", Scope::Pods(labels("web")), None, &[(8080, Strict)]),
        tls("other", Scope::Namespace, Some(Permissive), &[]),
    ]);
    let modes = |world: &World| match get(world, Kind::Workload, "shop/a") {
        Some(Resource::Workload(workload)) => {
            let ports: BTreeMap<_, _> = workload.ports.iter().map(|p| (p.port, p.mtls)).collect();
            (workload.default_mtls, ports)
        }
        other => panic!("{other:?}"),
    };
    let (default, ports) = modes(&world);
    assert_eq!(default, MtlsMode::Strict);
    assert_eq!(ports[&8080], MtlsMode::Strict);
    assert_eq!(ports[&9090], MtlsMode::Permissive);
    let name = Name::new("tulle-system", "x");
    let gone = Event::Delete(ObjectRef { kind: objects::Kind::MeshTls, name });
    world.apply(gone, &mut Dirty::new());
    assert_eq!(modes(&world).0, MtlsMode::Permissive);
}

#[test]
fn a_declared_protocol_decides_listener_and_route() {
    let with = |name: &str| {
        let mut service = service("web", "web", 100);
        service.ports[0].name = name.to_owned();
        world([Object::Service(Arc::new(service))])
    };
    let listener = |world: &World| match get(world, Kind::Listener, "10.0.0.100:80") {
        Some(Resource::Listener(listener)) => listener,
        other => panic!("{other:?}"),
    };
    for (name, protocol, route, backends) in [
        ("http", Protocol::Http, true, 0),
        ("tcp", Protocol::Tcp, false, 1),
        ("", Protocol::Detect, true, 1),
    ] {
        let world = with(name);
        let listener = listener(&world);
        assert_eq!(listener.protocol, protocol);
        assert_eq!((listener.route.is_some(), listener.backends.len()), (route, backends));
        let compiled = get(&world, Kind::Route, "service/shop/web/80").is_some();
        assert_eq!(compiled, route, "{name}");
    }
    assert_eq!(get(&with("http"), Kind::Listener, "10.0.0.100:81"), None);
}

#[test]
fn a_pods_settings_come_before_the_meshs() {
    let pod = Pod { knobs: [(Knob::MaxStreams, 7)].into(), ..pod("a", "web", 9) };
    let config = MeshConfig {
        name: Name::new("", "default"),
        mesh_ranges: Vec::new(),
        refuse_external: None,
        pass_on_dns: None,
        knobs: [(Knob::MaxStreams, 1), (Knob::MaxHeaders, 50)].into(),
    };
    let world = world([Object::Pod(Arc::new(pod)), Object::MeshConfig(Arc::new(config))]);
    let Some(Resource::Workload(workload)) = get(&world, Kind::Workload, "shop/a") else {
        panic!("no workload")
    };
    assert_eq!(workload.knobs, [(Knob::MaxStreams, 7), (Knob::MaxHeaders, 50)].into());
    let set = workload.setters.iter().map(|s| format!("{} {}", s.origin.kind, s.field));
    assert_eq!(
        set.collect::<Vec<_>>(),
        ["MeshConfig spec.proxy.maxHeaders", "Pod metadata.annotations[tulle.dev/max-streams]"]
    );
}

/// Few names and addresses, so that objects meet.
fn object() -> impl Strategy<Value = Object> {
    let small = || 0..3_u8;
    let app = || prop::sample::select(vec!["web", "api"]);
    prop_oneof![
        3 => release::any_pod(),
        3 => (small(), app(), 0..4_u8, any::<[bool; 3]>()).prop_map(|(n, app, last, [a, b, c])| {
            let mut service = service(&format!("s{n}"), app, last);
            if a {
                service.ports[0].name = "tcp".to_owned();
            }
            if b {
                service.ports[0].target = TargetPort::Number(9090);
            }
            if c {
                service.selector.insert("app".to_owned(), "api".to_owned());
                service.cluster_ips.clear();
            }
            service.node_local = b && c;
            Object::Service(Arc::new(service))
        }),
        3 => (small(), small(), small(), 0..4_u8, any::<[bool; 3]>()).prop_map(
            |(n, service, p, last, [a, b, c])| {
                let mut pod = pod(&format!("p{p}"), "web", last);
                pod.uid = format!("uid-{}", u8::from(a));
                let mut slice = slice(&format!("e{n}"), &format!("s{service}"), &pod);
                slice.endpoints[0].ready = b;
                if c {
                    slice.endpoints[0].pod = None;
                    slice.endpoints[0].for_zones = vec!["z".to_owned()];
                }
                Object::EndpointSlice(Arc::new(slice))
            }
        ),
        1 => (small(), small(), any::<bool>()).prop_map(|(n, scope, strict)| {
            let mode = if strict { objects::MtlsMode::Strict } else { objects::MtlsMode::Permissive };
            let scopes = [Scope::Mesh, Scope::Namespace, Scope::Pods(labels("api"))];
            Object::MeshTls(Arc::new(MeshTls {
                name: Name::new("shop", format!("t{n}")),
                scope: scopes[usize::from(scope)].clone(),
                mode: Some(mode),
                ports: BTreeMap::new(),
                trust_domains: Vec::new(),
            }))
        }),
        1 => (small(), small(), any::<bool>()).prop_map(|(n, scope, audit)| {
            let scopes = [Scope::Mesh, Scope::Namespace, Scope::Pods(labels("api"))];
            Object::AccessPolicy(Arc::new(AccessPolicy {
                name: Name::new("shop", format!("a{n}")),
                created: String::new(),
                scope: scopes[usize::from(scope)].clone(),
                audit,
                rules: Vec::new(),
            }))
        }),
        3 => routes::object(),
        2 => release::object(),
        1 => any::<[bool; 2]>().prop_map(|[first, zone]| Object::Node(Arc::new(objects::Node {
            name: Name::new("", if first { "n1" } else { "n2" }),
            zone: if zone { "a" } else { "" }.to_owned(),
        }))),
        1 => lane::object(),
        1 => any::<bool>().prop_map(|refuse| Object::MeshConfig(Arc::new(MeshConfig {
            name: Name::new("", "default"),
            mesh_ranges: Vec::new(),
            refuse_external: Some(refuse),
            pass_on_dns: Some(refuse),
            knobs: [(Knob::MaxStreams, 1 + u64::from(refuse))].into(),
        }))),
        1 => any::<bool>().prop_map(|enabled| Object::Namespace(Arc::new(Namespace {
            name: Name::new("", "shop"),
            labels: [("tulle.dev/inject".to_owned(), if enabled { "enabled" } else { "" }.to_owned())]
                .into(),
        }))),
    ]
}

fn universe() -> Vec<(Kind, String)> {
    let mut keys = Vec::new();
    for n in 0..3 {
        keys.push((Kind::Workload, format!("shop/p{n}")));
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Route] {
            keys.extend(["service", "canary"].map(|of| (kind, format!("{of}/shop/s{n}/80"))));
            keys.extend((0..3).map(|l| (kind, format!("lane/shop/s{n}/80/l{l}"))));
            for via in ["HTTPRoute/shop/r", "GRPCRoute/shop/r"] {
                let name = |m, rule| format!("service/shop/s{n}/80/{via}{m}{rule}");
                keys.extend((0..3).flat_map(|m| [(kind, name(m, "")), (kind, name(m, "/r"))]));
            }
            keys.extend([8080, 9090].map(|port| (kind, format!("pod/shop/p{n}/{port}"))));
        }
    }
    for n in 0..3 {
        keys.push((Kind::Host, format!("s{n}.shop.svc.cluster.local")));
        keys.extend((0..3).map(|p| (Kind::Host, format!("p{p}.s{n}.shop.svc.cluster.local"))));
    }
    for last in 0..4 {
        for kind in [Kind::Listener, Kind::Cluster] {
            keys.extend([80, 8080, 9090].map(|port| (kind, format!("10.0.0.{last}:{port}"))));
        }
    }
    keys
}

proptest! {
    /// What a change touches is in the dirty set (or it would never be published), and a world that
    /// changed step by step is the same as one that was told its end at once.
    #[test]
    fn whatever_changes_is_dirty(
        steps in prop::collection::vec((object(), prop::bool::weighted(0.3)), 1..25)
    ) {
        let mut world = World::default();
        let mut told: BTreeMap<ObjectRef, Object> = BTreeMap::new();
        let all = |world: &World| -> Vec<_> {
            let view = |(kind, name): (Kind, String)| {
                let views = ["shop", "far"].map(|from| seen(world, kind, &name, from));
                (views, contributors(world, kind, &name))
            };
            universe().into_iter().map(view).collect()
        };
        let complaints = |world: &World| {
            release::references().map(|r| (complaints(world, &r), standing(world, &r)))
        };
        let mut before = all(&world);
        let mut complained = complaints(&world);
        for (object, delete) in steps {
            let reference = object.reference();
            let roots = world.needs_roots("shop");
            let event = if delete {
                told.remove(&reference);
                Event::Delete(reference)
            } else {
                told.insert(reference, object.clone());
                Event::Apply(object)
            };
            let mut dirty = Dirty::new();
            world.apply(event.clone(), &mut dirty);
            let after = all(&world);
            for (((kind, name), old), new) in universe().iter().zip(&before).zip(&after) {
                let subject = subject(*kind, name).unwrap();
                prop_assert!(old == new || dirty.contains(&subject), "{kind:?} {name}: {event:?}");
            }
            for ((object, old), new) in
                release::references().iter().zip(&complained).zip(&complaints(&world))
            {
                let subject = crate::world::Subject::Policy(object.clone());
                prop_assert!(old == new || dirty.contains(&subject), "{object}: {event:?}");
            }
            complained = complaints(&world);
            let namespace = crate::world::Subject::Namespace("shop".into());
            prop_assert!(roots == world.needs_roots("shop") || dirty.contains(&namespace));
            before = after;
        }
        let at_once = self::world(told.into_values());
        prop_assert_eq!(&before, &all(&at_once));
        prop_assert_eq!(complained, complaints(&at_once));
        prop_assert_eq!(world.needs_roots("shop"), at_once.needs_roots("shop"));
    }

    #[test]
    fn any_name_is_answered(name in "(service|pod|lane|[a-z]{0,3}|\\PC{0,9})(/[a-z0-9.:]{0,5}){0,5}") {
        for kind in Kind::ALL {
            let _resource = get(&World::default(), kind, &name);
        }
    }
}

mod grpc;

#[test]
fn names_have_the_addresses_that_cluster_dns_would_say() {
    let addresses = |world: &World, name: &str| match get(world, Kind::Host, name) {
        Some(Resource::Host(host)) => host.addresses,
        other => {
            assert_eq!(other, None);
            Vec::new()
        }
    };
    let (pod, mut hidden) = (pod("db-0", "db", 9), pod("db-1", "db", 10));
    hidden.ips = vec![ip(10)];
    let mut not_ready = slice("db-2", "db", &hidden);
    not_ready.endpoints[0].ready = false;
    let headless = Service { cluster_ips: Vec::new(), ..service("db", "db", 0) };
    let mut world = world([
        Object::Service(Arc::new(service("web", "web", 100))),
        Object::Service(Arc::new(headless.clone())),
        Object::EndpointSlice(Arc::new(slice("db-1", "db", &pod))),
        Object::EndpointSlice(Arc::new(slice("web-1", "web", &pod))),
        Object::EndpointSlice(Arc::new(not_ready)),
    ]);
    assert_eq!(addresses(&world, "web.shop.svc.cluster.local"), [ip(100)]);
    assert_eq!(addresses(&world, "db.shop.svc.cluster.local"), [ip(9)]);
    assert_eq!(addresses(&world, "db-0.db.shop.svc.cluster.local"), [ip(9)]);
    for unknown in [
        "db-1.db.shop.svc.cluster.local",
        "db-0.web.shop.svc.cluster.local",
        "web.shop.svc.example.com",
        "nobody.shop.svc.cluster.local",
    ] {
        assert!(addresses(&world, unknown).is_empty(), "{unknown}");
    }
    let published = Service { publish_not_ready: true, ..headless };
    world.apply(Event::Apply(Object::Service(Arc::new(published))), &mut Dirty::new());
    assert_eq!(addresses(&world, "db.shop.svc.cluster.local"), [ip(9), ip(10)]);
}
