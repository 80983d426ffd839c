//! A healthy cluster, and what is said of it when one thing is changed.

mod broken;
mod cni;
mod releases;

use std::sync::LazyLock;

use serde_json::{Value, json};
use tulle_control_plane::{ca::root::Root, inject::Injection, k8s};

use super::{
    snapshot::{Admission, Port, Sidecar, Snapshot},
    *,
};
use crate::{
    cluster::ask::Answer,
    install::{self, INJECTION, NAME, VERSION},
};

const NOW: i64 = 1_800_000_000;

fn encoded(text: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    json!(STANDARD.encode(text))
}

fn named(name: &str, namespace: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace}})
}

fn with(mut object: Value, more: &Value) -> Value {
    install::merge(&mut object, more);
    object
}

fn pod(name: &str, more: &Value) -> Value {
    let pod = json!({
        "metadata": {
            "name": name, "namespace": "shop", "labels": {"app": name},
            "annotations": {"tulle.dev/injected": VERSION},
        },
        "spec": {"initContainers": [{"name": "tulle-proxy"}], "containers": [{"name": "app"}]},
        "status": {"phase": "Running", "initContainerStatuses": [
            {"name": "tulle-proxy", "ready": true, "state": {"running": {"startedAt": "2020-01-01T00:00:00Z"}}},
        ]},
    });
    with(pod, more)
}

/// Everything as it should be.
fn healthy() -> Snapshot {
    static ONCE: LazyLock<Snapshot> = LazyLock::new(make_healthy);
    ONCE.clone()
}

fn make_healthy() -> Snapshot {
    let root = Root::generate("cluster.local").expect("a root");
    let secret = json!({"data": {
        "tls.crt": encoded(&root.certificates), "tls.key": encoded(&root.key), "ca.crt": encoded(&root.roots),
    }});
    let pem = root.roots.clone();
    let root = Root::from_pem(&root, "cluster.local").expect("it is one");
    let injection = Injection::default();
    let webhooks = k8s::webhook_configuration("tulle-system", &root, &injection.webhook);
    let sidecar =
        Sidecar { connected: Some(true), not_after: Some(NOW + 20 * 3600), pending: None };
    let ports = [15014, 15010, 15017].map(|port| Port {
        pod: "cp-1".to_owned(),
        port,
        said: Answer::Said(200, "ready".to_owned()),
    });
    let mut objects = cluster_objects(&pem);
    objects.extend(installed_objects());
    objects.extend([
        ("secret", vec![secret]),
        (
            "injection",
            vec![
                json!({"data": {INJECTION.1: tulle_api::yaml::to_string(&injection).expect("plain data")}}),
            ],
        ),
        ("injector", vec![webhooks]),
    ]);
    Snapshot {
        namespace: "tulle-system".to_owned(),
        now: NOW,
        version: "v1.36.0".to_owned(),
        objects: objects.into_iter().collect(),
        ports: ports.into(),
        admissions: [("shop".to_owned(), Admission::Injected)].into(),
        sidecars: [("shop/server".to_owned(), sidecar)].into(),
        ..Snapshot::default()
    }
}

