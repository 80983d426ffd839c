//! What lanes make of Services as somebody's destinations.

use tulle_xds::model::{Action, Filter, PathMatch, Rule, StringMatch};

use super::{
    routes::{WEB, route_yaml, rules, yaml},
    *,
};
use crate::{convert::convert, world::Subject};

/// A lane of the shop whose pods have its label, or these.
pub(super) fn lane(name: &str, members: Option<objects::Labels>, denies: bool) -> objects::Lane {
    let fallback = if denies { "Deny" } else { "Stable" };
    let value = serde_json::json!({
        "apiVersion": "tulle.dev/v1alpha1", "kind": "Lane",
        "metadata": {"namespace": "shop", "name": name}, "spec": {"fallback": fallback},
    });
    let Some(Object::Lane(lane)) = convert(&value).object else { panic!("no lane") };
    let mut lane = Arc::unwrap_or_clone(lane);
    lane.members = members.unwrap_or(lane.members);
    lane
}

/// Any of few.
pub(super) fn object() -> impl Strategy<Value = Object> {
    (0..3_u8, any::<[bool; 2]>()).prop_map(|(n, [label, denies])| {
        let members = label.then(|| labels("api"));
        Object::Lane(Arc::new(lane(&format!("l{n}"), members, denies)))
    })
}

/// One of a lane, if so.
pub(super) fn perhaps(so: bool, pod: Pod) -> Pod {
    if so { of_lane(pod, "l0") } else { pod }
}

fn of_lane(pod: Pod, lane: &str) -> Pod {
    let label = ("tulle.dev/lane".to_owned(), lane.to_owned());
    Pod { labels: pod.labels.into_iter().chain([label]).collect(), ..pod }
}

/// A Service of one pod for everybody and one of the lane `pr-1`, and whatever else there is.
fn shop(ready: bool, more: Vec<Object>) -> World {
    let pods = [pod("plain", "web", 1), of_lane(pod("branch", "web", 2), "pr-1")];
    let mut branch = slice("s0-2", "s0", &pods[1]);
    branch.endpoints[0].ready = ready;
    let services = [service("s0", "web", 100), service("s1", "api", 101)];
    let objects = services.map(|service| Object::Service(Arc::new(service))).into_iter();
    let slices =
        [slice("s0-1", "s0", &pods[0]), branch].map(|s| Object::EndpointSlice(Arc::new(s)));
    let pods = pods.map(|pod| Object::Pod(Arc::new(pod)));
    world(objects.chain(slices).chain(pods).chain(more))
}

fn a_lane(denies: bool) -> Object {
    Object::Lane(Arc::new(lane("pr-1", None, denies)))
}

/// The pods behind a cluster.
fn pods(world: &World, cluster: &str) -> Vec<String> {
    match get(world, Kind::Endpoints, cluster) {
        Some(Resource::Endpoints(told)) => told.endpoints.into_iter().map(|e| e.pod).collect(),
        other => panic!("{other:?}"),
    }
}

/// What a rule asks of headers, and where it leads.
fn shown(rule: &Rule) -> String {
    let value = |value: &StringMatch| match value {
        StringMatch::Exact(text) => text.clone(),
        StringMatch::Regex(_) => "~".to_owned(),
    };
    let headers = rule.matches.headers.iter();
    let headers: String = headers.map(|h| format!("{}={} ", h.name, value(&h.value))).collect();
    let to = match &rule.action {
        Action::Forward(backends) => {
            let to = backends.iter().map(|b| format!("{}*{}", b.cluster, b.weight));
            to.collect::<Vec<_>>().join(" ")
        }
        Action::Fail(status) => status.as_str().to_owned(),
        Action::Redirect(_) => "elsewhere".to_owned(),
    };
    format!("{headers}-> {to}")
}

fn all(world: &World) -> Vec<String> {
    rules(world).iter().map(shown).collect()
}

const LANE: &str = "lane/shop/s0/80/pr-1";

