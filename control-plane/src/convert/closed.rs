//! What stands in for a policy that nobody can read.

use std::collections::BTreeMap;

use serde_json::Value;
use tulle_api::PodSelector;

use super::{Kind, ObjectRef, mesh, metadata::created};
use crate::world::objects::{AccessPolicy, MeshTls, MtlsMode, Object, Scope};

/// What to enforce in place of an object that does not apply and of which nothing better is known, and how to say so.
/// `None` for kinds that let nobody in whom they would have refused.
///
/// The API server takes no such object of these kinds from its own schemas: it is what a newer Tulle wrote.
pub fn closed(system: &str, object: &ObjectRef, value: &Value) -> Option<(Object, &'static str)> {
    let name = &object.name;
    let scope = || match value.pointer("/spec/selector") {
        None => mesh::scope(system, name, None),
        // One that cannot be read: not beyond the namespace.
        Some(selector) => serde_json::from_value::<PodSelector>(selector.clone())
            .map_or(Scope::Namespace, |selector| Scope::Pods(selector.match_labels)),
    };
    match object.kind {
        Kind::AccessPolicy => {
            let policy = AccessPolicy {
                name: name.clone(),
                created: created(value),
                scope: scope(),
                audit: value.pointer("/spec/mode").and_then(Value::as_str) == Some("Audit"),
                rules: Vec::new(),
            };
            let said = "as long as this control plane cannot read it, it lets nobody in";
            Some((Object::AccessPolicy(policy.into()), said))
        }
        Kind::MeshTls => {
            let tls = MeshTls {
                name: name.clone(),
                scope: scope(),
                mode: Some(MtlsMode::Strict),
                ports: BTreeMap::new(),
                trust_domains: Vec::new(),
            };
            let said = "as long as this control plane cannot read it, it means Strict";
            Some((Object::MeshTls(tls.into()), said))
        }
        _ => None,
    }
}
