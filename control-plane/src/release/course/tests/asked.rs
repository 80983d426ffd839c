//! A release that asks others: webhooks and queries.

use super::*;
use crate::release::{Answer, Query, Webhook};

/// Asked each ten seconds.
fn webhook(failures: u32) -> Webhook {
    let every = Duration::from_secs(10);
    Webhook { name: "freeze".to_owned(), url: "http://freeze".to_owned(), every, failures }
}

fn yes() -> Answer {
    Answer::Yes("200 OK".to_owned())
}

fn no() -> Answer {
    Answer::No("409 Conflict: not today".to_owned())
}

impl Story {
    /// A second in which somebody answers.
    fn told(&mut self, gate: Gate, answer: Answer) {
        self.tick(|tick| tick.answers = &*vec![(gate, answer)].leak(), Some(GOOD));
    }
}

#[test]
fn a_step_does_not_end_before_all_who_are_asked_say_yes_in_it() {
    let mut story = Story::with(&[(5, 10), (25, 10)]);
    story.plan.gates.min_requests = 10;
    story.plan.gates.webhooks = vec![webhook(2)];
    let freeze = || Gate::Webhook("freeze".to_owned());
    story.seconds(100, GOOD);
    assert_eq!(story.course.step, Some(0));
    let reason = story.course.reason(&story.plan);
    assert_eq!(reason, "freeze: nobody has answered yet: the step does not end before it is well");
    let refused = story.command(Verb::Promote { now: false }).unwrap_err().to_string();
    assert_eq!(refused, "freeze is Amber; `promote --now` does it all the same");
    story.told(freeze(), Answer::Open("425 Too Early".to_owned()));
    story.seconds(100, GOOD);
    assert_eq!(story.course.step, Some(0));
    story.told(freeze(), yes());
    assert_eq!(story.course.step, Some(1));
    // It was asked about the step before.
    story.seconds(100, GOOD);
    assert_eq!(story.course.step, Some(1));
    story.told(freeze(), no());
    story.is(Phase::Progressing, None);
    story.told(freeze(), no());
    story.is(Phase::Held, Some(Cause::Gate(freeze())));
    let why = "freeze says no: 409 Conflict: not today";
    assert_eq!(story.course.history[0].why, why);
    assert_eq!(story.course.reason(&story.plan), format!("new gets no requests: {why}"));
}

#[test]
fn a_query_out_of_its_bounds_ends_it_and_whoever_resumes_forgives_it() {
    let mut story = Story::with(&[(5, 10), (25, 10)]);
    let every = Duration::from_secs(10);
    story.plan.on_fail = OnFail::Pause;
    story.plan.gates.queries = vec![Query {
        name: "orders".to_owned(),
        promql: "x".to_owned(),
        max: None,
        min: Some(3.0),
        every,
        failures: 1,
    }];
    let orders = || Gate::Query("orders".to_owned());
    story.seconds(1, GOOD);
    story.told(orders(), Answer::Number(2.0));
    story.is(Phase::Paused, Some(Cause::Gate(orders())));
    assert_eq!(story.course.reason(&story.plan), "orders is out of its bounds: 2 is less than 3");
    assert_eq!(story.command(Verb::Resume), Ok(()));
    story.seconds(40, GOOD);
    story.is(Phase::Progressing, None);
    story.told(orders(), Answer::Number(4.0));
    assert_eq!(story.course.step, Some(1));
}

