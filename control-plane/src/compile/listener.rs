//! Listener: what an address stands for.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tulle_xds::model::{Backend, ByName, Listener, Protocol, Setter};

use super::{
    Settings,
    attached::{self, Callers, Named},
    direct,
    names::{self, Part, Target},
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
    let service = world.service_at(address.ip());
    let service = service.map(|service| port::service_port(settings, service, address.port()));
    Some(Listener { service, ..at(world, address, callers)? })
}

/// What listens at an address, but for the names of its Service, which are in the settings.
pub(super) fn at(world: &World, address: SocketAddr, callers: &Callers) -> Option<Listener> {
    if let Some(service) = world.service_at(address.ip()) {
        return of_service(world, service, address, callers);
    }
    world.pod_at(address.ip()).map(|pod| of_pod(world, pod, address))
}

fn of_service(
    world: &World,
    service: &Service,
    address: SocketAddr,
    callers: &Callers,
) -> Option<Listener> {
    let port = service.port(address.port())?;
    let declared = port::declared(port);
    let origin = port::origin("Service", &service.name.namespace, &service.name.name);
    let target = Target::Service(Part::whole(&service.name, address.port()));
    let route = route::opaque(world, service, port, callers);
    let named = attached::by_name(world, service, port, callers);
    let routed = route.into_iter().chain(named.iter().map(|named| named.route));
    let routed = routed.map(|route| Setter {
        field: "spec.rules[0].backendRefs".to_owned(),
        origin: port::origin(route.kind.as_str(), &route.name.namespace, &route.name.name),
    });
    let (idle, setters) = idle(declared, &policy::of_port(world, service, port));
    let setters = routed.chain(setters).collect();
    let only_named = route.is_none() && !named.is_empty();
    let by_name = named.into_iter().map(|Named { route, names }| ByName {
        names: names.into_iter().map(str::to_owned).collect(),
        backends: route::opaque_backends(world, route, callers),
    });
    let mut listener = Listener {
        origin,
        idle,
        setters,
        by_name: by_name.collect(),
        only_named,
        ..listener(address, declared, &target)
    };
    if let Some(route) = route {
        listener.backends = route::opaque_backends(world, route, callers);
    } else if !declared.is_http() {
        listener.backends = route::own(world, &service.name, address.port()).backends(&[]);
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
        by_name: Vec::new(),
        only_named: false,
        idle: None,
        origin: port::origin("", "", ""),
        setters: Vec::new(),
    }
}
