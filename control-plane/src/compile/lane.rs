//! What lanes make of a Service as somebody's destination: for each lane with a ready pod there a cluster of its own, and
//! before each rule, and what comes of it by a release, others for the requests of that lane, which lead to it.
//!
//! A request is in a lane by its baggage, which the sidecars of the lane's namespace see to (`proxy/src/request/lane.rs`);
//! or, at the first hop, by what the lane says of its entry. Both are conditions on headers and query, so that every
//! caller obeys them, stock Envoy and gRPC as well. A route decides which Service gets a request, a lane which of its pods. Lanes
//! of several namespaces with one name are one to requests: each speaks for its own Services.

mod sight;

use std::collections::{BTreeMap, BTreeSet};

pub use self::sight::{Behind, LaneSight};

use http::{HeaderName, StatusCode};
use tulle_xds::model::{
    self, Action, Backend, Filter, HeaderMatch, Match, Origin, Regex, Rule, StringMatch, Timeouts,
};

use super::{
    endpoints,
    names::{Part, Target},
    port,
};
use crate::world::{
    World,
    objects::{Kind, Lane, Name, ObjectRef, Service, ServicePort},
};

/// What of a Lane an older proxy does not understand.
pub(super) const FIELD: &str = "spec";

/// Where requests say in which lane they are.
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// As the sidecars of its namespace are told.
pub(super) fn told(lane: &Lane) -> model::Lane {
    model::Lane { name: lane.name.name.to_string(), entry: lane.entry.clone() }
}

/// What of a part of a Service a lane takes.
pub(super) fn part(lane: &Lane, of: &Part) -> Part {
    Part { lane: Some(lane.name.name.to_string()), canary: false, ..of.clone() }
}

/// The lane that takes what goes to a cluster.
pub(super) fn taken_by(cluster: &str) -> Option<ObjectRef> {
    let Target::Service(Part { service, lane: Some(lane), .. }) = Target::parse(cluster)? else {
        return None;
    };
    let name = Name::new(&service.namespace, lane);
    Some(ObjectRef { kind: Kind::Lane, name })
}

/// The lane that a rule comes from, which lets nothing of it pass.
pub(super) fn denied_by(origin: &Origin) -> Option<ObjectRef> {
    let name = || Name::new(&origin.namespace, &origin.name);
    (origin.kind == Kind::Lane.as_str()).then(|| ObjectRef { kind: Kind::Lane, name: name() })
}

/// A rule for what comes to a port of a Service with those that come of it before it, and before all of them those of lanes.
pub(super) fn rules(
    world: &World,
    called: (&Service, &ServicePort),
    rules: Vec<Rule>,
) -> Vec<Rule> {
    if !world.has_lanes() {
        return rules;
    }
    let mut found = Vec::new();
    if let Some(rule) = rules.last()
        && let Action::Forward(backends) = &rule.action
    {
        found.extend(Reader::new(world, called, backends).before(rule));
    }
    found.extend(rules);
    found
}

/// Reads where a rule leads.
struct Reader<'a> {
    world: &'a World,
    called: (&'a Service, &'a ServicePort),
    /// Parts of Services, with the backends that they are.
    parts: Vec<(Part, &'a Backend)>,
}

impl<'a> Reader<'a> {
    fn new(
        world: &'a World,
        called: (&'a Service, &'a ServicePort),
        backends: &'a [Backend],
    ) -> Self {
        let used = backends.iter().filter(|backend| backend.weight > 0);
        let parts = used.filter_map(|backend| match Target::parse(&backend.cluster)? {
            Target::Service(part) => Some((part, backend)),
            Target::Pod(..) => None,
        });
        Self { world, called, parts: parts.collect() }
    }

    /// What comes before `rule`. Who is in a lane already enters no other one, so that what the baggage says comes first.
    fn before(&self, rule: &Rule) -> Vec<Rule> {
        let (mut carried, mut entering) = (Vec::new(), Vec::new());
        for (name, lanes) in self.lanes() {
            let (Some(within), Some(answer)) = (baggage(name), self.answer(name, &lanes)) else {
                continue;
            };
            carried.push(answer.instead_of(rule, &within));
            let mut seen: Vec<&Match> = Vec::new();
            for entry in lanes.iter().flat_map(|lane| &lane.entry) {
                if !seen.contains(&entry) {
                    entering.push(answer.instead_of(rule, entry));
                    seen.push(entry);
                }
            }
        }
        carried.extend(entering);
        carried
    }

    /// The lanes that may have a say, by what requests call them.
    fn lanes(&self) -> BTreeMap<&'a str, Vec<&'a Lane>> {
        let own = &self.called.0.name.namespace;
        let namespaces = self.parts.iter().map(|(part, _)| &part.service.namespace);
        let namespaces: BTreeSet<_> = namespaces.chain([own]).collect();
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for lane in namespaces.into_iter().flat_map(|namespace| self.world.lanes_in(namespace)) {
            found.entry(&*lane.name.name).or_default().push(&**lane);
        }
        found
    }

