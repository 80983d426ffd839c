//! Pods: who should have a sidecar and has none, and how those do that have one.

use std::collections::BTreeMap;

use serde_json::Value;
use tulle_api::Duration;
use tulle_control_plane::inject::{
    self, AGENT, INJECTED, LABEL, PROXY, Plan, REDIRECT, Settings, Skip, Slip,
};

use super::{
    control_plane::DOWN,
    network::some,
    report::Report,
    snapshot::{Snapshot, annotation, label, list, name, place, seconds, text, texts},
};
use crate::install::VERSION;

/// A sidecar that has been running for so long is not just starting.
const STARTING: i64 = 60;
/// Nor is one that has ended so long ago just starting anew.
const RESTARTING: i64 = 5;
/// Found already, and reason enough for sidecars to be alone.
const CUT_OFF: [&str; 5] =
    ["networkpolicy", "service-wrong", "service-missing", "no-endpoints", "ca-ending"];

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let injected = snapshot.injected().count();
    let good = match report.has(&DOWN) {
        true => format!("{injected} sidecars serve with what they know"),
        false => format!("{injected} sidecars of version {VERSION} are connected"),
    };
    report.area("pods", good);
    if !snapshot.known("pods") {
        return;
    }
    labels(snapshot, report);
    slips(snapshot, report);
    without(snapshot, report);
    versions(snapshot, report);
    for pod in snapshot.injected() {
        sidecar(snapshot, pod, report);
    }
}

/// Labels of namespaces that do not do what they look like.
fn labels(snapshot: &Snapshot, report: &mut Report) {
    for namespace in snapshot.all("namespaces") {
        let object = format!("Namespace {}", name(namespace));
        if let Some(value) = label(namespace, LABEL) {
            let served = snapshot.enabled().any(|enabled| name(enabled) == name(namespace));
            if !["enabled", "disabled"].contains(&value) {
                let problem =
                    format!("its label {LABEL} is {value:?}, and only \"enabled\" injects");
                let remedy = format!(
                    "kubectl label namespace {} {LABEL}=enabled --overwrite",
                    name(namespace)
                );
                report.problem("namespace-label", object.clone(), problem, remedy);
            } else if value == "enabled" && !served && !super::snapshot::ending(namespace) {
                let problem = format!(
                    "it has the label {LABEL}=enabled and is excluded from injection: its pods get no sidecar"
                );
                let remedy = format!(
                    "kubectl label namespace {} {LABEL}-; or take it out of injection.webhook.excludedNamespaces",
                    name(namespace)
                );
                report.problem("namespace-excluded", object.clone(), problem, remedy);
            }
        }
        for (key, value) in texts(namespace, "labels") {
            if let Some(why) = inject::unknown_label(&key, &value) {
                let remedy = format!("kubectl label namespace {} {key}-", name(namespace));
                report.problem("unknown-label", object.clone(), why, remedy);
            }
        }
        for key in
            texts(namespace, "annotations").keys().filter(|key| key.starts_with("tulle.dev/"))
        {
            let problem =
                format!("annotation {key} does nothing on a namespace: it must be on the pods");
            let remedy = format!("kubectl annotate namespace {} {key}-", name(namespace));
            report.problem("unknown-annotation", object.clone(), problem, remedy);
        }
    }
}

/// Labels and annotations of pods that nothing reads.
fn slips(snapshot: &Snapshot, report: &mut Report) {
    let own = &snapshot.namespace;
    for pod in snapshot.living().filter(|pod| text(pod, "/metadata/namespace") != own) {
        let (object, edit) = owner(pod);
        let annotations = texts(pod, "annotations");
        for (_, slip) in inject::slips(annotations.iter()) {
            if let Slip::Unknown(why) = slip {
                report.problem("unknown-annotation", object.clone(), why, edit.clone());
            }
        }
        for (key, value) in texts(pod, "labels") {
            if let Some(why) = inject::unknown_label(&key, &value) {
                report.problem("unknown-label", object.clone(), why, edit.clone());
            }
        }
    }
}

/// Pods of namespaces that ask for sidecars.
fn without(snapshot: &Snapshot, report: &mut Report) {
    let settings = match snapshot.injection() {
        Some(Ok(injection)) => injection.settings(),
        _ => Settings::default(),
    };
    for namespace in snapshot.enabled() {
        let labels = texts(namespace, "labels");
        let pods = snapshot.living().filter(|pod| {
            text(pod, "/metadata/namespace") == name(namespace)
                && annotation(pod, INJECTED).is_none()
        });
        for pod in pods {
            let metadata = serde_json::from_value(pod["metadata"].clone()).unwrap_or_default();
            let spec = serde_json::from_value(pod["spec"].clone()).unwrap_or_default();
            let (object, _) = owner(pod);
            match inject::plan(&metadata, &spec, &labels, &settings) {
                Ok(Plan::Skip(Skip::Disabled | Skip::NotEnabled)) => {}
                Ok(Plan::Skip(why)) => {
                    let problem = format!("it gets no sidecar: {why}");
                    let remedy =
                        format!("if that is meant, say it: label its pods {LABEL}=disabled");
                    report.note("no-sidecar", object, problem, remedy);
                }
                Ok(Plan::Inject(_)) => {
                    let problem = "it has no sidecar: it was created before its namespace had the label, or while no control plane answered";
                    report.problem("no-sidecar", object, problem, restart(pod));
                }
                Err(why) => {
                    let problem =
                        format!("it has no sidecar, and will not start again as it is: {why}");
                    report.problem("no-sidecar", object, problem, owner(pod).1);
                }
            }
        }
    }
}

