//! How the world takes an object: the conditions that Gateway API defines, for each of its parents
//! (routes) or targets (policies).

use tulle_api::ReleasePhase;
use tulle_xds::model::Filter;

use super::{
    attached::{self, Callers, Fit, NoBackend},
    references::{Reference, complaints, references},
    steps,
};
use crate::{
    release::Course,
    status::{Parent, Standing, Verdict},
    world::{
        World,
        objects::{Kind, ObjectRef, ParentRef, Release, Route, RuleAction, TrafficPolicy},
        release::Hindrance,
    },
};

/// How the world takes an object; `None` if it is not there, or of a kind that has no status.
pub fn standing(world: &World, object: &ObjectRef) -> Option<Standing> {
    let parents = match object.kind {
        kind if kind.is_route() => of_route(world, world.route(object)?),
        Kind::TrafficPolicy => of_policy(world, world.policy(&object.name)?),
        Kind::MeshTls => {
            let bypassed = world.bypassing_tls(world.mesh_tls(&object.name)?);
            return Some(Standing { bypassed, ..Standing::default() });
        }
        Kind::AccessPolicy => {
            let policy = world.access_policy(&object.name)?;
            let without_sidecar = world.without_sidecar(policy);
            let bypassed = world.bypassing_access(policy);
            return Some(Standing { without_sidecar, bypassed, ..Standing::default() });
        }
        Kind::Release => {
            let release = world.release(&object.name)?;
            let (own, beyond_grpc) = (of_release(world, release), steps::beyond_grpc(release));
            return Some(Standing { own, beyond_grpc, ..Standing::default() });
        }
        Kind::Telemetry if world.telemetry(&object.name).is_some() => Vec::new(),
        Kind::Lane if world.lane(&object.name).is_some() => Vec::new(),
        Kind::MeshConfig if world.has_mesh_config(&object.name) => Vec::new(),
        _ => return None,
    };
    let beyond_grpc = world.route(object).map(|route| beyond_grpc(route)).unwrap_or_default();
    Some(Standing { parents, beyond_grpc, ..Standing::default() })
}

/// Whether a release is the one that counts, and whether what is wanted has taken over.
fn of_release(world: &World, release: &Release) -> Vec<(&'static str, Verdict)> {
    if let Some(hindrance) = world.idle_because(release) {
        let reason = match hindrance {
            Hindrance::Before(_) => "Conflicted",
            Hindrance::NoSidecar => "NoSidecar",
        };
        let message = hindrance.to_string();
        return vec![("Accepted", Verdict { holds: false, reason, message })];
    }
    let idle = Course::default();
    let course = release.course.as_deref().unwrap_or(&idle);
    let (reason, message) = match course.phase {
        ReleasePhase::Idle => ("Idle", "there is nothing to release".to_owned()),
        ReleasePhase::Waiting => ("Waiting", format!("{} does not serve yet", course.canary)),
        ReleasePhase::Progressing => {
            let (step, of) = (course.step.map_or(0, |step| step + 1), release.plan.steps.len());
            ("Progressing", format!("{} in step {step} of {of}", course.canary))
        }
        ReleasePhase::Paused => {
            let why = course.cause.as_ref().map(ToString::to_string).unwrap_or_default();
            ("Paused", format!("{}: {why}", course.canary))
        }
        ReleasePhase::Promoting => {
            ("Promoting", format!("{} replaces {}", course.canary, course.stable))
        }
        ReleasePhase::Promoted => ("Promoted", format!("{} has taken over", course.stable)),
        ReleasePhase::Held => ("Held", format!("{} gets no requests", course.canary)),
        ReleasePhase::RolledBack => ("RolledBack", format!("{} is back", course.stable)),
    };
    let holds = matches!(
        course.phase,
        ReleasePhase::Idle | ReleasePhase::Promoted | ReleasePhase::RolledBack
    );
    let resolved = complaints(world, &release.reference());
    let resolved = resolved.into_iter().find(|said| is_of_services(&said.field));
    let resolved = match resolved {
        Some(said) => {
            Verdict { holds: false, reason: "ServiceNotFound", message: said.to_string() }
        }
        None => Verdict { holds: true, reason: "ResolvedRefs", message: String::new() },
    };
    vec![("ResolvedRefs", resolved), ("Released", Verdict { holds, reason, message })]
}

fn is_of_services(field: &str) -> bool {
    field.starts_with("spec.services") || field == "spec.target"
}

