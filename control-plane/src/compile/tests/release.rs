//! What a release makes of a Service's endpoints and of whoever calls it.

mod place;
mod steps;

use tulle_api::ReleasePhase as Phase;
use tulle_xds::model::{Action, Released};

use super::{
    routes::{self, route_yaml, yaml},
    *,
};
use crate::{
    release::{Course, Plan, Share},
    world::{
        Subject,
        objects::{Release, ReplicaSet, Target},
    },
};

/// A pod of a template, whose containers are ready; its sidecar may not be.
fn versioned(name: &str, hash: &str, last: u8) -> Pod {
    let mut pod = pod(name, "web", last);
    template(&mut pod, hash, true);
    pod.life = Life { since: 1000 + u64::from(last), ..pod.life };
    pod
}

fn template(pod: &mut Pod, hash: &str, serving: bool) {
    pod.labels.insert("pod-template-hash".to_owned(), hash.to_owned());
    pod.owner = Some(("ReplicaSet".to_owned(), format!("web-{hash}")));
    pod.life.serving = serving;
}

fn replica_set(hash: &str, revision: u64) -> ReplicaSet {
    ReplicaSet {
        name: Name::new("shop", format!("web-{hash}")),
        deployment: "web".to_owned(),
        hash: hash.to_owned(),
        revision,
        wanted: 4,
    }
}

fn release(course: Course) -> Release {
    Release {
        name: Name::new("shop", "web"),
        uid: "u".to_owned(),
        created: String::new(),
        target: Target::Deployment("web".to_owned()),
        services: Vec::new(),
        plan: Plan::default(),
        course: Some(Arc::new(course)),
    }
}

fn course(phase: Phase, weight: u8) -> Course {
    Course {
        phase,
        stable: "old".to_owned(),
        canary: "new".to_owned(),
        weight: Share::percent(weight),
        ..Course::default()
    }
}

/// Four pods of the old template, which are ready, and one of the new one, which is not, behind a Service.
fn shop(course: Course, protocol: &str) -> World {
    let pods: Vec<_> = (1..=4)
        .map(|last| versioned(&format!("old-{last}"), "old", last))
        .chain([versioned("new-5", "new", 5)])
        .collect();
    let mut service = service("web", "web", 100);
    service.ports[0].name = protocol.to_owned();
    let mut slice = slice("web-1", "web", &pods[0]);
    slice.ports[0].name = protocol.to_owned();
    let endpoint = |pod: &Pod| SliceEndpoint {
        addresses: pod.ips.clone(),
        ready: pod.revision() == "old",
        pod: Some((pod.name.clone(), pod.uid.clone())),
        ..slice.endpoints[0].clone()
    };
    slice.endpoints = pods.iter().map(endpoint).collect();
    let mut objects = vec![
        Object::Service(Arc::new(service)),
        Object::EndpointSlice(Arc::new(slice)),
        Object::ReplicaSet(Arc::new(replica_set("old", 1))),
        Object::ReplicaSet(Arc::new(replica_set("new", 2))),
        Object::Release(Arc::new(release(course))),
    ];
    objects.extend(pods.into_iter().map(|pod| Object::Pod(Arc::new(pod))));
    world(objects)
}

fn ready(world: &World, cluster: &str) -> Option<Vec<String>> {
    match get(world, Kind::Endpoints, cluster)? {
        Resource::Endpoints(told) => Some(
            told.endpoints
                .into_iter()
                .filter(|endpoint| endpoint.health == Health::Ready)
                .map(|endpoint| endpoint.pod)
                .collect(),
        ),
        other => panic!("{other:?}"),
    }
}

fn shares(world: &World) -> Vec<(String, u32)> {
    let Some(Resource::Route(route)) = get(world, Kind::Route, "service/shop/web/80") else {
        panic!("no route");
    };
    match &route.rules[0].action {
        Action::Forward(all) => all.iter().map(|b| (b.cluster.clone(), b.weight)).collect(),
        other => panic!("{other:?}"),
    }
}

