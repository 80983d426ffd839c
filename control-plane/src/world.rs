//! The world: what Kubernetes said, with the indexes that make a change cheap.
//!
//! ```text
//! [ Service ] --cluster IP--> address      [ EndpointSlice ] --targetRef--> [ Pod ] --IP--> address
//!      '------- selector, by one label -------------------------------------^
//! [ HTTPRoute, GRPCRoute ] --parentRef, backendRef--> [ Service ]
//! [ TrafficPolicy ] --targetRef--> [ Service, HTTPRoute, GRPCRoute, Namespace ]
//! [ MeshTLS, AccessPolicy, Telemetry, Lane ] --selector, or namespace--> [ Pod ]
//! ```
//!
//! Invariants: only `publish` writes it; [`World::apply`] says everything that an event touched, and
//! looks only at what is connected to the event's object, never at the whole mesh (the mesh-wide
//! kinds `MeshConfig` and `MeshTLS` touch every pod, because they are about every pod).

mod access;
pub mod attach;
mod bypassed;
mod dump;
mod index;
pub mod lane;
mod mesh_tls;
mod name;
pub mod objects;
pub mod policy;
pub mod release;
pub mod route;
mod telemetry;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

pub use self::{
    bypassed::Bypassed,
    release::{Arm, Split, Versions},
};
use self::{
    index::{LabelIndex, Multimap},
    objects::{
        AccessPolicy, EndpointSlice, Kind, Lane, MeshConfig, MeshTls, Name, Namespace, Node,
        Object, ObjectRef, Pod, ReferenceGrant, Release, ReplicaSet, Route, Service, Telemetry,
        TrafficPolicy, Workload,
    },
};

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It is there, like this.
    Apply(Object),
    /// It is gone.
    Delete(ObjectRef),
}

/// What a change touches, and what published resources are about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A Service: its clusters, routes and endpoints.
    Service(Name),
    /// A pod: its workload, and the cluster that stands for it alone.
    Pod(Name),
    /// What listens at an address.
    Address(IpAddr),
    /// A namespace: whether pods in it need our roots.
    Namespace(Arc<str>),
    /// A route or policy: whether what it refers to is there, and it is in force.
    Policy(ObjectRef),
}

/// What changed, in a fixed order.
pub type Dirty = BTreeSet<Subject>;

/// Label of a namespace or pod that asks for (`enabled`) or refuses (`disabled`) the sidecar.
pub const INJECT_LABEL: &str = "tulle.dev/inject";

/// What Kubernetes said.
#[derive(Debug, Default)]
pub struct World {
    namespaces: HashMap<Arc<str>, Arc<Namespace>>,
    pods: HashMap<Name, Arc<Pod>>,
    services: HashMap<Name, Arc<Service>>,
    slices: HashMap<Name, Arc<EndpointSlice>>,
    mesh_tls: HashMap<Name, Arc<MeshTls>>,
    mesh_configs: HashMap<Name, Arc<MeshConfig>>,
    access: HashMap<Name, Arc<AccessPolicy>>,
    telemetries: HashMap<Name, Arc<Telemetry>>,
    nodes: HashMap<Arc<str>, Arc<Node>>,
    accounts: BTreeSet<Name>,
    routes: HashMap<ObjectRef, Arc<Route>>,
    grants: HashMap<Name, Arc<ReferenceGrant>>,
    policies: HashMap<Name, Arc<TrafficPolicy>>,
    releases: HashMap<Name, Arc<Release>>,
    replica_sets: HashMap<Name, Arc<ReplicaSet>>,
    lanes: HashMap<Name, Arc<Lane>>,

    services_by_ip: Multimap<IpAddr, Name>,
    pods_by_ip: Multimap<IpAddr, Name>,
    pods_by_namespace: Multimap<Arc<str>, Name>,
    meshed_by_namespace: Multimap<Arc<str>, Name>,
    mesh_tls_by_namespace: Multimap<Arc<str>, Name>,
    access_by_namespace: Multimap<Arc<str>, Name>,
    telemetries_by_namespace: Multimap<Arc<str>, Name>,
    slices_by_service: Multimap<Name, Name>,
    services_by_pod: Multimap<Name, Name>,
    /// By the addresses of endpoints that name no pod: whichever pod has the address is meant.
    services_by_endpoint: Multimap<IpAddr, Name>,
    services_by_namespace: Multimap<Arc<str>, Name>,
    routes_by_parent: Multimap<Name, ObjectRef>,
    routes_by_backend: Multimap<Name, ObjectRef>,
    /// Routes with a backend in another namespace, by that namespace.
    routes_by_foreign: Multimap<Arc<str>, ObjectRef>,
    grants_by_namespace: Multimap<Arc<str>, Name>,
    policies_by_target: Multimap<ObjectRef, Name>,
    pods_by_workload: Multimap<Workload, Name>,
    releases_by_workload: Multimap<Workload, Name>,
    releases_by_namespace: Multimap<Arc<str>, Name>,
    sets_by_workload: Multimap<Workload, Name>,
    lanes_by_namespace: Multimap<Arc<str>, Name>,
    pods_by_label: LabelIndex,
    selectors: LabelIndex,
}

