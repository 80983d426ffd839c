//! Asks what no object says: rights, ports, sidecars, and what becomes of a new pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::sleep;
use tulle_control_plane::{
    inject::{INJECTED, LABEL, PROXY},
    telemetry::view::{View, WorkloadView},
    world::objects::Workload,
};

use super::{
    gather::AT_ONCE,
    snapshot::{Admission, Port, Right, Sidecar, Snapshot, list, name, place, text},
};
use crate::{
    cluster::{
        Reach,
        ask::{Answer, PATIENCE, ask, message, through},
        tunnel::Tunnel,
    },
    install::{self, NAME},
    observe::{self, Source},
};

/// Seconds of which rates are, and of how many it must be known.
const LATELY: u32 = 600;
const KNOWN: f64 = 300.0;
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

/// Which rights of its roles the control plane lacks.
pub(super) async fn rights(client: &Client, namespace: &str) -> Vec<Right> {
    let user = format!("system:serviceaccount:{namespace}:{NAME}");
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated"
    ]);
    let reviews = install::roles().into_iter().flat_map(|(role, rules)| {
        let within = if role == "Role" { namespace } else { "" };
        expand(&rules).into_iter().map(move |attributes| (role, within, attributes))
    });
    let questions = reviews.map(|(role, within, mut attributes)| {
        attributes["namespace"] = json!(within);
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
        });
        (right(role, &attributes), "subjectaccessreviews", review)
    });
    denied(client, questions.collect()).await
}

/// Which rights whoever installs lacks: to create each object of an installation.
pub(super) async fn own_rights(client: &Client, namespace: &str) -> Vec<Right> {
    let kinds = [
        ("apiextensions.k8s.io", "customresourcedefinitions", ""),
        ("rbac.authorization.k8s.io", "clusterroles", ""),
        ("rbac.authorization.k8s.io", "clusterrolebindings", ""),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", ""),
        ("", "namespaces", ""),
        ("", "serviceaccounts", namespace),
        ("", "configmaps", namespace),
        ("", "services", namespace),
        ("apps", "deployments", namespace),
        ("policy", "poddisruptionbudgets", namespace),
        ("rbac.authorization.k8s.io", "roles", namespace),
        ("rbac.authorization.k8s.io", "rolebindings", namespace),
    ];
    let questions = kinds.into_iter().flat_map(|(group, resource, within)| {
        ["create", "patch"].map(|verb| {
            let attributes =
                json!({"verb": verb, "group": group, "resource": resource, "namespace": within});
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            });
            (right("", &attributes), "selfsubjectaccessreviews", review)
        })
    });
    denied(client, questions.collect()).await
}

/// Each single right that rules give, as attributes of a review.
pub(super) fn expand(rules: &Value) -> Vec<Value> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let all = rule[field].as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut found = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let mut names = texts(rule, "resourceNames");
        if names.is_empty() {
            names.push(String::new());
        }
        let groups = texts(rule, "apiGroups");
        for resource in texts(rule, "resources").iter().flat_map(|resource| concrete(resource)) {
            let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            for (group, verb, name) in groups.iter().flat_map(|group| {
                let verbs = texts(rule, "verbs").into_iter();
                let names = &names;
                verbs
                    .flat_map(move |verb| names.iter().map(move |name| (group, verb.clone(), name)))
            }) {
                found.push(json!({
                    "verb": verb, "group": group, "resource": resource,
                    "subresource": subresource, "name": name,
                }));
            }
        }
    }
    found
}

/// `*` stands for our kinds; only of them do rules say so.
fn concrete(resource: &str) -> Vec<String> {
    match resource.strip_prefix('*') {
        None => vec![resource.to_owned()],
        Some(rest) => {
            let ours = install::kinds().into_iter();
            ours.map(|kind| format!("{}{rest}", text(&kind, "/spec/names/plural"))).collect()
        }
    }
}

fn right(role: &'static str, attributes: &Value) -> Right {
    let part = |field: &str, before: &str| match attributes[field].as_str() {
        None | Some("") => String::new(),
        Some(text) => format!("{before}{text}"),
    };
    let resource = part("resource", "") + &part("group", ".") + &part("subresource", "/");
    let resource = resource + &part("name", " ");
    Right { role, verb: part("verb", ""), resource }
}

async fn denied(client: &Client, questions: Vec<(Right, &str, Value)>) -> Vec<Right> {
    let each = stream::iter(questions).map(|(right, kind, review)| async move {
        let path = format!("{REVIEWS}/{kind}");
        let answer = ask(client, Method::POST, &path, Some(&review), PATIENCE).await;
        let answer: Value = serde_json::from_str(&answer.ok()?.1).ok()?;
        // Whoever may not ask learns nothing, and nothing is held against the control plane.
        (answer.pointer("/status/allowed")? == false).then_some(right)
    });
    Box::pin(each.buffered(AT_ONCE)).filter_map(std::future::ready).collect().await
}

/// What each running replica's ports answer. TLS is not spoken: that something is there is enough.
pub(super) async fn ports(client: &Client, snapshot: &Snapshot) -> Vec<Port> {
    let running = snapshot.control_plane().filter(|pod| text(pod, "/status/phase") == "Running");
    let questions = running.flat_map(|pod| {
        [(15014, "", "/ready"), (15010, "https:", "/"), (15017, "https:", "/")]
            .map(|(port, scheme, path)| (name(pod).to_owned(), port, scheme, path))
    });
    let questions: Vec<_> = questions.collect();
    let namespace = &snapshot.namespace;
    let each = stream::iter(questions).map(|(pod, port, scheme, path)| async move {
        let said = through(client, (namespace, &pod), &format!("{scheme}{{}}:{port}"), path).await;
        Port { pod, port, said }
    });
    Box::pin(each.buffered(AT_ONCE)).collect().await
}

