//! What is to be said about a route or a policy that only the rest of the world can tell.

use std::sync::Arc;

use super::{
    attached::{self, Callers, Fit},
    direct, steps,
};
use crate::{
    convert::lost,
    problem::Complaint,
    world::{
        World,
        objects::{
            Kind, Name, ObjectRef, Release, Route, RuleAction, Service, ServicePort, TrafficPolicy,
        },
        policy::Scope,
    },
};

/// Everything that is wrong with what an object refers to, and with what it says where another one
/// says it first. Nothing for an object that is not there.
pub fn complaints(world: &World, object: &ObjectRef) -> Vec<Complaint> {
    let mut complaints = Complaints(Vec::new());
    match object.kind {
        kind if kind.is_route() => {
            if let Some(route) = world.route(object) {
                complaints.parents(world, route);
                complaints.backends(world, route);
            }
        }
        Kind::TrafficPolicy => {
            if let Some(policy) = world.policy(&object.name) {
                complaints.targets(world, policy);
            }
        }
        Kind::Release => {
            if let Some(release) = world.release(&object.name) {
                let said = steps::complaints(world, release).into_iter();
                said.for_each(|(field, reason)| complaints.add(field, reason));
                complaints.services(world, release);
            }
        }
        _ => {}
    }
    complaints.0
}

struct Complaints(Vec<Complaint>);

impl Complaints {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Complaint { field: field.into(), reason: reason.into() });
    }

    fn parents(&mut self, world: &World, route: &Route) {
        for parent in &route.parents {
            let field = format!("spec.parentRefs[{}]", parent.at);
            let Some(service) = world.service(&parent.service) else {
                self.add(field, format!("there is no Service {}", parent.service));
                continue;
            };
            let covered = |port: &&_| {
                let port: &ServicePort = port;
                parent.covers(port.port, &port.name)
            };
            let ports: Vec<_> = service.ports.iter().filter(covered).collect();
            if ports.is_empty() {
                let there = attached::ports(service);
                self.add(field, format!("Service {} has no such port{there}", service.name));
                continue;
            }
            let fit = |port| (port, attached::to_port(world, route, service, port));
            let fits: Vec<_> = ports.into_iter().map(fit).collect();
            // Who names a whole Service means those of its ports that can be meant.
            let some = fits.iter().any(|(_, fit)| *fit == Fit::InForce);
            for (port, fit) in fits {
                let number = port.port;
                match fit {
                    Fit::InForce => self.names(world, route, service, port),
                    Fit::Elsewhere => {}
                    Fit::Opaque | Fit::Http if some => {}
                    Fit::Opaque => {
                        let reason = format!(
                            "port {number} declares opaque TCP, so that no rule \
                                              for HTTP can apply; correct its appProtocol or name"
                        );
                        self.add(field.clone(), reason);
                    }
                    Fit::Http => {
                        let reason = format!(
                            "port {number} declares HTTP, so that an HTTPRoute or GRPCRoute is needed; \
                             or correct its appProtocol or name"
                        );
                        self.add(field.clone(), reason);
                    }
                    Fit::Conflicted => {
                        let first = comes_before(route.kind);
                        let reason =
                            format!("port {number} has {first}; this one is not in force there");
                        self.add(field.clone(), reason);
                    }
                }
            }
        }
    }

    /// The names of a TLSRoute's servers that another one has.
    fn names(&mut self, world: &World, route: &Route, service: &Service, port: &ServicePort) {
        if route.kind != Kind::TlsRoute {
            return;
        }
        let callers = Callers::of(route, &service.name);
        let all = attached::by_name(world, service, port, &callers);
        for (at, name) in route.hostnames.iter().enumerate() {
            let holder = all.iter().find(|named| named.names.contains(&name.as_str()));
            if let Some(elder) = holder.map(|named| named.route).filter(|of| of.name != route.name)
            {
                let reason = format!(
                    "not in force at port {}: TLSRoute {} says it of the same, and is older or first by name",
                    port.port, elder.name
                );
                self.add(format!("spec.hostnames[{at}]"), reason);
            }
        }
    }

    fn backends(&mut self, world: &World, route: &Route) {
        // Of a route for everybody and for callers of its own namespace, the stricter counts.
        let callers = route.parents.iter().map(|parent| Callers::of(route, &parent.service));
        let callers = callers.min().unwrap_or(Callers::All);
        let mut check = |field: String, to: Option<&(Name, u16)>, effect: &str| {
            let Some((service, port)) = to else {
                return;
            };
            if let Err(error) = attached::backend(world, route, &callers, service, *port) {
                self.add(field, format!("{error}; {effect}"));
            }
        };
        for Reference { field, to, effect } in references(route) {
            check(field, to, effect);
        }
        for (at, rule) in route.rules.iter().enumerate() {
            let nobody = matches!(&rule.action, RuleAction::Forward(backends)
                if backends.iter().all(|backend| backend.weight == 0));
            if nobody {
                let field = format!("spec.rules[{at}].backendRefs");
                let lost = if route.is_opaque() {
                    "connections are refused"
                } else {
                    "requests are answered with 500"
                };
                self.add(field, format!("no backend has a weight above 0; {lost}"));
            }
        }
    }

    /// Services of a release that are not there: nothing that goes to them is divided.
    fn services(&mut self, world: &World, release: &Release) {
        if world.release_before(release).is_some() {
            // It does nothing, and nobody looks at it anew when its pods change.
            return;
        }
        let namespace = &release.name.namespace;
        for (at, name) in release.services.iter().enumerate() {
            let name = Name::new(namespace, name);
            if world.service(&name).is_none() {
                let reason = format!("there is no Service {name}");
                self.add(format!("spec.services[{at}]"), reason);
            }
        }
        let has_pods = world.released_pods(release).any(|pod| !pod.ended);
        if has_pods && world.called_by(release).is_empty() {
            let reason =
                "no Service selects its pods: nothing is sent to them that could be divided";
            self.add("spec.target", reason);
        }
    }

    fn targets(&mut self, world: &World, policy: &TrafficPolicy) {
        for (at, (target, section)) in policy.targets.iter().enumerate() {
            let field = format!("spec.targetRefs[{at}]");
            let section = section.as_deref();
            let there = match target.kind {
                Kind::Service => world
                    .service(&target.name)
                    .map(|service| section.is_none_or(|section| has_port(service, section))),
                Kind::HttpRoute | Kind::GrpcRoute => world
                    .route(target)
                    .map(|route| section.is_none_or(|name| route.rule_named(name).is_some())),
                _ => Some(true),
            };
            match (there, section) {
                (None, _) => self.add(field, format!("there is no {target}")),
                (Some(false), Some(section)) => {
                    let part = if target.kind == Kind::Service { "port" } else { "rule" };
                    let reason = format!("{target} has no {part} with the name {section:?}");
                    self.add(format!("{field}.sectionName"), reason);
                }
                _ => {
                    self.settings(world, policy, target, section);
                    self.of_headless(world, policy, target);
                }
            }
        }
    }

    /// What a policy for a headless Service says in vain: of the choice of an endpoint, and of pods
    /// that other such Services select, too.
    fn of_headless(&mut self, world: &World, policy: &TrafficPolicy, target: &ObjectRef) {
        let service = world.service(&target.name).filter(|_| target.kind == Kind::Service);
        let Some(service) = service.filter(|service| service.is_headless()) else {
            return;
        };
        let said = policy.settings.said().into_iter().map(|(field, _)| field);
        // All that is said of ejection is one thing.
        for field in said.filter(|field| matches!(*field, "spec.ejection" | "spec.loadBalancing")) {
            let reason = format!(
                "in force for gRPC without a proxy alone: Service {} is headless, and whoever dials a \
                 pod has chosen already",
                service.name
            );
            self.add(field, reason);
        }
        for direct::Dispute { field, pod, other } in direct::disputes(world, service, policy) {
            let reason = format!(
                "not in force at the address of pod {}: Service {}, which is headless and selects it, \
                 too, has another value",
                pod.name, other.name
            );
            self.add(field, reason);
        }
    }

    /// What a policy says in vain of one target.
    fn settings(
        &mut self,
        world: &World,
        policy: &TrafficPolicy,
        target: &ObjectRef,
        section: Option<&str>,
    ) {
        let earlier: Vec<&Arc<TrafficPolicy>> = world
            .policies_of(target, section)
            .into_iter()
            .take_while(|other| other.name != policy.name)
            .collect();
        for (field, scope) in policy.settings.said() {
            let first = earlier.iter().find(|other| {
                scope != Scope::Presence && other.settings.said().contains(&(field, scope))
            });
            if let Some(first) = first {
                let reason = format!(
                    "not in force for {target}: TrafficPolicy {} says it of the \
                                      same, and is older or first by name",
                    first.name
                );
                self.add(field, reason);
            }
        }
    }
}

