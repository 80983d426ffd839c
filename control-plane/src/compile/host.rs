//! Host: the addresses of a name, as cluster DNS would say them.
//!
//! What is not here is not said to be nowhere: the sidecar then asks the application's own resolver,
//! which also knows what the mesh does not (aliases, names of pods, other zones).

use std::{collections::BTreeSet, net::IpAddr};

use tulle_xds::model::Host;

use super::{Settings, names, port};
use crate::world::{
    World,
    objects::{Service, SliceEndpoint},
};

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Host> {
    let host = names::dns_name(name).filter(|host| host.domain == settings.cluster_domain)?;
    let service = world.service(&host.service)?;
    let addresses: BTreeSet<IpAddr> = match host.endpoint {
        None if !service.cluster_ips.is_empty() => service.cluster_ips.iter().copied().collect(),
        _ if !service.cluster_ips.is_empty() => return None,
        endpoint => world
            .slices_of(&service.name)
            .flat_map(|slice| &slice.endpoints)
            .filter(|listed| is_published(service, listed))
            .filter(|listed| endpoint.is_none_or(|name| listed.hostname == name))
            .flat_map(|listed| listed.addresses.iter().copied())
            .collect(),
    };
    // A headless Service without endpoints has no name.
    (!addresses.is_empty()).then(|| Host {
        name: name.to_owned(),
        addresses: addresses.into_iter().collect(),
        origin: port::origin("Service", &service.name.namespace, &service.name.name),
    })
}

fn is_published(service: &Service, listed: &SliceEndpoint) -> bool {
    listed.ready || service.publish_not_ready
}
