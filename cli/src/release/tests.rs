use tulle_control_plane::{
    release::{Arm, Entry, Pair},
    steer::{CallerView, GateView, PodsView, SecondView, StepView, Versioned},
};

use super::*;

fn arm(all: u64, bad: u64) -> Arm {
    Arm { all, bad }
}

fn release(phase: Phase) -> ReleaseView {
    let step = |weight| StepView { weight, lasts: 120, ..StepView::default() };
    let errors = Pair { canary: arm(1840, 2), stable: arm(36_000, 36) };
    let gate = |gate: &str, state: &str, evidence| GateView {
        gate: gate.to_owned(),
        state: state.to_owned(),
        why: "0.11 % of 1840 requests, stable 0.10 %; evidence 0.4 of 3000".to_owned(),
        canary: Some(0.0011),
        stable: Some(0.001),
        evidence,
        proof: 3000.0,
    };
    let pods = |serving| PodsView { wanted: 4, serving };
    let second = |at, told| SecondView { at, told, errors, ..SecondView::default() };
    ReleaseView {
        namespace: "shop".to_owned(),
        name: "reviews".to_owned(),
        target: "Deployment reviews".to_owned(),
        phase,
        reason: "29 of 120 s of the step".to_owned(),
        stable: "7d9c".to_owned(),
        canary: "84f6".to_owned(),
        steps: vec![step(1.0), step(5.0), step(25.0)],
        step: 2,
        weight: 5.0,
        share: 5.0,
        spent: 29,
        on: 37,
        of: 37,
        in_force: true,
        gates: vec![gate("errors", "Green", 0.4), gate("latency", "Amber", 31.0)],
        requests: 1840,
        min_requests: 200,
        errors,
        pods: Versioned { canary: pods(3), stable: pods(4) },
        callers: vec![CallerView { name: "shop/frontend".to_owned(), errors }],
        curve: vec![second(1, true), second(2, false), second(3, true)],
        history: vec![Entry {
            at: 1_700_000_000,
            who: "alice".to_owned(),
            did: "step 2 (5 %)".to_owned(),
            why: String::new(),
        }],
        ..ReleaseView::default()
    }
}

fn drawn(release: &ReleaseView, width: usize) -> String {
    picture::draw(release, picture::Style { width, colored: false })
}

#[test]
fn a_release_on_its_way_is_drawn_whole() {
    let text = drawn(&release(Phase::Progressing), 160);
    for part in [
        "shop/reviews   Progressing   7d9c -> 84f6   step 2 of 3   weight 5 %   on 37 of 37 proxies",
        "✔ 1 % ── ◐ 5 % 29 of 120 s ── ○ 25 % ── ○ promotion",
        "errors   green  0.11 %  0.1 %",
        "latency  amber",
        // By orders of magnitude: 31 of 3000 is not a hundredth of the way.
        "█████·······",
        "samples   1840 of 200 needed",
        "rps new   █·█",
        "pods      84f6 ▣▣▣□ 3 of 4 serve   7d9c ▣▣▣▣ 4 of 4 serve",
        "callers   shop/frontend 100 %",
        "2023-11-14T22:13:20Z  step 2 (5 %)  by alice",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let narrow = drawn(&release(Phase::Progressing), 60);
    let own = narrow.lines().filter(|line| !line.contains("GATE"));
    assert!(
        own.map(|line| line.chars().count()).filter(|width| *width > 60).count() <= 2,
        "{narrow}"
    );
}

#[test]
fn each_phase_says_what_can_be_done() {
    let held = drawn(&release(Phase::Held), 200);
    assert!(held.contains("kubectl -n shop rollout undo deployment/reviews"), "{held}");
    assert!(held.contains("tulle release start shop/reviews"), "{held}");
    let paused = words::why(&release(Phase::Paused));
    assert!(paused.contains("tulle release resume shop/reviews"), "{paused}");
    let why = words::why(&release(Phase::Progressing));
    assert!(why.contains("latency is amber"), "{why}");
    assert!(why.contains("shop/frontend saw 2 of 1840 requests fail at 84f6"), "{why}");
    let idle = ReleaseView { canary: String::new(), ..release(Phase::Idle) };
    assert!(words::why(&idle).contains("7d9c gets all requests"), "{idle:?}");
    let capped = ReleaseView { capped: true, weight: 25.0, ..release(Phase::Progressing) };
    assert!(words::why(&capped).contains("maxSurge"));
}

#[test]
fn what_is_drawn_cannot_steer_the_terminal() {
    let mut one = release(Phase::Progressing);
    one.history[0].why = "\u{1b}]0;x\u{7}".to_owned();
    one.reason = "\u{1b}[2J".to_owned();
    let text = drawn(&one, 160) + &words::history(&one);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn exit_codes_tell_how_it_ended() {
    let code = |phase| verdict(phase).map(|code| format!("{code:?}"));
    let is = |code: u8| Some(format!("{:?}", ExitCode::from(code)));
    for (phase, expected) in [
        (Phase::Promoted, is(0)),
        (Phase::Idle, is(0)),
        (Phase::Held, is(3)),
        (Phase::RolledBack, is(3)),
        (Phase::Paused, is(4)),
        (Phase::Waiting, None),
        (Phase::Progressing, None),
        (Phase::Promoting, None),
    ] {
        assert_eq!(code(phase), expected, "{phase:?}");
    }
}

/// The template is a Release, and says what is so anyway.
#[test]
fn the_template_says_the_defaults() {
    let value = serde_yaml_ng::from_str(words::TEMPLATE).unwrap();
    let outcome = tulle_control_plane::convert::convert(&value);
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
    let Some(tulle_control_plane::world::objects::Object::Release(release)) = outcome.object else {
        panic!("no Release");
    };
    assert_eq!(release.plan, tulle_control_plane::release::Plan::default());
}
