//! Routes and policies: what they are attached to, and whom a change of either touches.
//!
//! A route touches the Services that it is attached to (their rules), and itself (whether it is in
//! force). A policy touches its target, and what is attached to that.

use std::sync::Arc;

use super::{
    Dirty, Subject, World, changes,
    objects::{Kind, Name, ObjectRef, Pod, ReferenceGrant, Route, TrafficPolicy},
    replace, touch_pod,
};

impl World {
    /// A route.
    pub fn route(&self, reference: &ObjectRef) -> Option<&Arc<Route>> {
        self.routes.get(reference)
    }

    /// The routes that are attached to a Service or one of its ports, by kind and name.
    pub fn routes_of(&self, service: &Name) -> impl Iterator<Item = &Arc<Route>> {
        self.routes_by_parent.get(service).filter_map(|route| self.routes.get(route))
    }

    /// The routes with a rule that sends requests or copies to a Service, by kind and name.
    pub fn routes_to(&self, service: &Name) -> impl Iterator<Item = &Arc<Route>> {
        self.routes_by_backend.get(service).filter_map(|route| self.routes.get(route))
    }

    /// A TrafficPolicy.
    pub fn policy(&self, name: &Name) -> Option<&Arc<TrafficPolicy>> {
        self.policies.get(name)
    }

    /// The policies that are attached to `target` as a whole, or to this section of it: those that
    /// count first (the oldest, then by name) first.
    pub fn policies_of(
        &self,
        target: &ObjectRef,
        section: Option<&str>,
    ) -> Vec<&Arc<TrafficPolicy>> {
        let attached = self.policies_by_target.get(target);
        let mut found: Vec<_> = attached
            .filter_map(|name| self.policies.get(name))
            .filter(|policy| {
                let mut targets = policy.targets.iter();
                targets.any(|(object, at)| object == target && at.as_deref() == section)
            })
            .collect();
        found.sort_by_key(|policy| (age(&policy.created), &policy.name));
        found
    }

    /// Whether a route may send anybody's requests to `service`: it is of the route's own
    /// namespace, or a ReferenceGrant allows it.
    pub fn may_refer(&self, route: &Route, service: &Name) -> bool {
        let mut grants = self.grants_by_namespace.get(&service.namespace);
        route.name.namespace == service.namespace
            || grants.any(|name| {
                let grant = self.grants.get(name);
                let from = &route.name.namespace;
                grant.is_some_and(|grant| grant.allows(route.kind, from, &service.name))
            })
    }

