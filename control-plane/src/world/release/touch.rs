//! Releases: what a change touches.

use std::sync::Arc;

use crate::world::{
    Dirty, Subject, World, changes,
    objects::{Kind, Name, ObjectRef, Pod, Release, ReplicaSet, Workload},
    replace, touch_pod,
};

impl World {
    pub(in crate::world) fn set_release(
        &mut self,
        name: &Name,
        new: Option<&Arc<Release>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.releases, name, new) else {
            return;
        };
        let reference = ObjectRef { kind: Kind::Release, name: name.clone() };
        dirty.insert(Subject::Policy(reference));
        if let (Some(old), Some(new)) = (&old, new)
            && old.acts_as(new)
        {
            return;
        }
        let namespace = Arc::clone(&name.namespace);
        self.releases_by_namespace.set(namespace, name, new.is_some());
        for (release, present) in changes(&old, new) {
            for workload in release.workloads() {
                self.releases_by_workload.set(workload, name, present);
            }
        }
        for (release, _) in changes(&old, new) {
            self.touch_release(release, dirty);
            for workload in release.workloads() {
                // Of two of one workload one gives way.
                let others = self.releases_by_workload.get(&workload);
                let others = others.filter_map(|name| self.releases.get(name));
                others.for_each(|release| self.touch_services(release, dirty));
            }
        }
    }

    pub(in crate::world) fn set_replica_set(
        &mut self,
        name: &Name,
        new: Option<&Arc<ReplicaSet>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.replica_sets, name, new) else {
            return;
        };
        for (set, present) in changes(&old, new) {
            let deployment = Workload {
                namespace: Arc::clone(&name.namespace),
                kind: "Deployment".to_owned(),
                name: set.deployment.clone(),
            };
            if let Some(release) = self.release_of(&deployment) {
                self.touch_release(&Arc::clone(release), dirty);
            }
            self.sets_by_workload.set(deployment, name, present);
        }
    }

    /// A pod has changed: how much its version carries may have, too.
    pub(in crate::world) fn touch_released(&self, pod: &Pod, dirty: &mut Dirty) {
        if !self.releases.is_empty()
            && let Some(release) = self.release_of(&pod.workload())
        {
            self.touch_services(release, dirty);
            // The release may be called by a Service through this pod alone, as it was or will be.
            let services = self.services_selecting(pod).into_iter();
            services.for_each(|service| self.touch_callers(&service.name, dirty));
        }
    }

    /// Takes in a pod of which nothing is new but how its containers are, which is nobody's business if no release is about
    /// it. Whether that was all.
    pub(in crate::world) fn lives_on(&mut self, name: &Name, new: Option<&Arc<Pod>>) -> bool {
        let (Some(old), Some(new)) = (self.pods.get_mut(name), new) else { return false };
        let released = || self.releases_by_workload.get(&new.workload()).next().is_some();
        let same = old.life != new.life
            && Pod { life: old.life, ..Pod::clone(new) } == **old
            && (self.releases.is_empty() || !released());
        if same {
            *old = Arc::clone(new);
        }
        same
    }

    fn touch_release(&self, release: &Release, dirty: &mut Dirty) {
        self.released_pods(release).for_each(|pod| touch_pod(pod, dirty));
        self.touch_services(release, dirty);
    }

    /// What is said of the releases of a namespace depends on its Services, and on the routes that lead there.
    pub(in crate::world) fn touch_releases_in(&self, namespace: &Arc<str>, dirty: &mut Dirty) {
        let all = self.releases_by_namespace.get(namespace).cloned();
        let reference = |name| ObjectRef { kind: Kind::Release, name };
        dirty.extend(all.map(reference).map(Subject::Policy));
    }

    fn touch_services(&self, release: &Release, dirty: &mut Dirty) {
        dirty.insert(Subject::Policy(release.reference()));
        self.called_by(release).iter().for_each(|name| self.touch_callers(name, dirty));
    }

    /// A Service's endpoints have changed: whether its canary has any decides where requests go.
    pub(in crate::world) fn touch_divided(&self, service: &Name, dirty: &mut Dirty) {
        if self.services.get(service).is_some_and(|service| self.split(service).is_some()) {
            self.touch_callers(service, dirty);
        }
    }

    /// All that says what goes to a Service.
    fn touch_callers(&self, name: &Name, dirty: &mut Dirty) {
        let service = self.services.get(name);
        let addresses = service.into_iter().flat_map(|service| &service.cluster_ips);
        dirty.extend(addresses.copied().map(Subject::Address));
        self.touch_attached(name, dirty);
        dirty.insert(Subject::Service(name.clone()));
    }
}
