use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::world::objects::{Kind as ObjectKind, ObjectRef};

fn object(kind: ObjectKind, name: &str) -> ObjectRef {
    ObjectRef { kind, name: Name::new("shop", name) }
}

fn told_of(force: Force) -> Told {
    Told { force, edition: None }
}

#[test]
fn what_grpc_without_a_proxy_does_not_do_is_told_where_it_is_used() {
    let route = object(ObjectKind::HttpRoute, "split");
    let standing = Standing {
        parents: Vec::new(),
        beyond_grpc: vec!["spec.rules[0]: mirrors".to_owned()],
        ..Standing::default()
    };
    let told = |grpc| {
        let standings = [(route.clone(), Arc::new(standing.clone()))].into();
        let forces =
            [(route.clone(), told_of(Force { on: 2, of: 2, grpc, ..Force::default() }))].into();
        let document = json::Documents::default().of(&standings, &forces, "now").remove(0);
        document["message"].clone()
    };
    assert_eq!(told(0), "");
    let expected = "1 of 2 are gRPC without a proxy, which does not do spec.rules[0]: mirrors";
    assert_eq!(told(1), expected);
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
    let standing = Standing { parents: vec![parent], ..Standing::default() };
    let mut standings = BTreeMap::from([(route.clone(), Arc::new(standing.clone()))]);
    let mut forces: BTreeMap<_, _> =
        [(route.clone(), told_of(Force { on: 1, of: 2, ..Force::default() }))].into();
    let mut documents = json::Documents::default();
    let mut told =
        |standings: &_, forces: &_, now: &str| documents.of(standings, forces, now).remove(0);
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
    let mut resolved = standing;
    resolved.parents[0].resolved = Some(verdict(true, "ResolvedRefs"));
    standings.insert(route.clone(), Arc::new(resolved.clone()));
    assert_eq!(
        conditions(&told(&standings, &forces, "2")),
        ["Accepted True Accepted 1", "ResolvedRefs True ResolvedRefs 2", "InForce True NotInUse 2"]
    );
    // What the file says now does not apply.
    resolved.invalid = Some("a.yaml:3: no".to_owned());
    standings.insert(route, Arc::new(resolved));
    let invalid = told(&standings, &forces, "3");
    assert_eq!(
        (&invalid["reason"], &invalid["message"]),
        (&"Invalid".into(), &"a.yaml:3: no".into())
    );
    let expected =
        ["Accepted False Invalid 3", "ResolvedRefs True ResolvedRefs 2", "InForce False Invalid 3"];
    assert_eq!(conditions(&invalid), expected);
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
    let standing = Standing { parents: (0..20).map(parent).collect(), ..Standing::default() };
    let standings = [(policy, Arc::new(standing))].into();
    let told = json::Documents::default().of(&standings, &BTreeMap::new(), "");
    assert_eq!(told[0]["status"]["ancestors"].as_array().unwrap().len(), 16);
    assert_eq!(told[0]["status"]["conditions"][1]["reason"], "NotInUse");
}

#[test]
fn proxies_that_are_too_old_are_told_by_field() {
    let config = ObjectRef { kind: ObjectKind::MeshConfig, name: Name::new("", "default") };
    let standings = [(config.clone(), Arc::new(Standing::default()))].into();
    let told = |too_old: &[(&str, usize)]| {
        let too_old = too_old.iter().map(|(field, proxies)| ((*field).to_owned(), *proxies));
        let force = Force { on: 5, of: 5, too_old: too_old.collect(), ..Force::default() };
        let forces = [(config.clone(), told_of(force))].into();
        let document = json::Documents::default().of(&standings, &forces, "now").remove(0);
        let condition = &document["status"]["conditions"][1];
        let text = |key: &str| condition[key].as_str().unwrap().to_owned();
        (text("status"), text("reason"), document["message"].as_str().unwrap().to_owned())
    };
    assert_eq!(told(&[]), ("True".to_owned(), "InForce".to_owned(), String::new()));
    let expected =
        "3 proxies too old for spec.proxy.maxHeaders; 1 proxy too old for spec.proxy.maxStreams";
    assert_eq!(
        told(&[("spec.proxy.maxHeaders", 3), ("spec.proxy.maxStreams", 1)]),
        ("False".to_owned(), "ProxiesTooOld".to_owned(), expected.to_owned())
    );
}

