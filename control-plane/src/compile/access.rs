//! Who may connect to a pod.

use tulle_xds::model::{Access, AccessMode, AccessRule, Caller, SpiffeId};

use super::{Settings, port};
use crate::world::{
    World,
    objects::{self, Kind, Pod},
};

/// The field of AccessPolicy that proxies must understand.
pub(super) const FIELD: &str = "spec";

/// What the policies about a pod say, the most specific first.
pub(super) fn of(world: &World, settings: &Settings, pod: &Pod) -> Vec<Access> {
    let rule = |rule: &objects::AccessRule| AccessRule {
        from: rule.from.iter().map(|caller| self::caller(settings, caller)).collect(),
        ports: rule.ports.clone(),
    };
    let policies = world.access_for(pod).into_iter().map(|policy| Access {
        origin: port::origin(
            Kind::AccessPolicy.as_str(),
            &policy.name.namespace,
            &policy.name.name,
        ),
        mode: if policy.audit { AccessMode::Audit } else { AccessMode::Enforce },
        rules: policy.rules.iter().map(rule).collect(),
    });
    policies.collect()
}

/// The ports of which they say something.
pub(super) fn ports(policies: &[Access]) -> impl Iterator<Item = u16> {
    policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| rule.ports.iter().copied())
}

/// Names are of the mesh's own trust domain: another's namespaces are not ours.
fn caller(settings: &Settings, caller: &objects::Caller) -> Caller {
    let domain = &settings.trust_domain;
    match caller {
        objects::Caller::Anyone => Caller::Anyone,
        objects::Caller::Mesh => Caller::Domain(domain.clone()),
        objects::Caller::Namespace(namespace) => {
            Caller::Namespace(domain.clone(), namespace.clone())
        }
        objects::Caller::Account(name) => {
            Caller::Is(SpiffeId::service_account(domain, &name.namespace, &name.name))
        }
        objects::Caller::Is(id) => Caller::Is(id.clone()),
    }
}
