//! Listener: what an address stands for.

use std::net::SocketAddr;

use tulle_xds::model::{Backend, Listener, Protocol, ServicePort};

use super::{
    Settings,
    names::{self, Target},
    policy, port,
};
use crate::world::{
    World,
    objects::{Pod, Service},
};

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Listener> {
    let address = names::address(name)?;
    if let Some(service) = world.service_at(address.ip()) {
        return of_service(world, settings, service, address);
    }
    world.pod_at(address.ip()).map(|pod| of_pod(world, pod, address))
}

fn of_service(
    world: &World,
    settings: &Settings,
    service: &Service,
    address: SocketAddr,
) -> Option<Listener> {
    let port = service.port(address.port())?;
    let declared = port::declared(port);
    let idle = policy::idle(&policy::of_port(world, service, port));
    let origin = port::origin("Service", &service.name.namespace, &service.name.name);
    Some(Listener {
        origin,
        idle: idle.filter(|_| !declared.is_http()),
        ..listener(
            address,
            declared,
            &Target::Service(service.name.clone(), address.port()),
            Some(port::service_port(settings, service, address.port())),
        )
    })
}

/// Any port of a pod can be dialled, declared or not.
fn of_pod(world: &World, pod: &Pod, address: SocketAddr) -> Listener {
    let declared = port::declared_on_pod(world, pod, address.port());
    let origin = port::origin("Pod", &pod.name.namespace, &pod.name.name);
    let target = Target::Pod(pod.name.clone(), address.port());
    Listener { origin, ..listener(address, declared, &target, None) }
}

fn listener(
    address: SocketAddr,
    protocol: Protocol,
    target: &Target,
    service: Option<ServicePort>,
) -> Listener {
    let target = target.to_string();
    let backend = |cluster| Backend { cluster, weight: 1, filters: Vec::new() };
    Listener {
        name: address.to_string(),
        address,
        protocol,
        service,
        route: (protocol != Protocol::Tcp).then(|| target.clone()),
        backends: (!protocol.is_http()).then(|| backend(target)).into_iter().collect(),
        idle: None,
        origin: port::origin("", "", ""),
    }
}
