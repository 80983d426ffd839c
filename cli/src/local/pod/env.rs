//! Environment, command and arguments of a container (pure).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::ConfigMaps;
use crate::local::controllers::Id;

/// Where a container sees the folder of more programs; those in its `bin` come before the machine's.
pub(super) const PROGRAMS: &str = "/opt/tulle/programs";
/// What programs find in a container that says nothing else.
const PATH: &str =
    "/opt/tulle/programs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container refers to something that is not there (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::local) struct NotThere(pub(in crate::local) String);

/// Variables of the container; later definitions replace earlier ones, and may refer to them.
///
/// # Errors
/// A ConfigMap or a key that is not optional is missing.
pub(super) fn variables(
    pod: &Pod,
    container: &Container,
    config_maps: &ConfigMaps,
) -> Result<BTreeMap<String, String>, NotThere> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), super::files::hostname(pod)),
    ]);
    for source in container.env_from.iter().flatten() {
        let Some(reference) = &source.config_map_ref else {
            continue;
        };
        let prefix = source.prefix.as_deref().unwrap_or("");
        let map = config_map(pod, &reference.name, config_maps);
        if map.is_none() && !reference.optional.unwrap_or(false) {
            return Err(NotThere(format!("ConfigMap {} is not there", reference.name)));
        }
        for (key, value) in map.iter().flat_map(|map| map.data.iter().flatten()) {
            all.insert(format!("{prefix}{key}"), value.clone());
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, variable, &all, config_maps)? {
            all.insert(variable.name.clone(), value);
        }
    }
    Ok(all)
}

/// Command line: `command` and `args` with `$(VARIABLE)` filled in. Images have no say here, so one of
/// them must be given.
pub(super) fn command_line(
    container: &Container,
    variables: &BTreeMap<String, String>,
) -> Vec<String> {
    let parts = container.command.iter().flatten().chain(container.args.iter().flatten());
    parts.map(|part| expand(part, variables)).collect()
}

fn value(
    pod: &Pod,
    variable: &EnvVar,
    so_far: &BTreeMap<String, String>,
    config_maps: &ConfigMaps,
) -> Result<Option<String>, NotThere> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or(""), so_far)));
    };
    if let Some(reference) = &source.field_ref {
        return field(pod, &reference.field_path).map(Some).ok_or_else(|| {
            NotThere(format!("env {}: unknown field {}", variable.name, reference.field_path))
        });
    }
    let Some(reference) = &source.config_map_key_ref else {
        return Ok(None);
    };
    let map = config_map(pod, &reference.name, config_maps);
    let found = map.and_then(|map| map.data.as_ref()?.get(&reference.key).cloned());
    if found.is_none() && !reference.optional.unwrap_or(false) {
        let (name, key) = (&reference.name, &reference.key);
        return Err(NotThere(format!("key {key} of ConfigMap {name} is not there")));
    }
    Ok(found)
}

fn config_map<'a>(
    pod: &Pod,
    name: &str,
    config_maps: &'a ConfigMaps,
) -> Option<&'a k8s_openapi::api::core::v1::ConfigMap> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    config_maps.get(&Id::new(namespace, name))
}

/// A field of the pod by its path, as the downward API names it.
pub(super) fn field(pod: &Pod, path: &str) -> Option<String> {
    let (metadata, spec, status) = (&pod.metadata, pod.spec.as_ref()?, pod.status.as_ref());
    let in_map = |map: &Option<BTreeMap<String, String>>, rest: &str| {
        let key = rest.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
    };
    let all = |map: &Option<BTreeMap<String, String>>| {
        let lines = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    Some(match path {
        "metadata.name" => metadata.name.clone()?,
        "metadata.namespace" => metadata.namespace.clone()?,
        "metadata.uid" => metadata.uid.clone()?,
        "metadata.labels" => all(&metadata.labels),
        "metadata.annotations" => all(&metadata.annotations),
        "spec.nodeName" => spec.node_name.clone()?,
        "spec.serviceAccountName" => service_account(pod).to_owned(),
        "status.hostIP" => status?.host_ip.clone()?,
        "status.hostIPs" => {
            let ips = status?.host_ips.iter().flatten().map(|ip| ip.ip.clone());
            ips.collect::<Vec<_>>().join(",")
        }
        "status.podIP" => status?.pod_ip.clone()?,
        "status.podIPs" => {
            let ips = status?.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
            ips.collect::<Vec<_>>().join(",")
        }
        _ => {
            return path
                .strip_prefix("metadata.labels")
                .and_then(|rest| in_map(&metadata.labels, rest))
                .or_else(|| {
                    let rest = path.strip_prefix("metadata.annotations")?;
                    in_map(&metadata.annotations, rest)
                });
        }
    })
}

/// The pod's ServiceAccount; everyone has one.
pub(in crate::local) fn service_account(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    name.filter(|name| !name.is_empty()).unwrap_or("default")
}

/// `$(NAME)` becomes the variable's value, `$$` one dollar; what is not known stays as it is.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference.and_then(|(name, tail)| Some((variables.get(name)?, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "a", "b": "c"},
                "annotations": {"tulle.dev/x": "y"},
            },
            "spec": {"containers": [], "nodeName": "local"},
            "status": {"hostIP": "10.244.0.1", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}, {"ip": "fd00::2"}]},
        }))
        .unwrap()
    }

    #[test]
    fn references_are_filled_in() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expanded) in [
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("a$", "a$"),
            ("$(A$(A)", "$(A1"),
        ] {
            assert_eq!(expand(text, &variables), expanded, "{text}");
        }
    }

    #[test]
    fn variables_come_from_all_their_sources() {
        let container: Container = serde_yaml_ng::from_str(
            "
name: c
command: [sh, -c, 'echo $(TWO)']
envFrom: [{prefix: P_, configMapRef: {name: m}}]
env:
- {name: ONE, value: '1'}
- {name: TWO, value: '$(ONE)+1'}
- {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
- {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
- {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: KEY, valueFrom: {configMapKeyRef: {name: m, key: k}}}
- {name: NONE, valueFrom: {configMapKeyRef: {name: m, key: none, optional: true}}}
",
        )
        .unwrap();
        let map = ConfigMap {
            data: Some(BTreeMap::from([("k".to_owned(), "v".to_owned())])),
            ..ConfigMap::default()
        };
        let maps = ConfigMaps::from([(Id::new("ns", "m"), map)]);
        let all = variables(&pod(), &container, &maps).unwrap();
        let value = |name: &str| all.get(name).map(String::as_str);
        assert_eq!(value("TWO"), Some("1+1"));
        assert_eq!(value("IP"), Some("10.244.0.2"));
        assert_eq!(value("IPS"), Some("10.244.0.2,fd00::2"));
        assert_eq!(value("APP"), Some("a"));
        assert_eq!(value("SA"), Some("default"));
        assert_eq!(value("KEY"), Some("v"));
        assert_eq!(value("P_k"), Some("v"));
        assert_eq!(value("NONE"), None);
        assert_eq!(command_line(&container, &all), ["sh", "-c", "echo 1+1"]);

        let missing = variables(&pod(), &container, &ConfigMaps::new()).unwrap_err();
        assert_eq!(missing.to_string(), "ConfigMap m is not there");
    }

    #[test]
    fn labels_as_a_file() {
        assert_eq!(field(&pod(), "metadata.labels").unwrap(), "app=\"a\"\nb=\"c\"");
        assert_eq!(field(&pod(), "spec.unknown"), None);
    }
}
