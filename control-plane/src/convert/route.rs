//! HTTPRoute, GRPCRoute, TCPRoute and TLSRoute.
//!
//! What a Kubernetes API server would refuse by the CRD's rules refuses the object here too. What is
//! right but cannot be done fails the requests that it is about (Gateway API: 500; an opaque
//! connection is closed), and is named.

mod filters;
mod matches;
mod shape;

use std::{net::IpAddr, sync::Arc, time::Duration};

use gateway_api::{
    experimental::tcproutes::TcpRoute, grpcroutes::GrpcRoute, httproutes::HttpRoute,
    tlsroutes::TlsRoute,
};
use serde::Serialize;
use serde_json::Value;
use tulle_xds::model::{Match, PathMatch};

use self::filters::Filters;
pub(super) use self::matches::regex;
use super::{
    Fault, Field, Kind, Name,
    metadata::created,
    service::number,
    typed::{self, Unknown},
};
use crate::world::objects::{
    BackendRef, Object, ParentRef, Route, RouteRule, RuleAction, RuleTimeouts,
};

/// As in the CRDs.
const MAX_RULES: usize = 16;
const MAX_MATCHES: usize = 64;
const MAX_HOSTNAMES: usize = 1024;
const MAX_WEIGHT: u32 = 1_000_000;

pub(super) fn http(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let typed: HttpRoute = typed::read(value, Unknown::Refuse, faults)?;
    let route = route(Kind::HttpRoute, name, value, &typed.spec, faults)?;
    Some(Object::HttpRoute(Arc::new(route)))
}

pub(super) fn grpc(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let typed: GrpcRoute = typed::read(value, Unknown::Refuse, faults)?;
    let route = route(Kind::GrpcRoute, name, value, &typed.spec, faults)?;
    Some(Object::GrpcRoute(Arc::new(route)))
}

pub(super) fn tcp(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let typed: TcpRoute = typed::read(value, Unknown::Refuse, faults)?;
    one_rule(typed.spec.rules.len(), faults);
    let route = route(Kind::TcpRoute, name, value, &typed.spec, faults)?;
    Some(Object::TcpRoute(Arc::new(route)))
}

pub(super) fn tls(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let typed: TlsRoute = typed::read(value, Unknown::Refuse, faults)?;
    one_rule(typed.spec.rules.len(), faults);
    let hostnames = hostnames(&typed.spec.hostnames, faults);
    let route = route(Kind::TlsRoute, name, value, &typed.spec, faults)?;
    Some(Object::TlsRoute(Arc::new(Route { hostnames, ..route })))
}

/// As in the CRD: there is nothing that a second one could match.
fn one_rule(there: usize, faults: &mut Vec<Fault>) {
    if there != 1 {
        let reason = format!("there are {there}; exactly one is allowed");
        faults.push(Fault::fatal("spec.rules", reason));
    }
}

/// Names of TLS servers, each once; as in the CRD.
fn hostnames(told: &[String], faults: &mut Vec<Fault>) -> Vec<String> {
    let field = Field::from("spec.hostnames");
    if told.is_empty() {
        faults.push(Fault::fatal(field.clone(), "is empty; name the servers that clients ask for"));
    }
    at_most(MAX_HOSTNAMES, told.len(), &field, faults);
    let mut found: Vec<String> = Vec::new();
    for (at, name) in told.iter().enumerate() {
        if let Err(reason) = check_hostname(name) {
            faults.push(Fault::fatal(field.index(at), format!("{name:.253?} {reason}")));
        } else if !found.contains(name) {
            found.push(name.clone());
        }
    }
    found
}

fn check_hostname(name: &str) -> Result<(), &'static str> {
    if name.parse::<IpAddr>().is_ok() {
        return Err("is an address; TLS clients name servers (RFC 6066, 3)");
    }
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| *b == b'-' || edge(Some(b));
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
    };
    let labels = name.strip_prefix("*.").unwrap_or(name).split('.');
    if name.len() > 253 || !labels.into_iter().all(label) {
        return Err("is no DNS name in lower case, with or without *. before it");
    }
    Ok(())
}

