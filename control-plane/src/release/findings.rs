//! What is known of a canary: each gate's evidence, and what it means.

use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};

use super::{
    asked::{Answer, Asked},
    evidence::{Evidence, Pair, Test},
    plan::Gates,
};

/// From here on no step ends: it may be chance, but whoever waits will know more.
const DOUBT: f64 = 10.0;
/// Seconds that are looked at for what happens now.
const LATELY: usize = 60;
/// Seconds over which a stable version that fails itself excuses the canary.
const EXCUSES: [usize; 3] = [1, 3, 10];

/// What happened in a second, as one caller's sidecars saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bad: those that failed.
    pub errors: Pair,
    /// Bad: those that were slower than what was fixed before. Nothing while that is not known.
    pub slow: Pair,
}

/// See the [module](self). Survives restarts, but for what happened in the last minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Findings {
    errors: Evidence,
    most: Evidence,
    latency: Evidence,
    /// In this step.
    step: Counts,
    /// In all.
    all: Counts,
    asked: Asked,
    #[serde(skip)]
    lately: VecDeque<Pair>,
}

/// What happened in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// By how they ended.
    pub errors: Pair,
    /// By how long they took.
    pub slow: Pair,
    /// Of the canary's containers.
    pub restarts: u32,
}

/// A gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Gate {
    /// Failed requests, against the stable version's, and against what is too much whatever that does.
    Errors,
    /// Slow ones.
    Latency,
    /// Containers that end.
    Restarts,
    /// What a query of this name comes to.
    Query(String),
    /// What the webhook of this name says.
    Webhook(String),
    /// What the webhook says that is asked before this one of the plan's steps, from 0 on, begins.
    Step(usize),
}

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Light {
    /// Nothing speaks against it.
    Green,
    /// Something does, which may be chance.
    Amber,
    /// It is proven to be worse.
    Red,
}

/// What a gate says, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Which one.
    pub gate: Gate,
    /// What it says.
    pub light: Light,
    /// The e-value, of what is judged by chance; of restarts and bad answers in a row how many there are.
    pub evidence: f64,
    /// From where that is proof.
    pub proof: f64,
    /// Shares of bad requests in this step: the canary's.
    pub canary: Option<f64>,
    /// The stable version's.
    pub stable: Option<f64>,
    /// What was said by who is asked, in words; empty for other gates.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
}

impl Findings {
    /// Takes in a second; `warm`: the canary's pods may be expected to be quick.
    pub fn take(&mut self, seen: &[Seen], gates: &Gates, warm: bool) {
        let now = self.look(seen);
        self.step.errors += now;
        self.all.errors += now;
        let test = test(gates);
        if let Some(errors) = gates.errors.filter(|_| !now.is_empty()) {
            let callers: Vec<_> = seen.iter().map(|one| one.errors).collect();
            self.errors.compare(&callers, errors.tolerate, test);
            if !self.excused(errors.most) {
                self.most.against(now.canary, errors.most, test);
            }
        }
        let slow = seen.iter().fold(Pair::default(), |sum, one| sum + one.slow);
        if let Some(latency) = gates.latency.filter(|_| warm && !slow.is_empty()) {
            self.step.slow += slow;
            self.all.slow += slow;
            let callers: Vec<_> = seen.iter().map(|one| one.slow).collect();
            self.latency.compare(&callers, latency.tolerate, test);
        }
    }

    /// Looks at a second without judging it.
    pub fn look(&mut self, seen: &[Seen]) -> Pair {
        let now = seen.iter().fold(Pair::default(), |sum, one| sum + one.errors);
        self.lately.push_front(now);
        self.lately.truncate(LATELY);
        now
    }

    /// Forgets what is proven or doubted: somebody takes it as it is.
    pub fn forgive(&mut self) {
        self.asked.forgive();
        let asked = std::mem::take(&mut self.asked);
        *self = Self { step: self.step, all: self.all, asked, ..Self::default() };
        self.step.restarts = 0;
    }