fn released(world: &World, cluster: &str) -> Option<Released> {
    match get(world, Kind::Cluster, cluster)? {
        Resource::Cluster(cluster) => Some(cluster.released),
        other => panic!("{other:?}"),
    }
}

fn hold(world: &World, pod: &str) -> String {
    match get(world, Kind::Workload, pod) {
        Some(Resource::Workload(workload)) => workload.hold,
        other => panic!("{other:?}"),
    }
}

const STABLE: &str = "service/shop/web/80";
const CANARY: &str = "canary/shop/web/80";

#[test]
fn a_service_is_divided_by_template() {
    let world = shop(course(Phase::Progressing, 5), "http");
    let old = ["shop/old-1", "shop/old-2", "shop/old-3", "shop/old-4"].map(str::to_owned);
    assert_eq!(ready(&world, STABLE).unwrap(), old);
    assert_eq!(ready(&world, CANARY).unwrap(), ["shop/new-5"], "held, but serving");
    let expected = [(CANARY.to_owned(), 500), (STABLE.to_owned(), 9500)];
    assert_eq!(shares(&world), expected);
    let both = [released(&world, STABLE), released(&world, CANARY)];
    assert_eq!(both, [Some(Released::Counted); 2]);
    assert_eq!(hold(&world, "shop/new-5"), "Release shop/web: version new has not taken over");
    assert_eq!(hold(&world, "shop/old-1"), "");
    let members = |subject| {
        let wildcard = Key { dialect: Dialect::Envoy, ..Key::new(Kind::Cluster, "*") };
        members(&world, &wildcard, &subject)
            .into_iter()
            .map(|key| key.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(members(Subject::Service(Name::new("shop", "web"))), [CANARY, STABLE]);
    let object = ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") };
    for (kind, name) in [(Kind::Route, STABLE), (Kind::Cluster, STABLE), (Kind::Cluster, CANARY)] {
        let from = &contributors(&world, kind, name)[0].1.all;
        assert!(from.contains(&object), "{kind:?} {name}: {from:?}");
    }
}

#[test]
fn no_pod_of_a_canary_gets_more_than_one_of_the_stable_version() {
    let world = shop(course(Phase::Progressing, 50), "http");
    assert_eq!(shares(&world)[0], (CANARY.to_owned(), 2500), "one of four");
}

#[test]
fn bytes_are_divided_like_requests() {
    let world = shop(course(Phase::Progressing, 5), "tcp");
    let Some(Resource::Listener(listener)) = get(&world, Kind::Listener, "10.0.0.100:80") else {
        panic!("no listener");
    };
    let shares: Vec<_> = listener.backends.into_iter().map(|b| (b.cluster, b.weight)).collect();
    assert_eq!(shares, [(CANARY.to_owned(), 500), (STABLE.to_owned(), 9500)]);
    let object = ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") };
    let from = &contributors(&world, Kind::Listener, "10.0.0.100:80")[0].1.all;
    assert!(from.contains(&object), "{from:?}");
}

#[test]
fn bytes_go_by_routes_to_both_versions_and_to_one_that_failed_as_long_as_it_is_ended() {
    let tcp = |kind, more| {
        let rules =
            "rules: [{backendRefs: [{name: web, port: 80}, {name: other, port: 80, weight: 0}]}]";
        route_yaml(kind, "r", &format!("{more}{rules}")).replace("name: s0", "name: web")
    };
    let both = |new, old| vec![(CANARY.to_owned(), new), (STABLE.to_owned(), old)];
    for (phase, weight, kind, more, expected) in [
        (Phase::Progressing, 5, "TCPRoute", "", both(500, 9500)),
        (Phase::Held, 0, "TCPRoute", "", both(0, 10_000)),
        (Phase::Progressing, 5, "TLSRoute", "hostnames: [a.x], ", both(500, 9500)),
    ] {
        let mut world = shop(course(phase, weight), "tcp");
        let mut other = service("other", "other", 101);
        other.ports[0].name = "tcp".to_owned();
        for object in yaml(&tcp(kind, more)).into_iter().chain([Object::Service(Arc::new(other))]) {
            world.apply(Event::Apply(object), &mut Dirty::new());
        }
        let Some(Resource::Listener(told)) = get(&world, Kind::Listener, "10.0.0.100:80") else {
            panic!("no listener");
        };
        let backends =
            told.by_name.into_iter().next().map_or(told.backends, |named| named.backends);
        let shares: Vec<_> = backends.into_iter().map(|b| (b.cluster, b.weight)).collect();
        assert_eq!(shares, expected, "{kind} {phase:?}");
    }
    // A release is in force where what a server's name leads to is.
    let mut world = shop(course(Phase::Progressing, 5), "tcp");
    let mut parent = service("parent", "parent", 101);
    parent.ports[0].name = "tcp".to_owned();
    let named = tcp("TLSRoute", "hostnames: [a.x], ")
        .replace("kind: Service, name: web", "kind: Service, name: parent");
    for object in yaml(&named).into_iter().chain([Object::Service(Arc::new(parent))]) {
        world.apply(Event::Apply(object), &mut Dirty::new());
    }
    let object = ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") };
    let from = &contributors(&world, Kind::Listener, "10.0.0.101:80")[0].1.all;
    assert!(from.contains(&object), "{from:?}");
}

#[test]
fn before_and_after_there_is_one_cluster() {
    let idle = Course { canary: String::new(), ..course(Phase::Idle, 0) };
    let world = shop(idle, "http");
    assert_eq!((ready(&world, CANARY), released(&world, CANARY)), (None, None));
    assert_eq!(shares(&world), [(STABLE.to_owned(), 1)]);
    assert_eq!(ready(&world, STABLE).unwrap().len(), 4, "the new one is nobody's yet");
    assert_ne!(hold(&world, "shop/new-5"), "", "nor may it be ready");
    assert_eq!(released(&world, STABLE), Some(Released::No));

    let done = Course {
        stable: "new".to_owned(),
        canary: String::new(),
        trusted: ["old".to_owned()].into(),
        ..course(Phase::Promoted, 0)
    };
    let world = shop(done, "http");
    assert_eq!(shares(&world), [(STABLE.to_owned(), 1)]);
    assert_eq!(hold(&world, "shop/new-5") + &hold(&world, "shop/old-1"), "");
}

#[test]
fn a_canary_that_failed_is_retired_and_stays_held() {
    let world = shop(course(Phase::Held, 0), "http");
    assert_eq!(shares(&world), [(CANARY.to_owned(), 0), (STABLE.to_owned(), 10_000)]);
    assert_eq!(released(&world, CANARY), Some(Released::Retired));
    assert_eq!(released(&world, STABLE), Some(Released::Counted));
    assert_ne!(hold(&world, "shop/new-5"), "");
}

#[test]
fn while_it_takes_over_the_share_follows_the_pods() {
    let lifted = Course { lifted: true, ..course(Phase::Promoting, 5) };
    let world = shop(lifted, "http");
    assert_eq!(hold(&world, "shop/new-5"), "");
    assert_eq!(shares(&world)[0], (CANARY.to_owned(), 2500));
}

#[test]
fn without_its_release_all_is_as_kubernetes_says() {
    let mut world = shop(course(Phase::Progressing, 5), "http");
    let gone = ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") };
    let mut dirty = Dirty::new();
    world.apply(Event::Delete(gone), &mut dirty);
    for subject in [
        Subject::Service(Name::new("shop", "web")),
        Subject::Pod(Name::new("shop", "new-5")),
        Subject::Address(ip(100)),
    ] {
        assert!(dirty.contains(&subject), "{subject:?}");
    }
    assert_eq!(shares(&world), [(STABLE.to_owned(), 1)]);
    assert_eq!((hold(&world, "shop/new-5"), ready(&world, CANARY)), (String::new(), None));
}

#[test]
fn how_its_containers_are_touches_only_what_is_released() {
    let mut world = shop(course(Phase::Progressing, 5), "http");
    let mut touched = |name: &str, hash: &str, app: &str| {
        let mut pod = versioned(name, hash, 5);
        pod.life.serving = false;
        pod.owner = pod.owner.map(|(kind, _)| (kind, format!("{app}-{hash}")));
        let mut dirty = Dirty::new();
        world.apply(Event::Apply(Object::Pod(Arc::new(pod.clone()))), &mut dirty);
        dirty.clear();
        pod.life.restarts += 1;
        world.apply(Event::Apply(Object::Pod(Arc::new(pod))), &mut dirty);
        dirty.contains(&Subject::Service(Name::new("shop", "web")))
    };
    assert!(touched("new-5", "new", "web"));
    assert!(!touched("new-6", "new", "other"));
}

#[test]
fn two_workloads_are_divided_by_name() {
    let mut world = shop(course(Phase::Idle, 0), "http");
    let two = Target::Two {
        stable: ("Deployment".to_owned(), "web".to_owned()),
        canary: ("StatefulSet".to_owned(), "web2".to_owned()),
    };
    let course = Course {
        stable: "web".to_owned(),
        canary: "web2".to_owned(),
        ..course(Phase::Progressing, 10)
    };
    let release = Release { target: two, ..release(course) };
    let mut other = versioned("new-5", "new", 5);
    other.owner = Some(("StatefulSet".to_owned(), "web2".to_owned()));
    for object in [Object::Release(Arc::new(release)), Object::Pod(Arc::new(other))] {
        world.apply(Event::Apply(object), &mut Dirty::new());
    }
    assert_eq!(ready(&world, CANARY).unwrap(), ["shop/new-5"]);
    assert_eq!(shares(&world)[0], (CANARY.to_owned(), 1000));
    assert_eq!(hold(&world, "shop/new-5"), "", "nobody would wait for it");
    // Both run already, and nobody has looked at them yet.
    let name = Name::new("shop", "web");
    assert_eq!(world.template(world.release(&name).unwrap()).as_deref(), Some("web2"));
    let unseen = Release { course: None, ..Release::clone(world.release(&name).unwrap()) };
    assert_eq!(world.template(&unseen).as_deref(), Some("web"));
}

#[test]
fn a_service_of_one_version_alone_leads_to_it_whole() {
    for (version, held) in [("old", false), ("new", false), ("new", true)] {
        let course = course(if held { Phase::Held } else { Phase::Progressing }, 5);
        let mut world = shop(course, "http");
        let mut only = service("web", "web", 100);
        only.ports[0].name = "http".to_owned();
        let pod = versioned(if version == "old" { "old-1" } else { "new-5" }, version, 5);
        let mut slice = slice("web-1", "web", &pod);
        slice.ports[0].name = "http".to_owned();
        for object in [Object::Service(Arc::new(only)), Object::EndpointSlice(Arc::new(slice))] {
            world.apply(Event::Apply(object), &mut Dirty::new());
        }
        let to_canary = if version == "new" && !held { 10_000 } else { 0 };
        assert_eq!(shares(&world)[0], (CANARY.to_owned(), to_canary), "{version} {held}");
    }
}

/// Type, whether it is true, reason, message.
type Told = (&'static str, bool, &'static str, String);

fn conditions(world: &World) -> Vec<Told> {
    let object = ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") };
    let own = standing(world, &object).unwrap().own.into_iter();
    own.map(|(kind, told)| (kind, told.holds, told.reason, told.message)).collect()
}

#[test]
fn what_is_missing_is_in_its_status() {
    let world = shop(course(Phase::Progressing, 5), "http");
    let said = conditions(&world);
    assert_eq!(said[0], ("ResolvedRefs", true, "ResolvedRefs", String::new()));
    let mut world = shop(course(Phase::Progressing, 5), "http");
    let services = vec!["web".to_owned(), "gone".to_owned()];
    let named = Release { services, ..release(course(Phase::Progressing, 5)) };
    world.apply(Event::Apply(Object::Release(Arc::new(named))), &mut Dirty::new());
    let gone = "spec.services[1]: there is no Service shop/gone".to_owned();
    assert_eq!(conditions(&world)[0], ("ResolvedRefs", false, "ServiceNotFound", gone));
    // Nobody selects its pods any more.
    let mut world = shop(course(Phase::Progressing, 5), "http");
    let object = ObjectRef { kind: objects::Kind::Service, name: Name::new("shop", "web") };
    world.apply(Event::Delete(object), &mut Dirty::new());
    let (kind, holds, _, said) = conditions(&world).remove(0);
    assert_eq!((kind, holds), ("ResolvedRefs", false));
    assert!(said.starts_with("spec.target: no Service selects its pods"), "{said}");
}

#[test]
fn without_any_sidecar_it_does_nothing_and_says_so() {
    let mut world = shop(course(Phase::Idle, 0), "http");
    let mut bare = |name: &str, hash: &str, last: u8| {
        let pod = Pod { meshed: false, ..versioned(name, hash, last) };
        world.apply(Event::Apply(Object::Pod(Arc::new(pod))), &mut Dirty::new());
        conditions(&world)
    };
    let said = bare("old-1", "old", 1);
    assert_eq!(said[0].0, "ResolvedRefs", "that was before");
    let (kind, holds, reason, said) = bare("new-5", "new", 5).remove(0);
    assert_eq!((kind, holds, reason), ("Accepted", false, "NoSidecar"));
    assert!(said.starts_with("no pod of the version that is wanted has a sidecar"), "{said}");
}

/// Pods, of which some are of one Deployment.
pub(super) fn any_pod() -> impl Strategy<Value = Object> {
    let app = prop::sample::select(vec!["web", "api"]);
    (0..3_u8, app, 0..4_u8, any::<[bool; 4]>()).prop_map(|(n, app, last, [a, b, c, d])| {
        let mut pod = lane::perhaps(a && c, pod(&format!("p{n}"), app, last));
        pod.uid = format!("uid-{}", u8::from(a));
        (pod.meshed, pod.ended, pod.host_network) = (b, c && d, !c && d && a);
        pod.node = if c { "n1" } else { "n2" }.to_owned();
        if a != d {
            template(&mut pod, if c { "old" } else { "new" }, b || last > 1);
            pod.life.ready = pod.life.serving && d;
        }
        Object::Pod(Arc::new(pod))
    })
}

/// Releases of one Deployment, and its ReplicaSets.
pub(super) fn object() -> impl Strategy<Value = Object> {
    let release = (0..3_u8, 0..4_usize, any::<[bool; 4]>()).prop_map(
        |(n, phase, [named, stepping, lifted, begun])| {
            let phase = [Phase::Progressing, Phase::Held, Phase::Promoting, Phase::Paused][phase];
            let course =
                Course { step: stepping.then_some(1), lifted, ..course(phase, 5 + 10 * n) };
            Object::Release(Arc::new(Release {
                name: reference(n).name,
                services: if named { vec![format!("s{n}")] } else { Vec::new() },
                course: begun.then(|| Arc::new(course)),
                ..steps::anything()
            }))
        },
    );
    let sets = any::<bool>().prop_map(|old| {
        let set = if old { replica_set("old", 1) } else { replica_set("new", 2) };
        Object::ReplicaSet(Arc::new(set))
    });
    prop_oneof![4 => release, 1 => sets]
}

fn reference(n: u8) -> ObjectRef {
    ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", format!("r{n}")) }
}

/// Every object that there can be something to say about.
pub(super) fn references() -> [ObjectRef; 33] {
    let mut all = routes::references().into_iter().chain((0..3).map(reference));
    std::array::from_fn(|_| all.next().unwrap())
}
