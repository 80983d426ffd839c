//! Route: rules for HTTP. Without any route attached, one rule that forwards everything.

use std::{collections::BTreeSet, iter, sync::Arc};

use http::StatusCode;
use tulle_xds::model::{
    Action, Backend, Filter, Match, Mirror, Origin, Protocol, RouteConfiguration, Rule, Setter,
    Timeouts,
};

use super::{
    attached::{self, Callers},
    derived, direct, lane,
    names::{Part, Target},
    policy, port, precedence,
    settled::Settled,
    split::{Divided, Division, Splits},
    steps,
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
        Target::Service(Part { service, port, via: None, canary: false, lane: None }) => {
            of_service(world, &service, port, callers)?
        }
        Target::Service(_) => return None,
        Target::Pod(pod, number) => {
            let pod = world.pod(&pod)?;
            let origin = port::origin("Pod", &pod.name.namespace, &pod.name.name);
            let own = vec![all_to(name.to_owned())];
            let rule = || forward(own, origin, &direct::settled(world, pod, number));
            let protocol = port::declared_on_pod(world, pod, number);
            (protocol != Protocol::Tcp).then(|| vec![rule()])?
        }
    };
    Some(RouteConfiguration { name: name.to_owned(), rules })
}

/// The namespaces whose callers have a route of their own.
pub(super) fn consumers(world: &World, name: &str) -> BTreeSet<Arc<str>> {
    let Some(Target::Service(Part { service, port, .. })) = Target::parse(name) else {
        return BTreeSet::new();
    };
    let port = world.service(&service).and_then(|service| Some((service, service.port(port)?)));
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

/// Where that is; never empty. A canary that gets nothing is there, so that what is open to it can be ended.
pub(super) fn opaque_backends(world: &World, route: &Route, callers: &Callers) -> Vec<Backend> {
    let reader = Reader::new(world, route, callers);
    let backends = route.rules.iter().flat_map(|rule| {
        let mut division = reader.division(rule);
        division.0.retain(|one| one.backend.weight > 0);
        match reader.action(rule, &division) {
            Action::Forward(backends) => backends,
            Action::Redirect(_) | Action::Fail(_) => Vec::new(),
        }
    });
    let mut backends: Vec<_> = backends.collect();
    if backends.is_empty() {
        let (cluster, filters) = (Backend::INVALID.to_owned(), Vec::new());
        backends.push(Backend { cluster, weight: 1, filters });
    }
    backends
}

fn of_service(world: &World, service: &Name, number: u16, callers: &Callers) -> Option<Vec<Rule>> {
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
        let own = own(world, &service.name, number);
        let rule = forward(own.backends(&[]), origin, &settled);
        let rule = Rule { stick: own.stick(), ..rule };
        let rules = steps::rules(&own, rule, port::declared(port) != Protocol::Grpc);
        return Some(lane::rules(world, (service, port), rules));
    }
    let mut found = Vec::new();
    for route in routes {
        let reader = Reader::new(world, route, callers);
        for (at, told) in route.rules.iter().enumerate() {
            let settled = policy::of_rule(world, route, told.name.as_deref()).over(&settled);
            let division = reader.division(told);
            let compiled = reader.rule(at, told, &division, &settled);
            for matches in &told.matches {
                let rule = Rule { matches: matches.clone(), ..compiled.clone() };
                let rules = steps::rules(&division, rule, steps::may_copy(route));
                let rules = lane::rules(world, (service, port), rules);
                found.extend(rules.into_iter().map(|rule| (precedence::of(route, matches), rule)));
            }
        }
    }
    // Stable, so that rules and matches of one route stay in its own order, and what comes of one before it.
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(found.into_iter().map(|(_, rule)| rule).collect())
}

/// Reads the rules of a route, as they apply to some callers.
struct Reader<'a> {
    world: &'a World,
    route: &'a Route,
    callers: &'a Callers,
    splits: Splits<'a>,
}

impl<'a> Reader<'a> {
    fn new(world: &'a World, route: &'a Route, callers: &'a Callers) -> Self {
        Self { world, route, callers, splits: steps::splits(world, route) }
    }

    /// What all matches of a rule have in common.
    fn rule(
        &self,
        at: usize,
        told: &RouteRule,
        division: &Division<'_>,
        settled: &Settled,
    ) -> Rule {
        let (name, kind) = (&self.route.name, self.route.kind.as_str());
        let origin = Origin {
            rule: told.name.clone().unwrap_or_else(|| at.to_string()),
            ..port::origin(kind, &name.namespace, &name.name)
        };
        let mut rule = Rule {
            matches: Match::default(),
            filters: told.filters.clone(),
            action: self.action(told, division),
            timeouts: policy::timeouts(&settled.settings, told.timeouts),
            retry: policy::retry(&settled.settings),
            stick: division.stick(),
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
                    let cluster = Target::Service(Part::whole(service, *port)).to_string();
                    Some(Mirror { cluster, millionths: mirror.millionths })
                })
                .collect();
        } else {
            // The model has these for what is forwarded only.
            rule.timeouts = Timeouts::default();
            rule.retry = None;
            rule.stick = None;
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

    fn action(&self, told: &RouteRule, division: &Division<'_>) -> Action {
        let backends = match &told.action {
            RuleAction::Fail => return Action::Fail(INVALID),
            RuleAction::Redirect(redirect) => return Action::Redirect(redirect.clone()),
            RuleAction::Forward(_) => division.backends(&[]),
        };
        if backends.iter().any(|backend| backend.weight > 0 && backend.is_valid()) {
            Action::Forward(backends)
        } else {
            Action::Fail(INVALID)
        }
    }

    /// The backends of a rule; none of one that forwards nothing.
    fn division(&self, told: &RouteRule) -> Division<'a> {
        let RuleAction::Forward(backends) = &told.action else { return Division(Vec::new()) };
        let rule = told.name.as_deref();
        Division(backends.iter().map(|told| self.backend(rule, told)).collect())
    }

    fn backend(&self, rule: Option<&str>, told: &BackendRef) -> Divided<'a> {
        let weight = told.weight;
        let Some((service, port)) = self.valid(told.to.as_ref()) else {
            let cluster = Backend::INVALID.to_owned();
            return Divided::whole(Backend { cluster, weight, filters: Vec::new() });
        };
        let part = derived::part(self.world, self.route, rule, service, *port);
        let filters = told.filters.clone();
        Divided::of(&self.splits, part, |cluster| Backend { cluster, weight, filters })
    }

    /// A reference, if it leads somewhere.
    fn valid<'t>(&self, to: Option<&'t (Name, u16)>) -> Option<&'t (Name, u16)> {
        let (service, port) = to?;
        attached::backend(self.world, self.route, self.callers, service, *port).ok()?;
        to
    }
}

/// What goes to a port of a Service of which no route says anything.
pub(super) fn own<'a>(world: &'a World, service: &Name, port: u16) -> Division<'a> {
    let splits = Splits::of(world, iter::once(service.clone()));
    Division(vec![Divided::of(&splits, Part::whole(service, port), all_to)])
}

fn all_to(cluster: String) -> Backend {
    Backend { cluster, weight: 1, filters: Vec::new() }
}

/// Everything to these.
fn forward(backends: Vec<Backend>, origin: Origin, settled: &Settled) -> Rule {
    Rule {
        matches: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(backends),
        timeouts: policy::timeouts(&settled.settings, RuleTimeouts::default()),
        retry: policy::retry(&settled.settings),
        stick: None,
        mirrors: Vec::new(),
        origin,
        setters: settled.setters(Scope::Rule),
    }
}
