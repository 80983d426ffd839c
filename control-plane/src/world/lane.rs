//! Lanes: whose pods take which requests.

use std::sync::Arc;

use tulle_xds::model::Match;

use super::{
    Dirty, Subject, World,
    objects::{Kind, Labels, Name, ObjectRef, Pod, Service},
    replace,
};

/// A pod with this label is of the lane of that name. Nobody else's requests come to it, whether there is such a lane or not:
/// what is not there yet, or no longer, lets nobody in.
pub const LANE_LABEL: &str = "tulle.dev/lane";

/// A Lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: Name,
    /// Requests that enter it: those that one of these matches.
    pub entry: Vec<Match>,
    /// The labels of its pods, never none.
    pub members: Labels,
    /// Whether its requests are refused at a Service of which it has no pod.
    pub denies: bool,
}

impl Lane {
    /// Whether a pod is one of its own.
    pub fn has(&self, pod: &Pod) -> bool {
        pod.name.namespace == self.name.namespace && super::matches(&self.members, pod)
    }

    /// Kind and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Kind::Lane, name: self.name.clone() }
    }
}

impl World {
    /// A Lane.
    pub fn lane(&self, name: &Name) -> Option<&Arc<Lane>> {
        self.lanes.get(name)
    }

    /// Whether there is any.
    pub fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Those of a namespace, by name.
    pub fn lanes_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes_by_namespace.get(namespace).filter_map(|name| self.lanes.get(name))
    }

    /// Those of one namespace, or of all; by name, in order.
    pub fn all_lanes(&self, namespace: Option<&str>) -> Vec<&Arc<Lane>> {
        let all = self.lanes.values();
        let mut found: Vec<_> =
            all.filter(|lane| namespace.is_none_or(|of| *lane.name.namespace == *of)).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// The pods of a lane that have not ended.
    pub fn pods_of_lane(&self, lane: &Lane) -> impl Iterator<Item = &Arc<Pod>> {
        let pods = self.pods_by_namespace.get(&lane.name.namespace);
        let pods = pods.filter_map(|name| self.pods.get(name));
        pods.filter(|pod| !pod.ended && lane.has(pod))
    }

    /// The Services of a namespace.
    pub fn services_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        let names = self.services_by_namespace.get(namespace);
        names.filter_map(|name| self.services.get(name))
    }

    /// Whether a pod is of a lane, so that nobody else's requests come to it.
    pub fn is_in_a_lane(&self, pod: &Pod) -> bool {
        pod.labels.contains_key(LANE_LABEL)
            || self.has_lanes() && self.lanes_in(&pod.name.namespace).any(|lane| lane.has(pod))
    }

    pub(super) fn set_lane(&mut self, name: &Name, new: Option<&Arc<Lane>>, dirty: &mut Dirty) {
        if replace(&mut self.lanes, name, new).is_none() {
            return;
        }
        let namespace = &name.namespace;
        self.lanes_by_namespace.set(Arc::clone(namespace), name, new.is_some());
        // Every sidecar of its namespace carries it on.
        dirty.extend(self.pods_by_namespace.get(namespace).cloned().map(Subject::Pod));
        for service in self.services_by_namespace.get(namespace) {
            dirty.insert(Subject::Service(service.clone()));
            self.touch_routes_to(service, dirty);
        }
        dirty.insert(Subject::Policy(ObjectRef { kind: Kind::Lane, name: name.clone() }));
    }

    /// The pods of a Service have changed: who sends there by a route may find a lane's among them, or no longer.
    pub(super) fn touch_senders(&self, service: &Name, dirty: &mut Dirty) {
        if self.lanes_in(&service.namespace).next().is_some() {
            self.touch_routes_to(service, dirty);
        }
    }
}
