//! What the step that a release is in does beside dividing by share: rules that stand before the one that they come from.
//!
//! ```text
//! /a  x-beta: 1     what matches: all to the canary
//! /a  GET           the others: by share, and a copy of some of them to the canary
//! /a  HEAD          (as GET)
//! /a  OPTIONS       (as GET)
//! /a                by share
//! ```
//!
//! Each is directly before its origin, whose conditions it has too, so that no other rule's turn comes earlier or later than it did.
//! What is of one backend stays of one backend: where a rule sends half to A, which is divided, and half to B, then of what
//! matches half goes to A's canary, and half to B. Where several of its backends are divided by different releases, what matches
//! one's conditions is divided by share at the others; what matches the conditions of several goes to the canary of each.
//!
//! Copies are of what would be sent to the stable version, by number: which requests they are of is drawn anew, as Envoy does
//! it, too, so that one may be of a request that goes to another backend, or to the canary itself.
//!
//! In none of this a canary is meant that nobody serves: then the [split](crate::world::Split) has no step.

use std::{collections::BTreeMap, sync::Arc};

use http::Method;
use tulle_xds::model::{Action, Backend, Match, Mirror, Protocol, Rule};

use super::{
    names::{Part, Target},
    port,
    split::{Canary, Division, Splits},
};
use crate::{
    release::{Share, Step},
    world::{
        World,
        objects::{Kind, Name, Release, Route, RouteRule, RuleAction, Service},
    },
};

/// Rules that may be added to those of a route. More would be looked through with each request; where one release divides a
/// backend, it takes more matches than Gateway API lets a route have.
const MOST: usize = 2048;

/// Methods that change nothing, so that nobody minds a copy.
const SAFE: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

/// Whether there are requests of which copies may be made. Calls of gRPC are POSTs, each of them, whatever they do.
pub(super) fn may_copy(route: &Route) -> bool {
    route.kind != Kind::GrpcRoute
}

/// How releases divide the backends of a route. By share alone, if its rules would become [too many](MOST).
pub(super) fn splits<'a>(world: &'a World, route: &Route) -> Splits<'a> {
    let splits = Splits::of(world, route.backends().cloned());
    if added(route, &splits) > MOST { splits.by_share() } else { splits }
}

/// How many rules would be added to those of a route.
fn added(route: &Route, splits: &Splits<'_>) -> usize {
    let of = |rule: &RouteRule| {
        let RuleAction::Forward(backends) = &rule.action else { return 0 };
        let services = backends.iter().filter_map(|told| Some(&told.to.as_ref()?.0));
        let mut steps = Steps::default();
        services.filter_map(|service| splits.get(service)).for_each(|split| {
            steps.add(&split.release.name, split.step);
        });
        let product = |each: &dyn Fn(&Step) -> usize| {
            steps.0.iter().map(|(_, step)| each(step)).fold(1, usize::saturating_mul)
        };
        let all = product(&|step| 1 + step.matches.len());
        // All that is mirrored goes whole to its canary.
        let silent = product(&|step| step.matches.len() + usize::from(step.mirror == 0));
        let copied = if may_copy(route) { all - silent } else { 0 };
        let more = (all - 1).saturating_add(copied.saturating_mul(SAFE.len()));
        rule.matches.len().saturating_mul(more)
    };
    route.rules.iter().map(of).fold(0, usize::saturating_add)
}

/// A rule, and before it those that come of it.
pub(super) fn rules(division: &Division<'_>, rule: Rule, may_copy: bool) -> Vec<Rule> {
    let mut steps = Steps::default();
    for (_, canary) in division.divided() {
        steps.add(&canary.split.release.name, canary.split.step);
    }
    if steps.0.is_empty() || !matches!(rule.action, Action::Forward(_)) {
        return vec![rule];
    }
    // Conditions, and the releases whose canaries get what meets them.
    let mut found = vec![(rule.matches.clone(), Vec::new())];
    for (release, step) in &steps.0 {
        let narrowed = |(base, whole): (Match, Vec<_>)| {
            let more = [whole.as_slice(), &[*release]].concat();
            let matching = step.matches.iter().map(|told| (both(&base, told), more.clone()));
            matching.chain([(base.clone(), whole)]).collect::<Vec<_>>()
        };
        found = found.into_iter().flat_map(narrowed).collect();
    }
    let compiled = |(matches, whole): (Match, Vec<&Name>)| {
        let action = Action::Forward(division.backends(&whole));
        let copies = if may_copy { copies(division, &whole) } else { Vec::new() };
        copied(Rule { matches, action, ..rule.clone() }, copies)
    };
    found.into_iter().flat_map(compiled).collect()
}