fn route(
    kind: Kind,
    name: &Name,
    value: &Value,
    typed: &impl Serialize,
    faults: &mut Vec<Fault>,
) -> Option<Route> {
    // What the checked type writes has neither nulls nor unknown fields.
    let checked = serde_json::to_value(typed).and_then(serde_json::from_value::<shape::Spec>);
    let mut spec = match checked {
        Ok(spec) => spec,
        Err(error) => {
            faults.push(Fault::fatal("spec", error.to_string()));
            return None;
        }
    };
    if !spec.hostnames.is_empty() && kind != Kind::TlsRoute {
        let reason = "has no effect where a Service is the parent: the address decides; a rule can match the \
                      header Host instead";
        faults.push(Fault::note("spec.hostnames", reason));
    }
    at_most(MAX_RULES, spec.rules.len(), &Field::from("spec.rules"), faults);
    if spec.rules.is_empty() {
        // The CRD's default.
        spec.rules.push(shape::Rule::default());
    }
    let parents = parents(name, &spec.parent_refs, faults);
    let mut reader = Reader { route: name, lost: lost(kind), faults };
    let rules: Vec<RouteRule> =
        (0..).zip(&spec.rules).map(|(at, rule)| reader.rule(at, rule)).collect();
    for (at, rule) in rules.iter().enumerate() {
        let earlier = rules.iter().take(at).any(|earlier| earlier.name == rule.name);
        if rule.name.is_some() && earlier {
            let field = Field::from("spec.rules").index(at).key("name");
            faults.push(Fault::fatal(field, "another rule has this name"));
        }
    }
    let hostnames = Vec::new();
    Some(Route { kind, name: name.clone(), created: created(value), parents, hostnames, rules })
}

fn parents(route: &Name, parents: &[shape::Parent], faults: &mut Vec<Fault>) -> Vec<ParentRef> {
    let mut found = Vec::new();
    for (at, parent) in parents.iter().enumerate() {
        let field = Field::from("spec.parentRefs").index(at);
        let kind = parent.kind.as_deref().unwrap_or("Gateway");
        if kind != "Service" || parent.group.as_deref() != Some("") {
            let reason = if kind == "Service" {
                "a Service is of group \"\", which must be said: the default is another".to_owned()
            } else {
                format!("not in force yet: a {kind:.63} as parent; a Service of group \"\" can be")
            };
            faults.push(Fault::note(field, reason));
            continue;
        }
        let port = parent.port.map(number).transpose();
        let port = port.map_err(|reason| faults.push(Fault::fatal(field.key("port"), reason)));
        found.push(ParentRef {
            at,
            service: Name::new(
                parent.namespace.as_deref().unwrap_or(&route.namespace),
                &parent.name,
            ),
            port: port.ok().flatten(),
            section: parent.section_name.clone(),
        });
    }
    if parents.is_empty() {
        faults.push(Fault::note("spec.parentRefs", "is empty: the route is attached to nothing"));
    }
    found
}

/// What becomes of what has no backend.
pub(crate) fn lost(kind: Kind) -> &'static str {
    match kind {
        Kind::TcpRoute | Kind::TlsRoute => "its share is refused",
        _ => "its share is answered with 500",
    }
}

fn at_most(most: usize, length: usize, field: &Field, faults: &mut Vec<Fault>) {
    if length > most {
        let reason = format!("there are {length}; at most {most} are allowed");
        faults.push(Fault::fatal(field.clone(), reason));
    }
}