type Objects = Vec<(&'static str, Vec<Value>)>;

fn lease(name: &str, namespace: &str, holder: &str) -> Value {
    let more = json!({
        "metadata": {"managedFields": [{"time": "2027-01-15T08:00:00Z"}]},
        "spec": {"holderIdentity": holder, "renewTime": "2027-01-15T08:00:00.000000Z"},
    });
    with(named(name, namespace), &more)
}

/// What is the cluster's.
fn cluster_objects(pem: &str) -> Objects {
    let linux = json!({"status": {"nodeInfo": {
        "operatingSystem": "linux", "architecture": "amd64",
    }}});
    let enabled = json!({"metadata": {"labels": {"tulle.dev/inject": "enabled"}}});
    let control_plane = json!({
        "metadata": {"labels": {"app.kubernetes.io/name": NAME}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let roots = json!({"data": {"roots.pem": pem}});
    let namespaces =
        vec![named("tulle-system", ""), with(named("shop", ""), &enabled), named("outside", "")];
    vec![
        ("nodes", vec![with(named("node1", ""), &linux)]),
        ("node-leases", vec![lease("node1", "kube-node-lease", "node1")]),
        ("namespaces", namespaces),
        (
            "pods",
            vec![with(named("cp-1", "tulle-system"), &control_plane), pod("server", &json!({}))],
        ),
        ("roots", vec![with(named("tulle-roots", "shop"), &roots)]),
        ("kinds", install::gateway_kinds().into_iter().chain(install::kinds()).collect()),
    ]
}

/// What an installation brings.
fn installed_objects() -> Objects {
    let binding = json!({"subjects": [{"name": NAME, "namespace": "tulle-system"}]});
    let template = json!({"metadata": {"labels": {"app.kubernetes.io/name": NAME}}});
    let deployment = json!({
        "spec": {"replicas": 1, "template": template}, "status": {"availableReplicas": 1},
    });
    vec![
        ("clusterrolebinding", vec![binding.clone()]),
        ("rolebinding", vec![binding]),
        ("clusterrole", vec![json!({})]),
        ("role", vec![json!({})]),
        ("serviceaccount", vec![json!({})]),
        ("deployment", vec![deployment]),
        ("service", vec![json!({"spec": install::service()})]),
        ("slices", vec![json!({"endpoints": [{"conditions": {"ready": true}}]})]),
        ("lease", vec![lease(NAME, "tulle-system", "cp-1")]),
    ]
}

fn said(report: &Report) -> Vec<String> {
    report.findings().map(|f| format!("{} {}", f.code, f.object)).collect()
}

#[test]
fn of_a_healthy_cluster_there_is_nothing_to_say() {
    let report = all(&healthy());
    assert_eq!(said(&report), [""; 0], "{}", report.text(false));
    assert!(report.healthy());
    assert!(report.text(false).ends_with("\nall is well\n"), "{}", report.text(false));
    assert_eq!(said(&before(&healthy())), [""; 0]);
}

fn change(snapshot: &mut Snapshot, what: &'static str, more: &Value) {
    let object =
        snapshot.objects.get_mut(what).and_then(|all| all.last_mut()).expect("there is one");
    install::merge(object, more);
}

fn add(snapshot: &mut Snapshot, what: &'static str, object: Value) {
    snapshot.objects.entry(what).or_default().push(object);
}

fn remove(snapshot: &mut Snapshot, what: &'static str) {
    snapshot.objects.remove(what);
}

fn refused(why: &str) -> Admission {
    Admission::Refused { why: why.to_owned(), also_without: false }
}

#[test]
fn a_quota_that_counts_what_a_sidecar_does_not_say() {
    let why = "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: \
               tulle-proxy,tulle-redirect; requests.memory for: tulle-proxy";
    let mut snapshot = healthy();
    snapshot.admissions.insert("shop".to_owned(), refused(why));
    let report = all(&snapshot);
    assert_eq!(said(&report), ["sidecar-refused Namespace shop"]);
    let remedy = &report.findings().next().expect("one").remedy;
    let names = "tulle.dev/proxy-cpu-limit, tulle.dev/proxy-memory-request,";
    assert!(remedy.contains(names) && remedy.contains("LimitRange"), "{remedy}");
    // Pods that say it are let in, and the one that was tried does not.
    let pods = snapshot.objects.get_mut("pods").expect("some");
    let server = pods.iter_mut().find(|pod| pod["metadata"]["name"] == "server").expect("it");
    server["metadata"]["annotations"]["tulle.dev/proxy-cpu-limit"] = json!("1");
    assert_eq!(said(&all(&snapshot)), [""; 0]);
}

#[test]
fn the_webhook_is_compared_field_by_field() {
    for (pointer, value, code) in [
        ("/webhooks/0/clientConfig/caBundle", json!("b3RoZXI="), "webhook-ca"),
        ("/webhooks/1/clientConfig/service/port", json!(444), "webhook-wrong"),
        ("/webhooks/0/failurePolicy", json!("Ignore"), "webhook-wrong"),
        ("/webhooks/0/namespaceSelector", json!({}), "webhook-wrong"),
    ] {
        let mut snapshot = healthy();
        let injector = snapshot.objects.get_mut("injector").expect("it");
        *injector[0].pointer_mut(pointer).expect("a field") = value;
        // What follows from it is not said.
        snapshot.admissions.insert("shop".to_owned(), refused("failed calling webhook"));
        let expected = format!("{code} MutatingWebhookConfiguration tulle-injector");
        assert_eq!(said(&all(&snapshot)), [expected]);
    }
}

#[test]
fn a_choice_is_a_note() {
    let mut snapshot = healthy();
    let mut injection = Injection::default();
    injection.webhook.failure_policy = tulle_control_plane::inject::FailurePolicy::Ignore;
    let yaml = tulle_api::yaml::to_string(&injection).expect("plain data");
    change(&mut snapshot, "injection", &json!({"data": {INJECTION.1: yaml}}));
    let Some(Ok(root)) = snapshot.root() else { unreachable!("a root") };
    let webhooks = k8s::webhook_configuration("tulle-system", &root, &injection.webhook);
    snapshot.objects.insert("injector", vec![webhooks]);
    let report = all(&snapshot);
    assert_eq!(said(&report), ["webhook-ignore MutatingWebhookConfiguration tulle-injector"]);
    assert!(report.healthy(), "notes do no harm");
}

#[test]
fn policies_of_the_network_are_read() {
    let policy = |namespace: &str, spec: &Value| {
        with(named("p", namespace), &json!({"spec": with(json!({"podSelector": {}}), spec)}))
    };
    let everyone = json!([{}]);
    for (namespace, spec, found) in [
        ("tulle-system", json!({"policyTypes": ["Ingress"]}), true),
        ("tulle-system", json!({"ingress": everyone}), false),
        ("tulle-system", json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}), true),
        (
            "tulle-system",
            json!({"ingress": [{"ports": [{"port": "grpc"}, {"port": 15017}]}]}),
            false,
        ),
        (
            "tulle-system",
            json!({"ingress": [{"ports": [{"port": 15000, "endPort": 15020}]}]}),
            false,
        ),
        (
            "tulle-system",
            json!({"ingress": [{"ports": [{"port": 15017}]}, {"from": [{"namespaceSelector": {"matchLabels": {"tulle.dev/inject": "enabled"}}}]}]}),
            false,
        ),
        ("tulle-system", json!({"podSelector": {"matchLabels": {"app": "other"}}}), false),
        ("tulle-system", json!({"policyTypes": ["Egress"]}), false),
        ("shop", json!({"policyTypes": ["Ingress"]}), false),
        ("shop", json!({"policyTypes": ["Egress"]}), true),
        (
            "shop",
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}),
            true,
        ),
        (
            "shop",
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}]}]}),
            false,
        ),
        (
            "shop",
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
            false,
        ),
        (
            "shop",
            json!({"policyTypes": ["Egress"], "podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["server"]}]}}),
            false,
        ),
        ("outside", json!({"policyTypes": ["Egress"]}), false),
    ] {
        let mut snapshot = healthy();
        add(&mut snapshot, "networkpolicies", policy(namespace, &spec));
        let expected: &[_] = match found {
            true => &[format!("networkpolicy NetworkPolicy {namespace}/p")],
            false => &[],
        };
        assert_eq!(said(&all(&snapshot)), expected, "{namespace}: {spec}");
    }
}

