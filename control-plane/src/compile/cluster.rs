//! Cluster: how the endpoints of a Service's port, or a pod, are used.

use std::time::Duration;

use tulle_xds::model::{Cluster, Origin, Protocol, Released, ServicePort};

use super::{
    Settings, derived, direct,
    names::{Part, Target},
    policy, port,
    settled::Settled,
};
use crate::world::{World, objects::Name, policy::Scope};

/// With no policy there is no limit but this one, on reaching an endpoint at all: Envoy's default.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Cluster> {
    let target = Target::parse(name)?;
    let settled = settled(world, &target)?;
    let released = released(world, &target)?;
    let (service, protocol, origin) = match target {
        Target::Service(part) => of_service(world, settings, part)?,
        Target::Pod(name, number) => {
            let protocol = port::declared_on_pod(world, world.pod(&name)?, number);
            (None, protocol, port::origin("Pod", &name.namespace, &name.name))
        }
    };
    let setters = settled.setters(Scope::Cluster);
    let settled = settled.settings;
    Some(Cluster {
        name: name.to_owned(),
        service,
        protocol,
        upstream_protocol: port::upstream(protocol),
        balance: settled.balance.unwrap_or_default(),
        limits: policy::limits(&settled),
        ejection: policy::ejection(&settled),
        connect_timeout: CONNECT_TIMEOUT,
        origin,
        setters,
        released,
    })
}

/// What the policies say of it; `None` if there is no such cluster.
pub(super) fn settled(world: &World, target: &Target) -> Option<Settled> {
    Some(match target {
        Target::Service(Part { service, port, via, .. }) => {
            let service = world.service(service)?;
            let port = service.port(*port)?;
            match via {
                None => policy::of_port(world, service, port),
                Some(via) => derived::settings(world, service, port, via)?,
            }
        }
        Target::Pod(name, number) => direct::settled(world, world.pod(name)?, *number),
    })
}

/// What a release says of it; `None` if it is of a canary or a lane and there is none.
fn released(world: &World, target: &Target) -> Option<Released> {
    let Target::Service(Part { service, canary, lane, .. }) = target else {
        return Some(Released::No);
    };
    if let Some(lane) = lane {
        // A lane's pods are of no release.
        return world.lane(&Name::new(&service.namespace, lane)).map(|_| Released::No);
    }
    let split = world.split(world.service(service)?);
    let under_way = split.filter(|split| split.is_open());
    match under_way {
        Some(split) if *canary && split.is_over() => Some(Released::Retired),
        Some(_) => Some(Released::Counted),
        None if *canary => None,
        None => Some(Released::No),
    }
}

type Parts = (Option<ServicePort>, Protocol, Origin);

fn of_service(world: &World, settings: &Settings, part: Part) -> Option<Parts> {
    let Part { service: name, port: number, via, .. } = part;
    let service = world.service(&name)?;
    let port = service.port(number)?;
    let model = port::service_port(settings, service, number);
    let origin = match via {
        None => port::origin("Service", &name.namespace, &name.name),
        Some(via) => {
            let (kind, route) = (via.route.kind.as_str(), &via.route.name);
            let rule = via.rule.unwrap_or_default();
            Origin { rule, ..port::origin(kind, &route.namespace, &route.name) }
        }
    };
    Some((Some(model), port::declared(port), origin))
}
