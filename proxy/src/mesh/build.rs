//! What was told, and what follows from it: which subscriptions, which snapshot. Pure: no clock, no
//! task, no wire.
//!
//! The wanted resources are found by walking from the addresses that are asked for, as a garbage
//! collector finds what is alive. There is no count of references that could go wrong, and what a
//! sidecar uses is small.

mod hosts;

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    net::SocketAddr,
    sync::Arc,
};

use tulle_xds::model::{
    self, Action, Endpoints, Here, Kind, Listener, Resource, RouteConfiguration, Workload,
};

use self::hosts::Hosts;
use super::{Destination, LastUsed, Lookup, Mesh, Names};
use crate::upstream::Cluster;

/// Addresses that are held at once. Beyond, new ones are refused: no application talks to so many
/// at a time, a scanner does.
pub(super) const MAX_ADDRESSES: usize = 4096;

/// Among them, those that do not exist.
pub(super) const MAX_ABSENT: usize = 1024;

/// Seconds after which an address that nobody used is let go.
pub(super) const IDLE: u64 = 300;

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Table {
    workload: Option<Arc<Workload>>,
    /// Where it is.
    here: Arc<Here>,
    addresses: HashMap<SocketAddr, Address>,
    routes: HashMap<String, Told<Arc<RouteConfiguration>>>,
    clusters: HashMap<String, ClusterSlot>,
    hosts: Hosts,
    subscribed: BTreeSet<(Kind, String)>,
    generation: u64,
    /// A snapshot made now would differ from the last one.
    changed: bool,
}

/// What the control plane has said about a name.
#[derive(Debug, Clone, PartialEq)]
enum Told<T> {
    Nothing,
    Is(T),
    Absent,
}

/// An address that is asked for.
#[derive(Debug)]
struct Address {
    listener: Told<Listener>,
    /// In force; stays until its successor is complete.
    destination: Option<Arc<Destination>>,
    used: Arc<LastUsed>,
}

/// A cluster. Comes alive with both its settings and its endpoints, be it the answer that there are
/// none: as in Envoy, that ends the wait, and requests are told so. To wait for the first endpoint would keep
/// an old route in force for good, and nobody would know. Updates reach it directly.
#[derive(Debug)]
struct ClusterSlot {
    exists: Told<()>,
    settings: Option<model::Cluster>,
    endpoints: Option<Endpoints>,
    live: Option<Arc<Cluster>>,
}

/// A subscription to make or to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Subscribe(Kind, String),
    Unsubscribe(Kind, String),
}

