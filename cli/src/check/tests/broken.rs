//! One cause is one finding, over a table of them.

use serde_json::json;

use super::{
    super::{
        all,
        report::Severity,
        snapshot::{Admission, Right, Snapshot},
    },
    NOW, add, change, healthy, named, pod, refused, remove, said, with,
};
use crate::cluster::ask::Answer;

type Change = fn(&mut Snapshot);

/// A change, and the only thing that may be said then.
const BROKEN: [(Change, &str); 35] = [
    (
        |s| {
            change(
                s,
                "pods",
                &json!({"status": {"initContainerStatuses": [{"name": "tulle-proxy", "state": {"terminated": {"finishedAt": "2027-01-15T07:59:00Z"}}}]}}),
            );
        },
        "sidecar-stuck Pod shop/server",
    ),
    (|s| s.version = "v1.30.14".to_owned(), "kubernetes-version Kubernetes v1.30.14"),
    (
        |s| change(s, "nodes", &json!({"status": {"nodeInfo": {"operatingSystem": "windows"}}})),
        "no-node the nodes",
    ),
    (
        |s| change(s, "node-leases", &json!({"spec": {"renewTime": "2027-01-15T08:05:00Z"}})),
        "clock Node node1",
    ),
    (
        |s| change(s, "node-leases", &json!({"spec": {"renewTime": "2027-01-15T08:00:41Z"}})),
        "lease Lease tulle-system/tulle-control-plane",
    ),
    (
        |s| change(s, "lease", &json!({"spec": {"holderIdentity": "cp-0"}})),
        "lease Lease tulle-system/tulle-control-plane",
    ),
    (|s| remove(s, "lease"), "lease Lease tulle-system/tulle-control-plane"),
    (
        |s| {
            add(
                s,
                "webhooks",
                json!({"metadata": {"name": "linkerd-proxy-injector-webhook-config"}, "webhooks": [{"name": "linkerd-proxy-injector.linkerd.io", "rules": [{"resources": ["pods"]}]}]}),
            );
        },
        "other-mesh MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config",
    ),
    (
        |s| drop(s.objects.get_mut("kinds").expect("kinds").remove(0)),
        "kind-missing CustomResourceDefinition grpcroutes.gateway.networking.k8s.io",
    ),
    (
        |s| change(s, "kinds", &json!({"spec": {"versions": null}})),
        "kind-old CustomResourceDefinition trafficpolicies.tulle.dev",
    ),
    (
        |s| {
            s.denied.push(Right {
                role: "ClusterRole",
                verb: "list".to_owned(),
                resource: "pods".to_owned(),
            });
        },
        "right-missing ClusterRole tulle-control-plane",
    ),
    (
        |s| {
            remove(s, "rolebinding");
            s.denied.push(Right {
                role: "Role",
                verb: "get".to_owned(),
                resource: "secrets tulle-ca".to_owned(),
            });
        },
        "binding-missing RoleBinding tulle-system/tulle-control-plane",
    ),
    (
        |s| change(s, "rolebinding", &json!({"subjects": [{"name": "other"}]})),
        "binding-wrong RoleBinding tulle-system/tulle-control-plane",
    ),
    (|s| remove(s, "secret"), "ca-missing Secret tulle-system/tulle-ca"),
    (
        |s| change(s, "secret", &json!({"data": {"tls.key": null}})),
        "ca-broken Secret tulle-system/tulle-ca",
    ),
    (
        |s| {
            s.now += 3650 * 86_400 - 6 * 86_400 - (s.now - now());
            s.sidecars.clear();
        },
        "ca-ending Secret tulle-system/tulle-ca",
    ),
    (
        |s| change(s, "roots", &json!({"data": {"roots.pem": "others"}})),
        "roots-wrong ConfigMap shop/tulle-roots",
    ),
    (|s| remove(s, "roots"), "roots-missing ConfigMap shop/tulle-roots"),
    (
        |s| change(s, "injector", &json!({"webhooks": null})),
        "webhook-empty MutatingWebhookConfiguration tulle-injector",
    ),
    (
        |s| {
            remove(s, "injector");
            s.admissions.insert("shop".to_owned(), Admission::Bare);
        },
        "webhook-missing MutatingWebhookConfiguration tulle-injector",
    ),
    (
        |s| drop(s.admissions.insert("shop".to_owned(), Admission::Bare)),
        "not-injected Namespace shop",
    ),
    (
        |s| {
            drop(
                s.admissions
                    .insert("shop".to_owned(), refused("failed calling webhook \"x\": EOF")),
            );
        },
        "webhook-fails MutatingWebhookConfiguration tulle-injector",
    ),
    (
        |s| {
            drop(
                s.admissions
                    .insert("shop".to_owned(), refused("violates PodSecurity \"baseline\"")),
            );
        },
        "sidecar-refused Namespace shop",
    ),
    (
        |s| change(s, "deployment", &json!({"spec": {"replicas": 0}, "status": null})),
        "no-replicas Deployment tulle-system/tulle-control-plane",
    ),
    (
        |s| change(s, "service", &json!({"spec": {"selector": {"a": "b"}}})),
        "service-wrong Service tulle-system/tulle-control-plane",
    ),
    (
        |s| change(s, "slices", &json!({"endpoints": []})),
        "no-endpoints Service tulle-system/tulle-control-plane",
    ),
    (
        |s| s.ports[2].said = Answer::Unreached("dial tcp: i/o timeout".to_owned()),
        "port-blocked Pod tulle-system/cp-1",
    ),
    (
        |s| {
            add(
                s,
                "pods",
                pod(
                    "late",
                    &json!({"metadata": {"annotations": null}, "spec": {"initContainers": null}}),
                ),
            );
        },
        "no-sidecar Pod shop/late",
    ),
    (
        |s| change(s, "pods", &json!({"metadata": {"annotations": {"tulle.dev/dsn": "true"}}})),
        "unknown-annotation Pod shop/server",
    ),
    (
        |s| {
            change(
                s,
                "pods",
                &json!({"status": {"initContainerStatuses": [{"name": "tulle-proxy", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
            );
        },
        "sidecar-stuck Pod shop/server",
    ),
    (
        |s| {
            change(
                s,
                "pods",
                &json!({"status": {"initContainerStatuses": [{"name": "tulle-proxy", "ready": false, "state": {"running": {"startedAt": "2020-01-01T00:00:00Z"}}}]}}),
            );
        },
        "sidecar-not-ready Pod shop/server",
    ),
    (
        |s| s.sidecars.get_mut("shop/server").expect("it").connected = Some(false),
        "sidecar-disconnected Pod shop/server",
    ),
    (
        |s| s.sidecars.get_mut("shop/server").expect("it").not_after = Some(NOW + 3600),
        "certificate-ending Pod shop/server",
    ),
    (
        |s| {
            add(
                s,
                "MeshTLS",
                with(
                    named("strict", "shop"),
                    &json!({"status": {"conditions": [{"type": "Accepted", "status": "True"}, {"type": "InForce", "status": "False", "reason": "Rejected", "message": "on 1 of 2"}]}}),
                ),
            );
        },
        "policy-not-in-force MeshTLS shop/strict",
    ),
    (|s| drop(s.refused.insert("secret", "forbidden".to_owned())), "unchecked secret"),
];

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[test]
fn one_cause_is_one_finding() {
    for (broken, expected) in BROKEN {
        let mut snapshot = healthy();
        broken(&mut snapshot);
        let report = all(&snapshot);
        assert_eq!(said(&report), [expected], "{}", report.text(false));
        let finding = report.findings().next().expect("there is one");
        assert!(!finding.problem.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
        let problem = finding.severity == Severity::Problem;
        assert_eq!(report.healthy(), !problem, "{finding:?}");
    }
}
