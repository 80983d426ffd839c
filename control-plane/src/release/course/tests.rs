mod asked;
mod place;

use super::*;
use crate::release::{Arm, LowTraffic, NoData, Pair, Refusal, Seen, Step, Verb};

/// A release, and the time.
struct Story {
    plan: Plan,
    course: Course,
    now: u64,
}

/// What both versions do in a second: requests, and of these bad ones.
type Second = ((u64, u64), (u64, u64));

const GOOD: Second = ((10, 0), (190, 0));
const DEAD: Second = ((10, 5), (190, 0));
const POD: Pods = Pods { wanted: 10, serving: 3, let_in: 0, youngest: Duration::from_secs(3600) };

impl Story {
    /// `new` is about to replace `old`.
    fn new() -> Self {
        let mut course = Course::default();
        course.template("old", 0);
        assert_eq!((course.phase, &*course.stable), (Phase::Idle, "old"));
        course.template("new", 0);
        assert_eq!((course.phase, &*course.canary), (Phase::Waiting, "new"));
        Self { plan: Plan::default(), course, now: 0 }
    }

    /// With these steps, in percent and seconds.
    fn with(steps: &[(u8, u64)]) -> Self {
        let mut story = Self::new();
        let step = |(percent, lasts): &(u8, u64)| Step {
            weight: Share::percent(*percent),
            lasts: Duration::from_secs(*lasts),
            ..Step::default()
        };
        story.plan.steps = steps.iter().map(step).collect();
        story
    }