#[test]
fn a_lanes_pods_take_its_requests_and_nobody_elses() {
    let world = shop(true, vec![a_lane(false)]);
    assert_eq!(pods(&world, WEB), ["shop/plain"]);
    assert_eq!(pods(&world, LANE), ["shop/branch"]);
    assert_eq!(
        all(&world),
        [
            format!("baggage=~ -> {LANE}*1"),
            format!("x-tulle-lane=pr-1 -> {LANE}*1"),
            format!("-> {WEB}*1"),
        ]
    );
    let Some(Resource::Workload(workload)) = get(&world, Kind::Workload, "shop/plain") else {
        panic!("no workload");
    };
    assert_eq!(workload.lanes.iter().map(|lane| &*lane.name).collect::<Vec<_>>(), ["pr-1"]);
    let object = ObjectRef { kind: objects::Kind::Lane, name: Name::new("shop", "pr-1") };
    for (kind, name) in [(Kind::Route, WEB), (Kind::Cluster, LANE), (Kind::Workload, "shop/plain")]
    {
        let from = &contributors(&world, kind, name)[0].1.all;
        assert!(from.contains(&object), "{kind:?} {name}: {from:?}");
    }
    let wildcard = Key { dialect: Dialect::Envoy, ..Key::new(Kind::Cluster, "*") };
    let of = |service| members(&world, &wildcard, &Subject::Service(Name::new("shop", service)));
    let names: Vec<_> = of("s0").into_iter().map(|key| key.name.to_string()).collect();
    assert_eq!(names, [LANE, WEB]);
    assert_eq!(of("s1").len(), 1, "the lane has no pod there");
}

#[test]
fn envoy_and_grpc_without_a_proxy_get_the_same_conditions() {
    let world = shop(true, vec![a_lane(false)]);
    for dialect in [Dialect::Envoy, Dialect::Grpc] {
        let of = |kind, name: &str| {
            let key = Key { dialect, ..Key::new(kind, name) };
            contents(&world, &settings(), &key).shared
        };
        let route = of(Kind::Route, WEB).unwrap();
        let at = |text: &str| route.windows(text.len()).position(|part| part == text.as_bytes());
        let [baggage, lane, entry, everybody] =
            [r"tulle\.lane", LANE, "x-tulle-lane", WEB].map(|text| at(text).unwrap());
        // The name of the whole is the first of what it says.
        assert!(everybody < baggage && baggage < lane && lane < entry, "{dialect:?}");
        for kind in [Kind::Cluster, Kind::Endpoints] {
            assert!(of(kind, LANE).is_some(), "{dialect:?} {kind:?}");
        }
    }
}

#[test]
fn a_lane_is_seen_with_the_pods_behind_each_service() {
    let stray = of_lane(pod("stray", "none", 3), "pr-1");
    let world = shop(false, vec![a_lane(false), Object::Pod(Arc::new(stray))]);
    let [sight] = &LaneSight::all(&world, Some("shop"), Some("pr-1"))[..] else { panic!("one") };
    let behind = Behind { service: "s0".to_owned(), pods: 1, ready: 0 };
    assert_eq!((&sight.services, &sight.strays), (&vec![behind], &vec!["stray".to_owned()]));
    assert_eq!(LaneSight::all(&world, Some("bank"), None), []);
    assert_eq!(LaneSight::all(&world, None, Some("pr-2")), []);
    let ready = LaneSight::all(&shop(true, vec![a_lane(false)]), None, None);
    assert_eq!(ready[0].services[0].ready, 1);
}

#[test]
fn without_its_lane_a_labelled_pod_gets_nothing() {
    let world = shop(true, Vec::new());
    assert_eq!(pods(&world, WEB), ["shop/plain"]);
    assert_eq!(all(&world), [format!("-> {WEB}*1")]);
    assert_eq!(get(&world, Kind::Endpoints, LANE), None);
    assert_eq!(get(&world, Kind::Cluster, LANE), None);
}

#[test]
fn without_a_ready_pod_requests_go_where_everybodys_go_or_nowhere() {
    assert_eq!(all(&shop(false, vec![a_lane(false)])), [format!("-> {WEB}*1")]);
    let denied = shop(false, vec![a_lane(true)]);
    let expected = ["baggage=~ -> 503", "x-tulle-lane=pr-1 -> 503"];
    assert_eq!(all(&denied)[..2], expected);
    let object = ObjectRef { kind: objects::Kind::Lane, name: Name::new("shop", "pr-1") };
    let from = &contributors(&denied, Kind::Route, WEB)[0].1;
    assert!(from.all.contains(&object) && from.rules[0].as_ref() == Some(&object));
    assert_eq!(all(&shop(true, vec![a_lane(true)]))[0], format!("baggage=~ -> {LANE}*1"));
}

