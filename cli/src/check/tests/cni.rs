//! tulle-cni, in an installation that has it.

use serde_json::{Value, json};
use tulle_control_plane::inject::Injection;

use super::{
    super::{all, snapshot::Snapshot},
    add, change, healthy, named, remove, said, with,
};
use crate::install::INJECTION;

/// Three nodes, and it is ready on so many of them.
fn with_cni(ready: u32) -> Snapshot {
    let mut snapshot = healthy();
    let injection = Injection { cni: true, ..Injection::default() };
    let yaml = tulle_api::yaml::to_string(&injection).expect("plain data");
    change(&mut snapshot, "injection", &json!({"data": {INJECTION.1: yaml}}));
    let status = json!({"status": {"desiredNumberScheduled": 3, "numberReady": ready}});
    add(&mut snapshot, "cni", with(named("tulle-cni", "kube-system"), &status));
    for at in 1..=3 {
        let own: Value = json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "tulle-cni"}},
            "spec": {"nodeName": format!("node{at}")},
            "status": {
                "conditions": [{"type": "Ready", "status": if at > ready { "False" } else { "True" }}],
                "containerStatuses": [{"name": "tulle-cni", "image": "", "imageID": "", "ready": at <= ready, "restartCount": 0,
                    "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not there"}}}],
            },
        });
        let pod = with(named(&format!("tulle-cni-{at}"), "kube-system"), &own);
        snapshot.objects.entry("pods").or_default().insert(0, pod);
    }
    snapshot
}

#[test]
fn tulle_cni_is_ready_everywhere_or_is_named() {
    let well = all(&with_cni(3));
    assert_eq!(said(&well), [""; 0], "{}", well.text(false));
    assert!(well.text(false).contains("ready on 3 of 3 nodes"), "{}", well.text(false));
    let late = all(&with_cni(2));
    assert_eq!(said(&late), ["cni-not-ready DaemonSet kube-system/tulle-cni"]);
    let finding = late.findings().next().expect("it");
    for part in ["on 1 of 3 nodes (node3)", "ErrImageNeverPull"] {
        assert!(finding.problem.contains(part), "{finding:?}");
    }
    assert!(finding.remedy.contains("logs tulle-cni-3"), "{finding:?}");
    // It has no pod at all on two nodes.
    let mut bare = with_cni(1);
    bare.objects.entry("pods").or_default().retain(|pod| pod["spec"]["nodeName"].is_null());
    let bare = all(&bare);
    let finding = bare.findings().next().expect("it");
    assert!(finding.problem.contains("on 2 of 3 nodes; pods"), "{finding:?}");
    assert!(finding.remedy.contains("describe daemonset"), "{finding:?}");
    let mut gone = with_cni(3);
    remove(&mut gone, "cni");
    assert_eq!(said(&all(&gone)), ["cni-missing DaemonSet kube-system/tulle-cni"]);
}
