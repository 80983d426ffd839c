//! What would become of a release: requests by chance, through the very code that judges real ones.

mod disturbance;

use std::time::Duration;

use rand::Rng;
use rand_distr::{Binomial, Distribution as _, Poisson};
use tulle_api::ReleasePhase as Phase;

pub use self::disturbance::Disturbance;
use super::{
    cause::Cause,
    course::{Course, Pods, Tick},
    evidence::{Arm, Pair},
    findings::Seen,
    plan::Plan,
};

/// What one caller asks, and what it gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests per second.
    pub rps: f64,
    /// The new version's answers.
    pub canary: Answers,
    /// The old one's.
    pub stable: Answers,
}

/// How a version answers: shares of all, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answers {
    /// Of those that are bad.
    pub bad: f64,
    /// Of those that are slower than what was fixed before.
    pub slow: f64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Where it ended, or was when the time was over.
    pub phase: Phase,
    /// Seconds that it took, from the canary's first request on.
    pub seconds: u64,
    /// Bad answers of the canary's.
    pub hit: u64,
}

/// How many pods the stable version has, and the canary before its promotion.
const PODS: (u32, u32) = (12, 3);
/// Seconds that pods take to be replaced.
const REPLACING: u64 = 60;

/// Follows a release until it has ended or stands still, `longest` seconds at most; `traffic` says what each caller does in
/// each second. Who would be asked, queries and webhooks, says yes to everything.
pub fn simulate(
    plan: &Plan,
    chance: &mut impl Rng,
    longest: u64,
    mut traffic: impl FnMut(u64, &mut dyn rand::RngCore) -> Vec<Traffic>,
) -> Outcome {
    let plan = &unasked(plan);
    let mut course = Course::default();
    course.template("old", 0);
    course.template("new", 0);
    let (mut hit, mut promoting) = (0, 0);
    for second in 1..=longest {
        promoting += u64::from(course.phase == Phase::Promoting);
        let pods = |count| Pods {
            wanted: PODS.0,
            serving: count,
            let_in: 0,
            youngest: Duration::from_secs(second),
        };
        let (stable, canary) = match promoting {
            0 => (pods(PODS.0), pods(PODS.1)),
            _ if promoting < REPLACING => (pods(PODS.0 / 2), pods(PODS.0 / 2)),
            _ => (pods(0), pods(PODS.0)),
        };
        let share = f64::from(course.share(canary, stable).per_ten_thousand()) / 10_000.0;
        let callers = traffic(second, chance);
        let seen: Vec<_> = callers.iter().map(|caller| happens(*caller, share, chance)).collect();
        hit += seen.iter().map(|seen| seen.errors.canary.bad).sum::<u64>();
        course.tick(
            plan,
            &Tick {
                now: second,
                seen: Some(&seen),
                canary,
                stable,
                answers: &[],
                restarts: 0,
                in_force: true,
                slow: Some(0.1),
                alone: false,
                replaced: promoting >= REPLACING,
            },
        );
        // It goes on by itself.
        let waits = course.cause == Some(Cause::StableUnhealthy);
        if !waits && !matches!(course.phase, Phase::Waiting | Phase::Progressing | Phase::Promoting)
        {
            return Outcome { phase: course.phase, seconds: second, hit };
        }
    }
    Outcome { phase: course.phase, seconds: longest, hit }
}

fn unasked(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.gates.queries.clear();
    plan.gates.webhooks.clear();
    plan.steps.iter_mut().for_each(|step| step.webhook.clear());
    plan
}

fn happens(traffic: Traffic, share: f64, chance: &mut impl Rng) -> Seen {
    let canary = poisson(traffic.rps * share, chance);
    let stable = poisson(traffic.rps * (1.0 - share), chance);
    let mut pair = |of: fn(Answers) -> f64| Pair {
        canary: Arm { all: canary, bad: binomial(canary, of(traffic.canary), chance) },
        stable: Arm { all: stable, bad: binomial(stable, of(traffic.stable), chance) },
    };
    Seen { errors: pair(|answers| answers.bad), slow: pair(|answers| answers.slow) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn poisson(mean: f64, chance: &mut impl Rng) -> u64 {
    Poisson::new(mean).map_or(0, |counts| counts.sample(chance) as u64)
}

fn binomial(of: u64, share: f64, chance: &mut impl Rng) -> u64 {
    Binomial::new(of, share.clamp(0.0, 1.0)).map_or(0, |counts| counts.sample(chance))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    fn traffic(rps: f64, canary: (f64, f64), stable: (f64, f64)) -> Traffic {
        let answers = |(bad, slow)| Answers { bad, slow };
        Traffic { rps, canary: answers(canary), stable: answers(stable) }
    }

    /// How many of so many are promoted, and the median of bad answers.
    fn all(
        releases: u64,
        what: impl Fn(u64, &mut dyn rand::RngCore) -> Vec<Traffic>,
    ) -> (usize, u64) {
        let one = |seed| {
            let mut chance = StdRng::seed_from_u64(seed);
            simulate(&Plan::default(), &mut chance, 3600, &what)
        };
        let outcomes: Vec<_> = (0..releases).map(one).collect();
        let promoted = outcomes.iter().filter(|one| one.phase == Phase::Promoted).count();
        let mut hit: Vec<_> = outcomes.iter().map(|one| one.hit).collect();
        hit.sort_unstable();
        (promoted, hit[hit.len() / 2])
    }

    const GOOD: (f64, f64) = (0.001, 0.01);

    #[test]
    fn good_ones_pass_and_bad_ones_do_not() {
        let bad = |canary| move |_, _: &mut dyn rand::RngCore| vec![traffic(100.0, canary, GOOD)];
        let (promoted, hit) = all(20, bad((0.05, 0.01)));
        assert!(promoted == 0 && hit <= 10, "{promoted} {hit}");
        assert_eq!(all(20, bad((0.001, 0.05))).0, 0, "slow");
        assert_eq!(all(20, bad(GOOD)).0, 20, "good");
        for one in Disturbance::ALL {
            let usual = traffic(100.0, GOOD, GOOD);
            let (promoted, _) = all(20, |second, chance| one.disturb(usual, second, chance));
            assert_eq!(promoted, 20, "{one:?}");
        }
    }

    #[test]
    fn each_disturbance_disturbs() {
        let (usual, mut chance) = (traffic(100.0, GOOD, GOOD), StdRng::seed_from_u64(1));
        for one in Disturbance::ALL {
            let changed = (1..=600).any(|at| one.disturb(usual, at, &mut chance) != [usual]);
            assert!(changed, "{one:?}");
        }
    }
}
