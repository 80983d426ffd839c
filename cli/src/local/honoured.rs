//! Which fields have an effect here, kind by kind. Everything else is named to the user.

use std::{collections::HashSet, sync::LazyLock};

use serde_json::Value;

/// Paths of the fields of `kind` in `object` that have no effect here.
pub(super) fn unhonoured(kind: &str, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some((_, fields)) = FIELDS.iter().find(|(name, _)| *name == kind) {
        walk(fields, object, &mut String::new(), &mut String::new(), &mut found);
    }
    found
}

/// Walks with two spellings of the path: `pattern` (`a.b[].c`) and `path` (`a.b[0].c`).
fn walk(
    fields: &HashSet<String>,
    value: &Value,
    pattern: &mut String,
    path: &mut String,
    found: &mut Vec<String>,
) {
    let lengths = (pattern.len(), path.len());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if pattern.is_empty() { "" } else { "." };
                pattern.push_str(&format!("{dot}{key}"));
                path.push_str(&format!("{dot}{key}"));
                if fields.contains(pattern.as_str()) {
                    walk(fields, value, pattern, path, found);
                } else if !fields.contains(&format!("{}.*", parent(pattern, key)))
                    && !value.is_null()
                {
                    found.push(path.clone());
                }
                pattern.truncate(lengths.0);
                path.truncate(lengths.1);
            }
        }
        Value::Array(items) => {
            pattern.push_str("[]");
            for (index, value) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(fields, value, pattern, path, found);
                path.truncate(lengths.1);
            }
            pattern.truncate(lengths.0);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn parent<'a>(pattern: &'a str, key: &str) -> &'a str {
    pattern.strip_suffix(key).unwrap_or(pattern).trim_end_matches('.')
}

/// Kinds, each with its fields.
type Fields = Vec<(&'static str, HashSet<String>)>;

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let selector = "matchLabels.* matchExpressions[].key matchExpressions[].operator \
                    matchExpressions[].values[]";
    let below = |prefix: &str, fields: &str| -> String {
        fields.split_whitespace().map(|field| format!("{prefix}.{field} ")).collect()
    };
    let pod = format!("metadata.labels.* metadata.annotations.* {}", below("spec", &pod_spec()));
    let template = below("spec.template", &pod) + "spec.template.metadata.creationTimestamp";
    let selector = below("spec.selector", selector);
    let deployment = format!(
        "spec.replicas spec.minReadySeconds spec.strategy.type spec.strategy.rollingUpdate.maxSurge \
         spec.strategy.rollingUpdate.maxUnavailable {selector} {template}"
    );
    let replica_set = format!("spec.replicas spec.minReadySeconds {selector} {template}");
    let service = "spec.clusterIP spec.clusterIPs[] spec.ipFamilies[] spec.ipFamilyPolicy \
        spec.type spec.externalName spec.selector.* spec.publishNotReadyAddresses spec.ports[].name \
        spec.ports[].port spec.ports[].targetPort spec.ports[].protocol spec.ports[].appProtocol";
    let slice = "addressType ports[].name ports[].port ports[].protocol ports[].appProtocol \
        endpoints[].addresses[] endpoints[].conditions.ready endpoints[].conditions.serving \
        endpoints[].conditions.terminating endpoints[].hostname endpoints[].nodeName \
        endpoints[].zone endpoints[].targetRef.*";
    vec![
        ("Namespace", expand("")),
        ("Pod", expand(&pod)),
        ("Deployment", expand(&deployment)),
        ("ReplicaSet", expand(&replica_set)),
        ("Service", expand(service)),
        ("EndpointSlice", expand(slice)),
        ("ConfigMap", expand("data.* binaryData.* immutable")),
        ("ServiceAccount", expand("automountServiceAccountToken")),
    ]
});

/// Paths, with all the ones above them, and what every object has.
fn expand(paths: &str) -> HashSet<String> {
    const ALWAYS: &str = "apiVersion kind metadata.name metadata.namespace metadata.labels.* \
        metadata.annotations.*";
    let mut all = HashSet::new();
    for path in paths.split_whitespace().chain(ALWAYS.split_whitespace()) {
        for (end, _) in path.match_indices('.').chain([(path.len(), "")]) {
            if let Some(prefix) = path.get(..end) {
                all.insert(prefix.trim_end_matches("[]").to_owned());
                all.insert(prefix.to_owned());
            }
        }
    }
    all
}