/// The steps that the releases of a rule's backends are in, each once.
#[derive(Default)]
struct Steps<'a>(Vec<(&'a Name, &'a Step)>);

impl<'a> Steps<'a> {
    fn add(&mut self, release: &'a Name, step: Option<&'a Step>) {
        let new = self.0.iter().all(|(known, _)| *known != release);
        self.0.extend(step.filter(|_| new).map(|step| (release, step)));
    }
}

/// What meets the conditions of both. A step's are on headers and parameters alone.
fn both(rule: &Match, step: &Match) -> Match {
    let mut both = rule.clone();
    for header in &step.headers {
        if !both.headers.contains(header) {
            both.headers.push(header.clone());
        }
    }
    for parameter in &step.query {
        if !both.query.contains(parameter) {
            both.query.push(parameter.clone());
        }
    }
    both
}

/// What canaries get copies of, whose releases are not in `whole`. A route's limits are not about copies, so that these go by the
/// Service's own cluster.
fn copies(division: &Division<'_>, whole: &[&Name]) -> Vec<Mirror> {
    let mirror = |(backend, Canary { part, split }): (&Backend, &Canary<'_>)| {
        let step = split.step.filter(|_| !whole.contains(&&split.release.name))?;
        let stable = u64::from(Share::ALL.per_ten_thousand() - split.share.per_ten_thousand());
        // Percent times ten thousandths.
        let all = u64::from(step.mirror) * stable * u64::from(backend.weight);
        let millionths = u32::try_from(all.checked_div(division.weight())?).ok()?;
        let cluster = Target::Service(Part { via: None, ..part.clone() }).to_string();
        (millionths > 0).then_some(Mirror { cluster, millionths })
    };
    division.divided().filter_map(mirror).collect()
}

/// A rule, and before it those for the requests of which there are copies.
fn copied(rule: Rule, copies: Vec<Mirror>) -> Vec<Rule> {
    let with = |method: &Method| {
        let matches = Match { method: Some(method.clone()), ..rule.matches.clone() };
        let mirrors = [rule.mirrors.as_slice(), &copies].concat();
        Rule { matches, mirrors, ..rule.clone() }
    };
    match &rule.matches.method {
        _ if copies.is_empty() => vec![rule],
        Some(method) if SAFE.contains(method) => vec![with(method)],
        Some(_) => vec![rule],
        None => SAFE.iter().map(with).chain([rule.clone()]).collect(),
    }
}

/// What of a release's steps is not done as they say, by field.
pub(super) fn complaints(world: &World, release: &Release) -> Vec<(String, String)> {
    let services = world.called_by(release);
    let services: Vec<_> = services.iter().filter_map(|name| world.service(name)).collect();
    let routes = services.iter().flat_map(|service| world.routes_to(&service.name));
    let routes: BTreeMap<_, _> = routes.map(|route| (route.reference(), route)).collect();
    let mut said = Vec::new();
    let port = |service: &&Arc<Service>| {
        let mut ports = service.ports.iter();
        let port = ports.find(|port| port::declared(port) == Protocol::Grpc)?;
        Some(format!("port {} of Service {}", port.port, service.name))
    };
    let calls = routes.iter().find(|(_, route)| !may_copy(route));
    let calls = calls.map(|(route, _)| route.to_string());
    if let Some(calls) = services.iter().find_map(port).or(calls) {
        let reason = format!(
            "no call of gRPC is copied, so none at {calls}: each is a POST, which may change something"
        );
        let steps = release.plan.steps.iter().enumerate().filter(|(_, step)| step.mirror > 0);
        said.extend(steps.map(|(at, _)| (format!("spec.steps[{at}].mirror"), reason.clone())));
    }
    let step = release.course.as_ref().and_then(|course| course.step);
    for (name, route) in step.iter().flat_map(|_| &routes) {
        let splits = Splits::of(world, route.backends().cloned());
        let more = added(route, &splits);
        if more > MOST && splits.iter().any(|split| split.release.name == release.name) {
            let reason = format!(
                "{name} would have {more} more rules by it, and {MOST} are possible: there it is its weight alone that counts"
            );
            said.extend(step.map(|at| (format!("spec.steps[{at}]"), reason)));
        }
    }
    said
}

/// What gRPC without a proxy does not do of a release: chance alone divides there, and nothing is copied.
pub(super) fn beyond_grpc(release: &Release) -> Vec<String> {
    let stick = release.plan.stick_by.as_ref().map(|_| "spec.stickBy".to_owned());
    let steps = release.plan.steps.iter().enumerate().filter(|(_, step)| step.mirror > 0);
    stick.into_iter().chain(steps.map(|(at, _)| format!("spec.steps[{at}].mirror"))).collect()
}
