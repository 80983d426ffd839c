//! YAML documents, and the pods in them.

use std::slice;

use serde::{Serialize, de::DeserializeOwned};
use serde_yaml_ng::{Mapping, Value};
use tulle_control_plane::inject::{Additions, Rewrite, Shared};

/// A kind that holds pods.
struct Workload {
    version: &'static str,
    kind: &'static str,
    /// Where the pod or its template is.
    path: &'static [&'static str],
}

const fn workload(version: &'static str, kind: &'static str) -> Workload {
    Workload { version, kind, path: &["spec", "template"] }
}

const WORKLOADS: [Workload; 8] = [
    Workload { version: "v1", kind: "Pod", path: &[] },
    workload("v1", "ReplicationController"),
    workload("apps/v1", "Deployment"),
    workload("apps/v1", "StatefulSet"),
    workload("apps/v1", "DaemonSet"),
    workload("apps/v1", "ReplicaSet"),
    workload("batch/v1", "Job"),
    Workload {
        version: "batch/v1",
        kind: "CronJob",
        path: &["spec", "jobTemplate", "spec", "template"],
    },
];

/// A document of the input.
#[derive(Debug)]
pub(super) struct Document {
    /// `deploy.yaml: document 2`.
    pub(super) place: String,
    /// As it was written, without its `---`.
    pub(super) text: String,
    pub(super) value: Value,
}

/// A pod or pod template inside of a document.
#[derive(Debug)]
pub(super) struct PodPart<'a> {
    /// `Deployment bookstore/reviews`.
    pub(super) object: String,
    /// Namespace of the object, if it names one.
    pub(super) namespace: Option<String>,
    pod: &'a mut Mapping,
}

/// All documents that are YAML and hold something, and what is wrong with the others.
pub(super) fn parse(sources: &[(String, String)]) -> (Vec<Document>, Vec<String>) {
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for (file, text) in sources {
        for (i, text) in split(text).into_iter().enumerate() {
            let place = format!("{file}: document {}", i + 1);
            match serde_yaml_ng::from_str(&text) {
                // Only comments: kept if there are some.
                Ok(Value::Null) if text.trim().is_empty() => {}
                Ok(value) => documents.push(Document { place, text, value }),
                Err(error) => errors.push(format!("{place}: {error}")),
            }
        }
    }
    (documents, errors)
}

/// The documents of a stream, without `---`. Lines that begin with it are markers wherever they
/// are (YAML 1.2, 9.1.2), so nothing needs to be parsed. What follows it on its line belongs to
/// the document.
fn split(stream: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in stream.split_inclusive('\n') {
        let rest = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        let current = documents.last_mut().expect("there is always one");
        match rest {
            // A marker at the very beginning opens the first document.
            Some(rest) if current.trim().is_empty() => *current = rest.trim_start().to_owned(),
            Some(rest) => documents.push(rest.trim_start().to_owned()),
            None if line.trim_end() == "..." => {}
            None => current.push_str(line),
        }
    }
    documents
}

/// The pods and pod templates of a document.
pub(super) fn pod_parts<'a>(value: &'a mut Value, default_namespace: &str) -> Vec<PodPart<'a>> {
    if is_list(value) {
        let items = value.get_mut("items").and_then(Value::as_sequence_mut);
        return items.into_iter().flatten().flat_map(|v| pod_parts(v, default_namespace)).collect();
    }
    let found = WORKLOADS.iter().find(|w| is(value, w.version, w.kind));
    let Some(Workload { kind, path, .. }) = found else {
        return Vec::new();
    };
    let (namespace, name) = match value.get("metadata") {
        Some(metadata) => (text(metadata, "namespace"), text(metadata, "name")),
        None => (None, None),
    };
    let object = format!(
        "{kind} {}/{}",
        namespace.as_deref().unwrap_or(default_namespace),
        name.as_deref().unwrap_or("(no name)")
    );
    let pod = path.iter().try_fold(value, |value, key| value.get_mut(key));
    let pod = pod.and_then(Value::as_mapping_mut);
    pod.into_iter()
        .map(|pod| PodPart { object: object.clone(), namespace: namespace.clone(), pod })
        .collect()
}

/// The objects of this kind, in a List too.
pub(super) fn objects_of_kind<'a>(value: &'a Value, version: &str, kind: &str) -> Vec<&'a Value> {
    if is_list(value) {
        let items = value.get("items").and_then(Value::as_sequence);
        return items
            .into_iter()
            .flatten()
            .flat_map(|v| objects_of_kind(v, version, kind))
            .collect();
    }
    if is(value, version, kind) { vec![value] } else { Vec::new() }
}

fn is(value: &Value, version: &str, kind: &str) -> bool {
    text(value, "apiVersion").as_deref() == Some(version)
        && text(value, "kind").as_deref() == Some(kind)
}

/// `List`, and the typed `PodList`, `DeploymentList`, …
fn is_list(value: &Value) -> bool {
    text(value, "kind").is_some_and(|kind| kind.ends_with("List"))
}

