//! The objects of an installation, from its values: pure. `deploy/chart/templates` makes the same
//! ones; a test compares them.

pub(super) mod cni;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    monitors,
    values::{VERSION, Values},
};

/// Name of nearly everything that belongs to the control plane.
pub(crate) const NAME: &str = "tulle-control-plane";
/// Port on which the control plane answers people.
pub(crate) const CONSOLE: u16 = 15016;
/// Name of the webhook's configuration.
pub(crate) const INJECTOR: &str = "tulle-injector";
/// Name of the ConfigMap with what sidecars get, and of the file in it.
pub(crate) const INJECTION: (&str, &str) = ("tulle-injection", "injection.yaml");

/// Where the Secret is that says how a Prometheus is asked.
const CREDENTIALS: &str = "/etc/tulle-prometheus";
/// Where it finds who signs the certificates of hosts that releases ask.
const AUTHORITIES: &str = "/etc/tulle-release";
const CLUSTER_ROLE: &str = include_str!("../../../deploy/chart/files/cluster-role.yaml");
const ROLE: &str = include_str!("../../../deploy/chart/files/role.yaml");
const VIEW: &str = include_str!("../../../deploy/chart/files/view.yaml");
const TAP: &str = include_str!("../../../deploy/chart/files/tap.yaml");
const STEER: &str = include_str!("../../../deploy/chart/files/steer.yaml");
const REACH: &str = include_str!("../../../deploy/chart/files/reach.yaml");

/// Everything that is installed into `namespace`, in the order in which it can be: kinds first.
pub(super) fn all(values: &Values, namespace: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "labels": labels()});
    let inside = |name: &str| json!({"name": name, "namespace": namespace, "labels": labels()});
    let role = |kind: &str| json!({"apiGroup": RBAC, "kind": kind, "name": NAME});
    let subjects = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]);
    let mut objects = crds();
    objects.extend([
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside(NAME)}),
        json!({
            "apiVersion": RBAC_V1, "kind": "ClusterRole", "metadata": metadata(NAME),
            "rules": rules(CLUSTER_ROLE),
        }),
        json!({
            "apiVersion": RBAC_V1, "kind": "ClusterRoleBinding", "metadata": metadata(NAME),
            "roleRef": role("ClusterRole"), "subjects": subjects,
        }),
        json!({
            "apiVersion": RBAC_V1, "kind": "Role", "metadata": inside(NAME), "rules": rules(ROLE),
        }),
        json!({
            "apiVersion": RBAC_V1, "kind": "RoleBinding", "metadata": inside(NAME),
            "roleRef": role("Role"), "subjects": subjects,
        }),
        aggregated("tulle-view", "view", VIEW),
        aggregated("tulle-tap", "edit", TAP),
        aggregated("tulle-steer", "edit", STEER),
        json!({
            "apiVersion": RBAC_V1, "kind": "Role", "metadata": inside("tulle-reach"),
            "rules": rules(REACH),
        }),
        // Without webhooks: the control plane fills them in once it serves, and nothing here ever
        // takes them away.
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": metadata(INJECTOR),
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": inside(INJECTION.0),
            "data": {INJECTION.1: injection(values, namespace)},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": inside(NAME), "spec": service(),
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": inside(NAME),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector()}},
        }),
    ]);
    if values.network_policy.enabled {
        objects.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": inside(NAME),
            "spec": {
                "podSelector": {"matchLabels": selector()},
                "policyTypes": ["Ingress"],
                "ingress": [{"ports": PORTS.map(|(name, ..)| json!({"port": name, "protocol": "TCP"}))}],
            },
        }));
    }
    if values.pod_monitor.enabled {
        objects.extend(monitors::all().map(|(name, spec)| {
            let mut metadata = json!({"labels": values.pod_monitor.labels});
            merge(&mut metadata, &inside(&name));
            json!({
                "apiVersion": "monitoring.coreos.com/v1", "kind": monitors::KIND,
                "metadata": metadata, "spec": spec,
            })
        }));
    }
    if values.cni.enabled {
        objects.extend(cni::objects(values));
    }
    objects.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": inside(NAME),
        "spec": {
            "replicas": values.control_plane.replicas,
            "selector": {"matchLabels": selector()},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template(values, namespace),
        },
    }));
    objects
}

