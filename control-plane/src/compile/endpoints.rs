//! Endpoints: where requests can go, and who must answer there.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::{IpAddr, SocketAddr},
};

use tulle_xds::model::{Endpoint, Endpoints, Health, Near, SpiffeId};

use super::{
    Settings, derived,
    names::{Part, Target},
    port,
};
use crate::world::{
    Arm, Split, World,
    objects::{EndpointSlice, Lane, Name, Pod, Service, SliceEndpoint},
};

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Endpoints> {
    let endpoints = match Target::parse(name)? {
        Target::Service(Part { service, port, via, canary, lane }) => {
            let service = world.service(&service)?;
            let lane = match lane {
                Some(lane) => Some(world.lane(&Name::new(&service.name.namespace, lane))?),
                None => None,
            };
            let port = service.port(port)?;
            if let Some(via) = via {
                derived::settings(world, service, port, &via)?;
            }
            let split = world.split(service);
            if canary && !split.is_some_and(|split| split.is_open()) {
                return None;
            }
            let whose = match lane {
                Some(lane) => Whose::Lane(lane),
                None => Whose::Nobody { split, canary },
            };
            let port = (&**service, port.name.as_str());
            let mut found = of_service(world, settings, port, &whose);
            // Another version is to be released: a route that sends something to the one before may be older than this.
            if canary
                && split.is_some_and(|split| !split.is_over())
                && !found.iter().any(|endpoint| endpoint.health == Health::Ready)
            {
                let others = Whose::Nobody { split, canary: false };
                found.extend(of_service(world, settings, port, &others));
            }
            found
        }
        Target::Pod(pod, number) => {
            let pod = world.pod(&pod).filter(|pod| !pod.host_network && !pod.ended)?;
            let address = port::first_address(pod, number);
            let endpoint = |address| endpoint(settings, address, Health::Ready, Some(pod));
            address.map(endpoint).into_iter().collect()
        }
    };
    Some(Endpoints { name: name.to_owned(), endpoints })
}

/// Where clients are for whom some endpoints of a Service are meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places<'a> {
    pub(super) nodes: BTreeSet<&'a str>,
    pub(super) zones: BTreeSet<&'a str>,
}

/// Those of the endpoints of this name.
pub(super) fn places<'a>(world: &'a World, name: &str) -> Places<'a> {
    let mut places = Places::default();
    let Some(Target::Service(Part { service, .. })) = Target::parse(name) else {
        return places;
    };
    let local = world.service(&service).is_some_and(|service| service.node_local);
    for listed in world.slices_of(&service).flat_map(|slice| &slice.endpoints) {
        places.nodes.extend(Some(&*listed.node).filter(|node| local && !node.is_empty()));
        places.nodes.extend(listed.for_nodes.iter().map(String::as_str));
        places.zones.extend(listed.for_zones.iter().map(String::as_str));
    }
    places
}

/// A pod, at one of its addresses.
pub(super) fn at(settings: &Settings, address: SocketAddr, pod: &Pod) -> Endpoint {
    endpoint(settings, address, Health::Ready, Some(pod))
}

/// For whom endpoints of a Service are.
enum Whose<'a> {
    /// For requests of this lane.
    Lane(&'a Lane),
    /// For those of no lane; of a Service that a release divides, those of the canary or the others.
    Nobody { split: Option<Split<'a>>, canary: bool },
}

impl Whose<'_> {
    fn has(&self, world: &World, pod: Option<&Pod>) -> bool {
        match self {
            Self::Lane(lane) => pod.is_some_and(|pod| lane.has(pod)),
            Self::Nobody { split, canary } => {
                !pod.is_some_and(|pod| world.is_in_a_lane(pod))
                    && split.is_none_or(|split| arm(world, &split, pod) == side(*canary))
            }
        }
    }
}

/// Whether a lane has an endpoint of a Service's port that is `ready`, or any.
pub(super) fn of_lane(
    world: &World,
    service: &Service,
    port: &str,
    lane: &Lane,
    ready: bool,
) -> bool {
    let mut slices = world.slices_of(&service.name);
    slices.any(|slice| {
        let served = slice.ports.iter().any(|told| told.name == port);
        let is_one = |listed: &SliceEndpoint| {
            let pod = pod_behind(world, listed).flatten();
            pod.is_some_and(|pod| lane.has(pod))
                && (!ready || health(service, listed) == Health::Ready)
        };
        served && slice.endpoints.iter().any(is_one)
    })
}

/// The pods of a lane that a Service leads to, and whether they are ready.
pub(super) fn pods_of_lane(world: &World, service: &Service, lane: &Lane) -> BTreeMap<Name, bool> {
    let mut found = BTreeMap::new();
    for listed in world.slices_of(&service.name).flat_map(|slice| &slice.endpoints) {
        if let Some(pod) = pod_behind(world, listed).flatten().filter(|pod| lane.has(pod)) {
            let ready = found.entry(pod.name.clone()).or_insert(false);
            *ready |= health(service, listed) == Health::Ready;
        }
    }
    found
}