#[test]
fn a_routes_rules_stay_what_they_are() {
    let told = "rules: [{matches: [{path: {value: /a}}], timeouts: {request: 3s}, \
         filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}], \
         backendRefs: [{name: s0, port: 80, weight: 3}, {name: s1, port: 80}]}, \
         {backendRefs: [{name: s1, port: 80}]}]";
    let more = yaml(&route_yaml("HTTPRoute", "r", told)).into_iter().chain([a_lane(false)]);
    let world = shop(true, more.collect());
    let found = rules(&world);
    let expected = [
        // Those of the lane go to its pods, whatever share others have.
        format!("baggage=~ -> {LANE}*3"),
        format!("x-tulle-lane=pr-1 -> {LANE}*3"),
        format!("-> {WEB}*3 service/shop/s1/80*1"),
        // Where the route leads elsewhere, they go there as well.
        "-> service/shop/s1/80*1".to_owned(),
    ];
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
    let (own, before) = (&found[2], &found[0]);
    assert_eq!(own.matches.path, PathMatch::Prefix("/a".to_owned()));
    assert!(matches!(own.filters[..], [Filter::Rewrite { .. }]) && own.timeouts.request.is_some());
    assert_eq!(
        (&before.matches.path, &before.filters, before.timeouts, &before.origin),
        (&own.matches.path, &own.filters, own.timeouts, &own.origin)
    );
    // What a rule that fails must not say is not in it.
    let told = told.replace("name: s0, port: 80, weight: 3", "name: s1, port: 80");
    let more = yaml(&route_yaml("HTTPRoute", "r", &told)).into_iter().chain([a_lane(true)]);
    let world = shop(true, more.collect());
    let Some(resource) = get(&world, Kind::Route, WEB) else { panic!("no route") };
    let decoded = Resource::decode(Kind::Route, WEB, &resource.encode()).unwrap();
    assert_eq!((shown(&rules(&world)[0]).as_str(), decoded), ("baggage=~ -> 503", resource));
}

#[test]
fn a_lane_follows_to_services_of_fewer_of_the_same_pods() {
    let mut narrow = service("v1", "web", 102);
    narrow.selector.insert("version".to_owned(), "1".to_owned());
    let told = "rules: [{backendRefs: [{name: v1, port: 80}]}]";
    let more = yaml(&route_yaml("HTTPRoute", "r", told));
    let more = more.into_iter().chain([a_lane(false), Object::Service(Arc::new(narrow))]);
    let world = shop(true, more.collect());
    assert_eq!(all(&world)[0], format!("baggage=~ -> {LANE}*1"));
    assert_eq!(all(&world)[2], "-> service/shop/v1/80*1");
}

#[test]
fn who_is_in_a_lane_enters_no_other() {
    let other = Object::Lane(Arc::new(lane("pr-0", None, true)));
    let world = shop(true, vec![a_lane(false), other]);
    let expected = [
        "baggage=~ -> 503".to_owned(),
        format!("baggage=~ -> {LANE}*1"),
        "x-tulle-lane=pr-0 -> 503".to_owned(),
        format!("x-tulle-lane=pr-1 -> {LANE}*1"),
        format!("-> {WEB}*1"),
    ];
    assert_eq!(all(&world), expected);
}

#[test]
fn who_sends_by_a_route_hears_of_a_lanes_pods() {
    let told = "rules: [{backendRefs: [{name: s1, port: 80}]}]";
    let more = yaml(&route_yaml("HTTPRoute", "r", told)).into_iter().chain([a_lane(false)]);
    let mut world = shop(true, more.collect());
    let branch = of_lane(pod("api", "api", 3), "pr-1");
    let mut listed = slice("s1-1", "s1", &branch);
    listed.endpoints[0].ready = false;
    let unnamed = |slice: &EndpointSlice| {
        let mut slice = slice.clone();
        slice.endpoints[0].pod = None;
        slice
    };
    let ready = slice("s1-1", "s1", &branch);
    let unlabelled = Object::Pod(Arc::new(pod("api", "api", 3)));
    let labelled = Object::Pod(Arc::new(branch));
    let slice = |slice: EndpointSlice| Object::EndpointSlice(Arc::new(slice));
    let api = Name::new("shop", "pr-1");
    let steps = [
        (Event::Apply(labelled.clone()), 1),
        (Event::Apply(slice(listed)), 1),
        (Event::Apply(slice(ready.clone())), 3),
        (Event::Apply(unlabelled.clone()), 1),
        (Event::Apply(labelled.clone()), 3),
        (Event::Apply(slice(unnamed(&ready))), 3),
        (Event::Apply(unlabelled), 1),
        (Event::Apply(labelled), 3),
        (Event::Delete(ObjectRef { kind: objects::Kind::Lane, name: api }), 1),
        (Event::Apply(a_lane(false)), 3),
    ];
    for (at, (event, rules)) in steps.into_iter().enumerate() {
        let before = all(&world);
        let mut dirty = Dirty::new();
        world.apply(event, &mut dirty);
        let after = all(&world);
        assert_eq!(after.len(), rules, "step {at}: {after:?}");
        let heard = dirty.contains(&Subject::Service(Name::new("shop", "s0")));
        assert!(before == after || heard, "step {at}");
    }
}
