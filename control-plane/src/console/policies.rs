//! Routes and policies: what they are about, whether they apply, and on how many proxies.

use serde::{Deserialize, Serialize};

use super::Surveys;
use crate::{
    output::Report,
    replicas::Tellings,
    status::{Standing, Told, problem},
    telemetry::Scope,
    world::objects::ObjectRef,
};

/// Routes and policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoliciesView {
    /// Each of them.
    pub items: Vec<PolicyView>,
    /// What is wrong with documents that are no object: only where they come from files.
    pub problems: Vec<String>,
    /// Replicas that did not say what their proxies make of them.
    pub unheard: Vec<String>,
}

/// A route or policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// As in its YAML.
    pub kind: String,
    /// Where it is; empty for what is of the whole cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is attached to: KIND/NAMESPACE/NAME.
    pub targets: Vec<String>,
    /// It applies as it stands.
    pub accepted: bool,
    /// Why it does not, or is not in force everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Proxies that have taken the latest of it.
    pub in_force: usize,
    /// Proxies that use it.
    pub of: usize,
}

/// What somebody may see of them: those of his namespaces, and of their proxies those that are there.
pub(super) fn view(report: &Report, surveys: &Surveys, scope: &Scope) -> PoliciesView {
    let told = totals(surveys);
    let seen = report.standings.iter().filter(|(object, _)| {
        // Of a scope the empty one is no part.
        scope.has(&object.name.namespace)
    });
    let items = seen.map(|(object, standing)| policy(object, standing, told.get(object), scope));
    let files = report.problems.iter().filter(|problem| problem.about.is_none());
    let files = files.filter(|_| *scope == Scope::All);
    PoliciesView {
        items: items.collect(),
        problems: files.map(ToString::to_string).collect(),
        unheard: surveys.unheard.clone(),
    }
}

/// What the proxies of all replicas make of each object that this one knows.
pub(super) fn totals(surveys: &Surveys) -> Tellings {
    let mut surveys = surveys.heard.iter().map(|(_, survey)| &survey.told);
    let mut all = surveys.next().cloned().unwrap_or_default();
    for told in surveys {
        for (object, more) in told {
            if let Some(sum) = all.get_mut(object) {
                sum.add(more);
            }
        }
    }
    all
}

fn policy(
    object: &ObjectRef,
    standing: &Standing,
    told: Option<&Told>,
    scope: &Scope,
) -> PolicyView {
    let mut force = told.map(|told| told.force.clone()).unwrap_or_default();
    let has = |pod: &str| scope.has(pod.split('/').next().unwrap_or_default());
    force.rejections.retain(|rejection| has(&rejection.proxy));
    force.laggards.retain(|pod| has(pod));
    let parents = standing.parents.iter();
    PolicyView {
        kind: object.kind.as_str().to_owned(),
        namespace: object.name.namespace.to_string(),
        name: object.name.name.to_string(),
        targets: parents.map(|parent| format!("{}/{}", parent.kind, parent.name)).collect(),
        accepted: standing.invalid.is_none()
            && standing.parents.iter().all(|parent| parent.accepted.holds),
        problem: problem(standing, &force),
        in_force: force.on,
        of: force.of,
    }
}