    /// What becomes of a lane's requests here; `None`: the same as of everybody's.
    fn answer(&self, name: &str, lanes: &[&'a Lane]) -> Option<Answer<'a>> {
        let mut backends: Vec<Backend> = Vec::new();
        for (of, backend) in &self.parts {
            let Some(cluster) = self.cluster(name, of) else { continue };
            // Of a Service that a release divides there are two.
            match backends.iter_mut().find(|known| known.cluster == cluster) {
                Some(known) => known.weight += backend.weight,
                None => backends.push(Backend { cluster, ..(*backend).clone() }),
            }
        }
        if backends.is_empty() && self.narrows() {
            let (service, port) = self.called;
            let whole = Part::whole(&service.name, port.port);
            let one = |cluster| Backend { cluster, weight: 1, filters: Vec::new() };
            backends.extend(self.cluster(name, &whole).map(one));
        }
        if !backends.is_empty() {
            return Some(Answer::Forward(backends));
        }
        lanes.iter().find(|lane| lane.denies).map(|lane| Answer::Deny(lane))
    }

    /// The lane's cluster in place of one, if it has a ready pod there.
    fn cluster(&self, name: &str, of: &Part) -> Option<String> {
        let lane = self.world.lane(&Name::new(&of.service.namespace, name))?;
        let service = self.world.service(&of.service)?;
        let port = service.port(of.port)?;
        endpoints::of_lane(self.world, service, &port.name, lane, true)
            .then(|| Target::Service(part(lane, of)).to_string())
    }

    /// Whether a route leads to Services with fewer of the same pods, as those of single versions are. Then a pod of the lane
    /// that is behind none of these, but behind the one that is called, is meant.
    fn narrows(&self) -> bool {
        let called = &self.called.0.selector;
        let narrower = |part: &Part| {
            let service = self.world.service(&part.service);
            service.is_some_and(|service| {
                part.service.namespace == self.called.0.name.namespace
                    && called.iter().all(|(key, value)| service.selector.get(key) == Some(value))
            })
        };
        !called.is_empty() && self.parts.iter().any(|(part, _)| narrower(part))
    }
}

/// What becomes of a lane's requests.
enum Answer<'a> {
    /// They go here.
    Forward(Vec<Backend>),
    /// They are refused, because this lane says so.
    Deny(&'a Lane),
}

impl Answer<'_> {
    /// The rule for those requests of `rule` that match `more`, too.
    fn instead_of(&self, rule: &Rule, more: &Match) -> Rule {
        let mut rule = rule.clone();
        rule.matches.headers.extend(more.headers.iter().cloned());
        rule.matches.query.extend(more.query.iter().cloned());
        match self {
            Self::Forward(backends) => Rule { action: Action::Forward(backends.clone()), ..rule },
            Self::Deny(lane) => {
                let Name { namespace, name } = &lane.name;
                // The model has most of it for what is forwarded only.
                rule.filters.retain(|filter| !matches!(filter, Filter::Rewrite { .. }));
                Rule {
                    action: Action::Fail(StatusCode::SERVICE_UNAVAILABLE),
                    timeouts: Timeouts::default(),
                    retry: None,
                    stick: None,
                    mirrors: Vec::new(),
                    origin: port::origin(Kind::Lane.as_str(), namespace, name),
                    setters: Vec::new(),
                    ..rule
                }
            }
        }
    }
}

/// Whether a request's baggage says that it is in the lane of this name.
fn baggage(name: &str) -> Option<Match> {
    // Names have nothing else that an expression would read otherwise.
    let name = name.replace('.', r"\.");
    let member = format!(r"(?:.*,)?[ \t]*tulle\.lane[ \t]*=[ \t]*{name}[ \t]*(?:[,;].*)?");
    let value = StringMatch::Regex(Regex::new(&member).ok()?);
    Some(Match { headers: vec![HeaderMatch { name: BAGGAGE, value }], ..Match::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_the_lane_that_its_baggage_names_and_in_no_other() {
        let within = baggage("pr-1.x").unwrap();
        let StringMatch::Regex(regex) = &within.headers[0].value else { panic!("no expression") };
        for said in [
            "tulle.lane=pr-1.x",
            " tulle.lane = pr-1.x ",
            "tulle.lane=pr-1.x;ttl=3",
            "user=ann,tulle.lane=pr-1.x",
            "user=ann, tulle.lane=pr-1.x , tenant=9",
        ] {
            assert!(regex.is_match(said), "{said}");
        }
        for said in [
            "",
            "tulle.lane=",
            "tulle.lane=pr-1.x2",
            "tulle.lane=pr-1-x",
            "tulle.lane=pr-1",
            "xtulle.lane=pr-1.x",
            "tulle-lane=pr-1.x",
            "user=tulle.lane=pr-1.x",
            "user=ann;tulle.lane=pr-1.x",
        ] {
            assert!(!regex.is_match(said), "{said}");
        }
        assert_eq!(model::beyond_re2(regex.source()), None);
    }
}