    /// So many more containers of the canary have ended.
    pub fn restarted(&mut self, times: u32) {
        self.step.restarts = self.step.restarts.saturating_add(times);
        self.all.restarts = self.all.restarts.saturating_add(times);
    }

    /// Takes in what was answered by those who are asked; `step`: whose webhook is, of the plan's steps.
    pub fn told(&mut self, asked: (&Gates, Option<usize>), answers: &[(Gate, Answer)], now: u64) {
        self.asked.take(asked, answers, now);
    }

    /// What was answered.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Another step begins: what was proven or doubted stays.
    pub fn begin_step(&mut self) {
        self.step = Counts::default();
        self.asked.begin_step();
    }

    /// In this step.
    pub fn step(&self) -> &Counts {
        &self.step
    }

    /// Since the release began.
    pub fn all(&self) -> &Counts {
        &self.all
    }

    /// What each gate says.
    pub fn verdicts(&self, gates: &Gates) -> Vec<Verdict> {
        let proof = test(gates).proof();
        let light = |value: f64| match value {
            value if value >= proof => Light::Red,
            value if value >= DOUBT => Light::Amber,
            _ => Light::Green,
        };
        let errors = gates.errors.map(|errors| {
            let compared = match self.canary_share() <= errors.floor {
                // So few that nobody minds.
                true => Light::Green,
                false => light(self.errors.value()),
            };
            Verdict {
                gate: Gate::Errors,
                light: compared.max(light(self.most.value())),
                evidence: self.errors.value().max(self.most.value()),
                proof,
                canary: self.step.errors.canary.share(),
                stable: self.step.errors.stable.share(),
                said: String::new(),
            }
        });
        let latency = gates.latency.map(|_| Verdict {
            gate: Gate::Latency,
            light: light(self.latency.value()),
            evidence: self.latency.value(),
            proof,
            canary: self.step.slow.canary.share(),
            stable: self.step.slow.stable.share(),
            said: String::new(),
        });
        let restarts = gates.restarts.map(|most| Verdict {
            gate: Gate::Restarts,
            light: if self.step.restarts > most { Light::Red } else { Light::Green },
            evidence: f64::from(self.step.restarts),
            proof: f64::from(most) + 1.0,
            canary: None,
            stable: None,
            said: String::new(),
        });
        let own = errors.into_iter().chain(latency).chain(restarts);
        own.chain(self.asked.verdicts(gates)).collect()
    }

    /// Share of the stable version's requests of the last ten seconds that failed, if there were enough to say.
    pub fn stable_fails(&self) -> Option<f64> {
        let lately = self.of_last(10).stable;
        lately.share().filter(|_| lately.all >= 20)
    }

    /// The stable version itself fails more than that: it is not the canary's fault alone.
    fn excused(&self, most: f64) -> bool {
        let fails = |seconds| self.of_last(seconds).stable.share().is_some_and(|bad| bad > most);
        EXCUSES.into_iter().any(fails)
    }

    /// Of the canary's requests, those that fail: in this step, or just now if that is more.
    fn canary_share(&self) -> f64 {
        let shares = [self.step.errors, self.of_last(LATELY)].map(|pair| pair.canary.share());
        shares.into_iter().flatten().fold(0.0, f64::max)
    }

    fn of_last(&self, seconds: usize) -> Pair {
        self.lately.iter().take(seconds).fold(Pair::default(), |sum, one| sum + *one)
    }
}

/// What is judged by chance shares the false alarms: errors against the stable version, errors against what is too much,
/// durations.
fn test(gates: &Gates) -> Test {
    let errors = if gates.errors.is_some() { 2.0 } else { 0.0 };
    let latency = if gates.latency.is_some() { 1.0 } else { 0.0 };
    Test { alarm: gates.false_alarm / f64::max(errors + latency, 1.0) }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors => f.write_str("errors"),
            Self::Latency => f.write_str("latency"),
            Self::Restarts => f.write_str("restarts"),
            Self::Query(name) | Self::Webhook(name) => f.write_str(name),
            Self::Step(at) => write!(f, "the webhook of step {}", at + 1),
        }
    }
}
