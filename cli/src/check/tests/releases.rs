//! What a release can be hindered by, one thing at a time.

use serde_json::{Value, json};
use tulle_control_plane::world::objects::Workload;

use super::{super::all, Snapshot, add, healthy, named, pod, said, with};

/// A healthy cluster with a release of a Deployment of four pods, of which none may be missing.
fn shop() -> Snapshot {
    let mut snapshot = healthy();
    let strategy = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}});
    let deployment = json!({"spec": {
        "replicas": 4, "progressDeadlineSeconds": 900, "strategy": strategy,
        "template": {"metadata": {"labels": {"app": "web"}}},
    }});
    add(&mut snapshot, "Deployment", with(named("web", "shop"), &deployment));
    let service = json!({"spec": {"selector": {"app": "web"}}});
    add(&mut snapshot, "Service", with(named("web", "shop"), &service));
    add(
        &mut snapshot,
        "Release",
        release(&json!({"kind": "Deployment", "name": "web"}), &json!({})),
    );
    snapshot
}

fn release(target: &Value, more: &Value) -> Value {
    let holds = |kind: &str| json!({"type": kind, "status": "True", "reason": kind});
    let release = json!({
        "apiVersion": "tulle.dev/v1alpha1", "kind": "Release",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"target": target},
        "status": {"conditions": [holds("Accepted"), holds("InForce"), holds("ResolvedRefs")]},
    });
    with(release, more)
}

fn change(snapshot: &mut Snapshot, kind: &'static str, more: &Value) {
    super::change(snapshot, kind, more);
}

fn budget(spec: &Value) -> Value {
    let spec = with(json!({"selector": {"matchLabels": {"app": "web"}}}), spec);
    with(named("web", "shop"), &json!({"spec": spec}))
}

/// Flagger's, for this Deployment.
fn flagger(name: &str, namespace: &str, deployment: &str) -> Value {
    let target = json!({"kind": "Deployment", "name": deployment});
    with(named(name, namespace), &json!({"spec": {"targetRef": target}}))
}

fn steps(weights: &[u64]) -> Value {
    let steps: Vec<_> = weights.iter().map(|weight| json!({"weight": weight})).collect();
    json!({"spec": {"steps": steps}})
}

/// A change, what is found then, whether it is a problem, and a part of what is said of it.
type Case = (fn(&mut Snapshot), &'static str, bool, &'static str);