impl World {
    /// Takes `event` in. What it touched is added to `dirty`; an event that says nothing new
    /// touches nothing.
    pub fn apply(&mut self, event: Event, dirty: &mut Dirty) {
        match event {
            Event::Apply(Object::Namespace(o)) => self.set_namespace(&o.name.name, Some(&o), dirty),
            Event::Apply(Object::Pod(o)) => self.set_pod(&o.name, Some(&o), dirty),
            Event::Apply(Object::Service(o)) => self.set_service(&o.name, Some(&o), dirty),
            Event::Apply(Object::EndpointSlice(o)) => self.set_slice(&o.name, Some(&o), dirty),
            Event::Apply(Object::MeshTls(o)) => self.set_mesh_tls(&o.name, Some(&o), dirty),
            Event::Apply(Object::AccessPolicy(o)) => self.set_access(&o.name, Some(&o), dirty),
            Event::Apply(Object::Telemetry(o)) => self.set_telemetry(&o.name, Some(&o), dirty),
            Event::Apply(Object::Node(o)) => self.set_node(&o.name.name, Some(&o), dirty),
            Event::Apply(Object::MeshConfig(o)) => self.set_mesh_config(&o.name, Some(&o), dirty),
            Event::Apply(
                Object::HttpRoute(o)
                | Object::GrpcRoute(o)
                | Object::TcpRoute(o)
                | Object::TlsRoute(o),
            ) => {
                self.set_route(&o.reference(), Some(&o), dirty);
            }
            Event::Apply(Object::ReferenceGrant(o)) => self.set_grant(&o.name, Some(&o), dirty),
            Event::Apply(Object::TrafficPolicy(o)) => self.set_policy(&o.name, Some(&o), dirty),
            Event::Apply(Object::ReplicaSet(o)) => self.set_replica_set(&o.name, Some(&o), dirty),
            Event::Apply(Object::Release(o)) => self.set_release(&o.name, Some(&o), dirty),
            Event::Apply(Object::Lane(o)) => self.set_lane(&o.name, Some(&o), dirty),
            Event::Apply(Object::ServiceAccount(o)) => {
                self.accounts.insert(o.name.clone());
            }
            Event::Delete(reference) => self.delete(&reference, dirty),
        }
    }

    fn delete(&mut self, reference: &ObjectRef, dirty: &mut Dirty) {
        let ObjectRef { kind, name } = reference;
        match kind {
            Kind::Namespace => self.set_namespace(&name.name, None, dirty),
            Kind::Pod => self.set_pod(name, None, dirty),
            Kind::Service => self.set_service(name, None, dirty),
            Kind::EndpointSlice => self.set_slice(name, None, dirty),
            Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::TlsRoute => {
                self.set_route(reference, None, dirty);
            }
            Kind::ReferenceGrant => self.set_grant(name, None, dirty),
            Kind::TrafficPolicy => self.set_policy(name, None, dirty),
            Kind::MeshTls => self.set_mesh_tls(name, None, dirty),
            Kind::MeshConfig => self.set_mesh_config(name, None, dirty),
            Kind::AccessPolicy => self.set_access(name, None, dirty),
            Kind::Telemetry => self.set_telemetry(name, None, dirty),
            Kind::Node => self.set_node(&name.name, None, dirty),
            Kind::ReplicaSet => self.set_replica_set(name, None, dirty),
            Kind::Release => self.set_release(name, None, dirty),
            Kind::Lane => self.set_lane(name, None, dirty),
            Kind::ServiceAccount => {
                self.accounts.remove(name);
            }
        }
    }

    /// A pod.
    pub fn pod(&self, name: &Name) -> Option<&Arc<Pod>> {
        self.pods.get(name)
    }

    /// A Service.
    pub fn service(&self, name: &Name) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// Everything about which there is something for whoever wants to know all: Services, and the
    /// addresses at which they are served.
    pub fn served(&self) -> Dirty {
        let addresses = self.services.values().flat_map(|service| &service.cluster_ips);
        let services = self.services.keys().cloned().map(Subject::Service);
        services.chain(addresses.copied().map(Subject::Address)).collect()
    }