/// What gRPC's own router does not do of what the rules say; `xds/src/model/grpc.rs` has the table.
fn beyond_grpc(route: &Route) -> Vec<String> {
    let rules = route.rules.iter().enumerate().filter_map(|(at, rule)| {
        let backends = match &rule.action {
            RuleAction::Forward(backends) => backends.as_slice(),
            RuleAction::Redirect(_) | RuleAction::Fail => &[],
        };
        let filters = || rule.filters.iter().chain(backends.iter().flat_map(|b| &b.filters));
        let rewrites = filters().any(|filter| matches!(filter, Filter::Rewrite { .. }));
        let headers = filters().any(|filter| !matches!(filter, Filter::Rewrite { .. }));
        let all = [
            (!rule.mirrors.is_empty(), "mirrors"),
            (headers, "header changes"),
            (rewrites, "rewrites"),
            (matches!(rule.action, RuleAction::Redirect(_)), "redirects"),
            (rule.timeouts.per_try.is_some(), "timeouts.backendRequest"),
        ];
        let said: Vec<_> = all.iter().filter(|(said, _)| *said).map(|&(_, what)| what).collect();
        (!said.is_empty()).then(|| format!("spec.rules[{at}]: {}", said.join(", ")))
    });
    rules.collect()
}

fn of_route(world: &World, route: &Route) -> Vec<Parent> {
    let said = complaints(world, &route.reference());
    let about = |at: usize| {
        let field = format!("spec.parentRefs[{at}]");
        let mut said = said.iter().filter(move |complaint| complaint.field == field);
        said.next().map(|complaint| complaint.reason.clone()).unwrap_or_default()
    };
    let parent = |parent: &ParentRef| Parent {
        group: "",
        kind: "Service",
        name: parent.service.clone(),
        port: parent.port,
        section: parent.section.clone(),
        accepted: accepted(world, route, parent, about(parent.at)),
        resolved: Some(resolved(world, route, &Callers::of(route, &parent.service))),
    };
    route.parents.iter().map(parent).collect()
}

fn accepted(world: &World, route: &Route, parent: &ParentRef, said: String) -> Verdict {
    let ports = world.service(&parent.service).into_iter().flat_map(|service| {
        let covered = service.ports.iter().filter(|port| parent.covers(port.port, &port.name));
        covered.map(move |port| attached::to_port(world, route, service, port))
    });
    let fits: Vec<Fit> = ports.collect();
    let reason = if fits.contains(&Fit::InForce) {
        return Verdict { holds: true, reason: "Accepted", message: said };
    } else if fits.contains(&Fit::Conflicted) {
        "Conflicted"
    } else if fits.contains(&Fit::Opaque) || fits.contains(&Fit::Http) {
        "UnsupportedProtocol"
    } else {
        "NoMatchingParent"
    };
    Verdict { holds: false, reason, message: said }
}

fn resolved(world: &World, route: &Route, callers: &Callers) -> Verdict {
    for Reference { field, to, .. } in references(route) {
        let (reason, message) = match to {
            None => ("InvalidKind", "is no Service and port".to_owned()),
            Some((service, port)) => {
                match attached::backend(world, route, callers, service, *port) {
                    Ok(()) => continue,
                    Err(error @ NoBackend::NotGranted { .. }) => {
                        ("RefNotPermitted", error.to_string())
                    }
                    Err(error) => ("BackendNotFound", error.to_string()),
                }
            }
        };
        return Verdict { holds: false, reason, message: format!("{field}: {message}") };
    }
    Verdict { holds: true, reason: "ResolvedRefs", message: String::new() }
}

fn of_policy(world: &World, policy: &TrafficPolicy) -> Vec<Parent> {
    let object = ObjectRef { kind: Kind::TrafficPolicy, name: policy.name.clone() };
    let said = complaints(world, &object);
    let targets = policy.targets.iter().enumerate().map(|(at, (target, section))| {
        let missing = format!("spec.targetRefs[{at}]");
        let missing = said.iter().find(|complaint| complaint.field.starts_with(&missing));
        let first = first_of(world, policy, target, section.as_deref());
        let accepted = match (missing, first) {
            (Some(complaint), _) => {
                let message = complaint.reason.clone();
                Verdict { holds: false, reason: "TargetNotFound", message }
            }
            (None, Some(other)) => Verdict {
                holds: false,
                reason: "Conflicted",
                message: format!("TrafficPolicy {other} says all of it of the same target"),
            },
            (None, None) => Verdict {
                holds: true,
                reason: "Accepted",
                message: said.first().map(ToString::to_string).unwrap_or_default(),
            },
        };
        let group = match target.kind {
            Kind::HttpRoute | Kind::GrpcRoute => "gateway.networking.k8s.io",
            _ => "",
        };
        Parent {
            group,
            kind: target.kind.as_str(),
            name: target.name.clone(),
            port: None,
            section: section.clone(),
            accepted,
            resolved: None,
        }
    });
    targets.collect()
}

/// The policy that says of a target whatever `policy` says, and comes before it.
fn first_of<'a>(
    world: &'a World,
    policy: &TrafficPolicy,
    target: &ObjectRef,
    section: Option<&str>,
) -> Option<&'a crate::world::objects::Name> {
    let said = policy.settings.said();
    let all = world.policies_of(target, section);
    let mut earlier = all.into_iter().take_while(|other| other.name != policy.name);
    let covers = |other: &&std::sync::Arc<TrafficPolicy>| {
        let others = other.settings.said();
        said.iter().all(|field| others.contains(field))
    };
    earlier.find(covers).map(|other| &other.name)
}
