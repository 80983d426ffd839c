//! For stock Envoy: the same resources in its own words, all of them, and two listeners for each pod
//! through which everything passes.

use std::{collections::BTreeSet, net::SocketAddr};

use bytes::Bytes;
use tulle_xds::{
    cache::{Dialect, Key},
    model::{
        Kind,
        envoy::{self, Peers, Side},
    },
};

use super::{
    Settings, Whom, cluster, derived, direct, endpoints, lane, listener,
    names::{self, Part, Target},
    policy, port, route,
    settled::Settled,
    workload,
};
use crate::world::{Subject, World, objects::Pod, policy::Scope};

/// The members of the kind of `wildcard` that are about `subject`. Envoy gets every Service's
/// clusters and addresses; pods' own addresses it asks for one by one.
pub fn members(world: &World, wildcard: &Key, subject: &Subject) -> BTreeSet<Key> {
    let names: Vec<String> = match (wildcard.dialect, wildcard.kind, subject) {
        (Dialect::Envoy, Kind::Cluster, Subject::Service(name)) => {
            let Some(service) = world.service(name) else {
                return BTreeSet::new();
            };
            let own = service.ports.iter().map(|port| Part::whole(name, port.port));
            let mut parts: Vec<_> = own.chain(derived::of_service(world, service)).collect();
            let whole = parts.clone();
            if world.split(service).is_some_and(|split| split.is_open()) {
                let canary = |part: &Part| Part { canary: true, ..part.clone() };
                parts.extend(whole.iter().map(canary));
            }
            for lane in world.lanes_in(&name.namespace) {
                let of = |part: &&Part| {
                    let port = service.port(part.port);
                    port.is_some_and(|p| endpoints::of_lane(world, service, &p.name, lane, false))
                };
                let parts_of_it = whole.iter().filter(of).map(|part| lane::part(lane, part));
                parts.extend(parts_of_it);
            }
            parts.into_iter().map(|part| Target::Service(part).to_string()).collect()
        }
        (Dialect::Envoy, Kind::Listener, Subject::Address(ip)) => {
            let ports = world.service_at(*ip).map(|service| service.ports.iter());
            let address = |number| SocketAddr::new(*ip, number).to_string();
            ports.into_iter().flatten().map(|port| address(port.port)).collect()
        }
        _ => Vec::new(),
    };
    let key = |name: String| Key { name: name.into(), ..wildcard.clone() };
    names.into_iter().map(key).collect()
}

/// Where a pod's own address leads, which Envoy asks for when somebody dials it. What a Service does not
/// serve, and an address that nobody has, leads nowhere.
fn at(world: &World, settings: &Settings, name: &str, address: SocketAddr) -> Option<Bytes> {
    let pod = world.pod_at(address.ip()).filter(|_| world.service_at(address.ip()).is_none())?;
    let endpoint = endpoints::at(settings, address, pod);
    let origin = port::origin("Pod", &pod.name.namespace, &pod.name.name);
    let settled = opaque(world, pod, address.port());
    let limits = policy::limits(&settled.settings);
    Some(envoy::address(name, &endpoint, &limits, &origin, &settled.setters(Scope::Cluster)))
}

/// What of a pod's policies holds for bytes, which is all that Envoy passes on to a pod's own address.
pub(super) fn opaque(world: &World, pod: &Pod, number: u16) -> Settled {
    let fields = ["spec.limits.connections", "spec.limits.pending"];
    direct::settled(world, pod, number).only(|field| fields.contains(&field))
}

/// The resource of this kind and name.
pub(super) fn compile(
    world: &World,
    settings: &Settings,
    kind: Kind,
    name: &str,
    whom: &Whom,
) -> Option<Bytes> {
    Some(match kind {
        // All that the one says is in the two listeners; of the other Envoy knows nothing.
        Kind::Workload | Kind::Host => return None,
        Kind::Listener => match envoy::own_listener(name) {
            Some((side, pod)) => {
                let workload = workload::compile(world, settings, pod)?;
                match side {
                    Side::Inbound => envoy::inbound(&workload),
                    Side::Outbound => envoy::outbound(&workload),
                }
            }
            None => envoy::listener(&listener::compile(world, settings, name, &whom.callers)?),
        },
        Kind::Cluster => match (envoy::own_cluster(name), names::address(name)) {
            (Some(bytes), _) => bytes,
            (None, Some(address)) => at(world, settings, name, address)?,
            (None, None) => {
                let cluster = cluster::compile(world, settings, name)?;
                let endpoints = endpoints::compile(world, settings, name)?;
                envoy::cluster(&cluster, &Peers::of(&endpoints))
            }
        },
        Kind::Endpoints => {
            envoy::endpoints(&endpoints::compile(world, settings, name)?.at(&whom.here))
        }
        Kind::Route => envoy::route(&route::compile(world, name, &whom.callers)?),
    })
}