    /// The Service with this cluster IP. Of several (an address that is just changing hands) the
    /// first by name, so that every replica says the same.
    pub fn service_at(&self, ip: IpAddr) -> Option<&Arc<Service>> {
        self.services_by_ip.get(&ip).next().and_then(|name| self.services.get(name))
    }

    /// The pod with this address; see [`World::service_at`] for several.
    pub fn pod_at(&self, ip: IpAddr) -> Option<&Arc<Pod>> {
        self.pods_by_ip.get(&ip).next().and_then(|name| self.pods.get(name))
    }

    /// The slices of a Service, by name.
    pub fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices_by_service.get(service).filter_map(|name| self.slices.get(name))
    }

    /// The Services whose selector matches `pod`, by name.
    pub fn services_selecting(&self, pod: &Pod) -> Vec<&Arc<Service>> {
        self.selectors
            .candidates(&pod.name.namespace, &pod.labels)
            .into_iter()
            .filter_map(|name| self.services.get(name))
            .filter(|service| matches(&service.selector, pod))
            .collect()
    }

    /// Whether there is a MeshConfig of this name.
    pub fn has_mesh_config(&self, name: &Name) -> bool {
        self.mesh_configs.contains_key(name)
    }

    /// The MeshConfig: of several, the first by name.
    pub fn mesh_config(&self) -> Option<&Arc<MeshConfig>> {
        self.mesh_configs.values().min_by_key(|config| &config.name)
    }

    /// Pods that run and have a sidecar.
    pub fn sidecars(&self) -> usize {
        let runs = |pod: &&Arc<Pod>| pod.meshed && !pod.ended && !pod.ips.is_empty();
        self.pods.values().filter(runs).count()
    }

    /// Whether pods of this namespace need our roots: it asks for the sidecar, or one of its pods
    /// does or has it.
    pub fn needs_roots(&self, namespace: &str) -> bool {
        let labelled = self
            .namespaces
            .get(namespace)
            .is_some_and(|ns| ns.labels.get(INJECT_LABEL).is_some_and(|v| v == "enabled"));
        labelled
            || self.meshed_by_namespace.get(namespace).next().is_some()
            || self.pods_by_label.has(namespace, INJECT_LABEL, "enabled")
    }

    fn set_namespace(&mut self, name: &Arc<str>, new: Option<&Arc<Namespace>>, dirty: &mut Dirty) {
        if replace(&mut self.namespaces, name, new).is_some() {
            dirty.insert(Subject::Namespace(Arc::clone(name)));
        }
    }

    fn set_pod(&mut self, name: &Name, new: Option<&Arc<Pod>>, dirty: &mut Dirty) {
        if self.lives_on(name, new) {
            return;
        }
        let Some(old) = replace(&mut self.pods, name, new) else {
            return;
        };
        for (pod, present) in changes(&old, new) {
            self.index_pod(pod, present);
            touch_pod(pod, dirty);
            self.touch_speakers(pod, dirty);
            self.touch_missing(pod, dirty);
            self.touch_bypassed(pod, dirty);
            self.touch_released(pod, dirty);
            let listing = own_addresses(pod).flat_map(|ip| self.services_by_endpoint.get(&ip));
            for service in listing {
                dirty.insert(Subject::Service(service.clone()));
                self.touch_senders(service, dirty);
            }
        }
        // Endpoints carry the pod's identity: who lists it is touched too.
        for service in self.services_by_pod.get(name) {
            dirty.insert(Subject::Service(service.clone()));
            self.touch_senders(service, dirty);
        }
        dirty.insert(Subject::Namespace(Arc::clone(&name.namespace)));
    }

    fn index_pod(&mut self, pod: &Pod, present: bool) {
        let name = &pod.name;
        self.pods_by_namespace.set(Arc::clone(&name.namespace), name, present);
        self.pods_by_workload.set(pod.workload(), name, present);
        if pod.meshed {
            self.meshed_by_namespace.set(Arc::clone(&name.namespace), name, present);
        }
        for (key, value) in &pod.labels {
            self.pods_by_label.set((&name.namespace, key, value), name, present);
        }
        for ip in own_addresses(pod) {
            self.pods_by_ip.set(ip, name, present);
        }
    }

    fn set_service(&mut self, name: &Name, new: Option<&Arc<Service>>, dirty: &mut Dirty) {
        let Some(old) = replace(&mut self.services, name, new) else {
            return;
        };
        dirty.insert(Subject::Service(name.clone()));
        self.touch_attached(name, dirty);
        self.touch_releases_in(&name.namespace, dirty);
        for (service, present) in changes(&old, new) {
            self.services_by_namespace.set(Arc::clone(&name.namespace), name, present);
            for ip in &service.cluster_ips {
                self.services_by_ip.set(*ip, name, present);
                dirty.insert(Subject::Address(*ip));
            }
            // One label of the selector finds all candidates; the full selector is checked on them.
            if let Some((key, value)) = service.selector.first_key_value() {
                self.selectors.set((&name.namespace, key, value), name, present);
            }
            for pod in self.pods_behind(service) {
                touch_pod(pod, dirty);
                self.touch_speakers(pod, dirty);
            }
        }
    }

    /// The pods that a Service selects.
    pub fn pods_behind(&self, service: &Service) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods_selected(&service.name.namespace, &service.selector)
    }

    fn pods_selected(
        &self,
        namespace: &str,
        selector: &objects::Labels,
    ) -> impl Iterator<Item = &Arc<Pod>> {
        selector
            .first_key_value()
            .into_iter()
            .flat_map(move |(key, value)| self.pods_by_label.with(namespace, key, value))
            .filter_map(|name| self.pods.get(name))
            .filter(|pod| matches(selector, pod))
    }

    fn set_slice(&mut self, name: &Name, new: Option<&Arc<EndpointSlice>>, dirty: &mut Dirty) {
        let Some(old) = replace(&mut self.slices, name, new) else {
            return;
        };
        // A pod may be in two slices of a Service for a while: the old slice's pods are taken out
        // of the index only if no other slice has them, so they are taken out and all put back.
        if let Some(old) = &old {
            self.index_slice(old, false, dirty);
            let rest: Vec<_> = match &old.service {
                Some(service) => self.slices_of(service).map(Arc::clone).collect(),
                None => Vec::new(),
            };
            for slice in rest.iter().filter(|slice| slice.name != *name) {
                self.index_slice(slice, true, dirty);
            }
        }
        if let Some(new) = new {
            self.index_slice(new, true, dirty);
        }
    }

    fn index_slice(&mut self, slice: &EndpointSlice, present: bool, dirty: &mut Dirty) {
        let Some(service) = &slice.service else {
            return;
        };
        dirty.insert(Subject::Service(service.clone()));
        self.touch_divided(service, dirty);
        self.touch_senders(service, dirty);
        self.slices_by_service.set(service.clone(), &slice.name, present);
        for endpoint in &slice.endpoints {
            if let Some((pod, _)) = &endpoint.pod {
                self.services_by_pod.set(pod.clone(), service, present);
                continue;
            }
            for ip in &endpoint.addresses {
                self.services_by_endpoint.set(*ip, service, present);
            }
        }
    }

    fn set_mesh_config(&mut self, name: &Name, new: Option<&Arc<MeshConfig>>, dirty: &mut Dirty) {
        if replace(&mut self.mesh_configs, name, new).is_some() {
            self.touch_every_pod(dirty);
        }
    }

    fn set_node(&mut self, name: &Arc<str>, new: Option<&Arc<Node>>, dirty: &mut Dirty) {
        if replace(&mut self.nodes, name, new).is_some() {
            let there = self.pods.values().filter(|pod| *pod.node == **name);
            dirty.extend(there.map(|pod| Subject::Pod(pod.name.clone())));
        }
    }

    /// The zone of a node; empty when unknown.
    pub fn zone(&self, node: &str) -> &str {
        self.nodes.get(node).map(|node| &*node.zone).unwrap_or_default()
    }

    fn touch_every_pod(&self, dirty: &mut Dirty) {
        dirty.extend(self.pods.keys().cloned().map(Subject::Pod));
    }
}

