use std::sync::Arc;

use tulle_xds::{
    cache::Dialect,
    model::{Kind, SpiffeId},
    server::Caller,
    session::KindStatus,
};

use super::*;
use crate::{compile::Contributors, world::objects::Kind as ObjectKind};

const NAME: &str = "service/shop/reviews/9080";

fn object(kind: ObjectKind, name: &str) -> ObjectRef {
    ObjectRef { kind, name: Name::new("shop", name) }
}

/// A stream of a pod that was sent, and accepted, these versions of [`NAME`]'s route.
fn session(pod: &str, sent: &str, accepted: &str, rejected: Option<&str>) -> SessionStatus {
    let namespace = pod.split('/').next().unwrap().to_owned();
    let identity = SpiffeId::service_account("cluster.local", &namespace, "a");
    let version = |text: &str| (!text.is_empty()).then(|| Version::new(text));
    let name = NameStatus {
        name: NAME.to_owned(),
        sent: version(sent),
        accepted: version(accepted),
        rejected: rejected.map(str::to_owned),
    };
    SessionStatus {
        id: 1,
        caller: Caller { pod: pod.to_owned(), namespace, identity },
        dialect: Dialect::Tulle,
        version: String::new(),
        kinds: vec![KindStatus { kind: Kind::Route, waiting: false, names: vec![name] }],
    }
}

/// `shop/reviews` has a producer's route and a policy; callers in `far` have a route of their own.
fn contributions() -> Contributions {
    let (split, retry) =
        (object(ObjectKind::HttpRoute, "split"), object(ObjectKind::TrafficPolicy, "retry"));
    let mine = ObjectRef { kind: ObjectKind::HttpRoute, name: Name::new("far", "mine") };
    let shared =
        Contributors { all: [split.clone(), retry].into(), rules: vec![None, Some(split)] };
    let own = Contributors { all: [mine.clone()].into(), rules: vec![Some(mine)] };
    let contributions = Contributions::default();
    let far: Arc<str> = "far".into();
    contributions.set(&Key::new(Kind::Route, NAME), [(None, shared), (Some(far), own)]);
    contributions
}

fn shown(sessions: &[SessionStatus]) -> Vec<String> {
    let latest =
        |_: &Key, namespace: &str| Some(Version::new(if namespace == "far" { "f2" } else { "2" }));
    let forces = forces(&contributions(), sessions, latest);
    let shown = forces.into_iter().map(|(object, force)| {
        let reasons: Vec<_> =
            force.rejections.iter().map(|r| format!(" {}: {}", r.proxy, r.reason)).collect();
        format!(
            "{object} {}/{} ({} waiting){}",
            force.on,
            force.of,
            force.waiting,
            reasons.concat()
        )
    });
    shown.collect()
}

#[test]
fn counts_the_proxies_that_hold_something_of_an_object() {
    let in_force = session("shop/a", "2", "2", None);
    for (sessions, expected) in [
        (vec![], vec![]),
        (
            vec![in_force.clone(), session("far/b", "f2", "f2", None)],
            vec![
                "HTTPRoute far/mine 1/1 (0 waiting)",
                "HTTPRoute shop/split 1/1 (0 waiting)",
                "TrafficPolicy shop/retry 1/1 (0 waiting)",
            ],
        ),
        // Not sent yet; sent and not answered; an old stream of the same pod.
        (
            vec![
                session("shop/b", "1", "1", None),
                session("shop/c", "2", "1", None),
                in_force.clone(),
                session("shop/a", "1", "1", None),
            ],
            vec![
                "HTTPRoute shop/split 0/3 (3 waiting)",
                "TrafficPolicy shop/retry 0/3 (3 waiting)",
            ],
        ),
        // Nobody knows which object is behind it, or the reason names the rule.
        (
            vec![in_force.clone(), session("shop/b", "2", "1", Some("no"))],
            vec![
                "HTTPRoute shop/split 1/2 (0 waiting) shop/b: no",
                "TrafficPolicy shop/retry 1/2 (0 waiting) shop/b: no",
            ],
        ),
        (
            vec![in_force, session("shop/b", "2", "1", Some("virtual_hosts[0].routes[1].x: no"))],
            vec![
                "HTTPRoute shop/split 1/2 (0 waiting) shop/b: virtual_hosts[0].routes[1].x: no",
                "TrafficPolicy shop/retry 1/2 (0 waiting)",
            ],
        ),
        // A rejection of what has been replaced since is no answer to the latest.
        (vec![session("far/b", "f1", "", Some("no"))], vec!["HTTPRoute far/mine 0/1 (1 waiting)"]),
    ] {
        assert_eq!(shown(&sessions), expected);
    }
}