/// Reads the rules of one route.
struct Reader<'a> {
    route: &'a Name,
    /// What becomes of a share that has no backend.
    lost: &'static str,
    faults: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    fn fatal(&mut self, field: Field, reason: impl Into<String>) {
        self.faults.push(Fault::fatal(field, reason));
    }

    fn note(&mut self, field: Field, reason: impl Into<String>) {
        self.faults.push(Fault::note(field, reason));
    }

    fn rule(&mut self, at: usize, rule: &shape::Rule) -> RouteRule {
        let field = Field::from("spec.rules").index(at);
        at_most(MAX_MATCHES, rule.matches.len(), &field.key("matches"), self.faults);
        let mut matches: Vec<Match> = Vec::new();
        for (at, told) in rule.matches.iter().enumerate() {
            matches.extend(self.matches(&field.key("matches").index(at), told));
        }
        if rule.matches.is_empty() {
            matches.push(Match::default());
        }
        let filters = self.filters(&field.key("filters"), &rule.filters);
        if let Some(at) = filters.replaces_prefix
            && !matches!(matches.as_slice(), [Match { path: PathMatch::Prefix(_), .. }])
        {
            let reason = "replacePrefixMatch needs exactly one match, of a path's prefix";
            self.fatal(field.key("filters").index(at), reason);
        }
        let backends = self.backends(&field.key("backendRefs"), &rule.backend_refs);
        if filters.redirect.is_some() && !backends.is_empty() {
            let reason = "a rule with the filter RequestRedirect sends nothing to a backend";
            self.fatal(field.key("backendRefs"), reason);
        }
        let timeouts = self.timeouts(&field.key("timeouts"), &rule.timeouts);
        let Filters { list, redirect, mirrors, possible, .. } = filters;
        RouteRule {
            name: rule.name.clone(),
            matches,
            filters: list,
            action: match redirect {
                _ if !possible => RuleAction::Fail,
                Some(redirect) => RuleAction::Redirect(redirect),
                None => RuleAction::Forward(backends),
            },
            mirrors,
            timeouts,
        }
    }

    fn timeouts(&mut self, field: &Field, told: &shape::Timeouts) -> RuleTimeouts {
        let mut read = |key: &str, text: &Option<String>| -> Option<Duration> {
            let parsed = text.as_deref()?.parse::<tulle_api::Duration>();
            let parsed = parsed.map_err(|error| self.fatal(field.key(key), error.to_string()));
            parsed.ok().map(tulle_api::Duration::get)
        };
        let request = read("request", &told.request);
        let per_try = read("backendRequest", &told.backend_request);
        if let (Some(request), Some(per_try)) = (request, per_try)
            && !request.is_zero()
            && per_try > request
        {
            self.fatal(field.key("backendRequest"), "is longer than `request`");
        }
        RuleTimeouts { request, per_try }
    }

    fn backends(&mut self, field: &Field, backends: &[shape::Backend]) -> Vec<BackendRef> {
        at_most(MAX_RULES, backends.len(), field, self.faults);
        let backends = backends.iter().enumerate();
        backends.map(|(at, backend)| self.backend(&field.index(at), backend)).collect()
    }

    fn backend(&mut self, field: &Field, backend: &shape::Backend) -> BackendRef {
        let weight = backend.weight.map_or(Some(1), |weight| u32::try_from(weight).ok());
        let weight = weight.filter(|weight| *weight <= MAX_WEIGHT);
        if weight.is_none() {
            self.fatal(field.key("weight"), format!("is not between 0 and {MAX_WEIGHT}"));
        }
        let to = self.referent(field, &backend.to, self.lost);
        let filters = self.filters(&field.key("filters"), &backend.filters);
        let mut possible = filters.possible;
        let beyond = filters.redirect.is_some() || !filters.mirrors.is_empty();
        if beyond || filters.rewrites_path {
            possible = false;
            let reason = "not in force: a single backend's filters cannot redirect, mirror or \
                          rewrite the path; its share is answered with 500";
            self.note(field.key("filters"), reason);
        }
        BackendRef {
            to: to.filter(|_| possible),
            weight: weight.unwrap_or_default(),
            filters: filters.list,
        }
    }

    /// The Service and port that are meant; `None` if something else is, or nothing that can be.
    fn referent(
        &mut self,
        field: &Field,
        to: &shape::Referent,
        consequence: &str,
    ) -> Option<(Name, u16)> {
        let kind = to.kind.as_deref().unwrap_or("Service");
        let group = to.group.as_deref().unwrap_or_default();
        if (group, kind) != ("", "Service") {
            let reason = format!(
                "not in force: a backend must be a Service (group \"\"), not a {kind:.63} of group \
                 {group:.253?}; {consequence}"
            );
            self.note(field.key("kind"), reason);
            return None;
        }
        let Some(port) = to.port else {
            self.fatal(field.key("port"), "is missing; a Service is named with its port");
            return None;
        };
        let port = number(port).map_err(|reason| self.fatal(field.key("port"), reason)).ok()?;
        let namespace = to.namespace.as_deref().unwrap_or(&self.route.namespace);
        Some((Name::new(namespace, &to.name), port))
    }
}

#[cfg(test)]
mod tests;
