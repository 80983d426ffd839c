//! Route: rules for HTTP. Without any route attached, one rule that forwards everything.

use std::{collections::BTreeSet, sync::Arc};

use http::StatusCode;
use tulle_xds::model::{
    Action, Backend, Filter, Match, Mirror, Origin, Protocol, RouteConfiguration, Rule, Setter,
    Timeouts,
};

use super::{
    attached::{self, Callers},
    derived, direct,
    names::Target,
    policy, port, precedence,
    settled::Settled,
};
use crate::world::{
    World,
    objects::{
        BackendRef, Kind, Name, Route, RouteRule, RuleAction, RuleTimeouts, Service, ServicePort,
    },
    policy::Scope,
};

/// Gateway API: what no valid backend can answer.
const INVALID: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

pub(super) fn compile(world: &World, name: &str, callers: &Callers) -> Option<RouteConfiguration> {
    let rules = match Target::parse(name)? {
        Target::Service(service, number) => of_service(world, name, &service, number, callers)?,
        Target::Derived(..) => return None,
        Target::Pod(pod, number) => {
            let pod = world.pod(&pod)?;
            let origin = port::origin("Pod", &pod.name.namespace, &pod.name.name);
            let rule = || forward(name, origin, &direct::settled(world, pod, number));
            let protocol = port::declared_on_pod(world, pod, number);
            (protocol != Protocol::Tcp).then(|| vec![rule()])?
        }
    };
    Some(RouteConfiguration { name: name.to_owned(), rules })
}

/// The namespaces whose callers have a route of their own.
pub(super) fn consumers(world: &World, name: &str) -> BTreeSet<Arc<str>> {
    let Some(Target::Service(service, number)) = Target::parse(name) else {
        return BTreeSet::new();
    };
    let port = world.service(&service).and_then(|service| Some((service, service.port(number)?)));
    port.map(|(service, port)| attached::consumers(world, service, port, false)).unwrap_or_default()
}

/// The route that says where opaque connections to a port go.
pub(super) fn opaque<'a>(
    world: &'a World,
    service: &'a Service,
    port: &'a ServicePort,
    callers: &Callers,
) -> Option<&'a Arc<Route>> {
    let mut routes = attached::in_force(world, service, port, true);
    routes.find(|(of, route)| of == callers && route.kind == Kind::TcpRoute).map(|(_, route)| route)
}

/// Where that is; never empty.
pub(super) fn opaque_backends(world: &World, route: &Route, callers: &Callers) -> Vec<Backend> {
    let reader = Reader { world, route, callers };
    let rules = route.rules.iter().map(|rule| reader.action(rule));
    let mut backends: Vec<_> = rules
        .flat_map(|action| match action {
            Action::Forward(backends) => backends,
            Action::Redirect(_) | Action::Fail(_) => Vec::new(),
        })
        .filter(|backend| backend.weight > 0)
        .collect();
    if backends.is_empty() {
        let (cluster, filters) = (Backend::INVALID.to_owned(), Vec::new());
        backends.push(Backend { cluster, weight: 1, filters });
    }
    backends
}

fn of_service(
    world: &World,
    name: &str,
    service: &Name,
    number: u16,
    callers: &Callers,
) -> Option<Vec<Rule>> {
    let service = world.service(service)?;
    let port = service.port(number)?;
    if port::declared(port) == Protocol::Tcp {
        return None;
    }
    let settled = policy::of_port(world, service, port);
    let attached = attached::in_force(world, service, port, false);
    let routes: Vec<_> = attached.filter(|(of, _)| of == callers).map(|(_, route)| route).collect();
    if routes.is_empty() {
        let origin = port::origin("Service", &service.name.namespace, &service.name.name);
        return Some(vec![forward(name, origin, &settled)]);
    }
    let mut found = Vec::new();
    for route in routes {
        for (at, told) in route.rules.iter().enumerate() {
            let settled = policy::of_rule(world, route, told.name.as_deref()).over(&settled);
            let compiled = Reader { world, route, callers }.rule(at, told, &settled);
            for matches in &told.matches {
                let rule = Rule { matches: matches.clone(), ..compiled.clone() };
                found.push((precedence::of(route, matches), rule));
            }
        }
    }
    // Stable, so that rules and matches of one route stay in its own order.
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(found.into_iter().map(|(_, rule)| rule).collect())
}

/// Reads the rules of a route, as they apply to some callers.
struct Reader<'a> {
    world: &'a World,
    route: &'a Route,
    callers: &'a Callers,
}

