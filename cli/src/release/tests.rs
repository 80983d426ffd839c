mod desk;
mod follow;

use std::collections::BTreeMap;

use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::{
    release::{Answers, Arm, Entry, Pair, Plan, Traffic},
    steer::{
        CallerView, GateView, PodsView, ReleaseView, ReleasesView, SecondView, StepView, Versioned,
    },
};

use super::{
    canvas::{Canvas, count, share, span, weight},
    list,
    live::{Page, Typed, Wanted},
    screen, simulate, template, why,
};
use crate::{observe::Asked, table::Tone};

/// 2026-11-22 19:03:40.
const NOW: u64 = 1_795_374_220;

fn canvas(width: usize) -> Canvas {
    Canvas { width, wide: false, colored: false, now: NOW, local: false }
}

fn arm(all: u64, bad: u64) -> Arm {
    Arm { all, bad }
}

fn gate(
    name: &str,
    state: &str,
    shares: Option<(f64, f64)>,
    evidence: f64,
    proof: f64,
) -> GateView {
    GateView {
        gate: name.to_owned(),
        state: state.to_owned(),
        why: format!("evidence {evidence} of {proof}"),
        canary: shares.map(|(canary, _)| canary),
        stable: shares.map(|(_, stable)| stable),
        evidence,
        proof,
    }
}

fn entry(at: u64, who: &str, did: &str, why: &str) -> Entry {
    let text = str::to_owned;
    Entry { at, who: text(who), did: text(did), why: text(why) }
}

/// In the second of three steps, with a latency that may be worse.
fn progressing() -> ReleaseView {
    let text = str::to_owned;
    let step = |weight, lasts| StepView { weight, lasts, ..StepView::default() };
    let last = StepView { approve: true, mirror: 10, ..step(25.0, 300) };
    let curve = (0..120).map(|second| SecondView {
        at: NOW - 120 + second,
        told: second != 60,
        errors: Pair { canary: arm(second / 4, 0), stable: arm(601, 1) },
        slow: Pair::default(),
        evidence: BTreeMap::new(),
    });
    ReleaseView {
        namespace: text("shop"),
        name: text("reviews"),
        target: text("Deployment reviews"),
        services: vec![text("shop/reviews")],
        phase: Phase::Progressing,
        reason: text(
            "latency may be worse (evidence 31 of 3000): the step goes on until it is known",
        ),
        stable: text("7d9c"),
        canary: text("84f6"),
        steps: vec![step(1.0, 60), step(5.0, 120), last],
        step: 2,
        weight: 5.0,
        share: 5.0,
        began: NOW - 200,
        since: NOW - 89,
        spent: 89,
        on: 37,
        of: 37,
        in_force: true,
        slower_than: Some(0.141),
        gates: vec![
            gate("errors", "Green", Some((0.0011, 0.001)), 0.4, 3000.0),
            gate("latency", "Amber", Some((0.016, 0.012)), 31.0, 3000.0),
            gate("restarts", "Green", None, 0.0, 2.0),
        ],
        requests: 1840,
        min_requests: 200,
        errors: Pair { canary: arm(1840, 2), stable: arm(35_760, 36) },
        slow: Pair { canary: arm(1060, 17), stable: arm(20_000, 240) },
        pods: Versioned {
            canary: PodsView { wanted: 3, serving: 3 },
            stable: PodsView { wanted: 10, serving: 10 },
        },
        callers: vec![
            CallerView {
                name: text("gateway/edge"),
                errors: Pair { canary: arm(74, 0), stable: arm(1, 0) },
            },
            CallerView {
                name: text("shop/frontend"),
                errors: Pair { canary: arm(1766, 2), stable: arm(1, 0) },
            },
        ],
        curve: curve.collect(),
        history: vec![
            entry(NOW - 89, "", "step 2 (5 %)", ""),
            entry(NOW - 152, "alice", "step 1 (1 %)", ""),
            entry(NOW - 200, "", "release of 84f6, which replaces 7d9c", ""),
        ],
        ..ReleaseView::default()
    }
}

fn of(phase: Phase) -> ReleaseView {
    let view = ReleaseView { phase, reason: "because".to_owned(), ..progressing() };
    let steps = |view: ReleaseView| ReleaseView { step: 0, weight: 0.0, share: 0.0, ..view };
    let ended = |view| ReleaseView { canary: String::new(), ..steps(view) };
    match phase {
        Phase::Held => steps(view),
        Phase::Waiting => ReleaseView {
            gates: Vec::new(),
            curve: Vec::new(),
            callers: Vec::new(),
            pods: Versioned { canary: PodsView { wanted: 3, serving: 0 }, ..view.pods },
            ..steps(view)
        },
        Phase::Idle | Phase::Promoted | Phase::RolledBack => ended(view),
        Phase::Progressing | Phase::Paused | Phase::Promoting => view,
    }
}

