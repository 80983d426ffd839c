//! Routes and policies, by what their statuses say.

use serde_json::Value;
use tulle_control_plane::status::CONTROLLER;

use super::{
    control_plane::DOWN,
    gather::title,
    report::Report,
    snapshot::{Snapshot, ending, list, name, seconds, text},
};
use crate::install::NAME;

const KINDS: [&str; 10] = [
    "HTTPRoute",
    "GRPCRoute",
    "TCPRoute",
    "TLSRoute",
    "TrafficPolicy",
    "MeshTLS",
    "AccessPolicy",
    "Telemetry",
    "Lane",
    "MeshConfig",
];
/// Conditions, the cause of the others first, and what it is called if one does not hold.
const CONDITIONS: [(&str, &str, &str); 3] = [
    ("Accepted", "policy-refused", "it is not accepted"),
    ("ResolvedRefs", "policy-unresolved", "it refers to what is not there"),
    ("InForce", "policy-not-in-force", "it is not in force everywhere"),
];
/// By then the control plane has said something of it.
const SOON: i64 = 30;

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let count: usize = KINDS.iter().map(|kind| snapshot.all(kind).len()).sum();
    report.area("policy", format!("{count} routes and policies are accepted and in force"));
    for kind in KINDS {
        for object in snapshot.all(kind).iter().filter(|object| !ending(object)) {
            one(snapshot, kind, object, report);
        }
    }
}

/// What an object's status says that does not hold.
pub(super) fn one(snapshot: &Snapshot, kind: &str, object: &Value, report: &mut Report) {
    let is_route = kind.ends_with("Route");
    if is_route && !of_the_mesh(object) {
        return;
    }
    let scopes: Vec<&Value> = match is_route {
        true => {
            let parents = list(object, "/status/parents").iter();
            parents.filter(|parent| parent["controllerName"] == CONTROLLER).collect()
        }
        false => object.get("status").into_iter().collect(),
    };
    let conditions: Vec<&Value> = scopes.iter().flat_map(|s| list(s, "/conditions")).collect();
    let namespace = match text(object, "/metadata/namespace") {
        "" => String::new(),
        namespace => format!("-n {namespace} "),
    };
    let resource = kind.to_lowercase();
    if conditions.is_empty() {
        let made = seconds(text(object, "/metadata/creationTimestamp"));
        let late = made.is_some_and(|made| snapshot.now - made > SOON);
        if late && !report.has(&DOWN) && !report.has(&["lease", "right-missing", "binding-missing"])
        {
            let problem = "the control plane has said nothing of it";
            let remedy = format!("kubectl -n {} logs deploy/{NAME}", snapshot.namespace);
            report.problem("policy-unseen", title(kind, object), problem, remedy);
        }
        return;
    }
    for (wanted, code, problem) in CONDITIONS {
        let of = conditions.iter().filter(|condition| condition["type"] == wanted);
        let Some(fails) = of.clone().find(|condition| condition["status"] == "False") else {
            continue;
        };
        if kind == "Release" && wanted == "InForce" && fails["reason"] == "Pending" {
            // So it is for a moment at each of its steps.
            continue;
        }
        let problem =
            format!("{problem}: {} ({})", text(fails, "/message"), text(fails, "/reason"));
        let remedy = match wanted {
            "InForce" => format!(
                "tulle proxy status; kubectl {namespace}describe {resource} {}",
                name(object)
            ),
            _ => format!("kubectl {namespace}edit {resource} {}", name(object)),
        };
        report.problem(code, title(kind, object), problem, remedy);
        return;
    }
}

/// Whether it has a Service as parent: others are gateways'.
pub(super) fn of_the_mesh(route: &Value) -> bool {
    list(route, "/spec/parentRefs").iter().any(|parent| parent["kind"] == "Service")
}
