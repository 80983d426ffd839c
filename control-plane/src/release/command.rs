//! What people want of a release.

use serde::{Deserialize, Serialize};
use tulle_api::ReleasePhase as Phase;

use super::{
    cause::Cause,
    course::{Course, Pods},
    findings::{Gate, Light, Verdict},
    plan::{Plan, Step},
    share::Share,
};

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// A release of the revision that is there, although it has failed before, or none began by itself.
    Start,
    /// No further step.
    Pause,
    /// On with it; also where it waits to be approved.
    Resume,
    /// The next step at once, or the one of this weight.
    Step(Option<Share>),
    /// Promotion at once; `now`: although a gate or nobody says that it is good.
    Promote {
        /// Whatever is known.
        now: bool,
    },
    /// Nothing to the canary any more, for this reason.
    Rollback(String),
}

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another one is on its way, or none.
    #[error("revision {wanted} is not the one that is being released; that is {}", if .there.is_empty() { "none" } else { .there })]
    Revision {
        /// What was said.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// It makes no sense where the release is.
    #[error("the release is {phase:?}: {remedy}")]
    Phase {
        /// Where it is.
        phase: Phase,
        /// What would.
        remedy: &'static str,
    },
    /// No step has this weight.
    #[error("no step from here on has {wanted}; there are {there}")]
    Weight {
        /// What was said.
        wanted: Share,
        /// Weights of the steps to come.
        there: String,
    },
    /// A gate does not say that it is good.
    #[error("{gate} is {light:?}; `promote --now` does it all the same")]
    Doubted {
        /// Which one.
        gate: Gate,
        /// What it says.
        light: Light,
    },
}

impl Course {
    /// Does what `who` wants of the release of `revision` (empty: of whichever there is).
    ///
    /// # Errors
    /// If it cannot be done: nothing has changed.
    pub fn command(
        &mut self,
        plan: &Plan,
        (who, revision): (&str, &str),
        verb: &Verb,
        now: u64,
    ) -> Result<(), Refusal> {
        if !revision.is_empty() && revision != self.canary {
            let (wanted, there) = (revision.to_owned(), self.canary.clone());
            return Err(Refusal::Revision { wanted, there });
        }
        match verb {
            Verb::Start => self.start(now)?,
            Verb::Pause => {
                self.under_way()?;
                let cause = Cause::Person(String::new());
                if self.is_paused_for(&cause) {
                    return Err(self.refuse("it is paused already"));
                }
                self.pause(cause, now);
            }
            Verb::Resume if self.phase != Phase::Paused => {
                return Err(self.refuse("there is nothing to resume"));
            }
            // Who says so has more to say than a webhook.
            Verb::Resume
                if matches!(self.cause, Some(Cause::Approval | Cause::Gate(Gate::Step(_)))) =>
            {
                self.next(plan, true, now);
            }
            Verb::Resume => self.go_on(now, ""),
            Verb::Step(to) => {
                self.under_way()?;
                self.step_to(plan, *to, now)?;
            }
            Verb::Promote { now: at_once } => {
                self.under_way()?;
                if self.lifted {
                    return Err(self.refuse("it is being promoted already"));
                }
                let doubts = |verdict: &Verdict| verdict.light > Light::Green;
                let verdicts = self.findings.verdicts(&plan.gates);
                if let Some(doubt) = verdicts.into_iter().find(doubts).filter(|_| !at_once) {
                    return Err(Refusal::Doubted { gate: doubt.gate, light: doubt.light });
                }
                self.findings.forgive();
                self.promote(now);
            }
            Verb::Rollback(reason) => {
                self.under_way()?;
                self.roll_back(Cause::Person(reason.clone()), now);
            }
        }
        // Who it was stands with what came of it.
        if let Some(entry) = self.history.front_mut() {
            who.clone_into(&mut entry.who);
        }
        Ok(())
    }

    fn start(&mut self, now: u64) -> Result<(), Refusal> {
        if self.phase != Phase::Held {
            return Err(self.refuse("a release begins by itself with a new template"));
        }
        let canary = self.canary.clone();
        self.begin(&canary, now);
        Ok(())
    }

    fn step_to(&mut self, plan: &Plan, to: Option<Share>, now: u64) -> Result<(), Refusal> {
        if self.lifted {
            return Err(self.refuse("it is being promoted already"));
        }
        let Some(wanted) = to else {
            self.next(plan, true, now);
            return Ok(());
        };
        let first = self.step.map_or(0, |step| step + 1);
        let rest = || plan.steps.iter().enumerate().skip(first);
        let Some((at, _)) = rest().find(|(_, step)| step.weight == wanted) else {
            let there: Vec<_> = rest().map(|(_, step)| step.weight.to_string()).collect();
            return Err(Refusal::Weight { wanted, there: there.join(", ") });
        };
        self.enter(at, wanted, now);
        Ok(())
    }

    fn under_way(&self) -> Result<(), Refusal> {
        match self.is_under_way() {
            true => Ok(()),
            false => Err(self.refuse("no release is under way")),
        }
    }

    fn refuse(&self, remedy: &'static str) -> Refusal {
        Refusal::Phase { phase: self.phase, remedy }
    }

    /// What the canary gets of all requests, by the pods that there are: no pod of it gets more than one of the stable
    /// version's gets where there is no canary.
    pub fn share(&self, canary: Pods, stable: Pods) -> Share {
        let all = stable.wanted.max(1);
        let carries = Share::of(canary.serving, all);
        // What the old version cannot carry, as pods of the new one were let in for some of its own.
        let replaces = Share::of(canary.let_in.min(all.saturating_sub(stable.serving)), all);
        match self.phase {
            Phase::Idle | Phase::Promoted | Phase::RolledBack => Share::NONE,
            _ if canary.serving == 0 => Share::NONE,
            Phase::Held if stable.serving == 0 && canary.let_in > 0 => Share::ALL,
            Phase::Waiting | Phase::Held => replaces,
            // Better than nobody.
            _ if stable.serving == 0 => Share::ALL,
            // Pods of the old version go as those of the new one come.
            _ if self.lifted => carries,
            Phase::Progressing | Phase::Paused | Phase::Promoting => {
                self.weight.min(carries).max(replaces)
            }
        }
    }

    /// The step that it is in. While it takes over that is its last one: whoever has been with the new version stays there.
    pub fn in_step<'a>(&self, plan: &'a Plan) -> Option<&'a Step> {
        match self.phase {
            Phase::Progressing | Phase::Paused | Phase::Promoting => plan.steps.get(self.step?),
            _ => None,
        }
    }
}