/// A role that is part of one of Kubernetes' own.
fn aggregated(name: &str, of: &str, of_what: &str) -> Value {
    let mut labels = labels();
    labels[format!("rbac.authorization.k8s.io/aggregate-to-{of}")] = "true".into();
    json!({
        "apiVersion": RBAC_V1, "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels}, "rules": rules(of_what),
    })
}

/// Everything that can be installed into `namespace` by whatever values.
pub(super) fn whatever(namespace: &str) -> Vec<Value> {
    let mut values = Values::default();
    values.network_policy.enabled = true;
    values.pod_monitor.enabled = true;
    values.cni.enabled = true;
    all(&values, namespace)
}

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_V1: &str = "rbac.authorization.k8s.io/v1";

type Port = (&'static str, u16, u16, &'static str);

/// Ports of the control plane: name, in the Service, in the pod, protocol.
const PORTS: [Port; 4] = [
    ("grpc", 15010, 15010, "grpc"),
    ("https-console", CONSOLE, CONSOLE, "https"),
    ("https-webhook", 443, 15017, "https"),
    ("http-status", 15014, 15014, "http"),
];

fn labels() -> Value {
    labels_of(NAME)
}

fn labels_of(name: &str) -> Value {
    json!({
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/part-of": "tulle",
        "app.kubernetes.io/version": VERSION,
    })
}

fn selector() -> Value {
    json!({"app.kubernetes.io/name": NAME})
}

/// Rules of a role, from a file that the chart reads too.
fn rules(yaml: &str) -> Value {
    serde_yaml_ng::from_str(yaml).expect("a test reads both files")
}

/// What the control plane may do, by the kind of its role.
pub(crate) fn roles() -> [(&'static str, Value); 2] {
    [("ClusterRole", rules(CLUSTER_ROLE)), ("Role", rules(ROLE))]
}

/// Our kinds. Kept by `helm uninstall`, should Helm ever take them over: with a kind every policy of it
/// goes.
pub(crate) fn crds() -> Vec<Value> {
    let mut crds = tulle_api::crd::all();
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let ours = json!({"metadata": {
        "annotations": {"helm.sh/resource-policy": "keep"},
        "labels": {"app.kubernetes.io/part-of": "tulle"},
    }});
    let with_metadata = |crd| {
        let mut crd = serde_json::to_value(crd).expect("a definition is JSON");
        merge(&mut crd, &ours);
        crd
    };
    crds.into_iter().map(with_metadata).collect()
}

fn injection(values: &Values, namespace: &str) -> String {
    tulle_api::yaml::to_string(&values.injection(namespace)).expect("it is plain data")
}

/// The control plane reads the file once: other content is another pod. Its hash is of the same JSON as
/// the chart's, with keys in order.
fn checksum(values: &Values, namespace: &str) -> String {
    let json = serde_json::to_value(values.injection(namespace)).expect("it is plain data");
    Sha256::digest(json.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Service's spec.
pub(crate) fn service() -> Value {
    let port = |(name, port, _, protocol): Port| json!({"name": name, "port": port, "targetPort": name, "appProtocol": protocol});
    json!({"selector": selector(), "ports": PORTS.map(port)})
}

fn template(values: &Values, namespace: &str) -> Value {
    let control_plane = &values.control_plane;
    let mut pod_labels = json!(control_plane.pod_labels);
    merge(&mut pod_labels, &labels());
    let mut annotations = json!(control_plane.pod_annotations);
    merge(&mut annotations, &json!({"tulle.dev/injection-checksum": checksum(values, namespace)}));
    let spread = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"].map(|key| {
        json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector()},
        })
    });
    let mut volumes = vec![
        json!({"name": "injection", "configMap": {"name": INJECTION.0}}),
        json!({"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
    ];
    if !control_plane.prometheus_secret.is_empty() {
        let secret = &control_plane.prometheus_secret;
        volumes.push(json!({"name": "prometheus", "secret": {"secretName": secret}}));
    }
    if !control_plane.release_authorities.is_empty() {
        let name = &control_plane.release_authorities;
        volumes.push(json!({"name": "release", "configMap": {"name": name}}));
    }
    let mut spec = json!({
        "serviceAccountName": NAME,
        "topologySpreadConstraints": spread,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 5051, "runAsGroup": 5051, "fsGroup": 5051,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(values)],
        "volumes": volumes,
    });
    for (field, value) in [
        ("priorityClassName", json!(control_plane.priority_class_name)),
        ("imagePullSecrets", pull_secrets(values)),
        ("nodeSelector", json!(control_plane.node_selector)),
        ("tolerations", json!(control_plane.tolerations)),
    ] {
        if !is_empty(&value) {
            spec[field] = value;
        }
    }
    json!({"metadata": {"labels": pod_labels, "annotations": annotations}, "spec": spec})
}

