//! What a Deployment's controller does while its new pods are held back: by its arithmetic, as it is in Kubernetes.

use std::time::Duration;

use serde_json::Value;
use tulle_control_plane::release::{Plan, Step};

use super::{
    super::{
        gather::title,
        network,
        report::Report,
        snapshot::{name, text, texts},
    },
    Look,
};

/// What the API server fills in.
const DEADLINE: u64 = 600;
const QUARTER: &str = "25%";
/// What is said where there is to be no deadline.
const NEVER: u64 = 2_147_483_647;
/// Pods take some time to start; so much is left for that.
const START: Duration = Duration::from_secs(60);

/// What a Deployment says of how its pods are replaced.
#[derive(Debug, PartialEq, Eq)]
struct Rollout {
    replicas: u64,
    /// Pods above these.
    surge: u64,
    /// Pods that may be missing.
    unavailable: u64,
}

impl Rollout {
    fn of(deployment: &Value) -> Self {
        let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        let told = |field: &str| &deployment["spec"]["strategy"]["rollingUpdate"][field];
        let surge = pods(told("maxSurge"), QUARTER, replicas, true);
        let unavailable = match (surge, pods(told("maxUnavailable"), QUARTER, replicas, false)) {
            // It could do nothing.
            (0, 0) => 1,
            (_, unavailable) => unavailable.min(replicas),
        };
        Self { replicas, surge, unavailable }
    }

    /// New pods that there are while none of them is ready.
    fn new_pods(&self) -> u64 {
        (self.surge + self.unavailable).min(self.replicas)
    }

    /// Percent of the requests that these carry, as none gets more than one of the old ones does without a release.
    fn carries(&self) -> u64 {
        (self.new_pods() * 100).checked_div(self.replicas).unwrap_or(100)
    }
}

pub(super) fn check(look: &Look<'_>, deployment: &str, report: &mut Report) {
    if !look.snapshot.known("Deployment") {
        return;
    }
    let namespace = look.namespace();
    let Some(found) = look.here("Deployment").find(|one| name(one) == deployment) else {
        let problem = format!("there is no Deployment {namespace}/{deployment}");
        let remedy = format!("kubectl -n {namespace} edit release {}", look.release.name.name);
        report.problem("release-no-target", look.title(), problem, remedy);
        return;
    };
    let object = title("Deployment", found);
    if text(found, "/spec/strategy/type") == "Recreate" {
        let problem = format!(
            "its strategy is Recreate: all old pods are ended before there is a new one that {} could hold back",
            look.title()
        );
        let remedy = patch(
            namespace,
            deployment,
            r#"{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":0}}}}"#,
        );
        report.problem("release-recreate", object, problem, remedy);
        return;
    }
    let rollout = Rollout::of(found);
    if rollout.replicas == 0 {
        return;
    }
    capacity(look, (found, &rollout), report);
    steps(look, (found, &rollout), report);
    deadline(look, found, report);
}

