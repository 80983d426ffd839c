//! What the control plane may do.

use super::{
    gather::ours,
    report::Report,
    snapshot::{Right, Snapshot, text},
};
use crate::install::NAME;

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    report.area("rights", "the control plane may do what it must");
    let there = |what| !snapshot.known(what) || snapshot.one(what).is_some();
    let whole = format!("ClusterRole {NAME}");
    let objects = [
        ("serviceaccount", ours("ServiceAccount", snapshot), "account-missing"),
        ("clusterrole", whole.clone(), "role-missing"),
        ("role", ours("Role", snapshot), "role-missing"),
        ("clusterrolebinding", format!("ClusterRoleBinding {NAME}"), "binding-missing"),
        ("rolebinding", ours("RoleBinding", snapshot), "binding-missing"),
    ];
    for (what, object, code) in objects.clone() {
        if !there(what) {
            report.problem(
                code,
                object,
                "it is not there: the control plane may not do what it must",
                upgrade(snapshot),
            );
        }
    }
    for (what, object, _) in objects.into_iter().skip(3).filter(|(what, ..)| there(what)) {
        let Some(binding) = snapshot.one(what) else { continue };
        let right = text(binding, "/subjects/0/name") == NAME
            && text(binding, "/subjects/0/namespace") == snapshot.namespace;
        if !right {
            let problem = format!("it does not bind ServiceAccount {}/{NAME}", snapshot.namespace);
            report.problem("binding-wrong", object, problem, upgrade(snapshot));
        }
    }
    for (role, bound, object) in [
        ("ClusterRole", ["clusterrole", "clusterrolebinding"], whole),
        ("Role", ["role", "rolebinding"], ours("Role", snapshot)),
    ] {
        let denied: Vec<&Right> =
            snapshot.denied.iter().filter(|right| right.role == role).collect();
        let explained = bound.iter().any(|what| !there(what))
            || report.has(&["binding-wrong", "account-missing"]);
        if !denied.is_empty() && !explained {
            let problem = format!("the control plane may not {}", said(&denied));
            report.problem("right-missing", object, problem, upgrade(snapshot));
        }
    }
}

/// What whoever installs may do.
pub(super) fn before(snapshot: &Snapshot, report: &mut Report) {
    report.area("rights", "you may create what an installation is made of");
    if !snapshot.denied.is_empty() {
        let denied: Vec<&Right> = snapshot.denied.iter().collect();
        let problem = format!("you may not {}", said(&denied));
        let remedy = "install as somebody who may, for example with the ClusterRole cluster-admin";
        report.problem("right-missing", "your account", problem, remedy);
    }
}

fn said(denied: &[&Right]) -> String {
    let all: Vec<_> =
        denied.iter().map(|right| format!("{} {}", right.verb, right.resource)).collect();
    all.join(", ")
}

/// What puts the objects of an installation right.
pub(super) fn upgrade(snapshot: &Snapshot) -> String {
    let deployment = snapshot.one("deployment");
    let release =
        deployment.and_then(|d| super::snapshot::annotation(d, "meta.helm.sh/release-name"));
    let namespace = &snapshot.namespace;
    match release {
        Some(release) => format!("helm upgrade {release} deploy/chart -n {namespace} -f VALUES"),
        None => format!("tulle upgrade -n {namespace} -f VALUES --force-conflicts"),
    }
}
