//! ReferenceGrant.

use std::sync::Arc;

use gateway_api::referencegrants as gateway;
use serde_json::Value;

use super::{
    Fault, Field, Kind, Name,
    typed::{self, Unknown},
};
use crate::world::objects::{Grantee, Object, ReferenceGrant};

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let typed: gateway::ReferenceGrant = typed::read(value, Unknown::Refuse, faults)?;
    for (list, empty) in [("from", typed.spec.from.is_empty()), ("to", typed.spec.to.is_empty())] {
        if empty {
            faults.push(Fault::fatal(Field::from("spec").key(list), "is empty"));
        }
    }
    let mut other = |list: &str, at: usize, group: &str, kind: &str| {
        // Gateways, Secrets, UDPRoutes: right in themselves, but nothing here refers so.
        let field = Field::from("spec").key(list).index(at);
        let what = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        faults.push(Fault::note(field, format!("not in force yet: nothing here acts on {what}")));
    };
    let from = typed.spec.from.into_iter().enumerate().filter_map(|(at, from)| {
        let kind = Kind::ALL
            .into_iter()
            .filter(|kind| kind.is_route())
            .find(|kind| from.group == "gateway.networking.k8s.io" && from.kind == kind.as_str());
        if kind.is_none() {
            other("from", at, &from.group, &from.kind);
        }
        Some(Grantee { kind: kind?, namespace: from.namespace })
    });
    let from = from.collect();
    let to = typed.spec.to.into_iter().enumerate().filter_map(|(at, to)| {
        let service = to.group.is_empty() && to.kind == "Service";
        if !service {
            other("to", at, &to.group, &to.kind);
        }
        service.then_some(to.name.filter(|name| !name.is_empty()))
    });
    let to = to.collect();
    Some(Object::ReferenceGrant(Arc::new(ReferenceGrant { name: name.clone(), from, to })))
}
