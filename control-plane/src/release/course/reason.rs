//! Why a release is where it is, in a sentence.

use std::time::Duration;

use tulle_api::ReleasePhase as Phase;

use super::Course;
use crate::release::{Cause, Gate, Light, Pair, Plan, Share, Verdict};

/// In this time of a step the rate of requests shows.
const KNOWN: Duration = Duration::from_secs(15);

impl Course {
    /// For people: what it waits for, or what became of it.
    pub fn reason(&self, plan: &Plan) -> String {
        let cause = self.because();
        match self.phase {
            Phase::Idle => "there is nothing to release".to_owned(),
            Phase::Waiting if self.asking.is_some() => self.asks(),
            Phase::Waiting => format!("pods of {} do not serve yet", self.canary),
            Phase::Progressing => self.step_reason(plan),
            Phase::Promoting => format!("{} replaces {}", self.canary, self.stable),
            Phase::Promoted => format!("{} has replaced the version before", self.stable),
            Phase::Held | Phase::RolledBack if self.canary.is_empty() => {
                format!("{} is back", self.stable)
            }
            Phase::Held | Phase::RolledBack => format!("{} gets no requests: {cause}", self.canary),
            Phase::Paused => match &self.cause {
                Some(Cause::LowTraffic) => format!("{cause}: {}", self.too_few(plan)),
                _ => cause,
            },
        }
    }

    /// Why it was stopped, or paused.
    pub fn because(&self) -> String {
        match &self.cause {
            Some(cause) => self.why(cause),
            None if self.phase == Phase::Held => "it has failed before".to_owned(),
            None => String::new(),
        }
    }

    /// A cause, with its figures, or what was said by who is asked.
    pub(super) fn why(&self, cause: &Cause) -> String {
        let step = self.findings.step();
        let said = match cause {
            Cause::Gate(Gate::Errors) => figures("failed", step.errors),
            Cause::Gate(Gate::Latency) => figures("were slow", step.slow),
            Cause::Gate(Gate::Restarts) => format!("{} of its containers ended", step.restarts),
            Cause::Gate(gate) => self.findings.asked().said(gate).to_owned(),
            _ => String::new(),
        };
        if said.is_empty() { cause.to_string() } else { format!("{cause}: {said}") }
    }

    /// `the webhook of step 2 has not said yes: 425 Too Early`.
    fn asks(&self) -> String {
        let Some(gate) = self.asking.map(Gate::Step) else { return String::new() };
        match self.findings.asked().said(&gate) {
            "" => format!("{gate} is asked whether it may begin"),
            said => format!("{gate} has not said yes: {said}"),
        }
    }

    fn step_reason(&self, plan: &Plan) -> String {
        if self.silent > 0 {
            let silent = self.silent;
            return format!(
                "too few sidecars tell what happens, for {silent} s: the step does not end"
            );
        }
        let verdicts = self.findings.verdicts(&plan.gates);
        if let Some(one) = verdicts.iter().find(|one| one.light == Light::Amber) {
            let Verdict { gate, evidence, proof, said, .. } = one;
            if !said.is_empty() {
                return format!("{gate}: {said}: the step does not end before it is well");
            }
            return format!(
                "{gate} may be worse (evidence {evidence:.0} of {proof:.0}): the step goes on until it is known"
            );
        }
        let lasts = self.step.and_then(|at| plan.steps.get(at)).map_or(Duration::ZERO, |s| s.lasts);
        let spent = Duration::from_secs(self.spent.into());
        match spent < lasts {
            true => {
                let so_far = format!("{} of {} s of the step", spent.as_secs(), lasts.as_secs());
                match self.takes(plan).filter(|_| spent >= KNOWN) {
                    Some(whole) if whole > lasts => format!("{so_far}; {}", self.too_few(plan)),
                    _ => so_far,
                }
            }
            false if self.asking.is_some() => self.asks(),
            false => self.too_few(plan),
        }
    }

    /// How long the step takes at the rate of its requests so far, if there were any; nothing of one that waits for none.
    fn takes(&self, plan: &Plan) -> Option<Duration> {
        let there = self.findings.step().errors.canary.all;
        let whole = u64::from(self.spent) * plan.gates.min_requests;
        let asked = self.asks_for_requests(plan);
        whole.checked_div(there).filter(|_| asked).map(Duration::from_secs)
    }

    /// `38 of 200 requests to the canary; at this rate it takes 61 min`.
    fn too_few(&self, plan: &Plan) -> String {
        let (there, wanted) = (self.findings.step().errors.canary.all, plan.gates.min_requests);
        let so_far = format!("{there} of {wanted} requests to the canary");
        match self.takes(plan) {
            Some(whole) if there < wanted && self.weight == Share::NONE => {
                format!(
                    "{so_far}; at this rate the step takes {} min",
                    whole.as_secs().div_ceil(60)
                )
            }
            Some(whole) if there < wanted && self.weight < Share::ALL => {
                let minutes = whole.as_secs().div_ceil(60);
                format!(
                    "{so_far}; at this rate the step takes {minutes} min, with a greater weight less"
                )
            }
            _ => so_far,
        }
    }
}

/// `52 % of 58 requests failed, 0.1 % of the stable version's`; nothing if there was none.
fn figures(what: &str, Pair { canary, stable }: Pair) -> String {
    let percent = |share: f64| match share * 100.0 {
        percent if percent < 10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    };
    let Some(share) = canary.share().map(percent) else { return String::new() };
    let stable = stable.share().map_or_else(|| "none".to_owned(), percent);
    format!("{share} of {} requests {what}, {stable} of the stable version's", canary.all)
}