#[test]
fn ports_past_the_sidecar_are_told() {
    let strict = object(ObjectKind::MeshTls, "strict");
    let pods =
        |count| (0..count).map(|at| (Name::new("shop", format!("web-{at}")), vec![22, 9090]));
    let told = |count| {
        let standing = Standing { bypassed: pods(count).collect(), ..Standing::default() };
        let standings = [(strict.clone(), Arc::new(standing))].into();
        let forces = [(strict.clone(), told_of(Force { on: 9, of: 9, ..Force::default() }))].into();
        json::Documents::default().of(&standings, &forces, "now").remove(0)["message"].clone()
    };
    assert_eq!(told(0), "");
    let have = "ports that lead past the sidecar, where it does not hold: shop/web-0 (22 9090)";
    assert_eq!(told(1), format!("1 pod that it is about has {have}"));
    let all = format!("{have}, shop/web-1 (22 9090), shop/web-2 (22 9090), shop/web-3 (22 9090)");
    let expected = format!("6 pods that it is about have {all}, shop/web-4 (22 9090), …");
    assert_eq!(told(6), expected);
}

#[test]
fn what_a_replica_has_not_said_is_pending() {
    let config = ObjectRef { kind: ObjectKind::MeshConfig, name: Name::new("", "default") };
    let told = |on, of, unheard: &[&str]| {
        let unheard = unheard.iter().map(|replica| (*replica).to_owned()).collect();
        let force = Force { on, of, waiting: of - on, unheard, ..Force::default() };
        let standings = [(config.clone(), Arc::new(Standing::default()))].into();
        let tellings = [(config.clone(), told_of(force))].into();
        let document = json::Documents::default().of(&standings, &tellings, "now").remove(0);
        let condition = &document["status"]["conditions"][1];
        ["status", "reason", "message"].map(|key| condition[key].as_str().unwrap().to_owned())
    };
    let nobody = "no proxy uses it";
    assert_eq!(told(0, 0, &[]), ["True", "NotInUse", nobody]);
    for (on, of) in [(0, 0), (6, 6), (5, 6)] {
        let [status, reason, message] = told(on, of, &["m/b", "m/c"]);
        assert_eq!([&*status, &*reason], ["False", "Pending"]);
        let expected = format!(
            "in force on {on} of {of} proxies; not told yet what proxies have of it: replica m/b, m/c"
        );
        assert_eq!(message, expected);
    }
}

#[test]
fn what_is_on_its_way_is_not_in_force_yet() {
    let config = ObjectRef { kind: ObjectKind::MeshConfig, name: Name::new("", "default") };
    let mut documents = json::Documents::default();
    let edition = |generation| Some(Edition { uid: "u".to_owned(), generation, turn: 0 });
    let mut generations = |generation, of| -> Vec<i64> {
        let standing = Standing { edition: edition(generation), ..Standing::default() };
        let standings = [(config.clone(), Arc::new(standing))].into();
        let told = Told { edition: edition(of), ..Told::default() };
        let told = documents.of(&standings, &[(config.clone(), told)].into(), "now").remove(0);
        let conditions = told["status"]["conditions"].as_array().unwrap().iter();
        conditions.map(|condition| condition["observedGeneration"].as_i64().unwrap()).collect()
    };
    assert_eq!(generations(1, 1), [1, 1]);
    assert_eq!(generations(2, 1), [2, 1]);
    assert_eq!(generations(2, 2), [2, 2]);
}
