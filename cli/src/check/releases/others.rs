//! Others that move the requests of what is released: Flagger and Argo Rollouts.
//!
//! They compose with nothing: each of them scales the workload or rewrites its Services and routes, by a judgement of its own. So
//! a release of the same workload is a problem, whoever came first.

use serde_json::Value;

use super::{
    super::{
        gather::title,
        report::Report,
        snapshot::{ending, text},
    },
    Look,
};

/// Says who there is; whether there is somebody.
pub(super) fn check(look: &Look<'_>, report: &mut Report) -> bool {
    let mut found = false;
    for (kind, tool, what) in [
        ("Canary", "Flagger", "scales its Deployment and rewrites its Services"),
        (
            "Rollout",
            "Argo Rollouts",
            "scales its workload and rewrites the selectors of its Services",
        ),
    ] {
        for other in look.here(kind).filter(|other| !ending(other) && is_about(look, kind, other)) {
            found = true;
            report.problem(
                "release-rival",
                title(kind, other),
                format!("{tool} {what}, which {} is about, too: two would move the same requests", look.title()),
                "keep one of the two; docs/moving.md says in which order one takes over without a lost request",
            );
        }
    }
    found
}

/// Whether an object of theirs is about the same workload, or the same Services.
fn is_about(look: &Look<'_>, kind: &str, other: &Value) -> bool {
    let name = text(other, "/metadata/name");
    let (workload, services) = match kind {
        "Canary" => flagger(other),
        _ => argo(other),
    };
    let release = look.release;
    let mut workloads = release.workloads();
    let same = workloads.any(|own| {
        (own.kind == kind && own.name == name)
            || workload
                .as_ref()
                .is_some_and(|(kind, names)| own.kind == *kind && names.contains(&own.name))
    });
    same || release.services.iter().any(|own| services.contains(own))
}

/// What is meant by kind and any of these names, and Services.
type Meant = (Option<(String, Vec<String>)>, Vec<String>);

/// The workload that is named, and the copy that Flagger makes of it, which takes the requests.
fn flagger(canary: &Value) -> Meant {
    let (kind, target) =
        (text(canary, "/spec/targetRef/kind"), text(canary, "/spec/targetRef/name"));
    let apex = match text(canary, "/spec/service/name") {
        "" => target,
        named => named,
    };
    let workload = (kind.to_owned(), vec![target.to_owned(), format!("{target}-primary")]);
    (Some(workload), vec![apex.to_owned(), format!("{apex}-primary"), format!("{apex}-canary")])
}

/// The workload of which a Rollout takes its template, if it has none of its own.
fn argo(rollout: &Value) -> Meant {
    let named = [
        "canary/stableService",
        "canary/canaryService",
        "blueGreen/activeService",
        "blueGreen/previewService",
    ];
    let services = named.map(|field| text(rollout, &format!("/spec/strategy/{field}")).to_owned());
    let services = services.into_iter().filter(|service| !service.is_empty()).collect();
    let (kind, name) =
        (text(rollout, "/spec/workloadRef/kind"), text(rollout, "/spec/workloadRef/name"));
    ((!name.is_empty()).then(|| (kind.to_owned(), vec![name.to_owned()])), services)
}