const CASES: [Case; 17] = [
    (
        |s| {
            change(
                s,
                "Release",
                &json!({"status": {"conditions": [{"type": "Accepted", "status": "False", "reason": "Conflicted", "message": "Release shop/old is older, and about the same workload: this one does nothing"}]}}),
            );
        },
        "release-conflict Release shop/web",
        true,
        "kubectl -n shop delete release web",
    ),
    (
        |s| {
            change(
                s,
                "Release",
                &json!({"status": {"conditions": [{"type": "Accepted", "status": "False", "reason": "NoSidecar", "message": "no pod has a sidecar"}]}}),
            );
        },
        "release-bare Release shop/web",
        true,
        "→ kubectl -n shop rollout restart deployment web",
    ),
    (
        |s| {
            change(
                s,
                "Release",
                &json!({"status": {"conditions": [{"type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.steps[1].weight: 1 is less than the 5 before it"}]}}),
            );
        },
        "policy-refused Release shop/web",
        true,
        "is less than the 5 before it",
    ),
    (
        |s| {
            change(
                s,
                "Release",
                &json!({"status": {"conditions": [{"type": "ResolvedRefs", "status": "False", "reason": "ServiceNotFound", "message": "spec.services[0]: there is no Service shop/gone"}]}}),
            );
        },
        "policy-unresolved Release shop/web",
        true,
        "there is no Service shop/gone",
    ),
    (
        |s| change(s, "Release", &json!({"spec": {"target": {"name": "gone"}}})),
        "release-no-target Release shop/web",
        true,
        "there is no Deployment shop/gone",
    ),
    (
        |s| {
            change(
                s,
                "Deployment",
                &json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
            );
        },
        "release-recreate Deployment shop/web",
        true,
        r#""type":"RollingUpdate""#,
    ),
    (
        |s| {
            change(
                s,
                "Deployment",
                &json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": "25%"}}}}),
            );
        },
        "release-capacity Deployment shop/web",
        false,
        "costs 1 of its 4 pods for as long as a release takes\n",
    ),
    // Kubernetes' own defaults.
    (
        |s| change(s, "Deployment", &json!({"spec": {"replicas": 8, "strategy": null}})),
        "release-capacity Deployment shop/web",
        false,
        "costs 2 of its 8 pods",
    ),
    (
        |s| {
            change(
                s,
                "Deployment",
                &json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}),
            );
            add(s, "PodDisruptionBudget", budget(&json!({"maxUnavailable": 1})));
        },
        "release-capacity Deployment shop/web",
        false,
        "by PodDisruptionBudget shop/web none can be evicted then",
    ),
    (
        |s| {
            change(
                s,
                "Deployment",
                &json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}),
            );
            add(s, "PodDisruptionBudget", budget(&json!({"minAvailable": "50%"})));
        },
        "release-capacity Deployment shop/web",
        false,
        "for as long as a release takes\n",
    ),
    (
        |s| change(s, "Release", &steps(&[5, 25, 50])),
        "release-capped Deployment shop/web",
        false,
        "step 3 of Release shop/web wants 50 %, and the 1 new pods beside 4 old ones carry 25 %",
    ),
    (
        |s| change(s, "Deployment", &json!({"spec": {"progressDeadlineSeconds": 500}})),
        "release-deadline Deployment shop/web",
        false,
        r#"{"spec":{"progressDeadlineSeconds":840}}"#,
    ),
    (
        |s| change(s, "Release", &json!({"spec": {"promote": "Approve"}})),
        "release-deadline Deployment shop/web",
        false,
        "waits for somebody before it goes on",
    ),
    (
        |s| {
            add(s, "Canary", flagger("shop", "shop", "web"));
        },
        "release-rival Canary shop/shop",
        true,
        "Flagger scales its Deployment",
    ),
    (
        |s| {
            change(s, "Release", &json!({"spec": {"target": {"name": "web-primary"}}}));
            change(s, "Deployment", &json!({"metadata": {"name": "web-primary"}}));
            add(s, "Canary", flagger("shop", "shop", "web"));
        },
        "release-rival Canary shop/shop",
        true,
        "docs/moving.md",
    ),
    (
        |s| {
            add(
                s,
                "Rollout",
                with(
                    named("web", "shop"),
                    &json!({"spec": {"workloadRef": {"kind": "Deployment", "name": "web"}}}),
                ),
            );
        },
        "release-rival Rollout shop/web",
        true,
        "Argo Rollouts scales its workload",
    ),
    (
        |s| {
            change(s, "Release", &json!({"spec": {"services": ["web"]}}));
            add(
                s,
                "Rollout",
                with(
                    named("x", "shop"),
                    &json!({"spec": {"strategy": {"blueGreen": {"activeService": "web"}}}}),
                ),
            );
        },
        "release-rival Rollout shop/x",
        true,
        "two would move the same requests",
    ),
];

