//! What all objects have; and the kinds of which nothing else matters.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;

use super::{
    Fault, Kind, Name,
    typed::{self, Unknown},
};
use crate::world::objects::{Labels, Namespace, Node, Object, ServiceAccount};

/// Label of a node that says where it is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The object's name; in namespace `default` if it says none, as kubectl has it.
pub(super) fn name(value: &Value, kind: Kind) -> Result<Name, Fault> {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    check(name).map_err(|reason| Fault::fatal("metadata.name", reason))?;
    if matches!(kind, Kind::Namespace | Kind::MeshConfig | Kind::Node) {
        return Ok(Name::new("", name));
    }
    let namespace = match text("/metadata/namespace") {
        "" => "default",
        namespace => namespace,
    };
    check(namespace).map_err(|reason| Fault::fatal("metadata.namespace", reason))?;
    Ok(Name::new(namespace, name))
}

/// Names become parts of resource names, file names and SPIFFE ids, so only what Kubernetes itself
/// allows for any object (RFC 1123 subdomain) comes through.
fn check(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let ends = |c: Option<u8>| c.is_some_and(|b| b.is_ascii_alphanumeric());
    if name.is_empty() {
        return Err("is missing".to_owned());
    }
    let good = name.len() <= 253
        && name.bytes().all(allowed)
        && ends(name.bytes().next())
        && ends(name.bytes().last())
        && !name.contains("..");
    good.then_some(()).ok_or_else(|| {
        let shown: String = name.chars().take(100).collect();
        format!("{shown:?} is no name: lower case letters, digits, '-' and '.', at most 253")
    })
}

pub(super) fn labels(metadata: &mut ObjectMeta) -> Labels {
    metadata.labels.take().map_or_else(BTreeMap::new, |labels| labels.into_iter().collect())
}

pub(super) fn namespace(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let mut typed: v1::Namespace = typed::read(value, Unknown::Note, faults)?;
    let labels = labels(&mut typed.metadata);
    Some(Object::Namespace(Arc::new(Namespace { name: name.clone(), labels })))
}

pub(super) fn node(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let mut typed: v1::Node = typed::read(value, Unknown::Note, faults)?;
    let zone = labels(&mut typed.metadata).remove(ZONE).unwrap_or_default();
    Some(Object::Node(Arc::new(Node { name: name.clone(), zone })))
}

pub(super) fn service_account(
    name: &Name,
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<Object> {
    let _: v1::ServiceAccount = typed::read(value, Unknown::Note, faults)?;
    Some(Object::ServiceAccount(Arc::new(ServiceAccount { name: name.clone() })))
}

/// `metadata.creationTimestamp` as written; empty if it is not said.
pub(super) fn created(value: &Value) -> String {
    let text = value.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