#[test]
fn what_grpc_without_a_proxy_does_not_do_is_told_where_it_is_used() {
    let route = object(ObjectKind::HttpRoute, "split");
    let standing = Standing {
        parents: Vec::new(),
        beyond_grpc: vec!["spec.rules[0]: mirrors".to_owned()],
        invalid: None,
    };
    let mut sessions = vec![session("shop/a", "2", "2", None)];
    let told = |sessions: &[SessionStatus]| {
        // The contributions of the tests are of our own dialect; the same are behind gRPC's.
        let contributions = contributions();
        let split = object(ObjectKind::HttpRoute, "split");
        let shared = Contributors { all: [split.clone()].into(), rules: vec![Some(split)] };
        let grpc = Key { dialect: Dialect::Grpc, ..Key::new(Kind::Route, NAME) };
        contributions.set(&grpc, [(None, shared)]);
        let forces = forces(&contributions, sessions, |_, _| Some(Version::new("2")));
        let standings = [(route.clone(), standing.clone())].into();
        let mut previous = Default::default();
        json::document(&standings, &forces, &mut previous, "now")[0]["message"].clone()
    };
    assert_eq!(told(&sessions), "");
    sessions.push(SessionStatus { dialect: Dialect::Grpc, ..session("shop/b", "2", "2", None) });
    let expected = "1 of 2 are gRPC without a proxy, which does not do spec.rules[0]: mirrors";
    assert_eq!(told(&sessions), expected);
}

#[test]
fn conditions_are_as_gateway_api_has_them() {
    let route = object(ObjectKind::HttpRoute, "split");
    let verdict = |holds, reason| Verdict { holds, reason, message: String::new() };
    let parent = Parent {
        group: "",
        kind: "Service",
        name: Name::new("shop", "reviews"),
        port: Some(9080),
        section: None,
        accepted: verdict(true, "Accepted"),
        resolved: Some(verdict(false, "BackendNotFound")),
    };
    let mut standings: BTreeMap<_, _> =
        [(route.clone(), Standing { parents: vec![parent], beyond_grpc: vec![], invalid: None })]
            .into();
    let mut forces: BTreeMap<_, _> =
        [(route.clone(), Force { on: 1, of: 2, ..Force::default() })].into();
    let mut previous = json::Previous::default();
    let mut told = |standings: &_, forces: &_, now: &str| {
        json::document(standings, forces, &mut previous, now).remove(0)
    };
    let conditions = |value: &serde_json::Value| -> Vec<String> {
        let list = value["status"]["parents"][0]["conditions"].as_array().unwrap().iter();
        list.map(|c| {
            let text = |key: &str| c[key].as_str().unwrap().to_owned();
            format!(
                "{} {} {} {}",
                text("type"),
                text("status"),
                text("reason"),
                text("lastTransitionTime")
            )
        })
        .collect()
    };
    let first = told(&standings, &forces, "1");
    assert_eq!(first["status"]["parents"][0]["controllerName"], "tulle.dev/mesh");
    assert_eq!(first["status"]["parents"][0]["parentRef"]["port"], 9080);
    assert_eq!(first["accepted"], false);
    assert_eq!(
        conditions(&first),
        [
            "Accepted True Accepted 1",
            "ResolvedRefs False BackendNotFound 1",
            "InForce False Pending 1"
        ]
    );
    // The time is that of the last change of the condition.
    forces.remove(&route);
    standings.get_mut(&route).unwrap().parents[0].resolved = Some(verdict(true, "ResolvedRefs"));
    assert_eq!(
        conditions(&told(&standings, &forces, "2")),
        ["Accepted True Accepted 1", "ResolvedRefs True ResolvedRefs 2", "InForce True NotInUse 2"]
    );
    // What the file says now does not apply.
    standings.get_mut(&route).unwrap().invalid = Some("a.yaml:3: no".to_owned());
    let invalid = told(&standings, &forces, "3");
    assert_eq!(
        (&invalid["reason"], &invalid["message"]),
        (&"Invalid".into(), &"a.yaml:3: no".into())
    );
    assert_eq!(conditions(&invalid)[0], "Accepted False Invalid 3");
}

#[test]
fn a_policy_has_at_most_sixteen_ancestors() {
    let policy = object(ObjectKind::TrafficPolicy, "retry");
    let parent = |at: usize| Parent {
        group: "",
        kind: "Service",
        name: Name::new("shop", format!("s{at}")),
        port: None,
        section: None,
        accepted: Verdict { holds: true, reason: "Accepted", message: String::new() },
        resolved: None,
    };
    let standing =
        Standing { parents: (0..20).map(parent).collect(), beyond_grpc: vec![], invalid: None };
    let told = json::document(
        &[(policy, standing)].into(),
        &BTreeMap::new(),
        &mut json::Previous::default(),
        "",
    );
    assert_eq!(told[0]["status"]["ancestors"].as_array().unwrap().len(), 16);
    assert_eq!(told[0]["status"]["conditions"][1]["reason"], "NotInUse");
}