#[test]
fn a_step_begins_when_its_webhook_says_yes() {
    let asked = || {
        let mut story = Story::with(&[(5, 10), (25, 10)]);
        story.plan.gates.min_requests = 10;
        story.plan.steps[1].webhook = "http://gate".to_owned();
        story.until_it_changes(Some(GOOD));
        story.told(Gate::Step(1), yes());
        story.seconds(10, GOOD);
        // What was said before it was asked is no answer.
        assert_eq!((story.course.step, story.course.asking), (Some(0), Some(1)));
        let reason = story.course.reason(&story.plan);
        assert_eq!(reason, "the webhook of step 2 is asked whether it may begin");
        story.seconds(100, GOOD);
        story.told(Gate::Step(1), Answer::Open("425 Too Early".to_owned()));
        assert_eq!((story.course.step, story.course.asking), (Some(0), Some(1)));
        let reason = story.course.reason(&story.plan);
        assert_eq!(reason, "the webhook of step 2 has not said yes: 425 Too Early");
        story
    };
    let mut story = asked();
    story.told(Gate::Step(1), yes());
    assert_eq!((story.course.step, story.course.asking), (Some(1), None));
    // A refusal is a no.
    let mut story = asked();
    story.told(Gate::Step(1), no());
    let refused = || Some(Cause::Gate(Gate::Step(1)));
    story.is(Phase::Held, refused());
    let why = "the webhook of step 2 says no: 409 Conflict: not today";
    assert_eq!(story.course.history[0].why, why);
    // Unless people decide.
    let mut story = asked();
    story.plan.on_fail = OnFail::Pause;
    story.told(Gate::Step(1), no());
    story.seconds(100, GOOD);
    story.is(Phase::Paused, refused());
    assert_eq!(story.command(Verb::Resume), Ok(()));
    assert_eq!((story.course.step, &story.course.cause), (Some(1), &None));
    // Meanwhile a gate stops it.
    let mut story = asked();
    assert!(story.until_it_changes(Some(DEAD)) <= 6);
    story.is(Phase::Held, Some(Cause::Gate(Gate::Errors)));
    assert_eq!(story.course.asking, None);
    // While somebody wants it to stay, no answer is one, and it is asked anew.
    let mut story = asked();
    assert_eq!(story.command(Verb::Pause), Ok(()));
    story.told(Gate::Step(1), yes());
    story.is(Phase::Paused, Some(Cause::Person(String::new())));
    assert_eq!(story.command(Verb::Resume), Ok(()));
    story.seconds(100, GOOD);
    assert_eq!((story.course.step, story.course.asking), (Some(0), Some(1)));
    assert_eq!(story.command(Verb::Step(None)), Ok(()));
    assert_eq!((story.course.step, story.course.asking), (Some(1), None));
    // Silence for too long is its end.
    let mut story = asked();
    story.plan.deadline = Duration::from_secs(1000);
    story.until_it_changes(Some(GOOD));
    story.is(Phase::Held, Some(Cause::Deadline));
}

#[test]
fn the_first_step_can_have_a_webhook_and_a_person_comes_after_it() {
    let mut story = Story::with(&[(5, 10)]);
    story.plan.steps[0].webhook = "http://gate".to_owned();
    story.plan.steps[0].approve = true;
    story.seconds(100, GOOD);
    story.is(Phase::Waiting, None);
    let reason = story.course.reason(&story.plan);
    assert_eq!(reason, "the webhook of step 1 is asked whether it may begin");
    story.told(Gate::Step(0), yes());
    story.is(Phase::Paused, Some(Cause::Approval));
    assert_eq!(story.command(Verb::Resume), Ok(()));
    assert_eq!((story.course.step, story.course.phase), (Some(0), Phase::Progressing));
}

#[test]
fn a_yes_that_is_old_is_none() {
    let mut story = Story::with(&[(5, 10)]);
    story.plan.steps[0].webhook = "http://gate".to_owned();
    story.seconds(1, GOOD);
    story.tick(
        |tick| {
            tick.canary.serving = 0;
            tick.answers = &*vec![(Gate::Step(0), yes())].leak();
        },
        Some(GOOD),
    );
    (0..30).for_each(|_| story.tick(|tick| tick.canary.serving = 0, Some(GOOD)));
    story.seconds(1, GOOD);
    story.is(Phase::Waiting, None);
}
