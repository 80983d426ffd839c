//! The control plane: whether it is there, runs, and can be reached.

use serde_json::Value;

use super::{
    gather::ours,
    report::Report,
    rights::upgrade,
    snapshot::{Snapshot, ending, label, list, name, seconds, text},
};
use crate::{
    cluster::ask::Answer,
    install::{self, NAME, VERSION},
};

/// The holder renews the Lease every 2 s, and loses it after 15.
const TERM: i64 = 30;

/// Found already, and reason enough for nobody to be reachable.
pub(super) const DOWN: [&str; 3] = ["deployment-missing", "no-replicas", "control-plane-down"];

/// Whether there is an installation at all. Half of one is one.
pub(super) fn installed(snapshot: &Snapshot, report: &mut Report) -> bool {
    if snapshot.one("deployment").is_some() || !snapshot.known("deployment") {
        return true;
    }
    report.area("control plane", "");
    let object = ours("Deployment", snapshot);
    let bound = snapshot.one("clusterrolebinding").map(|b| text(b, "/subjects/0/namespace"));
    match bound {
        Some(bound) if bound == snapshot.namespace => {
            report.problem(
                "deployment-missing",
                object,
                "it is not there: nothing serves",
                upgrade(snapshot),
            );
            true
        }
        Some(bound) => {
            let problem = format!("Tulle is in namespace {bound}");
            report.problem("not-installed", object, problem, format!("tulle check -n {bound}"));
            false
        }
        None => {
            report.problem(
                "not-installed",
                object,
                "Tulle is not in this cluster",
                "tulle check --pre && tulle install",
            );
            false
        }
    }
}

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let Some(deployment) = snapshot.one("deployment") else { return };
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let available = deployment["status"]["availableReplicas"].as_i64().unwrap_or(0);
    let good = format!(
        "version {VERSION}, {available} of {wanted} replicas serve, in {}",
        snapshot.namespace
    );
    report.area("control plane", good);
    let object = ours("Deployment", snapshot);
    let namespace = &snapshot.namespace;
    if wanted == 0 {
        let problem = "it has no replicas: no pod is injected, no certificate renewed, no change told to sidecars";
        let remedy = format!("kubectl -n {namespace} scale deployment {NAME} --replicas=2");
        report.problem("no-replicas", object, problem, remedy);
    } else {
        replicas(snapshot, deployment, available, report);
    }
    if let Some(version) = label(deployment, "app.kubernetes.io/version")
        && version != VERSION
    {
        report.note(
            "version",
            ours("Deployment", snapshot),
            format!("it is of version {version}, and this tulle of {VERSION}: what is said here may not be right for it"),
            format!("use tulle {version}, or: {}", upgrade(snapshot)),
        );
    }
    service(snapshot, available, report);
    unreached(snapshot, report);
    lease(snapshot, available, report);
}

