//! What others say who are asked whether a canary is well: a Prometheus, and webhooks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    findings::{Gate, Light, Verdict},
    plan::{Gates, Query, Step},
};

/// So many times as long as between two questions an answer is worth something.
const LASTS: u32 = 3;
/// Characters of what others say that are kept: an object's status has little room.
const WORDS: usize = 200;

/// What somebody says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What a query comes to.
    Number(f64),
    /// A webhook's yes, in its words.
    Yes(String),
    /// Its no.
    No(String),
    /// Neither, and why: a webhook that has not decided yet, a query without a value, nobody who answers.
    Open(String),
}

/// What was said last. Survives restarts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// As of then, in seconds since 1970.
    now: u64,
    told: Vec<Told>,
}

/// What one of them has said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    gate: Gate,
    /// In seconds since 1970.
    at: u64,
    /// Before the step that it is in now.
    #[serde(default)]
    before: bool,
    last: Last,
    /// For people.
    said: String,
    /// Bad answers in a row.
    #[serde(default)]
    bad: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Last {
    Good,
    Bad,
    Open,
}

impl Asked {
    /// Takes in what was said. `step`: whose webhook is asked, of the plan's steps.
    pub(super) fn take(
        &mut self,
        (gates, step): (&Gates, Option<usize>),
        answers: &[(Gate, Answer)],
        now: u64,
    ) {
        self.told.retain(|told| is_asked(&told.gate, gates, step));
        for (gate, answer) in answers.iter().filter(|(gate, _)| is_asked(gate, gates, step)) {
            let bounds = gates.queries.iter().find(|it| *gate == Gate::Query(it.name.clone()));
            let (last, mut said) = judge(bounds, answer);
            said.retain(|c| !c.is_control());
            said = said.chars().take(WORDS).collect();
            let before = self.told.iter().position(|told| told.gate == *gate);
            let bad = before.map_or(0, |at| self.told.swap_remove(at).bad);
            let bad = match last {
                Last::Good => 0,
                Last::Bad => bad.saturating_add(1),
                // Whoever does not know takes nothing back.
                Last::Open => bad,
            };
            self.told.push(Told { gate: gate.clone(), at: now, before: false, last, said, bad });
        }
        // Where nobody has said anything there is nothing to write down each second.
        self.now = if self.told.is_empty() { 0 } else { now };
    }

    /// Another step begins: what was bad stays, and that it was good before says nothing.
    pub(super) fn begin_step(&mut self) {
        self.told.iter_mut().for_each(|told| told.before = true);
    }

    /// What was bad is forgotten.
    pub(super) fn forgive(&mut self) {
        self.told.clear();
    }

    /// What each of them says.
    pub(super) fn verdicts(&self, gates: &Gates) -> Vec<Verdict> {
        let queries = gates.queries.iter().map(|it| {
            let gate = Gate::Query(it.name.clone());
            self.verdict(gate, it.failures, it.every)
        });
        let webhooks = gates.webhooks.iter().map(|it| {
            let gate = Gate::Webhook(it.name.clone());
            self.verdict(gate, it.failures, it.every)
        });
        queries.chain(webhooks).collect()
    }

    fn verdict(&self, gate: Gate, failures: u32, every: Duration) -> Verdict {
        let told = self.of(&gate);
        let bad = told.map_or(0, |told| told.bad);
        let lately = told.filter(|told| self.is_of_now(told, every));
        let light = match lately {
            _ if bad >= failures.max(1) => Light::Red,
            Some(told) if told.last == Last::Good => Light::Green,
            _ => Light::Amber,
        };
        let mut said = match told {
            None => "nobody has answered yet".to_owned(),
            Some(told) if light == Light::Red || lately.is_some() => told.said.clone(),
            Some(told) if told.before => format!("{}, before this step", told.said),
            Some(told) => {
                format!("{}, {} s ago", told.said, self.now.saturating_sub(told.at))
            }
        };
        if bad > 0 {
            said = format!("{said}: bad {bad} of {failures} times in a row");
        }
        Verdict {
            gate,
            light,
            evidence: f64::from(bad),
            proof: f64::from(failures),
            canary: None,
            stable: None,
            said,
        }
    }

    /// What the webhook of a step says.
    pub(super) fn may_begin(&self, step: usize) -> Light {
        let told = self.of(&Gate::Step(step)).filter(|told| self.is_of_now(told, Step::EVERY));
        match told.map(|told| told.last) {
            Some(Last::Good) => Light::Green,
            Some(Last::Bad) => Light::Red,
            Some(Last::Open) | None => Light::Amber,
        }
    }

    /// What one of them has said last, in words; empty if nothing.
    pub(super) fn said(&self, gate: &Gate) -> &str {
        self.of(gate).map(|told| told.said.as_str()).unwrap_or_default()
    }

    fn of(&self, gate: &Gate) -> Option<&Told> {
        self.told.iter().find(|told| told.gate == *gate)
    }

    fn is_of_now(&self, told: &Told, every: Duration) -> bool {
        !told.before && self.now.saturating_sub(told.at) <= (every * LASTS).as_secs()
    }
}

fn is_asked(gate: &Gate, gates: &Gates, step: Option<usize>) -> bool {
    match gate {
        Gate::Errors | Gate::Latency | Gate::Restarts => false,
        Gate::Query(name) => gates.queries.iter().any(|it| it.name == *name),
        Gate::Webhook(name) => gates.webhooks.iter().any(|it| it.name == *name),
        Gate::Step(at) => Some(*at) == step,
    }
}

/// Whether it is good, and what it says in words.
fn judge(bounds: Option<&Query>, answer: &Answer) -> (Last, String) {
    match answer {
        Answer::Number(value) => {
            let text = number(*value);
            let (max, min) = bounds.map_or((None, None), |it| (it.max, it.min));
            match (max.filter(|max| value > max), min.filter(|min| value < min)) {
                // By what is no number nothing can be compared.
                _ if !value.is_finite() => (Last::Open, format!("{text} is no number")),
                (Some(max), _) => (Last::Bad, format!("{text} is more than {}", number(max))),
                (_, Some(min)) => (Last::Bad, format!("{text} is less than {}", number(min))),
                (None, None) => (Last::Good, text),
            }
        }
        Answer::Yes(said) => (Last::Good, said.clone()),
        Answer::No(said) => (Last::Bad, said.clone()),
        Answer::Open(said) => (Last::Open, said.clone()),
    }
}

/// As people write it: `0.0412`, `1250`.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e9 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.6}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests;
