//! Clusters of their own for what a route sends somewhere.
//!
//! Limits, ejection and balancing are about all requests to a cluster together. Where a policy says
//! them of a route, or of one of its rules, what goes through that has a cluster of its own beside the
//! Service's, so that the Service's keeps its connections, limits and ejections. The name says whose it is and
//! not what it says: an edit of the policy is an update, which loses no connection, and two routes
//! that say the same do not share a limit.

use super::{
    names::{Part, Via},
    policy,
    settled::Settled,
};
use crate::world::{
    World,
    objects::{Name, Route, RouteRule, RuleAction, Service, ServicePort},
};

/// The cluster through which a rule of a route sends to a port of a Service.
pub(super) fn part(
    world: &World,
    route: &Route,
    rule: Option<&str>,
    service: &Name,
    port: u16,
) -> Part {
    Part { via: via(world, route, rule), ..Part::whole(service, port) }
}

/// What the policies say of it; `None` if there is no reason for such a cluster.
pub(super) fn settings(
    world: &World,
    service: &Service,
    port: &ServicePort,
    wanted: &Via,
) -> Option<Settled> {
    let route = world.route(&wanted.route)?;
    let mut rules = route.rules.iter();
    rules.find(|rule| {
        leads_to(rule, &service.name, port.port)
            && via(world, route, rule.name.as_deref()).as_ref() == Some(wanted)
    })?;
    let own = policy::of_rule(world, route, wanted.rule.as_deref());
    Some(own.over(&policy::of_port(world, service, port)))
}

/// What all such clusters of a Service are for; some may be there twice.
pub(super) fn of_service(world: &World, service: &Service) -> Vec<Part> {
    let mut found = Vec::new();
    for route in world.routes_to(&service.name) {
        for port in service.ports.iter().map(|port| port.port) {
            let rules = route.rules.iter().filter(|rule| leads_to(rule, &service.name, port));
            let via = rules.filter_map(|rule| via(world, route, rule.name.as_deref()));
            let parts = via.map(|via| Part { via: Some(via), ..Part::whole(&service.name, port) });
            found.extend(parts);
        }
    }
    found
}

/// The rule or route, if a policy says of it what clusters are for.
fn via(world: &World, route: &Route, rule: Option<&str>) -> Option<Via> {
    let object = route.reference();
    let says = |section| {
        let mut policies = world.policies_of(&object, section).into_iter();
        policies.any(|policy| policy.settings.is_about_clusters())
    };
    let rule = rule.filter(|rule| says(Some(rule)));
    (rule.is_some() || says(None))
        .then(|| Via { route: object.clone(), rule: rule.map(str::to_owned) })
}

fn leads_to(rule: &RouteRule, service: &Name, port: u16) -> bool {
    let RuleAction::Forward(backends) = &rule.action else {
        return false;
    };
    let to = |backend: &Option<(Name, u16)>| {
        backend.as_ref().is_some_and(|to| to.0 == *service && to.1 == port)
    };
    backends.iter().any(|backend| to(&backend.to))
}