#[test]
fn without_an_installation_only_that_is_said() {
    let mut snapshot = healthy();
    remove(&mut snapshot, "deployment");
    assert_eq!(
        said(&all(&snapshot))[0],
        "deployment-missing Deployment tulle-system/tulle-control-plane"
    );
    remove(&mut snapshot, "clusterrolebinding");
    assert_eq!(
        said(&all(&snapshot)),
        ["not-installed Deployment tulle-system/tulle-control-plane"]
    );
}

#[test]
fn each_right_of_a_role_is_asked_about() {
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["tulle.dev"], "resources": ["*/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get"]},
    ]);
    let all = probe::expand(&rules);
    assert_eq!(all.len(), 2 + install::kinds().len() + 2);
    assert!(all.contains(&json!({"verb": "patch", "group": "tulle.dev", "resource": "meshtls", "subresource": "status", "name": ""})));
    assert!(all.contains(
        &json!({"verb": "get", "group": "", "resource": "secrets", "subresource": "", "name": "b"})
    ));
}

#[test]
fn metrics_are_understood() {
    let metrics =
        "# HELP x\ntulle_control_plane_connected 1\ntulle_cert_not_after_seconds 1800000000\n";
    let said = probe::read(metrics, None);
    assert_eq!((said.connected, said.not_after), (Some(true), Some(1_800_000_000)));
    assert_eq!(probe::read("tulle_cert_not_after_seconds 0\n", None).not_after, None);
}

#[test]
fn the_json_form_is_stable() {
    let mut snapshot = healthy();
    remove(&mut snapshot, "secret");
    let json = all(&snapshot).json();
    assert_eq!((&json["healthy"], &json["version"]), (&json!(false), &json!(VERSION)));
    let finding = json["findings"][0].as_object().expect("a finding");
    let fields: Vec<_> = finding.keys().map(String::as_str).collect();
    assert_eq!(fields, ["area", "code", "object", "problem", "remedy", "severity"]);
    assert_eq!((&finding["code"], &finding["severity"]), (&json!("ca-missing"), &json!("problem")));
}