/// There is no room for another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    /// Wants `address` from now on. `may_evict` is false while the control plane is away.
    pub(super) fn want(
        &mut self,
        address: SocketAddr,
        now: u64,
        may_evict: bool,
    ) -> Result<(), Full> {
        if let Some(entry) = self.addresses.get(&address) {
            entry.used.touch(now);
            return Ok(());
        }
        if self.addresses.len() >= MAX_ADDRESSES && !(may_evict && self.evict_one()) {
            return Err(Full);
        }
        let used = LastUsed::new(now);
        let entry = Address { listener: Told::Nothing, destination: None, used };
        self.addresses.insert(address, entry);
        Ok(())
    }

    /// The same for a name of the cluster.
    pub(super) fn want_host(
        &mut self,
        name: &Arc<str>,
        now: u64,
        may_evict: bool,
    ) -> Result<(), Full> {
        self.hosts.want(name, now, may_evict)
    }

    /// Takes resources that are new or changed, and names that do not exist (any more). What nobody
    /// wants is ignored.
    pub(super) fn update(&mut self, changed: Vec<Resource>, removed: &[(Kind, String)]) {
        for resource in changed {
            self.take(resource);
        }
        for (kind, name) in removed {
            self.remove(*kind, name);
        }
    }

    fn take(&mut self, resource: Resource) {
        match resource {
            Resource::Workload(workload) => {
                if self.workload.as_deref() != Some(&workload) {
                    self.be_at(Here { node: workload.node.clone(), zone: workload.zone.clone() });
                    self.workload = Some(Arc::new(workload));
                    self.changed = true;
                }
            }
            Resource::Listener(listener) => {
                if let Some(entry) = self.addresses.get_mut(&listener.address) {
                    entry.listener = Told::Is(listener);
                }
            }
            Resource::Route(route) => {
                if let Some(slot) = self.routes.get_mut(&route.name) {
                    *slot = Told::Is(Arc::new(route));
                }
            }
            Resource::Cluster(cluster) => {
                if let Some(slot) = self.clusters.get_mut(&cluster.name) {
                    slot.take_settings(cluster);
                }
            }
            Resource::Endpoints(endpoints) => {
                if let Some(slot) = self.clusters.get_mut(&endpoints.name) {
                    slot.take_endpoints(endpoints);
                }
            }
            Resource::Host(host) => self.hosts.take(host),
        }
    }

    fn be_at(&mut self, here: Here) {
        if *self.here != here {
            self.here = Arc::new(here);
            let live = self.clusters.values().filter_map(|slot| slot.live.as_ref());
            live.for_each(|cluster| cluster.set_here(Arc::clone(&self.here)));
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            // Without it this proxy would not know what is inside of the mesh: the last one stays.
            Kind::Workload => {}
            Kind::Listener => {
                let address = name.parse().ok();
                if let Some(entry) = address.and_then(|a: SocketAddr| self.addresses.get_mut(&a)) {
                    entry.listener = Told::Absent;
                    entry.destination = None;
                    self.changed = true;
                }
            }
            Kind::Route => {
                if let Some(slot) = self.routes.get_mut(name) {
                    *slot = Told::Absent;
                }
            }
            Kind::Cluster => {
                if let Some(slot) = self.clusters.get_mut(name) {
                    slot.exists = Told::Absent;
                }
            }
            // Of a cluster in force it says that the route to it is about to change, not that its pods are gone: until then
            // the last ones stay.
            Kind::Endpoints => {
                if let Some(slot) = self.clusters.get_mut(name).filter(|slot| slot.live.is_none()) {
                    slot.take_endpoints(Endpoints { name: name.to_owned(), endpoints: Vec::new() });
                }
            }
            Kind::Host => self.hosts.remove(name),
        }
    }

    /// Draws the conclusions: destinations that became complete are in the next snapshot,
    /// and subscriptions follow what is named now.
    pub(super) fn settle(&mut self) -> Vec<Effect> {
        for slot in self.clusters.values_mut() {
            slot.awake(&self.here);
        }
        for entry in self.addresses.values_mut() {
            let next = entry.next(&self.routes, &self.clusters);
            if let Some(next) = next {
                entry.destination = Some(Arc::new(next));
                self.changed = true;
            }
        }
        self.follow()
    }

    /// The next snapshot, if it would differ from the last.
    pub(super) fn snapshot(&mut self) -> Option<Mesh> {
        self.changed |= self.hosts.have_changed();
        if !mem::take(&mut self.changed) {
            return None;
        }
        self.generation += 1;
        let listeners = self.addresses.iter().filter_map(|(address, entry)| {
            let lookup = match (&entry.destination, &entry.listener) {
                (Some(destination), _) => Lookup::Known(Arc::clone(destination)),
                (None, Told::Absent) => Lookup::Absent(Arc::clone(&entry.used)),
                (None, Told::Nothing | Told::Is(_)) => return None,
            };
            Some((*address, lookup))
        });
        Some(Mesh {
            generation: self.generation,
            workload: self.workload.clone(),
            listeners: listeners.collect(),
            hosts: self.hosts.published(),
        })
    }

    /// Lets go of what nobody used for [`IDLE`] seconds, and of the addresses beyond
    /// [`MAX_ABSENT`] that do not exist. Not to be called while the control plane is away: what is
    /// let go could not come back.
    pub(super) fn let_go(&mut self, now: u64) {
        self.hosts.let_go(now);
        let before = self.addresses.len();
        self.addresses.retain(|_, entry| now.saturating_sub(entry.used.seconds()) < IDLE);
        let mut absent: Vec<_> = self
            .addresses
            .iter()
            .filter(|(_, entry)| entry.listener == Told::Absent)
            .map(|(address, entry)| (entry.used.seconds(), *address))
            .collect();
        if let Some(surplus) = absent.len().checked_sub(MAX_ABSENT) {
            absent.sort_unstable();
            for (_, address) in &absent[..surplus] {
                self.addresses.remove(address);
            }
        }
        self.changed |= self.addresses.len() != before;
    }

    /// Makes room by the least recently used address that leads nowhere.
    fn evict_one(&mut self) -> bool {
        let idle = self.addresses.iter().filter(|(_, entry)| entry.destination.is_none());
        let oldest =
            idle.min_by_key(|(_, entry)| entry.used.seconds()).map(|(address, _)| *address);
        let Some(oldest) = oldest else { return false };
        self.addresses.remove(&oldest);
        self.changed = true;
        true
    }

    /// Moves the subscriptions to what is named now, and forgets what is not.
    fn follow(&mut self) -> Vec<Effect> {
        let mut wanted: BTreeSet<_> =
            self.hosts.names().map(|name| (Kind::Host, name.to_owned())).collect();
        for (address, entry) in &self.addresses {
            wanted.insert((Kind::Listener, address.to_string()));
            let in_force = entry.destination.as_ref().map(|d| (&d.listener, d.route.as_deref()));
            let next = if let Told::Is(listener) = &entry.listener {
                Some((listener, route_of(listener, &self.routes).map(|route| &**route)))
            } else {
                None
            };
            for (listener, route) in in_force.into_iter().chain(next) {
                wanted.extend(listener.route.iter().map(|name| (Kind::Route, name.clone())));
                for name in clusters_of(listener, route) {
                    wanted.insert((Kind::Cluster, name.to_owned()));
                    wanted.insert((Kind::Endpoints, name.to_owned()));
                }
            }
        }
        let has = |kind, name: &str| wanted.contains(&(kind, name.to_owned()));
        self.routes.retain(|name, _| has(Kind::Route, name));
        self.clusters.retain(|name, _| has(Kind::Cluster, name));
        let gone = self.subscribed.difference(&wanted).cloned();
        let new = wanted.difference(&self.subscribed).cloned();
        let mut effects: Vec<_> =
            gone.map(|(kind, name)| Effect::Unsubscribe(kind, name)).collect();
        for (kind, name) in new {
            match kind {
                Kind::Route => drop(self.routes.insert(name.clone(), Told::Nothing)),
                Kind::Cluster => drop(self.clusters.insert(name.clone(), ClusterSlot::new())),
                Kind::Workload | Kind::Endpoints | Kind::Listener | Kind::Host => {}
            }
            effects.push(Effect::Subscribe(kind, name));
        }
        self.subscribed = wanted;
        effects
    }
}

