use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const TEST: Test = Test { alarm: 0.0005 };
const TOLERATE: f64 = 1.25;

fn pair(canary: (u64, u64), stable: (u64, u64)) -> Pair {
    let arm = |(all, bad)| Arm { all, bad };
    Pair { canary: arm(canary), stable: arm(stable) }
}

/// In how many of so many releases, of so many seconds each, the canary is accused; `second` says what happens.
fn accused(
    releases: u64,
    seconds: u64,
    take: fn(&mut Evidence, Pair),
    second: impl Fn(&mut StdRng) -> Pair,
) -> usize {
    let accused = |seed: &u64| {
        let (mut chance, mut evidence) = (StdRng::seed_from_u64(*seed), Evidence::default());
        (0..seconds).any(|_| {
            take(&mut evidence, second(&mut chance));
            evidence.value() >= TEST.proof()
        })
    };
    (0..releases).filter(accused).count()
}

fn judged(evidence: &mut Evidence, pair: Pair) {
    evidence.compare(&[pair], TOLERATE, TEST);
}

/// As [`judged`], but a second counts for all that it seems to say.
fn judged_at_once(evidence: &mut Evidence, pair: Pair) {
    for (sum, suspect) in evidence.sums.iter_mut().zip(SUSPECTS) {
        *sum += worse(&[pair], TOLERATE, suspect);
    }
}

/// A pod fails for a second now and then, each once in 20 minutes: three of the canary and twelve others; 100 requests a second.
fn hiccups(chance: &mut StdRng) -> Pair {
    let failing = chance.random_bool(15.0 / 1200.0).then(|| chance.random_range(0..15));
    let (canary, stable) = match failing {
        Some(0..3) => (8, 0),
        Some(_) => (0, 6),
        None => (0, 0),
    };
    pair((24, canary), (76, stable))
}

#[test]
fn a_good_version_is_not_accused_because_its_pods_fail_for_a_second_as_all_pods_do() {
    let releases = 10_000;
    let most = TEST.alarm * 10_000.0;
    let alarms = accused(releases, 240, judged, hiccups);
    assert!(alarms as f64 <= most, "{alarms}");
    let alarms = accused(releases / 10, 240, judged_at_once, hiccups);
    assert!(alarms as f64 > most, "the cap is what keeps it: {alarms} of {}", releases / 10);
}

#[test]
fn a_version_that_is_as_bad_as_it_may_be_is_hardly_ever_accused() {
    // At most one bad event a second, and whose it is is a matter of the shares alone.
    for (canary, stable, happens) in [(5, 95, 0.2), (250, 750, 0.9), (500, 500, 0.5)] {
        let own = TOLERATE * canary as f64 / (TOLERATE * canary as f64 + stable as f64);
        let alarms = accused(10_000, 300, judged, |chance| {
            let bad = u64::from(chance.random_bool(happens));
            let whose = u64::from(chance.random_bool(own));
            pair((canary, bad * whose), (stable, bad * (1 - whose)))
        });
        assert!(alarms as f64 <= TEST.alarm * 10_000.0, "{canary} to {stable}: {alarms}");
    }
}

#[test]
fn what_is_bad_is_proven_within_seconds_also_when_it_begins_late() {
    for good in [0, 600, 24 * 3600] {
        let mut evidence = Evidence::default();
        for second in 0..good {
            judged(&mut evidence, pair((10, 0), (190, u64::from(second % 5 == 0))));
        }
        assert!(evidence.value() < 10.0);
        let bad = || pair((10, 5), (190, 0));
        let took = (1..).find(|_| {
            judged(&mut evidence, bad());
            evidence.value() >= TEST.proof()
        });
        let most = if good == 0 { 4 } else { 11 };
        assert!(took.is_some_and(|took| (4..=most).contains(&took)), "after {good} s: {took:?}");
    }
}

#[test]
fn too_much_is_too_much_without_anything_to_compare_with() {
    let (mut half, mut few) = (Evidence::default(), Evidence::default());
    for _ in 0..5 {
        half.against(Arm { all: 10, bad: 5 }, 0.05, TEST);
        few.against(Arm { all: 1000, bad: 50 }, 0.05, TEST);
    }
    assert!(half.value() >= TEST.proof());
    assert!(few.value() < 10.0, "{few:?}");
}

#[test]
fn callers_that_differ_accuse_nobody_together() {
    // One has half of its requests at the canary and many bad ones, the other few of either, the versions alike.
    let callers = [pair((50, 10), (50, 10)), pair((10, 0), (990, 0))];
    let (mut apart, mut together) = (Evidence::default(), Evidence::default());
    for _ in 0..60 {
        apart.compare(&callers, TOLERATE, TEST);
        together.compare(&[callers[0] + callers[1]], TOLERATE, TEST);
    }
    assert!(apart.value() < 10.0, "{apart:?}");
    assert!(together.value() >= TEST.proof(), "as a sum it is another story");
}

proptest! {
    #[test]
    fn it_stays_a_number_and_says_the_same_after_a_restart(
        seconds in prop::collection::vec((0..1000_u64, 0..1000_u64, 0..1000_u64, 0..1000_u64), 1..200),
    ) {
        let mut evidence = Evidence::default();
        for (canary, bad, stable, also_bad) in seconds {
            judged(&mut evidence, pair((canary, bad.min(canary)), (stable, also_bad.min(stable))));
            prop_assert!(evidence.value().is_finite());
        }
        let text = serde_json::to_string(&evidence).unwrap();
        let again: Evidence = serde_json::from_str(&text).unwrap();
        let change = again.value() / evidence.value() - 1.0;
        prop_assert!(change.abs() < 1e-9 && again.seconds == evidence.seconds, "{again:?} {evidence:?}");
    }

    #[test]
    fn what_happens_to_both_alike_is_no_news(all in 1..500_u64, bad in 0..100_u64, seconds in 1..600_u32) {
        let mut evidence = Evidence::default();
        let bad = bad.min(all);
        for _ in 0..seconds {
            judged(&mut evidence, pair((all, bad), (all, bad)));
        }
        prop_assert!(evidence.value() <= 1.0 + 1e-9, "{:?}", evidence);
    }
}
