//! Listener: what an address stands for.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tulle_xds::model::{Backend, Listener, Protocol, Setter};

use super::{
    Settings,
    attached::{self, Callers},
    direct,
    names::{self, Target},
    policy, port, route,
    settled::Settled,
};
use crate::world::{
    World,
    objects::{Pod, Service},
    policy::Scope,
};

pub(super) fn compile(
    world: &World,
    settings: &Settings,
    name: &str,
    callers: &Callers,
) -> Option<Listener> {
    let address = names::address(name)?;
    if let Some(service) = world.service_at(address.ip()) {
        return of_service(world, settings, service, address, callers);
    }
    world.pod_at(address.ip()).map(|pod| of_pod(world, pod, address))
}

fn of_service(
    world: &World,
    settings: &Settings,
    service: &Service,
    address: SocketAddr,
    callers: &Callers,
) -> Option<Listener> {
    let port = service.port(address.port())?;
    let declared = port::declared(port);
    let origin = port::origin("Service", &service.name.namespace, &service.name.name);
    let target = Target::Service(service.name.clone(), address.port());
    let (idle, _) = idle(declared, &policy::of_port(world, service, port));
    let mut listener = Listener {
        origin,
        idle,
        setters: setters(world, address, callers),
        service: Some(port::service_port(settings, service, address.port())),
        ..listener(address, declared, &target)
    };
    if let Some(route) = route::opaque(world, service, port, callers) {
        listener.backends = route::opaque_backends(world, route, callers);
    }
    Some(listener)
}

/// Any port of a pod can be dialled, declared or not.
fn of_pod(world: &World, pod: &Pod, address: SocketAddr) -> Listener {
    let declared = port::declared_on_pod(world, pod, address.port());
    let origin = port::origin("Pod", &pod.name.namespace, &pod.name.name);
    let target = Target::Pod(pod.name.clone(), address.port());
    let (idle, setters) = idle(declared, &direct::settled(world, pod, address.port()));
    Listener { origin, idle, setters, ..listener(address, declared, &target) }
}

/// Who set something of what listens at an address.
pub(super) fn setters(world: &World, address: SocketAddr, callers: &Callers) -> Vec<Setter> {
    let mut routes = Vec::new();
    let mut at = || {
        if let Some(service) = world.service_at(address.ip()) {
            let port = service.port(address.port())?;
            let route = route::opaque(world, service, port, callers);
            routes.extend(route.map(|route| Setter {
                field: "spec.rules[0].backendRefs".to_owned(),
                origin: port::origin(route.kind.as_str(), &route.name.namespace, &route.name.name),
            }));
            return Some((port::declared(port), policy::of_port(world, service, port)));
        }
        let pod = world.pod_at(address.ip())?;
        let declared = port::declared_on_pod(world, pod, address.port());
        Some((declared, direct::settled(world, pod, address.port())))
    };
    let settled = at();
    routes.extend(settled.into_iter().flat_map(|(declared, settled)| idle(declared, &settled).1));
    routes
}

/// The namespaces whose callers' opaque connections have a route of their own.
pub(super) fn consumers(world: &World, name: &str) -> BTreeSet<Arc<str>> {
    let address = names::address(name);
    let port = address.and_then(|address| {
        let service = world.service_at(address.ip())?;
        Some((service, service.port(address.port())?))
    });
    port.map(|(service, port)| attached::consumers(world, service, port, true)).unwrap_or_default()
}

/// Of what policies say, opaque connections have one setting here; and who set it.
fn idle(declared: Protocol, settled: &Settled) -> (Option<Duration>, Vec<Setter>) {
    if declared.is_http() {
        return (None, Vec::new());
    }
    let idle = settled.clone().only(|field| field == "spec.timeouts.idle");
    (policy::idle(&idle.settings), idle.setters(Scope::Rule))
}

fn listener(address: SocketAddr, protocol: Protocol, target: &Target) -> Listener {
    let target = target.to_string();
    let backend = |cluster| Backend { cluster, weight: 1, filters: Vec::new() };
    Listener {
        name: address.to_string(),
        address,
        protocol,
        service: None,
        route: (protocol != Protocol::Tcp).then(|| target.clone()),
        backends: (!protocol.is_http()).then(|| backend(target)).into_iter().collect(),
        idle: None,
        origin: port::origin("", "", ""),
        setters: Vec::new(),
    }
}