/// Pods that its controller takes away at once, and those of whom there are then too few to evict one.
fn capacity(look: &Look<'_>, (deployment, rollout): (&Value, &Rollout), report: &mut Report) {
    let Rollout { replicas, unavailable, .. } = *rollout;
    if unavailable == 0 {
        return;
    }
    let labels = texts(&deployment["spec"]["template"], "labels");
    let budgets = look.here("PodDisruptionBudget");
    let blocked = budgets.filter(|budget| {
        let needs = needed(budget, replicas);
        network::selects(&budget["spec"]["selector"], &labels)
            && replicas > needs
            && replicas - unavailable <= needs
    });
    let blocked: Vec<_> = blocked.map(|budget| title("PodDisruptionBudget", budget)).collect();
    let drains = match blocked.as_slice() {
        [] => String::new(),
        some => format!(
            "; by {} none can be evicted then, so that nodes are not drained before it ends",
            some.join(" and ")
        ),
    };
    report.note(
        "release-capacity",
        title("Deployment", deployment),
        format!("maxUnavailable costs {unavailable} of its {replicas} pods for as long as a release takes{drains}"),
        patch(look.namespace(), name(deployment), r#"{"spec":{"strategy":{"rollingUpdate":{"maxUnavailable":0}}}}"#),
    );
}

/// The first step that wants more than the new pods can carry.
fn steps(look: &Look<'_>, (deployment, rollout): (&Value, &Rollout), report: &mut Report) {
    let percent = |step: &Step| u64::from(step.weight.per_ten_thousand()) / 100;
    let all = &look.release.plan.steps;
    let beyond = all.iter().enumerate().find(|(_, step)| percent(step) > rollout.carries());
    let Some((at, step)) = beyond else { return };
    let Rollout { replicas, unavailable, .. } = *rollout;
    let most = all.iter().map(percent).max().unwrap_or_default();
    let surge = (most * replicas).div_ceil(100).saturating_sub(unavailable);
    report.note(
        "release-capped",
        title("Deployment", deployment),
        format!(
            "step {} of {} wants {} %, and the {} new pods beside {replicas} old ones carry {} %: more is not sent to them",
            at + 1,
            look.title(),
            percent(step),
            rollout.new_pods(),
            rollout.carries(),
        ),
        patch(look.namespace(), name(deployment), &format!(r#"{{"spec":{{"strategy":{{"rollingUpdate":{{"maxSurge":{surge}}}}}}}}}"#)),
    );
}

/// By when others take an unfinished Deployment for a failed one.
fn deadline(look: &Look<'_>, deployment: &Value, report: &mut Report) {
    let seconds = deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(DEADLINE);
    if seconds >= NEVER {
        return;
    }
    let plan = &look.release.plan;
    let steps: Duration = plan.steps.iter().map(|step| step.lasts).sum();
    let why = match waits(plan) {
        true => "waits for somebody before it goes on".to_owned(),
        false if steps + START > Duration::from_secs(seconds) => {
            format!("has steps of {} s in all", steps.as_secs())
        }
        false => return,
    };
    // What it says is how long it may take at most; of a day nobody wants to wait for a failure that is none.
    let wanted = match waits(plan) {
        true => plan.deadline.as_secs(),
        false => (steps + plan.low_traffic.wait + START).as_secs(),
    };
    if wanted <= seconds {
        return;
    }
    report.note(
        "release-deadline",
        title("Deployment", deployment),
        format!("progressDeadlineSeconds is {seconds}, and {} {why}: Argo CD, Flux and Helm take it for failed by then", look.title()),
        patch(look.namespace(), name(deployment), &format!(r#"{{"spec":{{"progressDeadlineSeconds":{wanted}}}}}"#)),
    );
}

/// Whether a person or somebody else must say so before it goes on.
fn waits(plan: &Plan) -> bool {
    plan.approve_promotion || plan.steps.iter().any(|step| step.approve || !step.webhook.is_empty())
}

/// Neither the strategy nor the deadline is of the pods' template: no release begins by that.
fn patch(namespace: &str, deployment: &str, what: &str) -> String {
    format!(
        "where its YAML is kept, or: kubectl -n {namespace} patch deployment {deployment} --type=merge -p '{what}'"
    )
}

/// How many of `replicas` pods must be ready, so that a budget lets one be evicted: more than these.
fn needed(budget: &Value, replicas: u64) -> u64 {
    let spec = &budget["spec"];
    match (&spec["minAvailable"], &spec["maxUnavailable"]) {
        (Value::Null, Value::Null) => 0,
        (Value::Null, most) => replicas.saturating_sub(pods(most, "", replicas, true)),
        (least, _) => pods(least, "", replicas, true),
    }
}

/// A number of pods, or percent of `replicas`, rounded `up` or down.
fn pods(told: &Value, default: &str, replicas: u64, up: bool) -> u64 {
    let percent = match told {
        Value::Number(count) => return count.as_u64().unwrap_or_default(),
        Value::String(percent) => percent,
        _ => default,
    };
    let percent: u64 = percent.trim_end_matches('%').parse().unwrap_or_default();
    match up {
        true => (percent * replicas).div_ceil(100),
        false => percent * replicas / 100,
    }
}
