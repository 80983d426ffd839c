//! Cluster: how the endpoints of a Service's port, or a pod, are used.

use std::time::Duration;

use tulle_xds::model::{Balance, Cluster, Limits};

use super::{Settings, names::Target, port};
use crate::world::World;

/// With no policy there is no limit but this one, on reaching an endpoint at all: Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Cluster> {
    let (service, protocol, origin) = match Target::parse(name)? {
        Target::Service(name, number) => {
            let service = world.service(&name)?;
            let protocol = port::declared(service.port(number)?);
            let model = port::service_port(settings, service, number);
            (Some(model), protocol, port::origin("Service", &name.namespace, &name.name))
        }
        Target::Pod(name, number) => {
            let protocol = port::declared_on_pod(world, world.pod(&name)?, number);
            (None, protocol, port::origin("Pod", &name.namespace, &name.name))
        }
    };
    Some(Cluster {
        name: name.to_owned(),
        service,
        protocol,
        upstream_protocol: port::upstream(protocol),
        balance: Balance::default(),
        limits: Limits::default(),
        ejection: None,
        connect_timeout: CONNECT_TIMEOUT,
        origin,
    })
}
