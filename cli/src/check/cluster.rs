//! The cluster itself: its version, its clocks, and whether another mesh is in it.

use serde_json::Value;
use tulle_control_plane::inject::LABEL;

use super::{
    gather::title,
    report::Report,
    snapshot::{Snapshot, annotation, label, list, name, seconds, text},
};
use crate::install::{OLDEST, too_old};

/// Clocks that differ by more make certificates look as if they were not valid yet.
const SKEW: i64 = 60;

/// Its name, what its webhook is called by, and how a namespace asks for it: which label or annotation, and its values.
type Mesh = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Other meshes.
const MESHES: [Mesh; 4] = [
    ("Istio", "istio", "istio-injection", &["enabled"]),
    ("Linkerd", "linkerd", "linkerd.io/inject", &["enabled", "ingress"]),
    ("Kuma", "kuma", "kuma.io/sidecar-injection", &["enabled", "true"]),
    ("Consul", "consul", "consul.hashicorp.com/connect-inject", &["true"]),
];

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let nodes = match snapshot.all("nodes").len() {
        1 => "1 node".to_owned(),
        several => format!("{several} nodes"),
    };
    report.area("cluster", format!("Kubernetes {}, {nodes}", snapshot.version));
    let mut refused: Vec<_> = snapshot.refused.iter().collect();
    refused.sort();
    for (what, why) in refused {
        report.unchecked(*what, why.as_str());
    }
    if too_old(&snapshot.version) {
        let problem = format!("it is older than 1.{OLDEST}: its API server refuses our kinds");
        let object = format!("Kubernetes {}", snapshot.version);
        report.problem("kubernetes-version", object, problem, "upgrade the cluster");
    }
    nodes_can_run_it(snapshot, report);
    clocks(snapshot, report);
    other_meshes(snapshot, report);
}

fn nodes_can_run_it(snapshot: &Snapshot, report: &mut Report) {
    let nodes = snapshot.all("nodes");
    let fits = |node: &Value| {
        text(node, "/status/nodeInfo/operatingSystem") == "linux"
            && ["amd64", "arm64"].contains(&text(node, "/status/nodeInfo/architecture"))
    };
    if !nodes.is_empty() && !nodes.iter().any(fits) {
        let problem = "no node has Linux on amd64 or arm64";
        report.problem("no-node", "the nodes", problem, "add a node of Linux on amd64");
    }
}

/// A node writes the time into its Lease, and the API server when that was written.
fn clocks(snapshot: &Snapshot, report: &mut Report) {
    for lease in snapshot.all("node-leases") {
        let node = name(lease);
        let is_node = snapshot.all("nodes").iter().any(|other| name(other) == node);
        let renewed = seconds(text(lease, "/spec/renewTime"));
        let managers = list(lease, "/metadata/managedFields").iter();
        let written = managers.filter_map(|manager| seconds(text(manager, "/time"))).max();
        let (Some(renewed), Some(written)) = (renewed, written) else { continue };
        let ahead = renewed - written;
        if is_node && ahead.abs() > SKEW {
            let which = if ahead > 0 { "ahead of" } else { "behind" };
            let problem = format!(
                "its clock is {} s {which} the API server's: certificates look expired, or not valid yet",
                ahead.abs()
            );
            let remedy = "set its clock, and keep it: chronyc makestep, on the node";
            report.problem("clock", format!("Node {node}"), problem, remedy);
        }
    }
}

fn other_meshes(snapshot: &Snapshot, report: &mut Report) {
    for webhook in snapshot.all("webhooks") {
        let known = MESHES.iter().find(|(_, sign, ..)| is_of(webhook, sign));
        let Some((mesh, ..)) = known else { continue };
        report.note(
            "other-mesh",
            title("MutatingWebhookConfiguration", webhook),
            format!("{mesh} is in this cluster too; a pod gets the sidecar of one mesh alone"),
            format!("ask for one mesh in each namespace: kubectl get namespaces -L {LABEL}"),
        );
    }
    for namespace in snapshot.enabled() {
        for (mesh, _, key, values) in MESHES {
            let asks = [label(namespace, key), annotation(namespace, key)];
            if asks.into_iter().flatten().any(|value| values.contains(&value)) {
                report.problem(
                    "two-meshes",
                    title("Namespace", namespace),
                    format!("it asks for the sidecars of {mesh} ({key}) and of Tulle"),
                    format!("decide for one: kubectl label namespace {0} {key}-; or: kubectl label namespace {0} {LABEL}-", name(namespace)),
                );
            }
        }
    }
}

/// Whether a configuration calls a mesh's injector.
fn is_of(configuration: &Value, mesh: &str) -> bool {
    list(configuration, "/webhooks").iter().any(|webhook| {
        let service = ["/clientConfig/service/name", "/clientConfig/service/namespace", "/name"];
        let named = service.iter().any(|pointer| text(webhook, pointer).contains(mesh));
        named
            && list(webhook, "/rules")
                .iter()
                .any(|rule| list(rule, "/resources").iter().any(|resource| resource == "pods"))
    })
}
