//! AccessPolicies: which pods they are about.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Dirty, Subject, World,
    attach::age,
    changes, matches,
    objects::{AccessPolicy, Kind, Name, ObjectRef, Pod, Scope},
    replace,
};

impl World {
    /// An AccessPolicy.
    pub fn access_policy(&self, name: &Name) -> Option<&Arc<AccessPolicy>> {
        self.access.get(name)
    }

    /// The AccessPolicies that are about `pod`: the most specific first, among equals the oldest, then
    /// by name.
    pub fn access_for(&self, pod: &Pod) -> Vec<&Arc<AccessPolicy>> {
        let mesh_wide = self.access_by_namespace.get("");
        let mut found: Vec<_> = mesh_wide
            .chain(self.access_by_namespace.get(&pod.name.namespace))
            .filter_map(|name| self.access.get(name))
            .filter(|policy| policy.scope.has(pod))
            .collect();
        found.sort_by_key(|policy| {
            (Reverse(policy.scope.specificity()), age(&policy.created), &policy.name)
        });
        found
    }

    /// The pods that a policy is about and that have no sidecar, by name. The mesh is what has one: of a
    /// policy for all of it there are none.
    pub fn without_sidecar(&self, policy: &AccessPolicy) -> Vec<Name> {
        let all = self.pods_by_namespace.get(&policy.name.namespace);
        let pods = all.filter_map(|name| self.pods.get(name)).filter(|pod| policy.misses(pod));
        let mut names: Vec<_> = pods.map(|pod| pod.name.clone()).collect();
        names.sort();
        names
    }

    /// Touches the policies that miss `pod`, in whose status it is.
    pub(super) fn touch_missing(&self, pod: &Pod, dirty: &mut Dirty) {
        let policies = self.access_by_namespace.get(&pod.name.namespace);
        let missing = policies
            .filter_map(|name| self.access.get(name))
            .filter(|policy| policy.misses(pod))
            .map(|policy| ObjectRef { kind: Kind::AccessPolicy, name: policy.name.clone() });
        dirty.extend(missing.map(Subject::Policy));
    }

    pub(super) fn set_access(
        &mut self,
        name: &Name,
        new: Option<&Arc<AccessPolicy>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.access, name, new) else {
            return;
        };
        for (policy, present) in changes(&old, new) {
            if policy.opens_any() {
                Self::touch_all(Kind::AccessPolicy, self.access.keys().cloned(), dirty);
            }
            self.access_by_namespace.set(policy.scope.home(name), name, present);
            self.touch_pods_of(name, &policy.scope, dirty);
        }
    }

    /// Touches the pods that an object with this name and scope is about.
    pub(super) fn touch_pods_of(&self, name: &Name, scope: &Scope, dirty: &mut Dirty) {
        match scope {
            Scope::Mesh => self.touch_every_pod(dirty),
            Scope::Namespace => {
                let pods = self.pods_by_namespace.get(&name.namespace);
                dirty.extend(pods.cloned().map(Subject::Pod));
            }
            Scope::Pods(selector) => {
                let pods = self.pods_selected(&name.namespace, selector);
                dirty.extend(pods.map(|pod| Subject::Pod(pod.name.clone())));
            }
        }
    }
}

impl AccessPolicy {
    /// Whether it is about this pod of its namespace, which has no sidecar.
    fn misses(&self, pod: &Pod) -> bool {
        self.scope != Scope::Mesh && !pod.meshed && !pod.ended && self.scope.has(pod)
    }
}

impl Scope {
    /// Where an object of this name stands in an index by namespace: what is about the whole mesh, in
    /// none.
    pub(super) fn home(&self, name: &Name) -> Arc<str> {
        match self {
            Self::Mesh => "".into(),
            Self::Namespace | Self::Pods(_) => Arc::clone(&name.namespace),
        }
    }

    /// Whether it has this pod, which is of the right namespace.
    pub(super) fn has(&self, pod: &Pod) -> bool {
        match self {
            Self::Mesh | Self::Namespace => true,
            Self::Pods(selector) => matches(selector, pod),
        }
    }

    /// A higher number is more specific.
    pub(super) fn specificity(&self) -> u8 {
        match self {
            Self::Mesh => 0,
            Self::Namespace => 1,
            Self::Pods(_) => 2,
        }
    }
}