impl Reader<'_> {
    /// What all matches of a rule have in common.
    fn rule(&self, at: usize, told: &RouteRule, settled: &Settled) -> Rule {
        let (name, kind) = (&self.route.name, self.route.kind.as_str());
        let origin = Origin {
            rule: told.name.clone().unwrap_or_else(|| at.to_string()),
            ..port::origin(kind, &name.namespace, &name.name)
        };
        let mut rule = Rule {
            matches: Match::default(),
            filters: told.filters.clone(),
            action: self.action(told),
            timeouts: policy::timeouts(&settled.settings, told.timeouts),
            retry: policy::retry(&settled.settings),
            mirrors: Vec::new(),
            origin,
            setters: self.setters(at, told, settled),
        };
        if matches!(rule.action, Action::Forward(_)) {
            let mirrors = told.mirrors.iter();
            rule.mirrors = mirrors
                .filter_map(|mirror| {
                    // Copies are nobody's requests: a route's limits are not about them.
                    let (service, port) = self.valid(mirror.to.as_ref())?;
                    let cluster = Target::Service(service.clone(), *port).to_string();
                    Some(Mirror { cluster, millionths: mirror.millionths })
                })
                .collect();
        } else {
            // The model has these for what is forwarded only.
            rule.timeouts = Timeouts::default();
            rule.retry = None;
            rule.setters.clear();
            rule.filters.retain(|filter| !matches!(filter, Filter::Rewrite { .. }));
        }
        rule
    }

    /// Who set timeouts and retries; the route itself comes before any policy.
    fn setters(&self, at: usize, told: &RouteRule, settled: &Settled) -> Vec<Setter> {
        let own = [
            (told.timeouts.request, "request", "spec.timeouts.request"),
            (told.timeouts.per_try, "backendRequest", "spec.retries.perTryTimeout"),
        ];
        let mut setters = settled.setters(Scope::Rule);
        for (_, field, beaten) in own.into_iter().filter(|(said, ..)| said.is_some()) {
            setters.retain(|setter| setter.field != beaten);
            let name = &self.route.name;
            setters.push(Setter {
                field: format!("spec.rules[{at}].timeouts.{field}"),
                origin: port::origin(self.route.kind.as_str(), &name.namespace, &name.name),
            });
        }
        setters
    }

    fn action(&self, told: &RouteRule) -> Action {
        let backends = match &told.action {
            RuleAction::Fail => return Action::Fail(INVALID),
            RuleAction::Redirect(redirect) => return Action::Redirect(redirect.clone()),
            RuleAction::Forward(backends) => backends,
        };
        let rule = told.name.as_deref();
        let backends: Vec<Backend> = backends.iter().map(|told| self.backend(rule, told)).collect();
        if backends.iter().any(|backend| backend.weight > 0 && backend.is_valid()) {
            Action::Forward(backends)
        } else {
            Action::Fail(INVALID)
        }
    }

    fn backend(&self, rule: Option<&str>, told: &BackendRef) -> Backend {
        let cluster = self.cluster(rule, told.to.as_ref());
        Backend {
            filters: if cluster.is_some() { told.filters.clone() } else { Vec::new() },
            cluster: cluster.unwrap_or_else(|| Backend::INVALID.to_owned()),
            weight: told.weight,
        }
    }

    /// A reference, if it leads somewhere.
    fn valid<'a>(&self, to: Option<&'a (Name, u16)>) -> Option<&'a (Name, u16)> {
        let (service, port) = to?;
        attached::backend(self.world, self.route, self.callers, service, *port).ok()?;
        to
    }

    /// The cluster that a reference leads to; `None` if it leads nowhere.
    fn cluster(&self, rule: Option<&str>, to: Option<&(Name, u16)>) -> Option<String> {
        let (service, port) = self.valid(to)?;
        Some(derived::target(self.world, self.route, rule, service, *port).to_string())
    }
}

/// Everything to the cluster of the same name.
fn forward(cluster: &str, origin: Origin, settled: &Settled) -> Rule {
    Rule {
        matches: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(vec![Backend {
            cluster: cluster.to_owned(),
            weight: 1,
            filters: Vec::new(),
        }]),
        timeouts: policy::timeouts(&settled.settings, RuleTimeouts::default()),
        retry: policy::retry(&settled.settings),
        mirrors: Vec::new(),
        origin,
        setters: settled.setters(Scope::Rule),
    }
}
