//! What policies say of a pod's own address.
//!
//! Whoever dials a pod has chosen an endpoint already: by the name of a headless Service, as an ingress
//! controller, as a member of a StatefulSet. So the Services that select the pod speak for its ports,
//! and its Namespace where they say nothing: bounds, times and retries, but not which endpoint is
//! taken. Headless Services come before those with an address of their own, at which their policies
//! hold. What several of them say differently nobody can decide: it is left to the Namespace.

use std::{collections::BTreeSet, sync::Arc};

use super::{policy, port, settled::Settled};
use crate::world::{
    World,
    objects::{Pod, Service, TrafficPolicy},
};

/// What the policies say of a port at a pod's own address.
pub(super) fn settled(world: &World, pod: &Pod, number: u16) -> Settled {
    let said = speakers(world, pod, number).into_iter().map(|(_, said)| said);
    let (agreed, _) = Settled::agreed(&said.collect::<Vec<_>>());
    agreed.over(&policy::of_namespace(world, &pod.name.namespace)).only(is_about_one_endpoint)
}

/// A field that a policy says in vain of a pod behind its headless Service.
#[derive(Debug)]
pub(super) struct Dispute<'a> {
    pub(super) field: &'static str,
    pub(super) pod: &'a Pod,
    /// A Service of which something else is said.
    pub(super) other: &'a Service,
}

/// What `policy` says in vain of the pods behind a headless Service, because of another one; each
/// field once.
pub(super) fn disputes<'a>(
    world: &'a World,
    service: &Service,
    policy: &TrafficPolicy,
) -> Vec<Dispute<'a>> {
    let mut found: Vec<Dispute<'_>> = Vec::new();
    for pod in world.pods_behind(service) {
        let ports = service.ports.iter().filter_map(|port| port::on_pod(&port.target, pod));
        for number in ports.collect::<BTreeSet<u16>>() {
            let speakers = speakers(world, pod, number);
            let said = speakers.iter().map(|(_, said)| said.clone());
            for field in Settled::agreed(&said.collect::<Vec<_>>()).1 {
                let says = |said: &Settled| said.by(field).any(|by| *by == policy.name);
                let ours = speakers.iter().any(|(of, said)| of.name == service.name && says(said));
                let known = found.iter().any(|dispute| dispute.field == field);
                let mut others = speakers.iter();
                let other = others
                    .find(|(of, said)| of.name != service.name && said.by(field).next().is_some());
                if let Some((other, _)) = other.filter(|_| ours && !known) {
                    found.push(Dispute { field, pod, other });
                }
            }
        }
    }
    found
}

/// The Services that speak for a port of a pod, with what is said of each and not of the Namespace.
fn speakers<'a>(world: &'a World, pod: &Pod, number: u16) -> Vec<(&'a Arc<Service>, Settled)> {
    let mut found = Vec::new();
    for service in world.services_selecting(pod) {
        let ports = service.ports.iter();
        let ports = ports.filter(|port| port::on_pod(&port.target, pod) == Some(number));
        found.extend(ports.map(|port| (service, policy::of_port_alone(world, service, port))));
    }
    if found.iter().any(|(service, _)| service.is_headless()) {
        found.retain(|(service, _)| service.is_headless());
    }
    found
}

fn is_about_one_endpoint(field: &str) -> bool {
    let choice = ["spec.loadBalancing", "spec.ejection"];
    !choice.iter().any(|of| field.starts_with(of))
}
