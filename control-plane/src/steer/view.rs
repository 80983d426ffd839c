//! What people see of releases: in the object's status, in the terminal, on the page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tulle_api::{
    ReleaseEvent, ReleasePhase as Phase, ReleaseRevision, ReleaseStatus, ReleaseVerdict,
};

use super::{Sight, work::Force};
use crate::{
    release::{Course, Entry, Pair, Plan, Pods, Share, Verdict},
    world::{
        objects::Release,
        release::{Hindrance, Target, Versions},
    },
};

/// Releases.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReleasesView {
    /// By namespace and name.
    pub items: Vec<ReleaseView>,
}

/// A release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseView {
    /// Of the object.
    pub namespace: String,
    /// Of the object.
    pub name: String,
    /// `Deployment reviews`, `Deployment reviews-v1 and StatefulSet reviews-v2`.
    pub target: String,
    /// The Services through which it is called: NAMESPACE/NAME.
    pub services: Vec<String>,
    /// Where it is.
    pub phase: Phase,
    /// What it waits for, or what became of it.
    pub reason: String,
    /// The older Release about the same workload, NAMESPACE/NAME: this one does nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What of the object is wrong. What is refused changes nothing: what the object said before is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The version that is replaced.
    pub stable: String,
    /// The one that replaces it; empty: none does.
    pub canary: String,
    /// The steps of the plan.
    pub steps: Vec<StepView>,
    /// The one that it is in, from 1 on; 0: before the first.
    pub step: usize,
    /// Percent of the requests that the canary shall get.
    pub weight: f64,
    /// Percent that it gets by the pods that there are.
    pub share: f64,
    /// The canary's pods are too few for the weight.
    pub capped: bool,
    /// All of the canary's pods may be ready: it takes over, or did until that was stopped.
    pub lifted: bool,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When its step, its pause or its end did.
    pub since: u64,
    /// Seconds of the step in which it was known what happens.
    pub spent: u32,
    /// Seconds for which too few proxies have told what happens.
    pub silent: u32,
    /// Proxies that do what is wanted now.
    pub on: usize,
    /// Proxies that use it.
    pub of: usize,
    /// All of them do.
    pub in_force: bool,
    /// Some that do not.
    pub laggards: Vec<String>,
    /// What is slow, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<f64>,
    /// What each gate says.
    pub gates: Vec<GateView>,
    /// Requests to the canary in this step, and so many before it may end.
    pub requests: u64,
    /// See there.
    pub min_requests: u64,
    /// In this step.
    pub errors: Pair,
    /// In this step.
    pub slow: Pair,
    /// Since the release began.
    pub errors_in_all: Pair,
    /// Pods.
    pub pods: Versioned<PodsView>,
    /// What each caller saw in this step: NAMESPACE/NAME.
    pub callers: Vec<CallerView>,
    /// The last ten minutes, the oldest first, as far as whoever steers it remembers.
    pub curve: Vec<SecondView>,
    /// What happened, the newest first.
    pub history: Vec<Entry>,
}

/// Of both versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The new one's.
    pub canary: T,
    /// The old one's.
    pub stable: T,
}

/// Pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodsView {
    /// That are asked for.
    pub wanted: u32,
    /// That requests can be sent to.
    pub serving: u32,
}

/// A step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepView {
    /// Percent of the requests.
    pub weight: f64,
    /// Seconds.
    pub lasts: u64,
    /// Somebody must say so before it begins.
    pub approve: bool,
    /// Somebody is asked before.
    pub webhook: bool,
    /// How many matches send requests to the canary besides.
    pub matches: usize,
    /// Percent of which it gets a copy.
    pub mirror: u8,
}

/// What a gate says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GateView {
    /// `errors`, `latency`, `restarts`, or the name of a query or webhook.
    pub gate: String,
    /// `Green`, `Amber` or `Red`.
    pub state: String,
    /// In words.
    pub why: String,
    /// The canary's share of bad requests in this step, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<f64>,
    /// The stable version's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// How much speaks against the canary.
    pub evidence: f64,
    /// From where that is proof.
    pub proof: f64,
}

/// What a caller saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerView {
    /// NAMESPACE/NAME, or the class of callers that are none of the mesh's.
    pub name: String,
    /// Attempts.
    pub errors: Pair,
}

/// What happened in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondView {
    /// In seconds since 1970.
    pub at: u64,
    /// It is known what happened.
    pub told: bool,
    /// By how requests ended.
    pub errors: Pair,
    /// By how long they took.
    pub slow: Pair,
    /// What spoke against the canary by then, by gate.
    pub evidence: BTreeMap<String, f64>,
}

impl ReleaseView {
    /// What the world and the course say of it; the rest whoever steers adds.
    pub(super) fn of(sight: &Sight, course: &Course, force: &Force) -> Self {
        let (release, plan) = (&sight.release, &sight.release.plan);
        let (canary, stable) = (sight.versions.canary, sight.versions.stable);
        let share = course.share(canary, stable);
        let step = course.findings.step();
        Self {
            namespace: release.name.namespace.to_string(),
            name: release.name.name.to_string(),
            target: target(release),
            services: sight.services.iter().map(ToString::to_string).collect(),
            phase: course.phase,
            reason: reason(sight, course, force),
            before: match &sight.idle_because {
                Some(Hindrance::Before(name)) => Some(name.to_string()),
                _ => None,
            },
            problems: sight.problems.clone(),
            stable: course.stable.clone(),
            canary: course.canary.clone(),
            steps: plan.steps.iter().map(StepView::of).collect(),
            step: course.step.map_or(0, |step| step + 1),
            weight: percent(course.weight),
            share: percent(share),
            capped: course.step.is_some() && share < course.weight,
            lifted: course.lifted,
            began: course.began,
            since: course.since,
            spent: course.spent,
            silent: course.silent,
            on: force.on,
            of: force.of,
            in_force: force.is_whole(course),
            laggards: force.laggards.clone(),
            slower_than: course.slower_than,
            gates: gates(course, plan),
            requests: step.errors.canary.all,
            min_requests: plan.gates.min_requests,
            errors: step.errors,
            slow: step.slow,
            errors_in_all: course.findings.all().errors,
            pods: Versioned { canary: pods(canary), stable: pods(stable) },
            callers: Vec::new(),
            curve: Vec::new(),
            history: course.history.iter().cloned().collect(),
        }
    }
}

