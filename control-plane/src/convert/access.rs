//! AccessPolicy.

use std::sync::Arc;

use serde_json::Value;
use tulle_api::{AccessMode, Peers};

use super::{Fault, Name, mesh::scope, metadata::created, typed::read_ours};
use crate::world::objects::{AccessPolicy, AccessRule, Caller, Object};

pub(super) fn convert(
    system: &str,
    name: &Name,
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<Object> {
    let policy: tulle_api::AccessPolicy = read_ours(value, faults)?;
    let rule = |rule: tulle_api::AccessRule| AccessRule {
        from: rule.from.into_iter().filter_map(|caller| self::caller(name, caller)).collect(),
        ports: rule.ports.unwrap_or_default(),
    };
    Some(Object::AccessPolicy(Arc::new(AccessPolicy {
        name: name.clone(),
        created: created(value),
        scope: scope(system, name, policy.spec.selector),
        audit: policy.spec.mode == AccessMode::Audit,
        rules: policy.spec.rules.into_iter().map(rule).collect(),
    })))
}

/// `None` only for what has been refused before.
fn caller(policy: &Name, caller: tulle_api::Caller) -> Option<Caller> {
    let tulle_api::Caller { namespace, service_account, identity, peers } = caller;
    Some(match (peers, identity, service_account, namespace) {
        (Some(Peers::All), ..) => Caller::Anyone,
        (Some(Peers::Authenticated), ..) => Caller::Mesh,
        (None, Some(id), ..) => Caller::Is(id.parse().ok()?),
        (None, None, Some(account), namespace) => {
            let namespace = namespace.unwrap_or_else(|| policy.namespace.to_string());
            Caller::Account(Name::new(namespace, account))
        }
        (None, None, None, Some(namespace)) => Caller::Namespace(namespace),
        (None, None, None, None) => return None,
    })
}