impl Address {
    /// The destination that shall take the place of the one in force; `None` if there is none yet,
    /// or nothing has changed.
    fn next(
        &self,
        routes: &HashMap<String, Told<Arc<RouteConfiguration>>>,
        slots: &HashMap<String, ClusterSlot>,
    ) -> Option<Destination> {
        let Told::Is(listener) = &self.listener else {
            return None;
        };
        let route = route_of(listener, routes);
        if route.is_none() && listener.route.is_some() {
            return None;
        }
        let mut clusters = HashMap::new();
        let mut missing = false;
        for name in clusters_of(listener, route.map(|route| &**route)) {
            let slot = slots.get(name)?;
            match (&slot.exists, &slot.live) {
                (Told::Absent, _) => missing = true,
                (Told::Is(()), Some(live)) => {
                    clusters.insert(name.to_owned(), Arc::clone(live));
                }
                (Told::Is(()), None) | (Told::Nothing, _) => return None,
            }
        }
        if let Some(old) = &self.destination {
            // Make before break: what works is not given up for what names something that is not
            // there. At first there is nothing to keep, and the rest of the rules can serve.
            if (missing && old.is_whole()) || old.is_made_of(listener, route, &clusters) {
                return None;
            }
        }
        Some(Destination {
            names: Names::of(listener),
            listener: listener.clone(),
            route: route.cloned(),
            clusters,
            used: Arc::clone(&self.used),
        })
    }
}