/// The slices' ports have the names of the Service's ports, and numbers that are already resolved
/// pod by pod (named target ports lead to one slice for each number).
fn of_service(
    world: &World,
    settings: &Settings,
    (service, port_name): (&Service, &str),
    whose: &Whose<'_>,
) -> Vec<Endpoint> {
    let slices: Vec<_> = world.slices_of(&service.name).collect();
    let v6 = family(service, &slices);
    let mut found: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in slices {
        let Some(port) = slice.ports.iter().find(|port| port.name == port_name) else {
            continue;
        };
        for listed in &slice.endpoints {
            let (Some(pod), Some(near)) = (pod_behind(world, listed), near(service, listed)) else {
                continue;
            };
            if !whose.has(world, pod) {
                continue;
            }
            let health = match (pod, whose) {
                (Some(pod), Whose::Nobody { canary: true, .. }) => of_canary(pod, listed),
                _ => health(service, listed),
            };
            for ip in listed.addresses.iter().filter(|ip| ip.is_ipv6() == v6) {
                let address = SocketAddr::new(*ip, port.port);
                let endpoint = Endpoint {
                    zone: listed.zone.clone(),
                    near: near.clone(),
                    ..endpoint(settings, address, health, pod)
                };
                add(&mut found, endpoint);
            }
        }
    }
    found.into_values().collect()
}

/// A dual-stack Service has each pod twice. One family is enough, and gives each pod one share: the
/// Service's first, unless only the other one has endpoints.
fn family(service: &Service, slices: &[&std::sync::Arc<EndpointSlice>]) -> bool {
    let has = |v6: bool| {
        let addresses = slices.iter().flat_map(|slice| &slice.endpoints).flat_map(|e| &e.addresses);
        addresses.into_iter().any(|ip: &IpAddr| ip.is_ipv6() == v6)
    };
    let preferred = service.cluster_ips.first().is_some_and(IpAddr::is_ipv6);
    if has(preferred) { preferred } else { !preferred }
}

/// The pod behind an endpoint: `Some(None)` if there is none, `None` if it is not known yet. An
/// endpoint of an unknown pod is left out, because without the pod nobody can tell whether it is
/// meshed, and a meshed one must never get plaintext.
fn pod_behind<'a>(world: &'a World, listed: &SliceEndpoint) -> Option<Option<&'a Pod>> {
    match &listed.pod {
        Some((name, uid)) => {
            let pod = world.pod(name).filter(|pod| uid.is_empty() || pod.uid == *uid)?;
            Some(Some(pod))
        }
        // Slices written by hand may name no pod: the address tells.
        None => Some(listed.addresses.iter().find_map(|ip| world.pod_at(*ip)).map(|pod| &**pod)),
    }
}

/// Who is to use it. `None`: whoever is on its node, but which one that is is not said.
fn near(service: &Service, listed: &SliceEndpoint) -> Option<Near> {
    let node = match service.node_local {
        true if listed.node.is_empty() => return None,
        true => listed.node.clone(),
        false => String::new(),
    };
    let (for_nodes, for_zones) = (listed.for_nodes.clone(), listed.for_zones.clone());
    Some(Near { node, for_nodes, for_zones })
}

fn health(service: &Service, listed: &SliceEndpoint) -> Health {
    if listed.ready || service.publish_not_ready && !listed.terminating {
        Health::Ready
    } else if listed.terminating && listed.serving {
        Health::Draining
    } else {
        Health::NotReady
    }
}

/// Which side of a split an endpoint is on. What is a canary of another release has no place here.
fn arm(world: &World, split: &Split<'_>, pod: Option<&Pod>) -> Arm {
    match pod.map(|pod| world.arm(pod)) {
        None => Arm::Stable,
        Some((Arm::Canary, release)) if release.is_some_and(|r| r.name != split.release.name) => {
            Arm::Neither
        }
        Some((Arm::Neither, Some(release))) if split.helped => {
            let helps = pod.is_some_and(|pod| release.is_left_over(pod));
            if helps { Arm::Stable } else { Arm::Neither }
        }
        Some((arm, _)) => arm,
    }
}

fn side(canary: bool) -> Arm {
    if canary { Arm::Canary } else { Arm::Stable }
}

/// Nothing but its sidecar may keep a canary's pod from being ready: that is held until the canary takes over.
fn of_canary(pod: &Pod, listed: &SliceEndpoint) -> Health {
    match pod.life.serving && !listed.terminating {
        true => Health::Ready,
        false if listed.terminating && listed.serving => Health::Draining,
        false => Health::NotReady,
    }
}

/// While an endpoint moves from one slice to another it is in both: the better health counts.
fn add(found: &mut BTreeMap<SocketAddr, Endpoint>, endpoint: Endpoint) {
    let rank = |health| match health {
        Health::Ready => 0,
        Health::Draining => 1,
        Health::NotReady => 2,
    };
    match found.entry(endpoint.address) {
        Entry::Vacant(entry) => {
            entry.insert(endpoint);
        }
        Entry::Occupied(mut entry) => {
            if rank(endpoint.health) < rank(entry.get().health) {
                entry.insert(endpoint);
            }
        }
    }
}

fn endpoint(
    settings: &Settings,
    address: SocketAddr,
    health: Health,
    pod: Option<&Pod>,
) -> Endpoint {
    let identity = |pod: &Pod| {
        SpiffeId::service_account(&settings.trust_domain, &pod.name.namespace, &pod.service_account)
    };
    Endpoint {
        health,
        identity: pod.filter(|pod| pod.meshed && pod.redirected.has(address.port())).map(identity),
        pod: pod.map(|pod| pod.name.to_string()).unwrap_or_default(),
        pod_uid: pod.map(|pod| pod.uid.clone()).unwrap_or_default(),
        workload: pod
            .map(|pod| format!("{}/{}", pod.name.namespace, pod.workload().name))
            .unwrap_or_default(),
        revision: pod.map(|pod| pod.revision().to_owned()).unwrap_or_default(),
        ..Endpoint::new(address)
    }
}