/// Puts `new` in place of what is there: `Some(what was there)` if that is a change.
fn replace<K: Clone + Eq + std::hash::Hash, V: PartialEq>(
    map: &mut HashMap<K, Arc<V>>,
    key: &K,
    new: Option<&Arc<V>>,
) -> Option<Option<Arc<V>>> {
    if map.get(key) == new {
        return None;
    }
    Some(match new {
        Some(new) => map.insert(key.clone(), Arc::clone(new)),
        None => map.remove(key),
    })
}

/// What goes out of the indexes, then what comes in.
fn changes<'a, T>(
    old: &'a Option<Arc<T>>,
    new: Option<&'a Arc<T>>,
) -> impl Iterator<Item = (&'a Arc<T>, bool)> {
    old.iter().map(|old| (old, false)).chain(new.map(|new| (new, true)))
}

fn touch_pod(pod: &Pod, dirty: &mut Dirty) {
    dirty.insert(Subject::Pod(pod.name.clone()));
    dirty.extend(own_addresses(pod).map(Subject::Address));
}

/// The addresses that are this pod's and nobody else's.
fn own_addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let owned = !pod.host_network && !pod.ended;
    pod.ips.iter().copied().filter(move |_| owned)
}

fn matches(selector: &objects::Labels, pod: &Pod) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}
