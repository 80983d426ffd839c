//! Reads a cluster.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, stream};
use http::Method;
use kube::Client;
use serde_json::Value;

use super::{
    Error, probe,
    snapshot::{Snapshot, name, text},
};
use crate::{
    cluster::{
        Reach,
        ask::{ask, message},
    },
    install::NAME,
    observe,
};

/// Longest wait for an answer of the API server.
const PATIENCE: Duration = Duration::from_secs(20);
/// Questions at once.
pub(super) const AT_ONCE: usize = 16;

/// What is read of the whole cluster.
const LISTS: [(&str, &str); 20] = [
    ("namespaces", "/api/v1/namespaces"),
    ("nodes", "/api/v1/nodes"),
    ("pods", "/api/v1/pods"),
    ("kinds", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ("webhooks", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("node-leases", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
    ("roots", "/api/v1/configmaps?fieldSelector=metadata.name%3Dtulle-roots"),
    ("HTTPRoute", "/apis/gateway.networking.k8s.io/v1/httproutes"),
    ("GRPCRoute", "/apis/gateway.networking.k8s.io/v1/grpcroutes"),
    ("TCPRoute", "/apis/gateway.networking.k8s.io/v1/tcproutes"),
    ("TLSRoute", "/apis/gateway.networking.k8s.io/v1/tlsroutes"),
    ("TrafficPolicy", "/apis/tulle.dev/v1alpha1/trafficpolicies"),
    ("MeshTLS", "/apis/tulle.dev/v1alpha1/meshtls"),
    ("AccessPolicy", "/apis/tulle.dev/v1alpha1/accesspolicies"),
    ("Telemetry", "/apis/tulle.dev/v1alpha1/telemetries"),
    ("Release", "/apis/tulle.dev/v1alpha1/releases"),
    ("Lane", "/apis/tulle.dev/v1alpha1/lanes"),
    ("MeshConfig", "/apis/tulle.dev/v1alpha1/meshconfigs"),
    (
        "clusterrolebinding",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/tulle-control-plane",
    ),
];

/// A kind, where its objects are, and the definition without which nobody has any.
type Listed = (&'static str, &'static str, Option<&'static str>);

/// What is read besides where there are releases.
const RELEASED: [Listed; 5] = [
    ("Service", "/api/v1/services", None),
    ("Deployment", "/apis/apps/v1/deployments", None),
    ("PodDisruptionBudget", "/apis/policy/v1/poddisruptionbudgets", None),
    ("Canary", "/apis/flagger.app/v1beta1/canaries", Some("canaries.flagger.app")),
    ("Rollout", "/apis/argoproj.io/v1alpha1/rollouts", Some("rollouts.argoproj.io")),
];

/// What is read of the control plane; `{}` is its namespace.
const OURS: [(&str, &str); 12] = [
    ("deployment", "/apis/apps/v1/namespaces/{}/deployments/tulle-control-plane"),
    ("service", "/api/v1/namespaces/{}/services/tulle-control-plane"),
    (
        "slices",
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dtulle-control-plane",
    ),
    ("secret", "/api/v1/namespaces/{}/secrets/tulle-ca"),
    ("lease", "/apis/coordination.k8s.io/v1/namespaces/{}/leases/tulle-control-plane"),
    ("injection", "/api/v1/namespaces/{}/configmaps/tulle-injection"),
    ("serviceaccount", "/api/v1/namespaces/{}/serviceaccounts/tulle-control-plane"),
    ("clusterrole", "/apis/rbac.authorization.k8s.io/v1/clusterroles/tulle-control-plane"),
    ("role", "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/tulle-control-plane"),
    (
        "rolebinding",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/tulle-control-plane",
    ),
    (
        "injector",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tulle-injector",
    ),
    ("cni", "/apis/apps/v1/namespaces/kube-system/daemonsets/tulle-cni"),
];

/// Everything that the checks go by. `pre`: before an installation there is nobody to ask.
pub(super) async fn snapshot(
    (reach, client): (&Reach, &Client),
    namespace: Option<&str>,
    pre: bool,
) -> Result<Snapshot, Error> {
    let version = get(client, "/version").await.map_err(|said| Error::Silent(said.1))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut snapshot = Snapshot {
        now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        version: text(&version, "/gitVersion").to_owned(),
        ..Snapshot::default()
    };
    read(client, &mut snapshot, LISTS.map(|(what, path)| (what, path.to_owned()))).await;
    let has = |kind: &str| snapshot.all("kinds").iter().any(|one| name(one) == kind);
    let released = RELEASED.into_iter().filter(|(.., kind)| kind.is_none_or(has));
    let released: Vec<_> = released.map(|(what, path, _)| (what, path.to_owned())).collect();
    if !snapshot.all("Release").is_empty() {
        read(client, &mut snapshot, released).await;
    }
    let bound = snapshot.one("clusterrolebinding").map(|b| text(b, "/subjects/0/namespace"));
    let found = bound.filter(|found| !found.is_empty()).unwrap_or("tulle-system");
    snapshot.namespace = namespace.unwrap_or(found).to_owned();
    if pre {
        snapshot.denied = probe::own_rights(client, &snapshot.namespace).await;
        return Ok(snapshot);
    }
    let ours = OURS.map(|(what, path)| (what, path.replace("{}", &snapshot.namespace)));
    read(client, &mut snapshot, ours).await;
    snapshot.denied = probe::rights(client, &snapshot.namespace).await;
    snapshot.ports = probe::ports(client, &snapshot).await;
    snapshot.admissions = probe::admissions(client, &snapshot).await;
    snapshot.sidecars = probe::sidecars(client, &snapshot).await;
    match probe::rates(reach, &snapshot).await {
        Ok(rates) => snapshot.rates = rates,
        // Of a control plane that does not answer others tell.
        Err(observe::Error::Refused(why)) => drop(snapshot.refused.insert("traffic", why)),
        Err(_silent) => {}
    }
    Ok(snapshot)
}

async fn read(
    client: &Client,
    snapshot: &mut Snapshot,
    paths: impl IntoIterator<Item = (&'static str, String)>,
) {
    let each =
        stream::iter(paths).map(|(what, path)| async move { (what, items(client, &path).await) });
    let mut each = Box::pin(each.buffer_unordered(AT_ONCE));
    while let Some((what, read)) = each.next().await {
        match read {
            Ok(found) => drop(snapshot.objects.insert(what, found)),
            Err(reason) => drop(snapshot.refused.insert(what, reason)),
        }
    }
}

/// The items of a list, page by page, or the object; none if there is no such thing.
async fn items(client: &Client, path: &str) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let from = if after.is_empty() { String::new() } else { format!("&continue={after}") };
        let page = match get(client, &format!("{path}{sign}limit=500{from}")).await {
            Ok(page) => page,
            Err((404, _)) => return Ok(found),
            Err((_, reason)) => return Err(reason),
        };
        let Some(list) = page.get("items").and_then(Value::as_array) else {
            return Ok(vec![page]);
        };
        found.extend(list.iter().cloned());
        after = text(&page, "/metadata/continue").to_owned();
        if after.is_empty() {
            return Ok(found);
        }
    }
}

/// An object of the API server, or what it says in its place.
async fn get(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    let (status, body) =
        ask(client, Method::GET, path, None, PATIENCE).await.map_err(|e| (0, e))?;
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    match status {
        200..300 => Ok(said),
        _ => Err((status, message(&body))),
    }
}

/// The control plane's Deployment and its like, for messages.
pub(super) fn ours(kind: &str, snapshot: &Snapshot) -> String {
    format!("{kind} {}/{NAME}", snapshot.namespace)
}

/// `Kind namespace/name`, or without a namespace where there is none.
pub(super) fn title(kind: &str, object: &Value) -> String {
    match text(object, "/metadata/namespace") {
        "" => format!("{kind} {}", name(object)),
        namespace => format!("{kind} {namespace}/{}", name(object)),
    }
}
