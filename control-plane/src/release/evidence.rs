//! Evidence that a version does worse than it may, which may be looked at at any time and as often as somebody likes.
//!
//! **What it says.** [`Evidence::value`] is an e-value: while the new version is no worse than it may be, the chance that it
//! *ever* reaches 1/α is at most α, whoever looks how often and stops when (Ville's inequality). A p-value that is looked at
//! each second is no such thing.
//!
//! **How.** Given how many bad events there were in a second, those of the new version are a matter of its share of all
//! requests alone; a shared outage cancels. With `n` requests and `x` bad ones of the canary, `m` and `y` of the stable version,
//! if the canary is `tolerate` = ρ times as bad each bad event is its own with chance `nρ/(nρ+m)`, and if it is `k` times
//! worse still with `nρk/(nρk+m)`. The likelihood ratio of a second is then `x·ln k + (x+y)·ln((nρ+m)/(nρk+m))`. Each `k` of
//! [`SUSPECTS`] has its own sum, and their mean is the e-value (after Lindon and Malek, "Anytime-valid inference for multinomial
//! count data", and Hoeffding's bound of the hypergeometric by the binomial distribution).
//!
//! - Callers are judged each by itself and added: where one caller has another share of the canary than another and worse
//!   requests, too, sums over both would accuse the canary of them (Simpson's paradox).
//! - One second never decides: what it adds is [capped](Test::cap), so that a hiccup of one pod, which makes many failures at
//!   once that are one event, is no proof. Four in a row are, or six that come one by one: where each pod fails for a second
//!   every 20 minutes, whatever its version, one release in 330 would be stopped if three of these were enough. Less evidence
//!   than there is keeps the bound.
//! - What was good for long does not excuse what is bad now: any second may be the one in which it began. Half of the belief is
//!   that it began at the start, the rest is spread over all seconds that come ([`begins_now`]); a sum over all of these
//!   beginnings, which one number for each suspect holds.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// How many times worse than tolerated the canary may be.
const SUSPECTS: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0];
/// Seconds after which a third of the belief is used up that is not about the start.
const SPREAD: f64 = 300.0;
/// So many bad seconds in a row would be proof if nothing had spoken for the canary before, or so many that come one by one. The first of a
/// row comes alone, and half of the belief is spent on when it began: it takes one more of each.
const IN_A_ROW: f64 = 3.0;
const ALONE: f64 = 5.0;
/// Seconds within which one is not alone.
const LATELY: u8 = 2;
/// No sum grows beyond what is proof of anything: it is kept as JSON, which knows no infinity.
const MOST: f64 = 100.0;

/// What happened to one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Requests.
    pub all: u64,
    /// Of these, the bad ones.
    pub bad: u64,
}

/// What happened in a second to both versions, as one caller sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The new version.
    pub canary: Arm,
    /// The one that it shall replace.
    pub stable: Arm,
}

impl Arm {
    /// Share of bad ones, 0 to 1; `None` of nothing.
    pub fn share(self) -> Option<f64> {
        (self.all > 0).then(|| float(self.bad) / float(self.all))
    }
}

impl Pair {
    /// Nothing happened.
    pub fn is_empty(self) -> bool {
        self.canary.all == 0 && self.stable.all == 0
    }
}

impl Add for Arm {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let sum = u64::saturating_add;
        Self { all: sum(self.all, other.all), bad: sum(self.bad, other.bad) }
    }
}

impl Add for Pair {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { canary: self.canary + other.canary, stable: self.stable + other.stable }
    }
}

impl AddAssign for Pair {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// How strict a gate is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// How often it may accuse a version that is no worse than it may be: of so many releases one, `0.0005`.
    pub alarm: f64,
}

/// See the [module](self). Survives restarts in the status of its object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Natural logarithms: of each suspect the likelihood ratio of all that happened, over all beginnings so far.
    sums: [f64; SUSPECTS.len()],
    /// Seconds that were judged.
    seconds: u32,
    /// For so many more a bad second is not the first one.
    lately: u8,
}

impl Test {
    /// From where it is proof.
    pub fn proof(self) -> f64 {
        self.alarm.recip()
    }

    /// What a second can add to a sum; `again`: one just before was bad, too.
    fn cap(self, again: bool) -> f64 {
        self.proof().ln() / if again { IN_A_ROW } else { ALONE }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Self { sums: [0.5_f64.ln(); SUSPECTS.len()], seconds: 0, lately: 0 }
    }
}

impl Evidence {
    /// Takes in a second: whether the canary is more than `tolerate` times as bad as the stable version.
    pub fn compare(&mut self, callers: &[Pair], tolerate: f64, test: Test) {
        let bad = callers.iter().any(|pair| pair.canary.bad > 0);
        self.add(|suspect| worse(callers, tolerate, suspect), bad, test);
    }

    /// Takes in a second: whether more than `most` (0 to 1) of the canary's requests are bad, whatever the stable version does.
    pub fn against(&mut self, canary: Arm, most: f64, test: Test) {
        let of = |suspect: f64| {
            float(canary.bad) * suspect.ln()
                - float(canary.all) * (1.0 - most + most * suspect).ln()
        };
        self.add(of, canary.bad > 0, test);
    }

    /// 1 at first; [proof](Test::proof) from 1/α on.
    pub fn value(&self) -> f64 {
        let sums: f64 = self.sums.iter().map(|sum| sum.exp()).sum();
        sums / float(SUSPECTS.len() as u64) + not_yet(self.seconds)
    }

    fn add(&mut self, ratio: impl Fn(f64) -> f64, bad: bool, test: Test) {
        self.seconds = self.seconds.saturating_add(1);
        let cap = test.cap(self.lately > 0);
        self.lately = if bad { LATELY } else { self.lately.saturating_sub(1) };
        let begins = begins_now(self.seconds);
        for (sum, suspect) in self.sums.iter_mut().zip(SUSPECTS) {
            *sum = ((sum.exp() + begins).ln() + ratio(suspect).min(cap)).min(MOST);
        }
    }
}

/// By how much likelier (a logarithm) what happened in a second is if the canary is so many times worse than tolerated.
fn worse(callers: &[Pair], tolerate: f64, suspect: f64) -> f64 {
    let callers = callers.iter().filter(|pair| !pair.is_empty());
    callers
        .map(|Pair { canary, stable }| {
            let (own, other) = (float(canary.all) * tolerate, float(stable.all));
            let bad = float(canary.bad) + float(stable.bad);
            float(canary.bad) * suspect.ln() + bad * ((own + other) / (own * suspect + other)).ln()
        })
        .sum()
}

/// The belief that the canary becomes bad in this second: that of all seconds to come is [`not_yet`].
fn begins_now(second: u32) -> f64 {
    not_yet(second - 1) - not_yet(second)
}

/// The belief that it becomes bad only after this second, if it does.
fn not_yet(second: u32) -> f64 {
    0.5 * SPREAD / (SPREAD + f64::from(second))
}

#[expect(clippy::cast_precision_loss, reason = "no second has so many requests")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
