//! The code that judges releases, on requests by chance.

use std::{collections::BTreeMap, thread};

use rand::{RngCore, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::release::{Answers, Disturbance, Outcome, Plan, Traffic, simulate};
use tulle_tests::load::float;

use crate::row::{Row, Subject, median};

/// Seconds after which a release is given up.
const LONGEST: u64 = 3600;
/// Requests a second.
const RATE: f64 = 100.0;
/// How a version answers that has nothing.
const GOOD: Answers = Answers { bad: 0.001, slow: 0.01 };
/// Of a hundred good releases so many may be stopped: the false alarms of the plan that there is by default.
const ALARMS: f64 = 0.1;

/// By so many seeds each.
pub(super) fn measure(seeds: u64) -> Vec<Row> {
    let usual = |canary| Traffic { rps: RATE, canary, stable: GOOD };
    let bad = usual(Answers { bad: 0.05, ..GOOD });
    let bad = all("errors of 5 %", seeds, |_, _| vec![bad]);
    let middle =
        |of: fn(&Outcome) -> u64| median(&bad.iter().map(|o| float(of(o))).collect::<Vec<_>>());
    let mut rows = vec![
        row(("errors_of_5_%_stopped", "%"), stopped(&bad)).at_least(99.0),
        row(("errors_of_5_%_hit", "requests"), middle(|outcome| outcome.hit)).at_most(10.0),
        row(("errors_of_5_%_stopped_after", "s"), middle(|outcome| outcome.seconds)),
    ];
    let good = all("as good as the old one", seeds, |_, _| vec![usual(GOOD)]);
    rows.push(row(("good_version_stopped", "%"), stopped(&good)).at_most(ALARMS));
    for one in Disturbance::ALL {
        let metric = match one {
            Disturbance::Cold => "cold_canary_stopped",
            Disturbance::Bursts => "bursts_of_errors_stopped",
            Disturbance::NoisyCaller => "noisy_caller_stopped",
            Disturbance::Load => "change_of_load_stopped",
            Disturbance::Outage => "outage_of_both_stopped",
        };
        let disturbed =
            all(metric, seeds, |second, chance| one.disturb(usual(GOOD), second, chance));
        rows.push(row((metric, "%"), stopped(&disturbed)).at_most(ALARMS));
    }
    rows
}

fn row(metric: (&'static str, &'static str), value: f64) -> Row {
    Row::new("release", Subject::Tulle, metric, vec![value]).by("simulate")
}

/// Percent of them that were.
fn stopped(all: &[Outcome]) -> f64 {
    let stopped = all.iter().filter(|one| one.phase == Phase::Held).count();
    100.0 * float(stopped as u64) / float(all.len() as u64)
}

/// What becomes of so many releases by the default plan; each processor takes its part of them.
#[expect(clippy::print_stdout, reason = "what became of all is said beside the figures")]
fn all(
    what: &str,
    seeds: u64,
    traffic: impl Fn(u64, &mut dyn RngCore) -> Vec<Traffic> + Sync,
) -> Vec<Outcome> {
    let begun = Instant::now();
    let (plan, parts) = (Plan::default(), thread::available_parallelism().map_or(1, usize::from));
    let part = |first: usize| {
        let seeds = (0..seeds).skip(first).step_by(parts);
        let one = |seed| simulate(&plan, &mut StdRng::seed_from_u64(seed), LONGEST, &traffic);
        seeds.map(one).collect::<Vec<_>>()
    };
    let all: Vec<Outcome> = thread::scope(|scope| {
        let threads: Vec<_> = (0..parts).map(|first| scope.spawn(move || part(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let mut phases = BTreeMap::<_, usize>::new();
    for outcome in &all {
        *phases.entry(format!("{:?}", outcome.phase)).or_default() += 1;
    }
    let phases: Vec<_> = phases.iter().map(|(phase, count)| format!("{phase} {count}")).collect();
    println!("   {what}: {} ({:.1} s)", phases.join(", "), begun.elapsed().as_secs_f64());
    all
}