/// Creates a pod by dry run in each namespace whose pods get sidecars; where there is none, one in `default` that
/// asks for it by its own label.
pub(super) async fn admissions(
    client: &Client,
    snapshot: &Snapshot,
) -> BTreeMap<String, Admission> {
    let mut namespaces: Vec<String> = snapshot.enabled().map(|n| name(n).to_owned()).collect();
    if namespaces.is_empty() {
        namespaces.push("default".to_owned());
    }
    let each = stream::iter(namespaces).map(|namespace| async move {
        let admission = match create(client, &namespace, "enabled").await {
            Some((201, pod)) => {
                let pod: Value = serde_json::from_str(&pod).unwrap_or_default();
                match super::snapshot::annotation(&pod, INJECTED) {
                    Some(_) => Admission::Injected,
                    None => Admission::Bare,
                }
            }
            Some((403, why)) if message(&why).contains("cannot create resource") => {
                Admission::Untried("you may not create pods there, not even by dry run".to_owned())
            }
            Some((_, why)) => {
                let without = create(client, &namespace, "disabled").await;
                let also_without = !matches!(without, Some((201, _)));
                Admission::Refused { why: message(&why), also_without }
            }
            None => Admission::Untried("the API server did not answer in time".to_owned()),
        };
        (namespace, admission)
    });
    Box::pin(each.buffered(AT_ONCE)).collect().await
}

/// As small and as modest a pod as there can be, so that only what a sidecar adds is in question.
async fn create(client: &Client, namespace: &str, inject: &str) -> Option<(u16, String)> {
    let modest = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let few = json!({"cpu": "1m", "memory": "16Mi"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "tulle-check-", "labels": {LABEL: inject}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "check", "image": "registry.k8s.io/pause:3.10", "securityContext": modest,
                "resources": {"requests": few, "limits": few},
            }],
        },
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    // The API server waits for webhooks, five seconds for ours.
    ask(client, Method::POST, &path, Some(&pod), PATIENCE * 3).await.ok()
}

/// Requests a second to each workload where there are releases, as the control plane knows them.
pub(super) async fn rates(
    reach: &Reach,
    snapshot: &Snapshot,
) -> Result<BTreeMap<Workload, f64>, observe::Error> {
    let releases = snapshot.all("Release").iter();
    let namespaces: BTreeSet<_> = releases.map(|one| text(one, "/metadata/namespace")).collect();
    let mut rates = BTreeMap::new();
    if namespaces.is_empty() {
        return Ok(rates);
    }
    let tunnel = Tunnel::find(reach, &snapshot.namespace).await?;
    let source = Source::Cluster(Box::new(tunnel));
    for namespace in namespaces {
        let path = format!("/telemetry/stat?window={LATELY}&namespace={namespace}");
        let view: View<WorkloadView> = serde_json::from_str(&source.get(&path).await?)?;
        // Right after its start it knows little.
        let known = view.items.into_iter().filter(|one| one.known && view.window >= KNOWN);
        rates.extend(known.map(|WorkloadView { namespace, kind, name, signals, .. }| {
            (Workload { namespace: namespace.into(), kind, name }, signals.rps)
        }));
    }
    Ok(rates)
}

/// What each sidecar that runs says of itself.
pub(super) async fn sidecars(client: &Client, snapshot: &Snapshot) -> BTreeMap<String, Sidecar> {
    let running = snapshot.injected().filter(|pod| {
        text(pod, "/status/phase") == "Running"
            && list(pod, "/spec/initContainers").iter().any(|c| c["name"] == PROXY)
    });
    let pods: Vec<_> = running
        .map(|pod| (text(pod, "/metadata/namespace").to_owned(), name(pod).to_owned(), place(pod)))
        .collect();
    let each = stream::iter(pods).map(|(namespace, name, place)| async move {
        let mut sidecar = sidecar(client, (&namespace, &name)).await;
        // A stream that has just been moved to another replica is none that is missing.
        for _again in 0..3 {
            if sidecar.connected != Some(false) {
                break;
            }
            sleep(Duration::from_secs(1)).await;
            sidecar = self::sidecar(client, (&namespace, &name)).await;
        }
        (place, sidecar)
    });
    Box::pin(each.buffer_unordered(AT_ONCE)).collect().await
}

/// What one says.
pub(crate) async fn sidecar(client: &Client, pod: (&str, &str)) -> Sidecar {
    let Answer::Said(200, metrics) = through(client, pod, "{}:15021", "/metrics").await else {
        return Sidecar::default();
    };
    let pending = match through(client, pod, "{}:15021", "/ready").await {
        Answer::Said(503, said) => Some(said.trim().to_owned()),
        _ => None,
    };
    read(&metrics, pending)
}

/// What matters of a sidecar's metrics.
pub(super) fn read(metrics: &str, pending: Option<String>) -> Sidecar {
    let number = |metric: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<i64>().ok())
    };
    Sidecar {
        connected: number("tulle_control_plane_connected").map(|connected| connected != 0),
        not_after: number("tulle_cert_not_after_seconds").filter(|end| *end != 0),
        pending,
    }
}