#[test]
fn a_release_is_seen_at_a_glance() {
    let text = screen::draw(&progressing(), canvas(80));
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "shop/reviews   Progressing   84f6 → replaces 7d9c   step 2 of 3   5 %",
        "in force on 37/37 proxies   19:03:40",
        "latency may be worse (evidence 31 of 3000): the step goes on until it is known",
        "",
        "●───────◐────────────────○─────────────────────────────○",
        "1 % ✔   5 % 1m29 of 2m   25 % 5m +mirror 10 % (asks)   promote",
        "next: 25 % as soon as nothing speaks against it, if somebody approves of it",
        "",
        "GATE            CANARY  STABLE  RATIO     EVIDENCE  TO PROOF    STATE",
        "errors          0.11 %  0.10 %    1.1  0.4 of 3000  ··········  green",
        "latency >141ms  1.60 %  1.20 %    1.3   31 of 3000  ████▎·····  amber",
        "restarts             0       -      -       0 of 2  ··········  green",
        "SAMPLES  1,840 of 200 requests needed   4.89 % of all (wanted: 5 %)",
        "",
        "RPS      canary ▁▁▂▂▂▃▃▃▄▄▄▅▅▆▆▆▇▇▇██ 28.2/s",
        "         stable █████████████████████ 601/s",
        "ERRORS   canary ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 0 %",
        "         stable ▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂ 0.17 %",
        "",
        "PODS     84f6 ▣▣▣ 3 of 3 serve   7d9c ▣▣▣▣▣▣▣▣▣▣ 10 of 10 serve",
        "CALLERS  shop/frontend 96 % (0.11 % fail)   gateway/edge 4 %",
        "LOG      19:02:11  step 2 (5 %)",
        "         19:01:08  step 1 (1 %) (by alice)",
        "         19:00:20  release of 84f6, which replaces 7d9c",
    ];
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn every_phase_fits_and_says_what_matters() {
    for (phase, said) in Phase::ALL.into_iter().zip([
        &["7d9c serves", "○────"][..],
        &["84f6 → replaces 7d9c", "1 % as soon as", "□□□ 0 of 3 serve"],
        &["step 2 of 3", "GATE", "RPS", "CALLERS"],
        &["Paused", "GATE"],
        &["Promoting", "◐"],
        &["7d9c serves"],
        &["84f6 held, 7d9c serves", "GATE", "undo it:", "in Git:", "tulle release start"],
        &["7d9c serves"],
    ]) {
        for width in [120, 80, 40] {
            let text = screen::draw(&of(phase), canvas(width));
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{phase:?} {longest} of {width}:\n{text}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for said in said {
                assert!(words.contains(said), "{phase:?} {width}: {said} is not in\n{text}");
            }
            let colored = screen::draw(&of(phase), Canvas { colored: true, ..canvas(width) });
            assert_eq!(plain(&colored), text, "{phase:?}");
            let sentences = why::text(&of(phase), canvas(width));
            let longest = sentences.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} of {width}:\n{sentences}");
        }
    }
}

/// Without colors.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

#[test]
fn what_has_one_tone_is_painted_at_once() {
    let canvas = Canvas { colored: true, ..canvas(20) };
    let text = canvas.text("a: ", "one two three four 5 % six", Tone::Bad);
    let red = |text: &str| format!("\u{1b}[31m{text}\u{1b}[0m");
    let lines = ["a: one two three", "   four 5 % six"];
    assert_eq!(plain(&text), lines.map(|line| format!("{line}\n")).concat());
    assert_eq!(text, format!("a: {}\n   {}\n", red("one two three"), red("four 5 % six")));
    let long = canvas.flow("", &[("x".repeat(25), Tone::Plain), ("y".to_owned(), Tone::Good)]);
    assert_eq!(plain(&long), format!("{}\nxxxxx   y\n", "x".repeat(20)));
}