/// `image` and `imagePullPolicy` are in the list although nothing is pulled: one sentence about all
/// containers says so.
fn pod_spec() -> String {
    let http = "path port host httpHeaders[].name httpHeaders[].value";
    let below = |prefix: &str, fields: &str| -> String {
        fields.split_whitespace().map(|field| format!("{prefix}.{field} ")).collect()
    };
    let probe = format!(
        "exec.command[] tcpSocket.port tcpSocket.host initialDelaySeconds periodSeconds \
         timeoutSeconds successThreshold failureThreshold {}",
        below("httpGet", http)
    );
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"].map(|p| below(p, &probe));
    let user = "runAsUser runAsGroup runAsNonRoot";
    let container = format!(
        "name image imagePullPolicy command[] args[] workingDir restartPolicy ports[].name \
         ports[].containerPort ports[].protocol env[].name env[].value \
         env[].valueFrom.fieldRef.fieldPath env[].valueFrom.fieldRef.apiVersion \
         env[].valueFrom.configMapKeyRef.name env[].valueFrom.configMapKeyRef.key \
         env[].valueFrom.configMapKeyRef.optional envFrom[].prefix envFrom[].configMapRef.name \
         envFrom[].configMapRef.optional volumeMounts[].name volumeMounts[].mountPath \
         volumeMounts[].readOnly volumeMounts[].subPath \
         lifecycle.preStop.exec.command[] lifecycle.preStop.sleep.seconds \
         {} {} securityContext.capabilities.add[] securityContext.capabilities.drop[] \
         securityContext.allowPrivilegeEscalation securityContext.privileged \
         securityContext.readOnlyRootFilesystem {}",
        below("lifecycle.preStop.httpGet", http),
        below("securityContext", user),
        probes.concat(),
    );
    let items = "items[].key items[].path items[].mode";
    let downward =
        "items[].path items[].mode items[].fieldRef.fieldPath items[].fieldRef.apiVersion";
    let config_map = format!("name optional {items}");
    format!(
        "restartPolicy terminationGracePeriodSeconds serviceAccountName hostname subdomain nodeName \
         dnsPolicy dnsConfig.nameservers[] dnsConfig.searches[] dnsConfig.options[].name \
         dnsConfig.options[].value hostAliases[].ip hostAliases[].hostnames[] \
         securityContext.fsGroup securityContext.supplementalGroups[] {} {} {} \
         volumes[].name volumes[].emptyDir.medium volumes[].emptyDir.sizeLimit \
         volumes[].hostPath.path volumes[].hostPath.type volumes[].configMap.defaultMode {} \
         volumes[].downwardAPI.defaultMode {} volumes[].projected.defaultMode \
         volumes[].projected.sources[].serviceAccountToken.path \
         volumes[].projected.sources[].serviceAccountToken.audience \
         volumes[].projected.sources[].serviceAccountToken.expirationSeconds {} {}",
        below("securityContext", user),
        below("containers[]", &container),
        below("initContainers[]", &container),
        below("volumes[].configMap", &config_map),
        below("volumes[].downwardAPI", downward),
        below("volumes[].projected.sources[].configMap", &config_map),
        below("volumes[].projected.sources[].downwardAPI", downward),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_by_their_exact_path() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "labels": {"any": "x"}, "finalizers": ["f"]},
            "spec": {
                "replicas": 1, "paused": true,
                "selector": {"matchLabels": {"app": "a"}},
                "template": {
                    "metadata": {"labels": {"app": "a"}, "annotations": {"tulle.dev/x": "y"}},
                    "spec": {
                        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x"}}],
                        "containers": [{
                            "name": "c", "image": "x", "resources": {"limits": {"cpu": 1}},
                            "readinessProbe": {"grpc": {"port": 1}},
                            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}],
                        }],
                    },
                },
            },
        });
        assert_eq!(
            unhonoured("Deployment", &deployment),
            [
                "metadata.finalizers",
                "spec.paused",
                "spec.template.spec.containers[0].env[0].valueFrom.secretKeyRef",
                "spec.template.spec.containers[0].readinessProbe.grpc",
                "spec.template.spec.containers[0].resources",
                "spec.template.spec.volumes[1].secret",
            ]
        );
    }

    #[test]
    fn a_plain_service_has_nothing_to_say() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http"}]},
        });
        assert_eq!(unhonoured("Service", &service), Vec::<String>::new());
        let service = json!({"spec": {"sessionAffinity": "ClientIP"}});
        assert_eq!(unhonoured("Service", &service), ["spec.sessionAffinity"]);
    }
}
