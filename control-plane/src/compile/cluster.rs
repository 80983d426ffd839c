//! Cluster: how the endpoints of a Service's port, or a pod, are used.

use std::time::Duration;

use tulle_xds::model::{Cluster, Origin, Protocol, ServicePort};

use super::{Settings, derived, names::Target, policy, port};
use crate::world::{World, objects};

/// With no policy there is no limit but this one, on reaching an endpoint at all: Envoy's default.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Cluster> {
    let (service, protocol, origin, settled) = match Target::parse(name)? {
        target @ (Target::Service(..) | Target::Derived(..)) => {
            of_service(world, settings, target)?
        }
        Target::Pod(name, number) => {
            let protocol = port::declared_on_pod(world, world.pod(&name)?, number);
            let origin = port::origin("Pod", &name.namespace, &name.name);
            (None, protocol, origin, objects::Settings::default())
        }
    };
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
    })
}

type Parts = (Option<ServicePort>, Protocol, Origin, objects::Settings);

fn of_service(world: &World, settings: &Settings, target: Target) -> Option<Parts> {
    let (name, number, via) = match target {
        Target::Service(name, number) => (name, number, None),
        Target::Derived(name, number, via) => (name, number, Some(via)),
        Target::Pod(..) => return None,
    };
    let service = world.service(&name)?;
    let port = service.port(number)?;
    let model = port::service_port(settings, service, number);
    let (origin, settled) = match via {
        None => {
            let origin = port::origin("Service", &name.namespace, &name.name);
            (origin, policy::of_port(world, service, port))
        }
        Some(via) => {
            let (kind, route) = (via.route.kind.as_str(), &via.route.name);
            let rule = via.rule.clone().unwrap_or_default();
            let origin = Origin { rule, ..port::origin(kind, &route.namespace, &route.name) };
            (origin, derived::settings(world, service, port, &via)?)
        }
    };
    Some((Some(model), port::declared(port), origin, settled))
}