#[test]
fn what_is_not_as_it_should_be_is_told() {
    let few = ReleaseView {
        capped: true,
        weight: 25.0,
        share: 18.75,
        on: 36,
        in_force: false,
        laggards: vec!["shop/a".to_owned(), "b\u{1b}[2J".to_owned()],
        ..progressing()
    };
    let text = screen::draw(&few, canvas(120));
    assert!(text.contains("18.75 % of the wanted 25 %: too few pods"), "{text}");
    assert!(text.contains("in force on 36/37 proxies"), "{text}");
    assert!(text.contains("NOT YET  shop/a   b\\u{1b}[2J"), "{text}");
    let problem = "Release shop/reviews: spec.steps[1].weight: 1 is less than the 5 before it";
    let refused = ReleaseView { problems: vec![problem.to_owned()], ..progressing() };
    let text = screen::draw(&refused, canvas(120));
    assert!(text.contains(&format!("\nwrong: {problem}\n")), "{text}");
    let text = why::text(&refused, canvas(1000));
    assert!(text.contains(&format!("{problem}. What is refused changes nothing.")), "{text}");
    let held =
        ReleaseView { target: "Deployment a and StatefulSet b".to_owned(), ..of(Phase::Held) };
    let text = screen::undo(&held, canvas(120));
    assert!(
        text.contains("bring 84f6 to a version that works") && !text.contains("kubectl"),
        "{text}"
    );
    let text = screen::undo(&of(Phase::Held), Canvas { local: true, ..canvas(120) });
    assert!(text.contains("write into the YAML what 7d9c was") && !text.contains("Git"), "{text}");
    let text = screen::undo(&of(Phase::Held), canvas(120));
    assert!(text.contains("kubectl -n shop rollout undo deployment/reviews\n"), "{text}");
    let asked = GateView {
        why: "7 is more than 5".to_owned(),
        ..gate("or\u{9b}ders", "Amber", None, 2.0, 3.0)
    };
    let text = screen::draw(&ReleaseView { gates: vec![asked], ..progressing() }, canvas(80));
    assert!(
        text.contains("2 of 3  ██████▋···  amber\nor\\u{9b}ders: 7 is more than 5\n"),
        "{text}"
    );
}

