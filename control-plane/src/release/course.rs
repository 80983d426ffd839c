//! A release on its way. Pure: what was seen, and when, are arguments; what it says survives restarts in the status of its
//! object, and whoever reads it goes on from there.
//!
//! ```text
//!          new template        canary serves        last step over        nothing of the old one left
//!   Idle ──────────────► Waiting ──────► Progressing ──────► Promoting ──────► Promoted
//!                           │              ▲ │ ▲               │
//!                           │  time, yes,  │ ▼ │ a person      │   a gate is red, a person, too long
//!                           │  health      Paused              │
//!                           └──────────────┬─┴─────────────────┘
//!                                          ▼
//!                              Held, and RolledBack once the old template is back
//! ```
//!
//! **Invariants.** What nobody knows never makes it go on. Red stops it in each phase, also while somebody is asked. Where no pod of
//! the old version is left there is nothing to protect: the new one takes over.

mod reason;
mod tick;

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use tulle_api::{OnFail, OnLowTraffic, ReleasePhase as Phase};

pub use self::tick::{Pods, Tick};
use super::{
    cause::Cause,
    findings::{Findings, Gate, Light, Verdict},
    plan::{Gates, Plan, Step},
    share::Share,
};

/// Revisions that were stable last, to which the way back is open: the one before, and two more.
const TRUSTED: usize = 3;
/// What happened lately, as it is remembered.
const HISTORY: usize = 20;
/// Share of failing requests from which the stable version is no measure of anything.
const UNHEALTHY: f64 = 0.5;
/// Seconds that it must be well again, before it is one.
const RECOVERED: u32 = 30;

/// See the [module](self).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Course {
    /// Where it is.
    pub phase: Phase,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The revision that is being replaced.
    pub stable: String,
    /// The one that replaces it; empty if none does.
    pub canary: String,
    /// Of the plan's steps, the one that it is in, from 0 on; none before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The step that would begin if its webhook said yes; none while nobody waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asking: Option<usize>,
    /// What the canary shall get of all requests; it gets less where its pods are too few.
    pub weight: Share,
    /// Whether the canary takes over, or did when that was stopped: only then its pods may become ready.
    pub lifted: bool,
    /// It took longer than it may, and a person has been asked: nobody is asked again.
    pub late: bool,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When its step, or its pause, did.
    pub since: u64,
    /// Seconds of the step in which it was known what happens.
    pub spent: u32,
    /// Seconds for which it has not been known.
    pub silent: u32,
    /// Seconds for which the stable version has been well again.
    pub recovered: u32,
    /// What is slow, in seconds: fixed when the step began, from what the stable version did before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<f64>,
    /// What speaks against it.
    pub findings: Findings,
    /// What was stable, the newest first.
    pub trusted: VecDeque<String>,
    /// What has failed, which is not tried again but by hand.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failed: String,
    /// What happened, the newest first.
    pub history: VecDeque<Entry>,
    /// How often what proxies see of it has changed.
    pub turn: u64,
    /// How often it has been written down.
    pub written: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// In seconds since 1970.
    pub at: u64,
    /// The user who wanted it; empty if nobody did.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub who: String,
    /// What: `step 2 (5 %)`.
    pub did: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
}

impl Course {
    /// Whether proxies are to do the same by it as by another one: evidence, for one, they do not see.
    pub fn acts_as(&self, other: &Self) -> bool {
        let seen = |course: &Self| (course.phase, course.step, course.weight, course.lifted);
        seen(self) == seen(other)
            && (&self.stable, &self.canary) == (&other.stable, &other.canary)
            && self.trusted == other.trusted
    }