impl Destination {
    /// Whether every cluster that it names exists.
    fn is_whole(&self) -> bool {
        clusters_of(&self.listener, self.route.as_deref())
            .all(|name| self.clusters.contains_key(name))
    }

    fn is_made_of(
        &self,
        listener: &Listener,
        route: Option<&Arc<RouteConfiguration>>,
        clusters: &HashMap<String, Arc<Cluster>>,
    ) -> bool {
        let same_route = match (&self.route, route) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
            (None, None) => true,
            _ => false,
        };
        let same = |(name, cluster): (&String, &Arc<Cluster>)| {
            self.clusters.get(name).is_some_and(|old| Arc::ptr_eq(old, cluster))
        };
        self.listener == *listener
            && same_route
            && self.clusters.len() == clusters.len()
            && clusters.iter().all(same)
    }
}

impl ClusterSlot {
    fn new() -> Self {
        Self { exists: Told::Nothing, settings: None, endpoints: None, live: None }
    }

    fn take_settings(&mut self, settings: model::Cluster) {
        self.exists = Told::Is(());
        match &self.live {
            Some(live) => live.update(settings),
            None => self.settings = Some(settings),
        }
    }

    fn take_endpoints(&mut self, endpoints: Endpoints) {
        match &self.live {
            Some(live) => live.set_endpoints(endpoints),
            None => self.endpoints = Some(endpoints),
        }
    }

    /// Comes alive once both halves are there.
    fn awake(&mut self, here: &Arc<Here>) {
        if self.live.is_none() && self.settings.is_some() && self.endpoints.is_some() {
            let halves = self.settings.take().zip(self.endpoints.take());
            self.live = halves.map(|(settings, ends)| Arc::new(Cluster::new(settings, ends)));
            self.live.iter().for_each(|live| live.set_here(Arc::clone(here)));
        }
    }
}

fn route_of<'a>(
    listener: &Listener,
    routes: &'a HashMap<String, Told<Arc<RouteConfiguration>>>,
) -> Option<&'a Arc<RouteConfiguration>> {
    match routes.get(listener.route.as_ref()?)? {
        Told::Is(route) => Some(route),
        Told::Nothing | Told::Absent => None,
    }
}

/// Every cluster that a listener and its route name.
fn clusters_of<'a>(
    listener: &'a Listener,
    route: Option<&'a RouteConfiguration>,
) -> impl Iterator<Item = &'a str> {
    let named = listener.by_name.iter().flat_map(|by_name| &by_name.backends);
    let opaque = listener.backends.iter().chain(named).filter(|backend| backend.is_valid());
    let opaque = opaque.map(|backend| backend.cluster.as_str());
    let rules = route.into_iter().flat_map(|route| &route.rules);
    let http = rules.flat_map(|rule| {
        let forward =
            if let Action::Forward(backends) = &rule.action { &backends[..] } else { &[] };
        let valid = forward.iter().filter(|backend| backend.is_valid());
        let backends = valid.map(|backend| backend.cluster.as_str());
        backends.chain(rule.mirrors.iter().map(|mirror| mirror.cluster.as_str()))
    });
    opaque.chain(http)
}

#[cfg(test)]
mod tests;