fn replicas(snapshot: &Snapshot, deployment: &Value, available: i64, report: &mut Report) {
    let namespace = &snapshot.namespace;
    let code = if available == 0 { "control-plane-down" } else { "control-plane-pod" };
    let failure = list(deployment, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True");
    if let Some(failure) = failure {
        let problem = format!("its pods cannot be created: {}", text(failure, "/message"));
        let remedy = format!(
            "make room or allow it, then: kubectl -n {namespace} rollout status deployment {NAME}"
        );
        report.problem(code, ours("Deployment", snapshot), problem, remedy);
        return;
    }
    for pod in snapshot.control_plane().filter(|pod| !ready(pod)) {
        let said = snapshot.ports.iter().find(|port| port.pod == name(pod) && port.port == 15014);
        let typed = serde_json::from_value(pod.clone()).unwrap_or_default();
        let reasons = match said.map(|port| &port.said) {
            Some(Answer::Said(503, pending)) => vec![pending.trim().to_owned()],
            _ => install::reasons(&typed),
        };
        let reasons = match reasons.is_empty() {
            true => "it is not ready yet".to_owned(),
            false => reasons.join("; "),
        };
        let log = format!(
            "kubectl -n {namespace} describe pod {0}; kubectl -n {namespace} logs {0}",
            name(pod)
        );
        report.problem(code, format!("Pod {namespace}/{}", name(pod)), reasons, log);
    }
    if available == 0 && !report.has(&["control-plane-down"]) {
        let remedy =
            format!("kubectl -n {namespace} describe replicaset -l app.kubernetes.io/name={NAME}");
        report.problem(
            "control-plane-down",
            ours("Deployment", snapshot),
            "it has no pod that serves",
            remedy,
        );
    }
}

/// Whether a pod is.
pub(super) fn ready(pod: &Value) -> bool {
    let conditions = list(pod, "/status/conditions").iter();
    conditions.filter(|c| c["type"] == "Ready").any(|c| c["status"] == "True")
}

fn service(snapshot: &Snapshot, available: i64, report: &mut Report) {
    let object = ours("Service", snapshot);
    let Some(service) = snapshot.one("service") else {
        if snapshot.known("service") {
            report.problem(
                "service-missing",
                object,
                "it is not there: nobody finds the control plane",
                upgrade(snapshot),
            );
        }
        return;
    };
    let wanted = install::service();
    if service["spec"]["selector"] != wanted["selector"] {
        let problem = format!(
            "its selector is {}, not {}: it leads to no control plane",
            service["spec"]["selector"], wanted["selector"]
        );
        report.problem("service-wrong", object, problem, upgrade(snapshot));
        return;
    }
    for port in list(&wanted, "/ports") {
        let live = list(service, "/spec/ports").iter().find(|live| live["port"] == port["port"]);
        let target = live.map(|live| &live["targetPort"]);
        if target != Some(&port["targetPort"]) {
            let leads = target
                .map_or_else(|| "is missing".to_owned(), |target| format!("leads to {target}"));
            let problem = format!(
                "its port {} {leads}; it must lead to {}",
                port["port"], port["targetPort"]
            );
            report.problem("service-wrong", object.clone(), problem, upgrade(snapshot));
        }
    }
    let addresses = snapshot.all("slices").iter().flat_map(|slice| list(slice, "/endpoints"));
    let serving = addresses.filter(|endpoint| endpoint["conditions"]["ready"] != false).count();
    if serving == 0 && available > 0 && snapshot.known("slices") && !report.has(&["service-wrong"])
    {
        let problem = "it has no endpoint, though a replica is ready";
        let remedy = "see to kube-controller-manager, which writes EndpointSlices";
        report.problem("no-endpoints", object, problem, remedy);
    }
}

/// Who listens and cannot be reached is behind something that blocks.
fn unreached(snapshot: &Snapshot, report: &mut Report) {
    if report.has(&DOWN) {
        return;
    }
    for port in &snapshot.ports {
        let is_ready = snapshot.control_plane().any(|pod| name(pod) == port.pod && ready(pod));
        let what = match port.port {
            15010 => "certificates and configuration",
            15017 => "the webhook",
            _ => "readiness and metrics",
        };
        let object = format!("Pod {}/{}", snapshot.namespace, port.pod);
        match &port.said {
            Answer::Unreached(why) if is_ready => {
                let problem =
                    format!("the API server cannot reach its port {} ({what}): {why}", port.port);
                let remedy = format!(
                    "let TCP {} through between nodes and pods: look for a firewall",
                    port.port
                );
                report.problem("port-blocked", object, problem, remedy);
            }
            Answer::Forbidden => report.unchecked(
                object,
                format!("you may not ask its port {} (get on pods/proxy)", port.port),
            ),
            Answer::Unreached(_) | Answer::Said(..) => {}
        }
    }
}

/// Nobody's clock is asked but the cluster's: the newest renewal of any node is its now.
fn lease(snapshot: &Snapshot, available: i64, report: &mut Report) {
    if available == 0 || !snapshot.known("lease") {
        return;
    }
    let object = ours("Lease", snapshot);
    let namespace = &snapshot.namespace;
    let remedy = format!("kubectl -n {namespace} rollout restart deployment {NAME}");
    let Some(lease) = snapshot.one("lease") else {
        report.problem("lease", object, "it is not there: nobody writes statuses", remedy);
        return;
    };
    let holder = text(lease, "/spec/holderIdentity");
    let alive = snapshot.all("pods").iter().any(|pod| {
        text(pod, "/metadata/namespace") == namespace && name(pod) == holder && !ending(pod)
    });
    let times = snapshot.all("node-leases").iter();
    let now = times.filter_map(|lease| seconds(text(lease, "/spec/renewTime"))).max();
    let renewed = seconds(text(lease, "/spec/renewTime"));
    let old = now.zip(renewed).is_some_and(|(now, renewed)| now - renewed > TERM);
    if !holder.is_empty() && !alive {
        let problem = format!("it is held by {holder}, which is no pod: nobody writes statuses");
        report.problem("lease", object, problem, remedy);
    } else if old && !report.has(&["clock"]) {
        let problem = format!("{holder} does not renew it: nobody writes statuses");
        report.problem("lease", object, problem, remedy);
    }
}