    /// Whether there is something to judge.
    pub fn is_under_way(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Promoted | Phase::Held | Phase::RolledBack => false,
            Phase::Waiting | Phase::Progressing | Phase::Paused | Phase::Promoting => true,
        }
    }

    /// What the target's template is now.
    pub fn template(&mut self, revision: &str, now: u64) {
        let trusted = self.trusted.iter().any(|known| known == revision);
        self.wants(revision, trusted, now);
    }

    /// Which workload's pods are wanted now. What runs there changes under its name: that it was stable once says nothing.
    pub fn workload(&mut self, name: &str, now: u64) {
        self.wants(name, false, now);
    }

    fn wants(&mut self, revision: &str, trusted: bool, now: u64) {
        if revision == self.canary || (revision == self.stable && self.canary.is_empty()) {
            return;
        }
        if self.stable.is_empty() {
            // What was there before anybody asked for releases.
            self.stable = revision.to_owned();
        } else if revision == self.stable {
            let canary = std::mem::take(&mut self.canary);
            self.end(Phase::RolledBack);
            self.note(now, format!("{revision} is back"), format!("{canary} is gone"));
        } else if trusted {
            let why = "it was stable before".to_owned();
            self.note(now, format!("back to {revision}, without steps"), why);
            self.canary.clear();
            self.trust(revision);
            self.end(Phase::Promoted);
        } else if revision == self.failed {
            self.canary = revision.to_owned();
            self.end(Phase::Held);
        } else {
            if self.phase == Phase::Promoting {
                // It came through all steps, and is a part of what the next one replaces.
                let canary = std::mem::take(&mut self.canary);
                self.trust(&canary);
            }
            self.begin(revision, now);
        }
    }

    /// It is about another target from now on, of which this is the stable version.
    pub fn replaces(&mut self, stable: &str) {
        stable.clone_into(&mut self.stable);
        self.canary.clear();
        self.end(Phase::Idle);
    }

    /// A release of this revision begins.
    pub(super) fn begin(&mut self, revision: &str, now: u64) {
        self.end(Phase::Waiting);
        revision.clone_into(&mut self.canary);
        self.failed.clear();
        self.late = false;
        self.findings = Findings::default();
        (self.began, self.since) = (now, now);
        let did = format!("release of {revision}, which replaces {}", self.stable);
        self.note(now, did, String::new());
    }

    /// A second has passed.
    pub fn tick(&mut self, plan: &Plan, tick: &Tick<'_>) {
        if self.is_successor(tick) {
            return self.take_over(tick.now);
        }
        if !self.is_under_way() {
            return;
        }
        self.findings.told((&plan.gates, self.asking), tick.answers, tick.now);
        self.findings.restarted(tick.restarts);
        self.watch(plan, tick);
        if let Some(red) = self.red(&plan.gates) {
            return self.fail(plan.on_fail, Cause::Gate(red.gate), tick.now);
        }
        let taken = tick.now.saturating_sub(self.began);
        if taken > plan.deadline.as_secs() && !self.late && tick.canary.wanted > 0 {
            self.late = true;
            return self.fail(plan.on_fail, Cause::Deadline, tick.now);
        }
        if let Some(at) =
            self.asking.filter(|at| self.findings.asked().may_begin(*at) == Light::Red)
        {
            return self.fail(plan.on_fail, Cause::Gate(Gate::Step(at)), tick.now);
        }
        let blind = Duration::from_secs(self.silent.into()) >= plan.no_data.hold;
        match self.phase {
            Phase::Progressing | Phase::Promoting if blind => {
                self.fail(plan.no_data.then, Cause::NoData, tick.now);
            }
            Phase::Waiting if tick.canary.serving > 0 => self.next(plan, false, tick.now),
            Phase::Progressing => self.progress(plan, tick),
            Phase::Paused if self.cause == Some(Cause::StableUnhealthy) => {
                self.recovered = if self.unhealthy(tick) { 0 } else { self.recovered + 1 };
                if self.recovered >= RECOVERED {
                    self.go_on(tick.now, "the stable version is well again");
                }
            }
            _ => {}
        }
    }

    /// Whether nobody but the canary is there for callers.
    fn is_successor(&self, Tick { canary, alone, replaced, .. }: &Tick<'_>) -> bool {
        let alone = *alone && canary.serving > 0;
        match self.phase {
            // Those that were let in before it failed get requests as they are.
            Phase::Held => alone && canary.let_in == 0,
            _ => self.is_under_way() && (alone || (self.lifted && *replaced)),
        }
    }

    /// It is the version from now on.
    fn take_over(&mut self, now: u64) {
        let planned = self.lifted && self.is_under_way();
        let why = match planned {
            true => String::new(),
            false => format!("there is no pod of {} any more", self.stable),
        };
        let canary = std::mem::take(&mut self.canary);
        let did = format!("{canary} has replaced {}", self.stable);
        self.trust(&canary);
        self.end(Phase::Promoted);
        self.note(now, did, why);
    }

    /// Takes in what happened, unless the stable version is no measure.
    fn watch(&mut self, plan: &Plan, tick: &Tick<'_>) {
        let Some(seen) = tick.seen else {
            self.silent = self.silent.saturating_add(1);
            return;
        };
        self.silent = 0;
        if self.cause == Some(Cause::StableUnhealthy) {
            self.findings.look(seen);
        } else {
            let warm = plan.gates.latency.is_some_and(|it| tick.canary.youngest >= it.warmup);
            self.findings.take(seen, &plan.gates, warm);
        }
        if self.slower_than.is_none() {
            self.slower_than = tick.slow;
        }
    }

    fn progress(&mut self, plan: &Plan, tick: &Tick<'_>) {
        if self.unhealthy(tick) {
            self.recovered = 0;
            return self.pause(Cause::StableUnhealthy, tick.now);
        }
        let none = self.weight > Share::NONE && tick.canary.serving == 0;
        if self.silent > 0 || !tick.in_force || none {
            return;
        }
        self.spent = self.spent.saturating_add(1);
        let lasts = self.step.and_then(|at| plan.steps.get(at)).map_or(Duration::ZERO, |s| s.lasts);
        let over = Duration::from_secs(self.spent.into()).saturating_sub(lasts);
        let doubted = self.findings.verdicts(&plan.gates).iter().any(|v| v.light > Light::Green);
        if over.is_zero() || doubted {
            return;
        }
        let enough = !self.asks_for_requests(plan)
            || self.findings.step().errors.canary.all >= plan.gates.min_requests;
        if enough {
            return self.next(plan, false, tick.now);
        }
        if over > plan.low_traffic.wait {
            match plan.low_traffic.then {
                OnLowTraffic::Pause => self.pause(Cause::LowTraffic, tick.now),
                OnLowTraffic::Rollback => self.roll_back(Cause::LowTraffic, tick.now),
                OnLowTraffic::Widen => self.next(plan, false, tick.now),
            }
        }
    }

    /// Whether its step sends the canary any requests that somebody waits for: copies are not judged.
    pub fn asks_for_requests(&self, plan: &Plan) -> bool {
        let matches = |step: &Step| !step.matches.is_empty();
        self.weight > Share::NONE || self.in_step(plan).is_some_and(matches)
    }

    /// The next step, or promotion, unless somebody must say so before; `approved`: somebody has.
    pub(super) fn next(&mut self, plan: &Plan, approved: bool, now: u64) {
        let at = self.step.map_or(0, |step| step + 1);
        if !approved && !self.may_begin(plan, at) {
            return;
        }
        let asks = plan.steps.get(at).map_or(plan.approve_promotion, |step| step.approve);
        if asks && !approved {
            return self.pause(Cause::Approval, now);
        }
        match plan.steps.get(at) {
            Some(step) => self.enter(at, step.weight, now),
            None => self.promote(now),
        }
    }

    /// Whether a step has no webhook, or one that says yes; else it is asked from now on.
    fn may_begin(&mut self, plan: &Plan, at: usize) -> bool {
        let asked = plan.steps.get(at).is_some_and(|step| !step.webhook.is_empty());
        self.asking = asked.then_some(at);
        !asked || self.findings.asked().may_begin(at) == Light::Green
    }

    pub(super) fn enter(&mut self, at: usize, weight: Share, now: u64) {
        (self.cause, self.asking) = (None, None);
        self.phase = Phase::Progressing;
        (self.step, self.weight, self.since) = (Some(at), weight, now);
        (self.spent, self.silent, self.slower_than) = (0, 0, None);
        self.findings.begin_step();
        self.note(now, format!("step {} ({weight})", at + 1), String::new());
    }

    pub(super) fn promote(&mut self, now: u64) {
        (self.cause, self.asking) = (None, None);
        self.phase = Phase::Promoting;
        (self.lifted, self.since, self.silent, self.slower_than) = (true, now, 0, None);
        self.findings.begin_step();
        self.note(now, "promotion".to_owned(), String::new());
    }

    pub(super) fn pause(&mut self, cause: Cause, now: u64) {
        if self.is_paused_for(&cause) {
            return;
        }
        self.note(now, "paused".to_owned(), self.why(&cause));
        (self.phase, self.cause, self.since) = (Phase::Paused, Some(cause), now);
        self.asking = None;
    }

    /// Whether it is paused already, for something that weighs as much.
    pub(super) fn is_paused_for(&self, cause: &Cause) -> bool {
        let weighs = |old: &Cause| old.weight() >= cause.weight();
        self.phase == Phase::Paused && self.cause.as_ref().is_some_and(weighs)
    }

    /// Goes on where it was paused.
    pub(super) fn go_on(&mut self, now: u64, why: &str) {
        if matches!(self.cause, Some(Cause::Gate(_))) {
            // Somebody takes it as it is: what was proven until now is no news.
            self.findings.forgive();
        }
        (self.cause, self.since, self.silent) = (None, now, 0);
        self.phase = match (self.lifted, self.step) {
            (true, _) => Phase::Promoting,
            (false, Some(_)) => Phase::Progressing,
            (false, None) => Phase::Waiting,
        };
        self.note(now, "goes on".to_owned(), why.to_owned());
    }

    fn fail(&mut self, then: OnFail, cause: Cause, now: u64) {
        match then {
            OnFail::Rollback => self.roll_back(cause, now),
            OnFail::Pause => self.pause(cause, now),
        }
    }

    pub(super) fn roll_back(&mut self, cause: Cause, now: u64) {
        self.note(now, format!("{} gets nothing more", self.canary), self.why(&cause));
        self.failed.clone_from(&self.canary);
        // What was let in stays in.
        let lifted = self.lifted;
        self.end(Phase::Held);
        (self.cause, self.since, self.lifted) = (Some(cause), now, lifted);
    }

    /// Nothing goes to a canary any more.
    fn end(&mut self, phase: Phase) {
        (self.phase, self.cause, self.step) = (phase, None, None);
        (self.weight, self.lifted, self.asking) = (Share::NONE, false, None);
        (self.spent, self.silent, self.recovered, self.slower_than) = (0, 0, 0, None);
    }

    /// It is what is stable now.
    fn trust(&mut self, revision: &str) {
        let before = std::mem::replace(&mut self.stable, revision.to_owned());
        self.trusted.retain(|known| known != revision && *known != before);
        self.trusted.push_front(before);
        self.trusted.truncate(TRUSTED);
    }

    /// The stable version is no measure of anything.
    fn unhealthy(&self, tick: &Tick<'_>) -> bool {
        let gone = tick.stable.serving == 0 && tick.stable.wanted > 0;
        gone || self.findings.stable_fails().is_some_and(|share| share > UNHEALTHY)
    }

    fn red(&self, gates: &Gates) -> Option<Verdict> {
        let red = |verdict: &Verdict| verdict.light == Light::Red;
        // Somebody has been asked already.
        let asked = |verdict: &Verdict| matches!(&self.cause, Some(Cause::Gate(gate)) if *gate == verdict.gate);
        self.findings.verdicts(gates).into_iter().find(|verdict| red(verdict) && !asked(verdict))
    }

    fn note(&mut self, at: u64, did: String, why: String) {
        self.history.push_front(Entry { at, who: String::new(), did, why });
        self.history.truncate(HISTORY);
    }
}

#[cfg(test)]
mod tests;
