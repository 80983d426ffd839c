//! Looks at a release until it has ended.

use std::time::Duration;

use super::{
    super::{
        follow::{Course, Outcome, Teller},
        get::Until,
    },
    *,
};
use crate::observe::Error;

#[tokio::test(start_paused = true)]
async fn exit_codes_say_how_it_ended() {
    let until = Until { exit: true, ..Until::default() };
    let code = |outcome| match outcome {
        Outcome::Over(code, _) => Some(code),
        Outcome::Open => None,
    };
    for (phase, expected) in [
        (Phase::Promoted, Some(0)),
        (Phase::Held, Some(3)),
        (Phase::RolledBack, Some(3)),
        (Phase::Paused, Some(4)),
        (Phase::Promoting, None),
    ] {
        let mut course = Course::new(until);
        assert_eq!(course.look(&of(Phase::Progressing)), Outcome::Open);
        assert_eq!(code(course.look(&of(phase))), expected, "{phase:?}");
        // Without --exit nothing ends it.
        assert_eq!(Course::new(Until::default()).look(&of(phase)), Outcome::Open);
    }
    // By the last end, which is said.
    let Outcome::Over(3, told) = Course::new(until).look(&of(Phase::Held)) else { panic!("open") };
    assert!(
        told.starts_with("no release of shop/reviews is under way; the last one is Held"),
        "{told}"
    );
    assert_eq!(code(Course::new(until).look(&of(Phase::Idle))), Some(0));
    // One that is to begin is waited for.
    let soon = Until { begin: Some(Duration::from_secs(60)), ..until };
    let mut course = Course::new(soon);
    assert_eq!(course.look(&of(Phase::Promoted)), Outcome::Open);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(code(course.look(&of(Phase::Promoted))), Some(0));
    // Not forever.
    let mut course = Course::new(Until { timeout: Some(Duration::from_secs(90)), ..until });
    assert_eq!(course.look(&of(Phase::Waiting)), Outcome::Open);
    tokio::time::advance(Duration::from_secs(91)).await;
    let Outcome::Over(1, told) = course.look(&of(Phase::Waiting)) else { panic!("open") };
    assert!(told.contains("has not ended within 90 s: it is Waiting"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn who_is_away_for_a_while_is_waited_for() {
    let away = || Error::Away("no replica steers".to_owned());
    // Not by somebody who looks for the first time, and with no end in mind.
    assert!(Course::new(Until::default()).unseen(away()).is_err());
    let mut course = Course::new(Until { exit: true, ..Until::default() });
    assert!(course.unseen(away()).is_ok());
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(course.unseen(away()).is_ok());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(course.unseen(away()).is_err());
    let mut course = Course::new(Until::default());
    course.look(&progressing());
    assert!(course.unseen(away()).is_ok());
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(course.unseen(away()).is_ok());
    course.look(&progressing());
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(course.unseen(away()).is_ok());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(course.unseen(away()).is_err());
    assert!(Course::new(Until::default()).unseen(Error::Refused(String::new())).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_a_moment_ago_is_waited_for() {
    let absent = || Error::Absent("there is no Release reviews".to_owned());
    let until = Until { exit: true, ..Until::default() };
    assert!(Course::new(until).unseen(absent()).is_err());
    let until = Until { begin: Some(Duration::from_secs(20)), ..until };
    let mut course = Course::new(until);
    assert!(course.unseen(absent()).is_ok());
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(course.unseen(absent()).is_err());
    // What goes away later does not come back.
    let mut course = Course::new(until);
    course.look(&progressing());
    assert!(course.unseen(absent()).is_err());
}

#[test]
fn where_nobody_looks_each_change_is_a_line() {
    let mut teller = Teller::default();
    let first = teller.tell(&progressing(), NOW);
    assert_eq!(
        first,
        "19:03:40  shop/reviews is Progressing, 84f6 replaces 7d9c, step 2 of 3 (5 %): latency may be worse (evidence 31 of 3000): the step goes on until it is known\n\
         19:03:40  latency is amber: evidence 31 of 3000\n"
    );
    let later = ReleaseView { reason: "90 of 120 s".to_owned(), ..progressing() };
    assert_eq!(teller.tell(&later, NOW), "");
    let mut green = progressing();
    green.gates[1].state = "Green".to_owned();
    assert_eq!(teller.tell(&green, NOW), "19:03:40  latency is green: evidence 31 of 3000\n");
    assert_eq!(teller.tell(&of(Phase::Held), NOW).lines().count(), 2);
}