/// Where requests of a route go.
#[derive(Debug)]
pub(super) struct Reference<'a> {
    pub(super) field: String,
    /// The Service and port, if it names such.
    pub(super) to: Option<&'a (Name, u16)>,
    /// What it means if they cannot go there.
    pub(super) effect: &'static str,
}

/// Where the requests of a route go.
pub(super) fn references(route: &Route) -> impl Iterator<Item = Reference<'_>> {
    let lost = lost(route.kind);
    route.rules.iter().enumerate().flat_map(move |(at, rule)| {
        let mirrors = rule.mirrors.iter().map(move |mirror| {
            let field = format!("spec.rules[{at}].filters[{}].requestMirror.backendRef", mirror.at);
            Reference { field, to: mirror.to.as_ref(), effect: "no copies are sent" }
        });
        let backends = match &rule.action {
            RuleAction::Forward(backends) => backends.as_slice(),
            RuleAction::Redirect(_) | RuleAction::Fail => &[],
        };
        let backends = backends.iter().enumerate().map(move |(index, backend)| {
            let field = format!("spec.rules[{at}].backendRefs[{index}]");
            Reference { field, to: backend.to.as_ref(), effect: lost }
        });
        mirrors.chain(backends)
    })
}

/// What a route gives way to.
fn comes_before(kind: Kind) -> &'static str {
    match kind {
        Kind::TcpRoute => "another TCPRoute, which is older or first by name",
        Kind::TlsRoute => "TLSRoutes with all these names, which are older or first by name",
        _ => "a GRPCRoute, which comes before any HTTPRoute",
    }
}

fn has_port(service: &Service, name: &str) -> bool {
    service.ports.iter().any(|port| port.name == name)
}
