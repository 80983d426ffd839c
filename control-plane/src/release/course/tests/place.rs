//! A version that takes the place of another, and is stopped on the way; and what weighs more of what a release is paused for.

use super::*;

/// It takes over.
fn promoting() -> Story {
    let mut story = Story::with(&[]);
    story.plan.gates.min_requests = 10;
    story.seconds(2, GOOD);
    story.is(Phase::Promoting, None);
    story
}

fn pods(serving: u32, let_in: u32) -> Pods {
    Pods { serving, let_in, ..POD }
}

#[test]
fn what_was_let_in_carries_what_the_old_version_cannot() {
    let mut story = promoting();
    story.until_it_changes(Some(DEAD));
    story.is(Phase::Held, Some(Cause::Gate(Gate::Errors)));
    let share = |story: &Story, canary, serving| story.course.share(canary, pods(serving, serving));
    for (canary, stable, expected) in [
        (pods(6, 5), 6, Share::percent(40)),
        (pods(6, 3), 6, Share::percent(30)),
        (pods(6, 0), 6, Share::NONE),
        (pods(6, 3), 10, Share::NONE),
        (pods(6, 3), 0, Share::ALL),
        (pods(6, 0), 0, Share::NONE),
    ] {
        assert_eq!(share(&story, canary, stable), expected, "{canary:?} {stable}");
    }
    // Tried once more: until then it is as it was.
    assert_eq!(story.command(Verb::Start), Ok(()));
    story.is(Phase::Waiting, None);
    assert_eq!(share(&story, pods(6, 5), 6), Share::percent(40));
}

#[test]
fn another_template_replaces_both_versions_that_are_there() {
    let mut story = promoting();
    story.course.template("newer", story.now);
    story.is(Phase::Waiting, None);
    let Course { stable, canary, trusted, .. } = &story.course;
    assert_eq!((&**stable, &**canary, trusted), ("new", "newer", &["old".to_owned()].into()));
    // What has failed is a part of nothing.
    let mut story = promoting();
    story.until_it_changes(Some(DEAD));
    story.course.template("newer", story.now);
    let Course { stable, canary, trusted, .. } = &story.course;
    assert_eq!((&**stable, &**canary, trusted.len()), ("old", "newer", 0));
    let mut story = promoting();
    story.course.template("old", story.now);
    story.is(Phase::RolledBack, None);
}

#[test]
fn where_nothing_is_left_of_the_old_version_the_new_one_takes_over() {
    let alone =
        |tick: &mut Tick<'_>| (tick.alone, tick.stable) = (true, Pods { serving: 0, ..POD });
    let mut story = Story::with(&[(5, 60)]);
    story.tick(|tick| (tick.alone, tick.canary) = (true, Pods::default()), None);
    story.is(Phase::Waiting, None);
    story.tick(alone, None);
    story.is(Phase::Promoted, None);
    assert_eq!(story.course.history[0].why, "there is no pod of old any more");
    let mut story = Story::with(&[(5, 60)]);
    story.seconds(5, GOOD);
    // They come back.
    story.tick(|tick| tick.stable.serving = 0, Some(GOOD));
    story.is(Phase::Paused, Some(Cause::StableUnhealthy));
    story.tick(alone, Some(GOOD));
    story.is(Phase::Promoted, None);
}

#[test]
fn a_promotion_that_is_paused_ends_if_all_were_replaced() {
    let mut story = promoting();
    assert_eq!(story.command(Verb::Pause), Ok(()));
    story.seconds(10, GOOD);
    story.is(Phase::Paused, Some(Cause::Person(String::new())));
    story.tick(|tick| tick.replaced = true, Some(GOOD));
    story.is(Phase::Promoted, None);
}

#[test]
fn whoever_was_asked_when_it_was_late_is_not_asked_again() {
    let mut story = Story::with(&[(5, 60)]);
    story.plan.deadline = Duration::from_secs(50);
    story.plan.on_fail = OnFail::Pause;
    story.seconds(52, GOOD);
    story.is(Phase::Paused, Some(Cause::Deadline));
    assert_eq!(story.command(Verb::Resume), Ok(()));
    story.seconds(5, GOOD);
    story.is(Phase::Progressing, None);
    assert_eq!(story.command(Verb::Promote { now: true }), Ok(()));
    story.seconds(5, GOOD);
    story.is(Phase::Promoting, None);
}

#[test]
fn no_time_is_over_as_long_as_there_are_no_pods() {
    let mut story = Story::with(&[(5, 60)]);
    story.plan.deadline = Duration::from_secs(50);
    (0..100).for_each(|_| story.tick(|tick| tick.canary = Pods::default(), Some(GOOD)));
    story.is(Phase::Waiting, None);
}

#[test]
fn what_is_proven_weighs_more_than_a_person_and_that_more_than_a_question() {
    let paused = || {
        let mut story = Story::with(&[(5, 10), (25, 60)]);
        story.plan.on_fail = OnFail::Pause;
        story.plan.gates.min_requests = 10;
        story.plan.steps[1].approve = true;
        story.seconds(12, GOOD);
        story.is(Phase::Paused, Some(Cause::Approval));
        story
    };
    let mut story = paused();
    story.seconds(6, DEAD);
    story.is(Phase::Paused, Some(Cause::Gate(Gate::Errors)));
    assert!(story.course.history[0].why.starts_with("errors"), "{:?}", story.course.history[0]);
    assert!(story.command(Verb::Pause).is_err());
    // Somebody takes it as it is, and is asked before the next step all the same.
    assert_eq!(story.command(Verb::Resume), Ok(()));
    story.seconds(1, GOOD);
    story.is(Phase::Paused, Some(Cause::Approval));
    let mut story = paused();
    assert_eq!(story.command(Verb::Pause), Ok(()));
    story.is(Phase::Paused, Some(Cause::Person(String::new())));
    story.seconds(6, DEAD);
    story.is(Phase::Paused, Some(Cause::Gate(Gate::Errors)));
    // Of what gets well by itself a person can keep it.
    let mut story = Story::with(&[(5, 60)]);
    story.seconds(5, GOOD);
    story.tick(|tick| tick.stable.serving = 0, Some(GOOD));
    assert_eq!(story.command(Verb::Pause), Ok(()));
    story.seconds(100, GOOD);
    story.is(Phase::Paused, Some(Cause::Person(String::new())));
}

#[test]
fn who_matches_is_waited_for_where_nobody_else_comes() {
    let mut story = Story::with(&[(0, 60), (25, 60)]);
    story.plan.steps[0].matches = vec![Default::default()];
    let nobody = ((0, 0), (200, 0));
    story.seconds(200, nobody);
    assert_eq!(story.course.step, Some(0));
    let reason = story.course.reason(&story.plan);
    assert_eq!(reason, "0 of 200 requests to the canary");
    assert_eq!(story.until_it_changes(Some(GOOD)), 20);
}

#[test]
fn so_few_errors_that_nobody_minds_hold_nothing_up() {
    let mut story = Story::with(&[(5, 60), (25, 60)]);
    // 0.05 % against nothing: it is proven, and below the floor.
    for second in 0..62 {
        story.tick(|_| {}, Some(((2000, 1), (40_000, 0))));
        assert!(story.course.phase != Phase::Held, "{second}");
    }
    assert_eq!(story.course.step, Some(1), "{}", story.course.reason(&story.plan));
}