/// Sidecars keep their version until their pods start anew.
fn versions(snapshot: &Snapshot, report: &mut Report) {
    let mut others: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in snapshot.injected() {
        let version = annotation(pod, INJECTED).unwrap_or_default();
        if version != VERSION {
            others.entry(version).or_default().push(place(pod));
        }
    }
    for (version, pods) in others {
        report.note(
            "sidecar-version",
            format!("sidecars of version {version}"),
            format!("{} have it, and the control plane is of {VERSION}; they serve, without what is new", some(&pods)),
            "restart them when it suits: kubectl -n NAMESPACE rollout restart deployment",
        );
    }
}

fn sidecar(snapshot: &Snapshot, pod: &Value, report: &mut Report) {
    let (namespace, pod_name) = (text(pod, "/metadata/namespace"), name(pod));
    let object = format!("Pod {}", place(pod));
    let log = format!("kubectl -n {namespace} logs {pod_name} -c");
    for status in list(pod, "/status/initContainerStatuses") {
        let container = text(status, "/name");
        if let Some(problem) = stuck(snapshot.now, status) {
            let remedy =
                format!("kubectl -n {namespace} describe pod {pod_name}; {log} {container}");
            report.problem("sidecar-stuck", object, problem, remedy);
            return;
        }
        let since = seconds(text(status, "/state/running/startedAt"));
        let late = since.is_some_and(|since| snapshot.now - since > STARTING);
        if container == PROXY && status["ready"] == false && late && !report.has(&DOWN) {
            let said = snapshot.sidecars.get(&place(pod));
            let said = said.and_then(|sidecar| sidecar.pending.as_deref());
            let problem =
                format!("its sidecar is not ready: {}", said.unwrap_or("it does not say why"));
            report.problem("sidecar-not-ready", object, problem, format!("{log} {container}"));
            return;
        }
    }
    let Some(said) = snapshot.sidecars.get(&place(pod)) else { return };
    if report.has(&DOWN) || report.has(&CUT_OFF) {
        return;
    }
    let left = said.not_after.map_or(i64::MAX, |end| end - snapshot.now);
    if said.connected == Some(false) {
        let problem = "its sidecar has no stream to the control plane: it serves with what it knows, and learns nothing new";
        report.problem("sidecar-disconnected", object, problem, format!("{log} {PROXY}"));
    } else if left < lifetime(snapshot) / 4 {
        let when = match left {
            1.. => format!("ends in {} min", left / 60),
            _ => "has ended".to_owned(),
        };
        let problem = format!("its certificate {when}, and was not renewed at half of its life");
        report.problem("certificate-ending", object, problem, format!("{log} {PROXY}"));
    }
}

/// Why a container of ours does not run, if it should.
fn stuck(now: i64, status: &Value) -> Option<String> {
    let container = text(status, "/name");
    if ![PROXY, AGENT, REDIRECT].contains(&container) {
        return None;
    }
    let waiting = &status["state"]["waiting"];
    let reason = text(waiting, "/reason");
    if !["", "PodInitializing", "ContainerCreating"].contains(&reason) {
        let ended = text(status, "/lastState/terminated/message").trim();
        let message = if ended.is_empty() { text(waiting, "/message") } else { ended };
        return Some(format!("its container {container} does not run: {reason}: {message}"));
    }
    // Kubernetes says no more than this of a sidecar that cannot be started again.
    let ended = seconds(text(status, "/state/terminated/finishedAt"))?;
    (container != REDIRECT && now - ended > RESTARTING)
        .then(|| format!("its container {container} has ended, and is not started again"))
}

/// How long certificates are valid, as the control plane was told; in seconds.
fn lifetime(snapshot: &Snapshot) -> i64 {
    let deployment = snapshot.one("deployment");
    let arguments = deployment.map(|d| list(d, "/spec/template/spec/containers/0/args"));
    let said = arguments.into_iter().flatten().find_map(|argument| {
        argument.as_str()?.strip_prefix("--certificate-lifetime=")?.parse::<Duration>().ok()
    });
    said.map_or(24 * 3600, |said| i64::try_from(said.get().as_secs()).unwrap_or(i64::MAX))
}

/// Who made a pod, and how to edit what it is made from.
pub(super) fn owner(pod: &Value) -> (String, String) {
    let namespace = text(pod, "/metadata/namespace");
    let owner = list(pod, "/metadata/ownerReferences").first();
    let (mut kind, mut called) = owner
        .map_or_else(|| ("Pod", name(pod)), |owner| (text(owner, "/kind"), text(owner, "/name")));
    let of_deployment = label(pod, "pod-template-hash")
        .and_then(|hash| called.strip_suffix(hash)?.strip_suffix('-'))
        .filter(|_| kind == "ReplicaSet");
    if let Some(deployment) = of_deployment {
        (kind, called) = ("Deployment", deployment);
    }
    let edit = format!("kubectl -n {namespace} edit {} {called}", kind.to_lowercase());
    (format!("{kind} {namespace}/{called}"), edit)
}

/// How a pod comes anew.
fn restart(pod: &Value) -> String {
    let (object, _) = owner(pod);
    let namespace = text(pod, "/metadata/namespace");
    let (kind, called) = object.split_once(' ').unwrap_or_default();
    let called = called.rsplit('/').next().unwrap_or_default();
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" => {
            format!("kubectl -n {namespace} rollout restart {} {called}", kind.to_lowercase())
        }
        _ => format!("kubectl -n {namespace} delete pod {}, and create it again", name(pod)),
    }
}
