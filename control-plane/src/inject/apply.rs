//! Additions, put into a pod as JSON: what is there and unknown to us stays.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Additions, List, Rewrite, Shared};

impl Additions {
    /// Changes the pod (or pod template) that they were planned for.
    pub fn apply(&self, pod: &mut Value) {
        let annotations = object(object(pod, "metadata"), "annotations");
        for (name, value) in &self.annotations {
            annotations[name] = value.as_str().into();
        }
        let spec = object(pod, "spec");
        // By their index: before anything is put in front of them.
        self.rewrites.iter().for_each(|change| rewrite(spec, change));
        if let Some(shared) = &self.shared {
            share(spec, shared);
        }
        list(spec, List::InitContainers.field()).splice(..0, values(&self.init_containers));
        list(spec, "volumes").extend(values(&self.volumes));
    }
}

/// Puts `httpGet` in the place of what the kubelet did before, if it did something.
pub(super) fn rewrite(spec: &mut Value, change: &Rewrite) {
    let container = spec.get_mut(change.list.field()).and_then(|list| list.get_mut(change.index));
    let Some(container) = container else {
        return;
    };
    let handler = change.handler.fields().iter().fold(container, |parent, key| object(parent, key));
    if let Some(handler) = handler.as_object_mut() {
        handler.retain(|field, _| !["tcpSocket", "grpc"].contains(&field.as_str()));
        handler.insert("httpGet".to_owned(), value(&change.http_get));
    }
}

/// Sets a variable of an init container that there is.
pub(super) fn tell(spec: &mut Value, index: usize, name: &str, value: &str) {
    let Some(container) = list(spec, List::InitContainers.field()).get_mut(index) else {
        return;
    };
    let variables = list(container, "env");
    match variables.iter_mut().find(|variable| variable["name"] == name) {
        Some(variable) => variable["value"] = value.into(),
        None => variables.push(json!({"name": name, "value": value})),
    }
}

/// Gives all containers what they share with the agent.
fn share(spec: &mut Value, shared: &Shared) {
    for containers in [List::InitContainers, List::Containers] {
        for container in list(spec, containers.field()) {
            let variables = list(container, "env");
            if variables.iter().all(|set| set["name"] != shared.variable.name.as_str()) {
                variables.push(value(&shared.variable));
            }
            list(container, "volumeMounts").push(value(&shared.mount));
        }
    }
    let groups = list(object(spec, "securityContext"), "supplementalGroups");
    if !groups.contains(&shared.group.into()) {
        groups.push(shared.group.into());
    }
}

/// The object under `key`, made if there is none.
fn object<'a>(parent: &'a mut Value, key: &str) -> &'a mut Value {
    let value = entry(parent, key);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value
}

/// The list under `key`, made if there is none.
fn list<'a>(parent: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    let value = entry(parent, key);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("just made")
}

fn entry<'a>(parent: &'a mut Value, key: &str) -> &'a mut Value {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    parent.as_object_mut().expect("just made").entry(key).or_insert(Value::Null)
}

fn values<T: Serialize>(items: &[T]) -> impl Iterator<Item = Value> {
    items.iter().map(value)
}

fn value(item: &impl Serialize) -> Value {
    serde_json::to_value(item).expect("types of Kubernetes have string keys")
}