    pub(super) fn set_route(
        &mut self,
        reference: &ObjectRef,
        new: Option<&Arc<Route>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.routes, reference, new) else {
            return;
        };
        // An HTTPRoute gives way to a GRPCRoute on the same port, and a TCPRoute or TLSRoute to an older one, so what else
        // is attached there is touched too.
        let beside = |world: &Self, route: &Route, dirty: &mut Dirty| {
            let parents = route.parents.iter();
            let routes = parents.flat_map(|parent| world.routes_by_parent.get(&parent.service));
            dirty.extend(routes.cloned().map(Subject::Policy));
        };
        for (route, present) in changes(&old, new) {
            beside(self, route, dirty);
            for parent in &route.parents {
                self.routes_by_parent.set(parent.service.clone(), reference, present);
            }
            for backend in route.backends() {
                self.routes_by_backend.set(backend.clone(), reference, present);
                self.touch_releases_in(&backend.namespace, dirty);
                if backend.namespace != route.name.namespace {
                    let foreign = Arc::clone(&backend.namespace);
                    self.routes_by_foreign.set(foreign, reference, present);
                }
            }
            self.touch_route(route, dirty);
            let policies = self.policies_by_target.get(reference);
            if policies.filter_map(|name| self.policies.get(name)).any(derives) {
                touch_backends(route, dirty);
            }
        }
        dirty.insert(Subject::Policy(reference.clone()));
        self.touch_policies_of(reference, dirty);
    }

    pub(super) fn set_grant(
        &mut self,
        name: &Name,
        new: Option<&Arc<ReferenceGrant>>,
        dirty: &mut Dirty,
    ) {
        if replace(&mut self.grants, name, new).is_none() {
            return;
        }
        self.grants_by_namespace.set(Arc::clone(&name.namespace), name, new.is_some());
        for route in self.routes_by_foreign.get(&name.namespace) {
            self.touch_route_named(route, dirty);
        }
    }

    pub(super) fn set_policy(
        &mut self,
        name: &Name,
        new: Option<&Arc<TrafficPolicy>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.policies, name, new) else {
            return;
        };
        let reference = ObjectRef { kind: Kind::TrafficPolicy, name: name.clone() };
        for (policy, present) in changes(&old, new) {
            for (target, _) in &policy.targets {
                self.policies_by_target.set(target.clone(), &name.clone(), present);
                self.touch_target(target, dirty);
                if let Some(route) = self.routes.get(target)
                    && derives(policy)
                {
                    touch_backends(route, dirty);
                }
                // Of two policies that say the same of one target, one gives way.
                self.touch_policies_of(target, dirty);
            }
        }
        dirty.insert(Subject::Policy(reference));
    }

    /// A Service has changed: who refers to it is touched.
    pub(super) fn touch_attached(&self, service: &Name, dirty: &mut Dirty) {
        let attached = self.routes_by_parent.get(service);
        for route in attached.chain(self.routes_by_backend.get(service)) {
            self.touch_route_named(route, dirty);
        }
        let target = ObjectRef { kind: Kind::Service, name: service.clone() };
        self.touch_policies_of(&target, dirty);
    }

    /// The routes that send to a Service.
    pub(super) fn touch_routes_to(&self, service: &Name, dirty: &mut Dirty) {
        for route in self.routes_by_backend.get(service) {
            self.touch_route_named(route, dirty);
        }
    }

    fn touch_target(&self, target: &ObjectRef, dirty: &mut Dirty) {
        match target.kind {
            Kind::Service => self.touch_service(&target.name, dirty),
            Kind::Namespace => {
                for service in self.services_by_namespace.get(&target.name.name) {
                    self.touch_service(service, dirty);
                }
                let pods = self.pods_by_namespace.get(&target.name.name);
                pods.filter_map(|pod| self.pods.get(pod)).for_each(|pod| touch_pod(pod, dirty));
            }
            _ => self.touch_route_named(target, dirty),
        }
    }

    /// A Service, what listens at its addresses, and the pods for whose own addresses it speaks.
    fn touch_service(&self, name: &Name, dirty: &mut Dirty) {
        dirty.insert(Subject::Service(name.clone()));
        let Some(service) = self.services.get(name) else {
            return;
        };
        dirty.extend(service.cluster_ips.iter().copied().map(Subject::Address));
        for pod in self.pods_behind(service) {
            touch_pod(pod, dirty);
            self.touch_speakers(pod, dirty);
        }
    }

    /// The policies of headless Services that select a pod together: what they say of its own address
    /// may contradict each other.
    pub(super) fn touch_speakers(&self, pod: &Pod, dirty: &mut Dirty) {
        let mut headless = self.services_selecting(pod);
        headless.retain(|service| service.is_headless());
        if headless.len() > 1 {
            for service in headless {
                let name = service.name.clone();
                self.touch_policies_of(&ObjectRef { kind: Kind::Service, name }, dirty);
            }
        }
    }

    fn touch_policies_of(&self, target: &ObjectRef, dirty: &mut Dirty) {
        let policies = self.policies_by_target.get(target).cloned();
        let reference = |name| ObjectRef { kind: Kind::TrafficPolicy, name };
        dirty.extend(policies.map(reference).map(Subject::Policy));
    }

    fn touch_route_named(&self, reference: &ObjectRef, dirty: &mut Dirty) {
        if let Some(route) = self.routes.get(reference) {
            self.touch_route(route, dirty);
        }
    }

    fn touch_route(&self, route: &Route, dirty: &mut Dirty) {
        for parent in &route.parents {
            dirty.insert(Subject::Service(parent.service.clone()));
            // Where opaque connections go is said of the address.
            let service = self.services.get(&parent.service).filter(|_| route.is_opaque());
            let addresses = service.into_iter().flat_map(|service| &service.cluster_ips);
            dirty.extend(addresses.copied().map(Subject::Address));
        }
        dirty.insert(Subject::Policy(route.reference()));
    }
}

/// Whether a policy gives what a route sends somewhere a cluster of its own.
fn derives(policy: &Arc<TrafficPolicy>) -> bool {
    policy.settings.is_about_clusters()
}

fn touch_backends(route: &Route, dirty: &mut Dirty) {
    dirty.extend(route.backends().cloned().map(Subject::Service));
}

/// Orders by age; what does not say when it was made counts as the youngest.
pub fn age(created: &str) -> (bool, &str) {
    (created.is_empty(), created)
}