impl StepView {
    fn of(step: &crate::release::Step) -> Self {
        Self {
            weight: percent(step.weight),
            lasts: step.lasts.as_secs(),
            approve: step.approve,
            webhook: !step.webhook.is_empty(),
            matches: step.matches.len(),
            mirror: step.mirror,
        }
    }
}

fn target(release: &Release) -> String {
    match &release.target {
        Target::Deployment(name) => format!("Deployment {name}"),
        Target::Two { stable, canary } => {
            format!("{} {} and {} {}", stable.0, stable.1, canary.0, canary.1)
        }
    }
}

/// What it waits for, or what became of it.
pub(super) fn reason(sight: &Sight, course: &Course, force: &Force) -> String {
    if let Some(hindrance) = &sight.idle_because {
        return hindrance.to_string();
    }
    if sight.template.is_none() {
        return format!("there are no pods of {}", target(&sight.release));
    }
    let (reason, &Versions { canary, stable, .. }) =
        (course.reason(&sight.release.plan), &sight.versions);
    let Force { on, of, .. } = force;
    match course.phase {
        Phase::Progressing if canary.serving == 0 => {
            format!("no pod of {} serves: the step does not go on", course.canary)
        }
        Phase::Progressing if !force.is_whole(course) && of > on && course.spent == 0 => {
            format!("{on} of {of} proxies have taken the step: the others are waited for")
        }
        Phase::Promoting if matches!(sight.release.target, Target::Two { .. }) => format!(
            "{reason} as you scale them: {} pods of it carry {}",
            canary.serving,
            course.share(canary, stable)
        ),
        // It was taking over: what is let in stays.
        Phase::Held if canary.let_in > 0 => format!(
            "{}; no more pods of {} are let in, and the {} that were get what {} cannot carry: {}",
            course.because(),
            course.canary,
            canary.let_in,
            course.stable,
            course.share(canary, stable)
        ),
        _ => reason,
    }
}

fn pods(pods: Pods) -> PodsView {
    PodsView { wanted: pods.wanted, serving: pods.serving }
}

fn percent(share: Share) -> f64 {
    f64::from(share.per_ten_thousand()) / 100.0
}

fn gates(course: &Course, plan: &Plan) -> Vec<GateView> {
    let verdicts = course.findings.verdicts(&plan.gates).into_iter();
    let step = course.findings.step();
    verdicts
        .map(|verdict| GateView {
            gate: verdict.gate.to_string(),
            state: format!("{:?}", verdict.light),
            why: why(&verdict, step.errors.canary.all),
            canary: verdict.canary,
            stable: verdict.stable,
            evidence: verdict.evidence,
            proof: verdict.proof,
        })
        .collect()
}

/// `0.11 % of 1840 requests, stable 0.10 %; evidence 0.4 of 3000`.
fn why(verdict: &Verdict, requests: u64) -> String {
    let share = |share: Option<f64>| match share {
        Some(share) => format!("{:.2} %", share * 100.0),
        None => "nothing".to_owned(),
    };
    let Verdict { canary, stable, evidence, proof, said, .. } = verdict;
    if !said.is_empty() {
        return said.clone();
    }
    match (canary, stable) {
        (None, None) => format!("{evidence:.0} of {proof:.0}"),
        _ => format!(
            "{} of {requests} requests, stable {}; evidence {evidence:.1} of {proof:.0}",
            share(*canary),
            share(*stable)
        ),
    }
}

/// The object's status, but for what is said of all kinds alike.
pub(super) fn status(sight: &Sight, course: &Course, force: &Force) -> ReleaseStatus {
    let event = |entry: &Entry| ReleaseEvent {
        at: text(entry.at),
        who: entry.who.clone(),
        did: entry.did.clone(),
        why: entry.why.clone(),
    };
    let verdict =
        |gate: GateView| ReleaseVerdict { gate: gate.gate, state: gate.state, why: gate.why };
    let under_way = course.is_under_way();
    ReleaseStatus {
        phase: course.phase,
        reason: reason(sight, course, force),
        revision: ReleaseRevision { stable: course.stable.clone(), canary: course.canary.clone() },
        step: u32::try_from(course.step.map_or(0, |step| step + 1)).unwrap_or(u32::MAX),
        weight: course.weight.to_string(),
        step_started_at: course.step.map(|_| text(course.since)),
        in_force: None,
        verdicts: match under_way {
            true => gates(course, &sight.release.plan).into_iter().map(verdict).collect(),
            false => Vec::new(),
        },
        history: course.history.iter().map(event).collect(),
        conditions: Vec::new(),
        memory: serde_json::to_string(course).unwrap_or_default(),
    }
}

fn text(at: u64) -> String {
    let at = i64::try_from(at).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