fn pull_secrets(values: &Values) -> Value {
    values.image.pull_secrets.iter().map(|name| json!({"name": name})).collect()
}

fn container(values: &Values) -> Value {
    let control_plane = &values.control_plane;
    let mut args = vec![
        "--kubernetes".to_owned(),
        format!("--injection=/etc/tulle/{}", INJECTION.1),
        "--admin-socket=/run/tulle/admin.sock".to_owned(),
        format!("--trust-domain={}", values.trust_domain),
        format!("--cluster-domain={}", values.cluster_domain),
        format!("--certificate-lifetime={}", control_plane.certificate_lifetime),
        format!("--log={}", control_plane.log),
    ];
    if !control_plane.prometheus.is_empty() {
        args.push(format!("--prometheus={}", control_plane.prometheus));
    }
    let mut mounts = vec![
        json!({"name": "injection", "mountPath": "/etc/tulle", "readOnly": true}),
        json!({"name": "run", "mountPath": "/run/tulle"}),
    ];
    if !control_plane.prometheus_secret.is_empty() {
        args.push(format!("--prometheus-credentials={CREDENTIALS}"));
        mounts.push(json!({"name": "prometheus", "mountPath": CREDENTIALS, "readOnly": true}));
    }
    args.extend(control_plane.release_hosts.iter().map(|host| format!("--release-hosts={host}")));
    if !control_plane.release_authorities.is_empty() {
        args.push(format!("--release-ca={AUTHORITIES}/ca.crt"));
        mounts.push(json!({"name": "release", "mountPath": AUTHORITIES, "readOnly": true}));
    }
    args.extend(values.mesh_ranges.iter().map(|range| format!("--mesh-range={range}")));
    args.extend(control_plane.extra_args.iter().cloned());
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let get = |path: &str| json!({"path": path, "port": "http-status"});
    json!({
        "name": "control-plane",
        "image": values.image("control-plane", &values.image.digests.control_plane),
        "imagePullPolicy": values.image.pull_policy,
        "args": args,
        "env": [
            field("TULLE_NAMESPACE", "metadata.namespace"),
            field("TULLE_POD_NAME", "metadata.name"),
        ],
        "ports": PORTS.map(|(name, _, port, _)| json!({"name": name, "containerPort": port})),
        "startupProbe": {"httpGet": get("/ready"), "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": {"httpGet": get("/ready"), "periodSeconds": 2, "failureThreshold": 3},
        // Not /ready: a new process would not find an API server that is away either.
        "livenessProbe": {
            "httpGet": get("/metrics"),
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "resources": control_plane.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Puts `over` into `value` as Helm merges values: objects field by field, where `null` takes a field
/// away; all else is replaced.
pub(crate) fn merge(value: &mut Value, over: &Value) {
    let (Value::Object(fields), Value::Object(over)) = (&mut *value, over) else {
        *value = over.clone();
        return;
    };
    for (name, over) in over {
        if over.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert_with(|| Value::Object(Map::new())), over);
        }
    }
}

/// `Kind name` or `Kind namespace/name`.
pub(super) fn title(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    let kind = text("/kind").unwrap_or_default();
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
