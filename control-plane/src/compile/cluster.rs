//! Cluster: how the endpoints of a Service's port, or a pod, are used.

use std::time::Duration;

use tulle_xds::model::{Cluster, Origin, Protocol, ServicePort};

use super::{Settings, derived, direct, names::Target, policy, port, settled::Settled};
use crate::world::{World, policy::Scope};

/// With no policy there is no limit but this one, on reaching an endpoint at all: Envoy's default.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Cluster> {
    let target = Target::parse(name)?;
    let settled = settled(world, &target)?;
    let (service, protocol, origin) = match target {
        Target::Service(..) | Target::Derived(..) => of_service(world, settings, target)?,
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
        released: Default::default(),
    })
}

/// What the policies say of it; `None` if there is no such cluster.
pub(super) fn settled(world: &World, target: &Target) -> Option<Settled> {
    let port = |name, number| {
        let service = world.service(name)?;
        Some((service, service.port(number)?))
    };
    Some(match target {
        Target::Service(name, number) => {
            let (service, port) = port(name, *number)?;
            policy::of_port(world, service, port)
        }
        Target::Derived(name, number, via) => {
            let (service, port) = port(name, *number)?;
            derived::settings(world, service, port, via)?
        }
        Target::Pod(name, number) => direct::settled(world, world.pod(name)?, *number),
    })
}

type Parts = (Option<ServicePort>, Protocol, Origin);

fn of_service(world: &World, settings: &Settings, target: Target) -> Option<Parts> {
    let (name, number, via) = match target {
        Target::Service(name, number) => (name, number, None),
        Target::Derived(name, number, via) => (name, number, Some(via)),
        Target::Pod(..) => return None,
    };
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