#[test]
fn sentences_tell_the_arithmetic_and_what_to_do() {
    let text = why::text(&progressing(), canvas(1000));
    for said in [
        "84f6, which shall replace 7d9c of Deployment reviews, is in step 2 of 3 and gets 5 % of the requests.",
        "In force on all 37 proxies",
        "green: Of the requests in this step 2 of 1,840 (0.11 %) to the canary failed, and 36 of 35,760 (0.10 %) to the stable version: 1.1 times as often. Evidence 0.4 of 3000: nothing speaks against it.",
        "amber: Of the requests in this step 17 of 1,060 (1.60 %) to the canary took longer than 141ms",
        "a version that is no worse gets there in one of 31 releases at most",
        "Restarts of the canary's containers in this step: 0; up to 1 are forgiven.",
        "called by shop/frontend (2 failed of 1,766), gateway/edge (0 failed of 74)",
        "What to do: wait: more requests make it clear",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    let red = gate("errors", "Red", Some((0.05, 0.001)), 1e12, 3000.0);
    let text = why::text(&ReleaseView { gates: vec![red], ..of(Phase::Held) }, canvas(1000));
    assert!(text.contains("red: Of the requests") && text.contains("50.0 times"), "{text}");
    assert!(text.contains("Evidence 1e12, and 3000 is proof"), "{text}");
    assert!(text.contains("undo it:   kubectl"), "{text}");
}

#[test]
fn lists_and_logs_have_columns() {
    let all = ReleasesView { items: vec![progressing(), of(Phase::Held)] };
    let expected = "\
NAMESPACE  NAME     PHASE        CANARY  STABLE  STEP  WEIGHT  FORCE   FOR
shop       reviews  Progressing  84f6    7d9c     2/3     5 %  37/37  1m29
shop       reviews  Held         84f6    7d9c       -       -  37/37  1m29
";
    assert_eq!(list::table(&all, canvas(100)), expected);
    let wide = list::table(&all, Canvas { wide: true, ..canvas(80) });
    assert!(wide.contains("REASON") && wide.contains("until it is known"), "{wide}");
    let narrow = list::table(&all, canvas(40));
    assert!(narrow.starts_with("NAME     PHASE        STEP  WEIGHT\n"), "{narrow}");
    assert!(list::table(&ReleasesView::default(), canvas(80)).starts_with("there are no releases"));
    let log = list::log(&progressing().history);
    assert!(
        log.lines().nth(2).unwrap().starts_with("2026-11-22 19:01:08  alice  step 1 (1 %)"),
        "{log}"
    );
}

#[test]
fn figures_are_short() {
    for (seconds, text) in
        [(45, "45s"), (89, "1m29"), (120, "2m"), (3900, "1h05"), (7200, "2h"), (183_600, "2d03h")]
    {
        assert_eq!(span(seconds), text);
    }
    assert_eq!([0, 999, 1840, 1_234_567].map(count), ["0", "999", "1,840", "1,234,567"]);
    assert_eq!([5.0, 0.25, 12.5].map(weight), ["5 %", "0.25 %", "12.5 %"]);
    assert_eq!([0.0, 0.0011, 0.125, 1.0].map(share), ["0 %", "0.11 %", "12.5 %", "100 %"]);
}

#[test]
fn names_have_a_namespace_or_none() {
    let read = |text, namespace| Asked::read(text, namespace).map_err(|error| error.to_string());
    let asked = |namespace: Option<&str>| {
        let (namespace, name) = (namespace.map(str::to_owned), "reviews".to_owned());
        Ok(Asked { namespace, name })
    };
    assert_eq!(read("reviews", None), asked(None));
    assert_eq!(read("reviews", Some("shop")), asked(Some("shop")));
    assert_eq!(read("shop/reviews", None), asked(Some("shop")));
    assert_eq!(read("shop/reviews", Some("shop")), asked(Some("shop")));
    let two = read("shop/reviews", Some("test")).unwrap_err();
    assert_eq!(two, "shop/reviews is of namespace shop, and -n says test");
    for wrong in ["a&b=c", "a/b/c", "", "/a"] {
        assert!(read(wrong, None).is_err(), "{wrong}");
    }
}

#[test]
fn keys_want_something_of_the_version_that_is_seen() {
    let canary = || "84f6".to_owned();
    let page = |phase| Page::of(of(phase));
    let mut running = page(Phase::Progressing);
    assert_eq!(running.typed(b'p'), Typed::Wish(Wanted::Pause, canary()));
    assert_eq!(page(Phase::Paused).typed(b'p'), Typed::Wish(Wanted::Resume, canary()));
    assert_eq!(running.typed(b's'), Typed::Wish(Wanted::Step, canary()));
    // These two are asked about, and anything but yes is no.
    for (key, wanted) in [(b'P', Wanted::Promote), (b'r', Wanted::Rollback)] {
        assert_eq!(running.typed(key), Typed::Nothing);
        assert!(running.text(canvas(80)).starts_with("84f6") && running.said.ends_with("[y/n]"));
        assert_eq!(running.typed(b'q'), Typed::Nothing);
        assert_eq!(running.typed(b'y'), Typed::Nothing);
        running.typed(key);
        // The version that was seen when it was asked.
        running.view = ReleaseView { canary: "beef".to_owned(), ..progressing() };
        assert_eq!(running.typed(b'y'), Typed::Wish(wanted, canary()));
        running.view = progressing();
    }
    assert!(running.hint().starts_with("[p]ause  [s]tep  [P]romote now  [r]ollback  [w]hy"));
    running.typed(b'w');
    assert!(running.text(canvas(80)).contains("What to do:"));
    let mut held = page(Phase::Held);
    assert_eq!((held.typed(b'r'), held.hint()), (Typed::Nothing, "[w]hy  [q]uit".to_owned()));
    assert_eq!(held.said, "no release is under way");
    // For some seconds.
    for looks in 1..=8 {
        assert!(!held.said.is_empty(), "{looks}");
        held.seen(of(Phase::Held));
    }
    assert_eq!(held.said, "");
    assert_eq!(held.typed(b'q'), Typed::Quit);
}

#[test]
fn the_template_says_what_holds_without_it() {
    let text = template::yaml("shop", "reviews");
    let value = serde_yaml_ng::from_str(&text).expect("YAML");
    let (name, plan) = simulate::plan(&value).expect("a Release");
    assert_eq!((name.as_str(), plan), ("shop/reviews", Plan::default()));
    // What is commented out can be used, too.
    let all = text.lines().map(|line| line.replacen("# ", "", 1));
    for wanted in ["queries:", "webhooks:", "services:", "stickBy:"] {
        assert!(all.clone().any(|line| line.trim_start().starts_with(wanted)), "{wanted}");
    }
    let used = text.replace("# queries", "queries").replace("# webhooks", "webhooks");
    let used = used.replace("# stickBy", "stickBy").replace("# services", "services");
    let used = used.replace("    #   - {", "      - {");
    let value = serde_yaml_ng::from_str(&used).expect("YAML");
    let (_, plan) = simulate::plan(&value).expect("a Release");
    assert_eq!((plan.gates.queries.len(), plan.gates.webhooks.len()), (1, 1));
}

#[test]
fn what_a_plan_would_do_is_told() {
    let answers = |bad| Answers { bad, slow: 0.01 };
    let bad = Traffic { rps: 100.0, canary: answers(0.5), stable: answers(0.001) };
    let mut asks = Plan::default();
    (asks.approve_promotion, asks.steps[1].approve) = (true, true);
    let text = simulate::tell("shop/reviews", asks, simulate::Question { bad, seeds: 5 });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "shop/reviews at 100 requests/s, 5 times");
    assert!(text.contains("50.0 % errors, 1.00 % slow; the old one with 0.10 % errors"), "{text}");
    assert!(text.contains("\nstopped  100 %"), "{text}");
    assert!(text.contains("as the old one:\nOUTCOME"), "{text}");
    assert!(text.contains("\npromoted  100 %  "), "{text}");
}