fn text(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}

impl PodPart<'_> {
    /// A part of the pod as a typed value; its default if it is absent.
    pub(super) fn read<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, String> {
        match self.pod.get(key) {
            None | Some(Value::Null) => Ok(T::default()),
            Some(value) => serde_yaml_ng::from_value(value.clone())
                .map_err(|error| format!("{key} of the pod: {error}")),
        }
    }

    /// Adds the sidecar, sends it the probes, and touches nothing else.
    pub(super) fn add(&mut self, additions: &Additions) -> Result<(), String> {
        let metadata = mapping(self.pod, "metadata")?;
        let annotations = mapping(metadata, "annotations")?;
        for (name, value) in &additions.annotations {
            annotations.insert(name.as_str().into(), value.as_str().into());
        }
        let spec = mapping(self.pod, "spec")?;
        for change in &additions.rewrites {
            rewrite(spec, change)?;
        }
        if let Some(shared) = &additions.shared {
            share(spec, shared)?;
        }
        sequence(spec, "initContainers")?.splice(..0, values(&additions.init_containers)?);
        sequence(spec, "volumes")?.extend(values(&additions.volumes)?);
        Ok(())
    }
}

/// Puts `httpGet` in the place of what the kubelet did before, if it did something.
fn rewrite(spec: &mut Mapping, change: &Rewrite) -> Result<(), String> {
    let (list, fields) = (change.list.field(), change.handler.fields());
    let container = spec.get_mut(list).and_then(|list| list.get_mut(change.index));
    let container = container
        .and_then(Value::as_mapping_mut)
        .ok_or_else(|| format!("{list}[{}] of the pod is no mapping", change.index))?;
    let handler = fields.iter().try_fold(container, |parent, key| mapping(parent, key))?;
    for other in ["tcpSocket", "grpc"] {
        handler.shift_remove(other);
    }
    let http_get = serde_yaml_ng::to_value(&change.http_get).map_err(|e| e.to_string())?;
    handler.insert("httpGet".into(), http_get);
    Ok(())
}

/// Gives all containers what they share with the agent.
fn share(spec: &mut Mapping, shared: &Shared) -> Result<(), String> {
    for list in ["initContainers", "containers"] {
        for (i, container) in sequence(spec, list)?.iter_mut().enumerate() {
            let container = container
                .as_mapping_mut()
                .ok_or_else(|| format!("{list}[{i}] of the pod is no mapping"))?;
            let variables = sequence(container, "env")?;
            let name = shared.variable.name.as_str();
            if variables.iter().all(|set| set.get("name").and_then(Value::as_str) != Some(name)) {
                variables.extend(values(slice::from_ref(&shared.variable))?);
            }
            sequence(container, "volumeMounts")?.extend(values(slice::from_ref(&shared.mount))?);
        }
    }
    let groups = sequence(mapping(spec, "securityContext")?, "supplementalGroups")?;
    let group = Value::from(shared.group);
    if !groups.contains(&group) {
        groups.push(group);
    }
    Ok(())
}

fn values<T: Serialize>(list: &[T]) -> Result<Vec<Value>, String> {
    list.iter().map(|item| serde_yaml_ng::to_value(item).map_err(|e| e.to_string())).collect()
}

/// The mapping under `key`, made if it is absent.
fn mapping<'a>(parent: &'a mut Mapping, key: &str) -> Result<&'a mut Mapping, String> {
    entry(parent, key, Value::Mapping(Mapping::new()))
        .as_mapping_mut()
        .ok_or_else(|| format!("{key} of the pod is no mapping"))
}

/// The sequence under `key`, made if it is absent.
fn sequence<'a>(parent: &'a mut Mapping, key: &str) -> Result<&'a mut Vec<Value>, String> {
    entry(parent, key, Value::Sequence(Vec::new()))
        .as_sequence_mut()
        .ok_or_else(|| format!("{key} of the pod is no list"))
}

fn entry<'a>(parent: &'a mut Mapping, key: &str, empty: Value) -> &'a mut Value {
    let value = parent.entry(key.into()).or_insert(Value::Null);
    if value.is_null() {
        *value = empty;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_split_at_markers_only() {
        for (stream, documents) in [
            ("", vec![""]),
            ("a: 1\n", vec!["a: 1\n"]),
            ("---\na: 1\n---\nb: 2\n", vec!["a: 1\n", "b: 2\n"]),
            ("# first\n---\na: 1", vec!["# first\n", "a: 1"]),
            ("a: |\n  ---\n  x\n--- # c\nb: 2\n...\n", vec!["a: |\n  ---\n  x\n", "# c\nb: 2\n"]),
            ("a: ---b\n---b: 1\n", vec!["a: ---b\n---b: 1\n"]),
            ("a: 1\r\n---\r\nb: 2\r\n", vec!["a: 1\r\n", "b: 2\r\n"]),
        ] {
            assert_eq!(split(stream), documents, "{stream:?}");
        }
    }
}
