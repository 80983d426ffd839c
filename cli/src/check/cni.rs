//! tulle-cni, if the installation has it: whether it is ready on every node.

use serde_json::Value;

use super::{
    control_plane::ready,
    network::some,
    report::Report,
    rights::upgrade,
    snapshot::{Snapshot, ending, name, text},
};
use crate::install::{self, CNI, CNI_NAMESPACE};

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let wanted = matches!(snapshot.injection(), Some(Ok(injection)) if injection.cni);
    let found = snapshot.one("cni");
    if (!wanted && found.is_none()) || !snapshot.known("cni") {
        return;
    }
    let object = format!("DaemonSet {CNI_NAMESPACE}/{CNI}");
    let Some(daemonset) = found else {
        report.area("tulle-cni", "");
        let problem =
            "it is not there: pods wait, and do not start, until it redirects their traffic";
        report.problem("cni-missing", object, problem, upgrade(snapshot));
        return;
    };
    let count = |field: &str| daemonset["status"][field].as_i64().unwrap_or(0);
    let (nodes, on) = (count("desiredNumberScheduled"), count("numberReady"));
    report.area("tulle-cni", format!("ready on {on} of {nodes} nodes"));
    if on >= nodes {
        return;
    }
    let pods: Vec<_> = snapshot.all("pods").iter().filter(|pod| is_its(pod)).collect();
    let late: Vec<_> = pods.iter().filter(|pod| !ready(pod)).collect();
    let places: Vec<_> = late.iter().map(|pod| text(pod, "/spec/nodeName").to_owned()).collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", some(&places)) };
    let reasons =
        late.first().map(|pod| serde_json::from_value((**pod).clone()).unwrap_or_default());
    let reasons = reasons.map_or_else(Vec::new, |pod| install::reasons(&pod)).join("; ");
    let why = if reasons.is_empty() { String::new() } else { format!(": {reasons}") };
    let problem = format!(
        "it is not ready on {} of {nodes} nodes{places}{why}; pods that start there wait until it redirects their traffic",
        nodes - on
    );
    let remedy = match late.first() {
        Some(pod) => format!(
            "kubectl -n {CNI_NAMESPACE} describe pod {0}; kubectl -n {CNI_NAMESPACE} logs {0}",
            name(pod)
        ),
        None => format!("kubectl -n {CNI_NAMESPACE} describe daemonset {CNI}"),
    };
    report.problem("cni-not-ready", object, problem, remedy);
}

fn is_its(pod: &Value) -> bool {
    let app = text(pod, "/metadata/labels/app.kubernetes.io~1name");
    app == CNI && text(pod, "/metadata/namespace") == CNI_NAMESPACE && !ending(pod)
}