    fn tick(&mut self, change: impl FnOnce(&mut Tick<'_>), second: Option<Second>) {
        self.now += 1;
        let arm = |(all, bad)| Arm { all, bad };
        let pair = |(canary, stable)| Pair { canary: arm(canary), stable: arm(stable) };
        let seen = second.map(|second| Seen { errors: pair(second), slow: Pair::default() });
        let mut tick = Tick {
            now: self.now,
            seen: seen.as_ref().map(std::slice::from_ref),
            canary: POD,
            stable: Pods { serving: 10, ..POD },
            answers: &[],
            restarts: 0,
            in_force: true,
            slow: Some(0.1),
            replaced: false,
            alone: false,
        };
        change(&mut tick);
        self.course.tick(&self.plan, &tick);
    }

    fn seconds(&mut self, count: u64, second: Second) {
        (0..count).for_each(|_| self.tick(|_| {}, Some(second)));
    }

    /// Seconds until the phase is another one.
    fn until_it_changes(&mut self, second: Option<Second>) -> u64 {
        let (phase, step) = (self.course.phase, self.course.step);
        let begun = self.now;
        while (self.course.phase, self.course.step) == (phase, step) {
            self.tick(|_| {}, second);
            assert!(self.now - begun < 100_000, "{:?}", self.course);
        }
        self.now - begun
    }

    fn command(&mut self, verb: Verb) -> Result<(), Refusal> {
        self.course.command(&self.plan, ("ann", "new"), &verb, self.now)
    }

    fn is(&self, phase: Phase, cause: Option<Cause>) {
        assert_eq!((self.course.phase, &self.course.cause), (phase, &cause), "{:?}", self.course);
    }
}

#[test]
fn a_good_version_goes_from_step_to_step_and_takes_over() {
    let mut story = Story::with(&[(1, 60), (5, 120), (25, 300)]);
    let mut weights = Vec::new();
    for lasts in [1, 61, 121, 301] {
        assert_eq!(story.until_it_changes(Some(GOOD)), lasts);
        weights.push(story.course.weight.to_string());
    }
    assert_eq!(weights, ["1 %", "5 %", "25 %", "25 %"]);
    story.is(Phase::Promoting, None);
    assert!(story.course.lifted);
    story.tick(|tick| tick.replaced = true, Some(GOOD));
    story.is(Phase::Promoted, None);
    let Course { stable, canary, trusted, .. } = &story.course;
    assert_eq!((&**stable, &**canary, trusted.front().map(|s| &**s)), ("new", "", Some("old")));
}

#[test]
fn a_dead_one_gets_nothing_more_within_seconds_in_each_phase() {
    for (steps, good) in [(&[(1, 60), (25, 300)][..], 0), (&[(1, 60), (25, 300)], 90), (&[], 3)] {
        let mut story = Story::with(steps);
        story.seconds(1 + good, GOOD);
        assert!(story.until_it_changes(Some(DEAD)) <= 6, "{:?}", story.course);
        story.is(Phase::Held, Some(Cause::Gate(Gate::Errors)));
        assert_eq!(story.course.share(POD, Pods { serving: 10, ..POD }), Share::NONE);
        // Pushed once more, it stays where it is; something else is tried.
        story.course.template("new", story.now);
        story.seconds(60, GOOD);
        story.is(Phase::Held, Some(Cause::Gate(Gate::Errors)));
        story.course.template("newer", story.now);
        story.is(Phase::Waiting, None);
        assert_eq!(story.course.findings, Findings::default());
    }
}

#[test]
fn what_failed_once_is_held_when_it_comes_back_until_somebody_starts_it() {
    let mut story = Story::with(&[(1, 60)]);
    story.seconds(1, GOOD);
    story.until_it_changes(Some(DEAD));
    story.course.template("old", story.now);
    story.is(Phase::RolledBack, None);
    story.course.template("new", story.now);
    story.is(Phase::Held, None);
    assert_eq!(story.course.reason(&story.plan), "new gets no requests: it has failed before");
    assert_eq!(story.command(Verb::Start), Ok(()));
    story.is(Phase::Waiting, None);
    assert_eq!(story.course.history[0].who, "ann");
}

#[test]
fn a_restart_in_any_second_changes_nothing() {
    let seconds: Vec<_> =
        (0..200).map(|n| if n % 7 == 0 { ((10, 1), (190, 1)) } else { GOOD }).collect();
    let run = |restart: Option<usize>| {
        let mut story = Story::with(&[(1, 40), (5, 40), (25, 40)]);
        for (at, second) in seconds.iter().enumerate() {
            if Some(at) == restart {
                let text = serde_json::to_string(&story.course).unwrap();
                story.course = serde_json::from_str(&text).unwrap();
            }
            story.tick(|_| {}, Some(*second));
        }
        (story.course.phase, story.course.step, story.course.history)
    };
    let whole = run(None);
    for restart in 0..seconds.len() {
        assert_eq!(run(Some(restart)), whole, "{restart}");
    }
}

#[test]
fn silence_is_no_success() {
    for (then, phase) in [(OnFail::Pause, Phase::Paused), (OnFail::Rollback, Phase::Held)] {
        let mut story = Story::with(&[(5, 60), (25, 60)]);
        story.plan.no_data = NoData { hold: Duration::from_secs(600), then };
        story.seconds(31, GOOD);
        assert_eq!(story.until_it_changes(None), 600);
        story.is(phase, Some(Cause::NoData));
        // While it takes over it is no different.
        let mut story = Story::with(&[]);
        story.plan.no_data = NoData { hold: Duration::from_secs(600), then };
        story.plan.gates.min_requests = 10;
        story.seconds(2, GOOD);
        story.is(Phase::Promoting, None);
        assert_eq!(story.until_it_changes(None), 600);
        story.is(phase, Some(Cause::NoData));
    }
    // Seconds in which nobody says anything are none of the step's.
    let mut story = Story::with(&[(5, 60), (25, 60)]);
    story.seconds(31, GOOD);
    (0..100).for_each(|_| story.tick(|_| {}, None));
    assert!(story.course.reason(&story.plan).starts_with("too few sidecars"));
    assert_eq!(story.until_it_changes(Some(GOOD)), 31);
}

#[test]
fn neither_is_little_traffic() {
    let few = ((1, 0), (9, 0));
    for (then, phase) in [
        (OnLowTraffic::Pause, Phase::Paused),
        (OnLowTraffic::Rollback, Phase::Held),
        (OnLowTraffic::Widen, Phase::Progressing),
    ] {
        let mut story = Story::with(&[(5, 60), (25, 600)]);
        story.plan.low_traffic = LowTraffic { wait: Duration::from_secs(90), then };
        story.seconds(1, few);
        assert_eq!(story.until_it_changes(Some(few)), 151);
        story.is(phase, (phase != Phase::Progressing).then_some(Cause::LowTraffic));
        if then == OnLowTraffic::Pause {
            let reason = story.course.reason(&story.plan);
            assert!(reason.contains("151 of 200 requests"), "{reason}");
        }
    }
}

#[test]
fn how_long_too_few_requests_take_is_said_at_once() {
    let few = ((1, 0), (100, 0));
    let mut story = Story::with(&[(5, 60), (25, 600)]);
    story.seconds(2, few);
    let said = |story: &Story| story.course.reason(&story.plan);
    assert!(said(&story).ends_with("of 60 s of the step"), "{}", said(&story));
    story.seconds(20, few);
    let slow = "of 200 requests to the canary; at this rate the step takes 4 min, with a greater weight less";
    assert!(said(&story).ends_with(slow), "{}", said(&story));
    // There are enough.
    let mut story = Story::with(&[(5, 600), (25, 600)]);
    story.seconds(22, few);
    assert!(said(&story).ends_with("of 600 s of the step"), "{}", said(&story));
}

#[test]
fn a_step_without_canary_requests_waits_for_none() {
    let mut story = Story::with(&[(0, 60), (100, 60)]);
    story.seconds(1, ((0, 0), (200, 0)));
    assert_eq!(story.until_it_changes(Some(((0, 0), (200, 0)))), 61);
    assert_eq!(story.course.weight, Share::ALL);
}

#[test]
fn weights_that_are_not_in_force_yet_are_none_of_the_steps_time() {
    let mut story = Story::with(&[(5, 60), (25, 60)]);
    story.seconds(1, GOOD);
    (0..100).for_each(|_| story.tick(|tick| tick.in_force = false, Some(GOOD)));
    assert_eq!(story.until_it_changes(Some(GOOD)), 61);
}

#[test]
fn a_doubt_holds_the_step_and_is_settled_either_way() {
    let mut story = Story::with(&[(5, 30), (25, 60)]);
    story.seconds(2, GOOD);
    story.seconds(3, ((10, 1), (190, 0)));
    story.seconds(100, GOOD);
    assert_eq!(story.course.step, Some(0), "{}", story.course.reason(&story.plan));
    assert!(story.course.reason(&story.plan).starts_with("errors may be worse (evidence"));
    // Later the stable version is seen to fail as often.
    story.until_it_changes(Some(((10, 0), (190, 2))));
    assert_eq!((story.course.phase, story.course.step), (Phase::Progressing, Some(1)));
}

#[test]
fn another_template_on_the_way_is_another_release_and_none_the_end_of_it() {
    let mut story = Story::with(&[(5, 60), (25, 60)]);
    story.seconds(70, GOOD);
    story.course.template("newer", story.now);
    story.is(Phase::Waiting, None);
    let Course { stable, canary, step, weight, .. } = &story.course;
    assert_eq!((&**stable, &**canary, *step, *weight), ("old", "newer", None, Share::NONE));
    story.course.template("old", story.now);
    story.is(Phase::RolledBack, None);
    assert_eq!(story.course.canary, "");
}

#[test]
fn the_way_back_to_what_was_stable_has_no_steps() {
    let mut story = Story::with(&[]);
    for revision in ["new", "b", "c", "d", "e"] {
        story.course.template(revision, story.now);
        story.seconds(2, GOOD);
        story.tick(|tick| tick.replaced = true, Some(GOOD));
        story.is(Phase::Promoted, None);
    }
    story.course.template("c", story.now);
    story.is(Phase::Promoted, None);
    assert_eq!(story.course.stable, "c");
    story.course.template("new", story.now);
    story.is(Phase::Waiting, None);
}

#[test]
fn where_the_stable_version_fails_itself_nobody_is_accused() {
    let mut story = Story::with(&[(5, 60), (25, 60)]);
    story.seconds(10, GOOD);
    let both = ((10, 9), (190, 170));
    story.until_it_changes(Some(both));
    story.is(Phase::Paused, Some(Cause::StableUnhealthy));
    story.seconds(300, both);
    story.is(Phase::Paused, Some(Cause::StableUnhealthy));
    story.until_it_changes(Some(GOOD));
    story.is(Phase::Progressing, None);
    // Its pods are gone.
    story.tick(|tick| tick.stable.serving = 0, Some(GOOD));
    story.is(Phase::Paused, Some(Cause::StableUnhealthy));
    assert_eq!(story.command(Verb::Promote { now: true }), Ok(()));
    story.is(Phase::Promoting, None);
}

#[test]
fn a_gate_stops_it_while_somebody_is_asked() {
    let mut story = Story::with(&[(5, 10), (25, 60)]);
    story.plan.gates.min_requests = 10;
    story.plan.steps[1].approve = true;
    story.seconds(12, GOOD);
    story.is(Phase::Paused, Some(Cause::Approval));
    assert!(story.until_it_changes(Some(DEAD)) <= 6);
    story.is(Phase::Held, Some(Cause::Gate(Gate::Errors)));
    // Somebody says yes.
    let mut story = Story::with(&[(5, 10)]);
    story.plan.gates.min_requests = 10;
    story.plan.approve_promotion = true;
    story.seconds(12, GOOD);
    story.is(Phase::Paused, Some(Cause::Approval));
    assert_eq!(story.command(Verb::Resume), Ok(()));
    story.is(Phase::Promoting, None);
}

#[test]
fn whoever_is_asked_first_can_take_it_as_it_is() {
    let mut story = Story::with(&[(5, 60), (25, 60)]);
    story.plan.on_fail = OnFail::Pause;
    story.seconds(1, GOOD);
    story.until_it_changes(Some(DEAD));
    story.is(Phase::Paused, Some(Cause::Gate(Gate::Errors)));
    story.seconds(60, GOOD);
    assert_eq!(story.course.share(POD, Pods { serving: 10, ..POD }), Share::percent(5));
    assert_eq!(story.command(Verb::Resume), Ok(()));
    story.seconds(10, GOOD);
    story.is(Phase::Progressing, None);
}

#[test]
fn containers_that_end_and_time_that_is_over_end_it() {
    let mut story = Story::with(&[(5, 60)]);
    story.seconds(1, GOOD);
    story.tick(|tick| tick.restarts = 1, Some(GOOD));
    story.is(Phase::Progressing, None);
    story.tick(|tick| tick.restarts = 1, Some(GOOD));
    story.is(Phase::Held, Some(Cause::Gate(Gate::Restarts)));
    let mut story = Story::with(&[(5, 60)]);
    story.plan.deadline = Duration::from_secs(50);
    assert_eq!(story.until_it_changes(Some(GOOD)), 1);
    assert_eq!(story.until_it_changes(Some(GOOD)), 50);
    story.is(Phase::Held, Some(Cause::Deadline));
}

#[test]
fn people_are_obeyed_or_told_why_not() {
    let mut story = Story::with(&[(1, 60), (5, 60), (25, 60)]);
    let other = story.course.command(&story.plan, ("ann", "x"), &Verb::Pause, 0);
    assert_eq!(
        other.unwrap_err().to_string(),
        "revision x is not the one that is being released; that is new"
    );
    story.seconds(5, GOOD);
    assert_eq!(story.command(Verb::Pause), Ok(()));
    story.seconds(1000, GOOD);
    story.is(Phase::Paused, Some(Cause::Person(String::new())));
    assert!(story.command(Verb::Pause).is_err());
    assert_eq!(story.command(Verb::Resume), Ok(()));
    let refused = story.command(Verb::Step(Some(Share::percent(30)))).unwrap_err().to_string();
    assert_eq!(refused, "no step from here on has 30 %; there are 5 %, 25 %");
    assert_eq!(story.command(Verb::Step(Some(Share::percent(25)))), Ok(()));
    assert_eq!((story.course.step, story.course.weight), (Some(2), Share::percent(25)));
    let entry = &story.course.history[0];
    assert_eq!((&*entry.who, &*entry.did), ("ann", "step 3 (25 %)"));
    story.seconds(3, ((10, 1), (190, 0)));
    let refused = story.command(Verb::Promote { now: false }).unwrap_err().to_string();
    assert_eq!(refused, "errors is Amber; `promote --now` does it all the same");
    assert_eq!(story.command(Verb::Rollback("no".to_owned())), Ok(()));
    story.is(Phase::Held, Some(Cause::Person("no".to_owned())));
    let refused = story.command(Verb::Pause).unwrap_err().to_string();
    assert_eq!(refused, "the release is Held: no release is under way");
}

#[test]
fn no_canary_pod_gets_more_than_a_stable_one_has() {
    let pods = |serving| Pods { serving, ..POD };
    let mut story = Story::with(&[(25, 60), (100, 60)]);
    story.seconds(1, GOOD);
    let share = |story: &Story, canary, stable| story.course.share(pods(canary), pods(stable));
    assert_eq!(share(&story, 3, 10), Share::percent(25));
    assert_eq!(share(&story, 2, 8), Share::percent(20));
    assert_eq!(share(&story, 0, 10), Share::NONE);
    assert_eq!(share(&story, 1, 0), Share::ALL);
    story.until_it_changes(Some(GOOD));
    assert_eq!((share(&story, 3, 10), share(&story, 10, 10)), (Share::percent(30), Share::ALL));
    // Promotion: as pods come and go.
    story.until_it_changes(Some(GOOD));
    story.is(Phase::Promoting, None);
    assert_eq!((share(&story, 6, 6), share(&story, 10, 0)), (Share::percent(60), Share::ALL));
}
