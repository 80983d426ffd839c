//! What happens to both versions alike, of which no new version may be accused.

use rand::{Rng as _, RngCore};

use super::{Answers, PODS, Traffic};

/// A thing of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Pods of the canary are three times slower for their first 20 seconds.
    Cold,
    /// Each pod of either version fails for a second every 20 minutes: many failures at once that are one event.
    Bursts,
    /// One caller of two sends what fails and takes long, whoever answers.
    NoisyCaller,
    /// In the middle of a step come four times as many requests, of which more fail and take long.
    Load,
    /// For a minute of every five half of all requests fail.
    Outage,
}

/// Chance that a pod fails in a second.
const BURST: f64 = 1.0 / 1200.0;
/// When the load is another one, in seconds of the release: half-way through the last of the steps that there are by default.
const LOADED: std::ops::Range<u64> = 300..390;

impl Disturbance {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Cold, Self::Bursts, Self::NoisyCaller, Self::Load, Self::Outage];

    /// What callers do in this second of a release, in which they would do `usual`.
    pub fn disturb(self, usual: Traffic, second: u64, chance: &mut dyn RngCore) -> Vec<Traffic> {
        let Traffic { rps, canary, stable } = usual;
        match self {
            // So many of a distribution with an exponential tail exceed its 99th percentile when all take three times as long.
            Self::Cold if second <= 20 => {
                let slow = canary.slow.cbrt();
                vec![Traffic { canary: Answers { slow, ..canary }, ..usual }]
            }
            Self::Bursts => {
                let mut version = |answers: Answers, pods: u32| {
                    let failing = (0..pods).filter(|_| chance.random_bool(BURST)).count();
                    let failing = u32::try_from(failing).unwrap_or(pods);
                    let share = f64::from(failing) / f64::from(pods);
                    Answers { bad: answers.bad.max(share), ..answers }
                };
                let (stable, canary) = (version(stable, PODS.0), version(canary, PODS.1));
                vec![Traffic { canary, stable, ..usual }]
            }
            Self::NoisyCaller => {
                let bad = Answers { bad: 0.2, slow: 0.3 };
                vec![usual, Traffic { rps: rps / 5.0, canary: bad, stable: bad }]
            }
            Self::Load if LOADED.contains(&second) => {
                let more =
                    |answers: Answers| Answers { bad: answers.bad * 5.0, slow: answers.slow * 5.0 };
                vec![Traffic { rps: rps * 4.0, canary: more(canary), stable: more(stable) }]
            }
            Self::Outage if second % 300 < 60 => {
                let half = |answers: Answers| Answers { bad: 0.5, ..answers };
                vec![Traffic { canary: half(canary), stable: half(stable), ..usual }]
            }
            Self::Cold | Self::Load | Self::Outage => vec![usual],
        }
    }
}
