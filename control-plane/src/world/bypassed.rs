//! Ports of pods that lead past their sidecar: nobody keeps callers there to what AccessPolicy and MeshTLS say, and their
//! statuses name the pods.

use std::collections::BTreeSet;

use super::{
    Dirty, Subject, World,
    objects::{
        AccessPolicy, Caller, Kind, MeshTls, MtlsMode, Name, ObjectRef, Pod, Redirected, Scope,
    },
};

/// Pods, and such ports of each.
pub type Bypassed = Vec<(Name, Vec<u16>)>;

impl World {
    /// Where somebody gets in whom an AccessPolicy would refuse.
    pub fn bypassing_access(&self, policy: &AccessPolicy) -> Bypassed {
        let said = policy.rules.iter().flat_map(|rule| rule.ports.iter().copied()).collect();
        // What one of them lets in, it may: they add up. One that only tells lets in nobody.
        let open = |pod: &Pod, port| {
            let all = self.access_for(pod).into_iter();
            all.filter(|other| policy.audit || !other.audit).any(|other| other.opens(port))
        };
        self.bypassed((&policy.name, &policy.scope), &said, |pod, port| !open(pod, port))
    }

    /// Where plaintext comes in that a MeshTLS would refuse.
    pub fn bypassing_tls(&self, tls: &MeshTls) -> Bypassed {
        let said = tls.ports.keys().copied().collect();
        let strict = |pod: &Pod, port| self.is_strict_by(tls, pod, port);
        self.bypassed((&tls.name, &tls.scope), &said, strict)
    }

    fn bypassed(
        &self,
        (name, scope): (&Name, &Scope),
        said: &BTreeSet<u16>,
        about: impl Fn(&Pod, u16) -> bool,
    ) -> Bypassed {
        let of = |pod: &Pod| {
            let ports = pod.ports_past_sidecar(said).into_iter();
            let ports: Vec<_> = ports.filter(|port| about(pod, *port)).collect();
            (!ports.is_empty()).then(|| (pod.name.clone(), ports))
        };
        let here = |pod: &&std::sync::Arc<Pod>| scope.has(pod);
        let mut found: Bypassed = match scope {
            Scope::Mesh => self.pods.values().filter_map(|pod| of(pod)).collect(),
            Scope::Namespace | Scope::Pods(_) => {
                let names = self.pods_by_namespace.get(&name.namespace);
                let pods = names.filter_map(|name| self.pods.get(name));
                pods.filter(here).filter_map(|pod| of(pod)).collect()
            }
        };
        found.sort();
        found
    }

    /// Whether it is this object that makes a port of a pod strict: what is said of the port comes first, then what is most
    /// specific.
    fn is_strict_by(&self, tls: &MeshTls, pod: &Pod, port: u16) -> bool {
        let all = self.mesh_tls_for(pod);
        let of_port = all.iter().rev().find(|tls| tls.ports.contains_key(&port));
        let by = of_port.or_else(|| all.iter().rev().find(|tls| tls.mode.is_some()));
        by.is_some_and(|by| {
            let mode = by.ports.get(&port).copied().or(by.mode);
            by.name == tls.name && mode == Some(MtlsMode::Strict)
        })
    }

    /// Touches what is about a pod that has such ports, in whose status it is.
    pub(super) fn touch_bypassed(&self, pod: &Pod, dirty: &mut Dirty) {
        if !pod.may_be_bypassed() {
            return;
        }
        let access = self.access_for(pod).into_iter();
        let access = access.map(|policy| (Kind::AccessPolicy, &policy.name));
        let tls = self.mesh_tls_for(pod).into_iter().map(|tls| (Kind::MeshTls, &tls.name));
        let both = access.chain(tls).map(|(kind, name)| ObjectRef { kind, name: name.clone() });
        dirty.extend(both.map(Subject::Policy));
    }

    /// Touches all of a kind after one of them has changed: each may say it first, or instead, of such a port.
    pub(super) fn touch_all(kind: Kind, names: impl Iterator<Item = Name>, dirty: &mut Dirty) {
        dirty.extend(names.map(|name| Subject::Policy(ObjectRef { kind, name })));
    }
}

impl Pod {
    /// Its ports that lead past its sidecar, as far as they are known: from itself, and from what is `said` of it. Those of the
    /// sidecar are its own business.
    fn ports_past_sidecar(&self, said: &BTreeSet<u16>) -> Vec<u16> {
        if !self.may_be_bypassed() {
            return Vec::new();
        }
        let Redirected { except, own, .. } = &self.redirected;
        let declared = self.ports.iter().map(|port| port.port);
        let known: BTreeSet<_> = declared.chain(except.iter().chain(said).copied()).collect();
        let past = |port: &u16| !self.redirected.has(*port) && !own.contains(port);
        known.into_iter().filter(past).collect()
    }

    fn may_be_bypassed(&self) -> bool {
        let Redirected { only, except, .. } = &self.redirected;
        self.meshed && !self.ended && !(only.is_empty() && except.is_empty())
    }
}

impl AccessPolicy {
    /// Whether it lets everybody in at this port.
    fn opens(&self, port: u16) -> bool {
        self.rules.iter().any(|rule| {
            (rule.ports.is_empty() || rule.ports.contains(&port))
                && rule.from.contains(&Caller::Anyone)
        })
    }

    /// Whether it lets everybody in anywhere.
    pub(super) fn opens_any(&self) -> bool {
        self.rules.iter().any(|rule| rule.from.contains(&Caller::Anyone))
    }
}
