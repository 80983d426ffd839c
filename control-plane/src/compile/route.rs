//! Route: rules for HTTP. Without any policy one rule that forwards everything.

use tulle_xds::model::{
    Action, Backend, Match, Origin, Protocol, RouteConfiguration, Rule, Timeouts,
};

use super::{names::Target, port};
use crate::world::World;

pub(super) fn compile(world: &World, name: &str) -> Option<RouteConfiguration> {
    let (protocol, origin) = match Target::parse(name)? {
        Target::Service(service, number) => {
            let protocol = port::declared(world.service(&service)?.port(number)?);
            (protocol, port::origin("Service", &service.namespace, &service.name))
        }
        Target::Pod(pod, number) => {
            let protocol = port::declared_on_pod(world, world.pod(&pod)?, number);
            (protocol, port::origin("Pod", &pod.namespace, &pod.name))
        }
    };
    (protocol != Protocol::Tcp)
        .then(|| RouteConfiguration { name: name.to_owned(), rules: vec![forward(name, origin)] })
}

fn forward(cluster: &str, origin: Origin) -> Rule {
    Rule {
        matches: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(vec![Backend {
            cluster: cluster.to_owned(),
            weight: 1,
            filters: Vec::new(),
        }]),
        timeouts: Timeouts::default(),
        retry: None,
        mirrors: Vec::new(),
        origin,
    }
}
