//! tulle-cni on every node.
//!
//! In `kube-system`, as what a node's network depends on: the control plane's own namespace is under
//! Pod Security `restricted`, and this is not. It has no right in the API server, and no token.

use serde_json::{Value, json};

use super::{Values, is_empty, labels_of, pull_secrets};

/// The name of its objects.
pub(crate) const NAME: &str = "tulle-cni";
/// Where they are.
pub(crate) const NAMESPACE: &str = "kube-system";

/// To enter pods' network namespaces (`SYS_ADMIN`), which it finds by their processes (`SYS_PTRACE`),
/// and to write rules there (`NET_*`) with the tools of its image (`SYS_CHROOT`).
const CAPABILITIES: [&str; 5] = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"];

pub(super) fn objects(values: &Values) -> [Value; 2] {
    let metadata = json!({"name": NAME, "namespace": NAMESPACE, "labels": labels_of(NAME)});
    let selector = json!({"app.kubernetes.io/name": NAME});
    let mut spec = json!({
        "serviceAccountName": NAME,
        "automountServiceAccountToken": false,
        // It must come up where the cluster's own CNI has not yet.
        "hostNetwork": true,
        "hostPID": true,
        "priorityClassName": "system-node-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(values)],
        "volumes": [
            {"name": "bin", "hostPath": {"path": values.cni.bin_dir, "type": "DirectoryOrCreate"}},
            {"name": "net", "hostPath": {"path": values.cni.conf_dir, "type": "DirectoryOrCreate"}},
        ],
    });
    let secrets = pull_secrets(values);
    if !is_empty(&secrets) {
        spec["imagePullSecrets"] = secrets;
    }
    [
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata,
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": selector},
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}},
                "template": {"metadata": {"labels": labels_of(NAME)}, "spec": spec},
            },
        }),
    ]
}

fn container(values: &Values) -> Value {
    json!({
        "name": "agent",
        "image": values.image("cni", &values.image.digests.cni),
        "imagePullPolicy": values.image.pull_policy,
        "args": ["agent", format!("--log={}", values.cni.log)],
        "readinessProbe": {
            "exec": {"command": [NAME, "ready"]},
            "periodSeconds": 3, "timeoutSeconds": 5, "failureThreshold": 3,
        },
        "resources": values.cni.resources,
        "securityContext": {
            "runAsUser": 0, "runAsGroup": 0,
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"add": CAPABILITIES, "drop": ["ALL"]},
            // The default profile keeps it from the processes of pods that have another one.
            "appArmorProfile": {"type": "Unconfined"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "bin", "mountPath": "/host/bin"},
            {"name": "net", "mountPath": "/host/net.d"},
        ],
    })
}