#[test]
fn what_hinders_a_release_is_named_with_what_to_do() {
    assert_eq!(said(&all(&shop())), [""; 0], "{}", all(&shop()).text(false));
    for (hinder, expected, problem, part) in CASES {
        let mut snapshot = shop();
        hinder(&mut snapshot);
        let report = all(&snapshot);
        let text = report.text(false);
        assert_eq!(said(&report), [expected], "{text}");
        assert_eq!(report.healthy(), !problem, "{text}");
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn too_few_requests_are_named_before_it_begins() {
    let with_rate = |rate: f64, more: &Value| {
        let mut snapshot = shop();
        change(&mut snapshot, "Release", more);
        let web = |kind: &str, name: &str| Workload {
            namespace: "shop".into(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        snapshot.rates = [(web("Deployment", "web"), rate), (web("Deployment", "api"), 1e6)].into();
        let report = all(&snapshot);
        (said(&report), report.text(false))
    };
    let (found, text) = with_rate(5.0, &json!({}));
    assert_eq!(found, ["release-traffic Release shop/web"]);
    for said in [
        "5.0 requests a second came in the last ten minutes: by these step 1 (1 %) has its 200 requests after 67m; after 6m the release is paused",
        "a weight of 12 or more, or fewer `gates.minRequests`: kubectl -n shop edit release web",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let (_, text) = with_rate(0.1, &json!({"spec": {"lowTraffic": {"then": "Widen"}}}));
    assert!(text.contains("the next step is taken without proof"), "{text}");
    assert!(text.contains("fewer `gates.minRequests`, or more time"), "{text}");
    let (_, text) = with_rate(0.0, &json!({}));
    assert!(text.contains("has its 200 requests never; after 6m"), "{text}");
    for (rate, more) in [
        (60.0, json!({})),
        (5.0, json!({"spec": {"gates": {"minRequests": 10}}})),
        (0.0, json!({"spec": {"steps": [{"weight": 0}]}})),
    ] {
        assert_eq!(with_rate(rate, &more).0, [""; 0], "{rate} {more}");
    }
}

#[test]
fn what_does_not_hinder_it_is_not_named() {
    let harmless: [fn(&mut Snapshot); 8] = [
        // Of few pods a quarter is none.
        |s| change(s, "Deployment", &json!({"spec": {"replicas": 3, "strategy": null}})),
        |s| change(s, "Deployment", &json!({"spec": {"replicas": 0, "strategy": null}})),
        |s| {
            change(
                s,
                "Deployment",
                &json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": "100%"}}}}),
            );
            change(s, "Release", &steps(&[100]));
        },
        |s| change(s, "Deployment", &json!({"spec": {"progressDeadlineSeconds": 2_147_483_647}})),
        // Whoever may evict none without a release may not with it.
        |s| add(s, "PodDisruptionBudget", budget(&json!({"maxUnavailable": 0}))),
        // Theirs are about others.
        |s| {
            add(s, "Canary", flagger("x", "shop", "api"));
            add(
                s,
                "Rollout",
                with(
                    named("web", "shop"),
                    &json!({"spec": {"strategy": {"canary": {"stableService": "api"}}}}),
                ),
            );
            add(s, "Canary", flagger("web", "other", "web"));
        },
        // A route that divides between Services: the release divides what comes to each of them.
        |s| {
            let route = json!({
                "spec": {"parentRefs": [{"kind": "Service", "name": "web"}], "rules": [
                    {"backendRefs": [{"name": "web", "weight": 9}, {"name": "api", "weight": 1}]},
                ]},
                "status": {"parents": [{"controllerName": "tulle.dev/mesh", "conditions": [{"type": "Accepted", "status": "True"}]}]},
            });
            add(s, "HTTPRoute", with(named("split", "shop"), &route));
        },
        // It is between two steps.
        |s| {
            change(
                s,
                "Release",
                &json!({"status": {"conditions": [{"type": "InForce", "status": "False", "reason": "Pending"}]}}),
            );
        },
    ];
    for (at, change) in harmless.into_iter().enumerate() {
        let mut snapshot = shop();
        change(&mut snapshot);
        assert_eq!(said(&all(&snapshot)), [""; 0], "{at}: {}", all(&snapshot).text(false));
    }
}

#[test]
fn pods_without_a_sidecar_are_one_finding() {
    let mut snapshot = shop();
    let owner = json!({"metadata": {"labels": {"pod-template-hash": "1"}, "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1"}]}});
    let bare = json!({"metadata": {"annotations": null}, "spec": {"initContainers": null}});
    add(&mut snapshot, "pods", with(pod("web-1-x", &bare), &owner));
    let refused =
        json!([{"type": "Accepted", "status": "False", "reason": "NoSidecar", "message": "none"}]);
    change(&mut snapshot, "Release", &json!({"status": {"conditions": refused}}));
    assert_eq!(said(&all(&snapshot)), ["no-sidecar Deployment shop/web"]);
}

#[test]
fn of_two_workloads_a_service_of_one_has_nothing_to_divide() {
    let mut snapshot = healthy();
    let workload = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    let target =
        json!({"stable": workload("StatefulSet", "v1"), "canary": workload("StatefulSet", "v2")});
    add(&mut snapshot, "Release", release(&target, &json!({})));
    for version in ["v1", "v2"] {
        let more = json!({"metadata": {
            "labels": {"app": "web", "version": version},
            "ownerReferences": [{"kind": "StatefulSet", "name": version}],
        }});
        let own = pod(&format!("{version}-0"), &more);
        let sidecar = snapshot.sidecars["shop/server"].clone();
        snapshot.sidecars.insert(format!("shop/{version}-0"), sidecar);
        add(&mut snapshot, "pods", own);
        let selector = json!({"spec": {"selector": {"app": "web", "version": version}}});
        add(&mut snapshot, "Service", with(named(version, "shop"), &selector));
    }
    let both = json!({"spec": {"selector": {"app": "web"}}});
    add(&mut snapshot, "Service", with(named("web", "shop"), &both));
    assert_eq!(said(&all(&snapshot)), [""; 0]);
    let route = json!({
        "spec": {"parentRefs": [{"kind": "Service", "name": "web"}], "rules": [
            {"backendRefs": [{"name": "v1", "weight": 9}, {"name": "v2", "weight": 1}]},
        ]},
        "status": {"parents": [{"controllerName": "tulle.dev/mesh", "conditions": [{"type": "Accepted", "status": "True"}]}]},
    });
    let mut routed = snapshot.clone();
    add(&mut routed, "HTTPRoute", with(named("split", "shop"), &route));
    let expected = ["release-undivided Service shop/v1", "release-undivided Service shop/v2"];
    assert_eq!(said(&all(&routed)), expected, "{}", all(&routed).text(false));
    change(&mut snapshot, "Release", &json!({"spec": {"services": ["web", "v2"]}}));
    assert_eq!(said(&all(&snapshot)), ["release-undivided Service shop/v2"]);
}
