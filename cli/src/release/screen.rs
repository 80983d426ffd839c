//! A release at a glance.

use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::{
    release::Arm,
    steer::{CallerView, PodsView, ReleaseView, SecondView},
};
use tulle_xds::text::printable;

use super::{
    canvas::{Canvas, Piece, clock, count, is_under_way, share, title, tone, weight},
    gates, steps,
};
use crate::{
    observe::units::{float, rate, scaled, trend},
    table::Tone,
};

/// Callers, laggards and entries of the log that are shown where not all of them are wanted.
const SOME: usize = 4;
/// Pods that are drawn one by one.
const DRAWN: u32 = 16;

/// All that is worth seeing where it is.
pub(super) fn draw(view: &ReleaseView, canvas: Canvas) -> String {
    let judged = is_under_way(view) || view.phase == Phase::Held;
    let mut text = header(view, canvas);
    text += &canvas.text("", &view.reason, of_reason(view));
    for problem in &view.problems {
        text += &canvas.said(("wrong:".to_owned(), Tone::Bad), problem);
    }
    if view.phase == Phase::Held {
        text += &format!("\n{}", undo(view, canvas));
    }
    if is_under_way(view) || view.phase == Phase::Idle {
        text += &format!("\n{}", steps::line(view, canvas));
    }
    if let Some(next) = steps::next(view) {
        text += &canvas.text("next: ", &next, Tone::Plain);
    }
    if judged && !view.gates.is_empty() {
        text += &format!("\n{}", gates::table(view, canvas));
    }
    if view.step > 0 && matches!(view.phase, Phase::Progressing | Phase::Paused) {
        text += &canvas.flow("SAMPLES  ", &samples(view));
    }
    if judged && !view.curve.is_empty() {
        text += &format!("\n{}", curves(view, canvas));
    }
    text += "\n";
    text += &canvas.flow("PODS     ", &pods(view));
    if judged && !view.callers.is_empty() {
        text += &canvas.flow("CALLERS  ", &callers(view, canvas));
    }
    if !view.laggards.is_empty() && !view.in_force {
        text += &canvas.flow("NOT YET  ", &some(view.laggards.iter().cloned(), canvas));
    }
    text += &log(view, canvas);
    text
}

fn header(view: &ReleaseView, canvas: Canvas) -> String {
    let plain = |text: String| (text, Tone::Plain);
    let mut pieces =
        vec![(title(view), Tone::Strong), (format!("{:?}", view.phase), tone(view.phase))];
    pieces.extend(versions(view).map(plain));
    if is_under_way(view) && view.step > 0 && view.phase != Phase::Promoting {
        pieces.push(plain(format!("step {} of {}", view.step, view.steps.len())));
        pieces.push(match view.capped {
            true => {
                let (wanted, gets) = (weight(view.weight), weight(view.share));
                (format!("{gets} of the wanted {wanted}: too few pods"), Tone::Doubtful)
            }
            false => plain(weight(view.weight)),
        });
    } else if view.phase == Phase::Promoting {
        pieces.push(plain(weight(view.share)));
    }
    if view.of > 0 {
        let told = format!("in force on {}/{} proxies", view.on, view.of);
        pieces.push((told, if view.in_force { Tone::Plain } else { Tone::Doubtful }));
    }
    pieces.push(plain(clock(canvas.now)));
    canvas.flow("", &pieces)
}

/// Which versions there are, and what they are to each other.
fn versions(view: &ReleaseView) -> Option<String> {
    let (canary, stable) = (&view.canary, &view.stable);
    match view.phase {
        _ if stable.is_empty() => None,
        _ if canary.is_empty() => Some(format!("{stable} serves")),
        Phase::Held | Phase::RolledBack => Some(format!("{canary} held, {stable} serves")),
        _ => Some(format!("{canary} → replaces {stable}")),
    }
}

/// Amber is said of a step that goes on; else the phase says it.
fn of_reason(view: &ReleaseView) -> Tone {
    let doubtful = view.gates.iter().any(|gate| gate.state == "Amber") || view.silent > 0;
    match view.phase {
        Phase::Progressing if doubtful => Tone::Doubtful,
        Phase::Paused | Phase::Held => tone(view.phase),
        _ => Tone::Plain,
    }
}

fn samples(view: &ReleaseView) -> Vec<Piece> {
    let (there, wanted) = (view.requests, view.min_requests);
    let enough = there >= wanted || view.weight == 0.0;
    let told = format!("{} of {} requests needed", count(there), count(wanted));
    let mut pieces = vec![(told, if enough { Tone::Plain } else { Tone::Doubtful })];
    let all = view.errors.canary.all + view.errors.stable.all;
    if all > 0 {
        let got = float(view.errors.canary.all) / float(all);
        let wanted = weight(view.weight);
        pieces.push((format!("{} of all (wanted: {wanted})", share(got)), Tone::Plain));
    }
    pieces
}

/// Requests and errors of both versions, as time went by.
fn curves(view: &ReleaseView, canvas: Canvas) -> String {
    let columns = match canvas.width {
        96.. => 32,
        60.. => 20,
        _ => 12,
    };
    let each = (view.curve.len().div_ceil(columns) as u64).max(1);
    let slots = slots(&view.curve, each);
    let arms = [|at: &SecondView| at.errors.canary, |at: &SecondView| at.errors.stable];
    let names = ["canary", "stable"];
    let told = |slot: &[&SecondView], arm: fn(&SecondView) -> Arm| {
        let told: Vec<_> = slot.iter().filter(|second| second.told).collect();
        let sum = told.iter().fold(Arm::default(), |sum, second| sum + arm(second));
        (!told.is_empty()).then(|| (sum, float(told.len() as u64)))
    };
    let last: Vec<_> = view.curve.iter().rev().take(10).collect();
    let minute: Vec<_> = view.curve.iter().rev().take(60).collect();
    let unknown = || "?".to_owned();
    let per_second = |(arm, seconds): (Arm, f64)| float(arm.all) / seconds;
    let failing = |(arm, _): (Arm, f64)| arm.share().unwrap_or(0.0);
    let rows = arms.map(|arm| {
        let of = |slot: &Vec<&SecondView>| told(slot, arm);
        (slots.iter().map(of).collect::<Vec<_>>(), arm)
    });
    // Errors of both by one measure, or nobody sees which has more; a few of ten thousand are nothing to see.
    let shares = rows.iter().flat_map(|(row, _)| row.iter().flatten());
    let most = shares.map(|at| failing(*at)).fold(0.01, f64::max);
    let mut text = String::new();
    let rps = rows.iter().zip(names).map(|((row, arm), name)| {
        let line: Vec<_> = row.iter().map(|at| at.map(per_second)).collect();
        let now = told(&last, *arm).map_or_else(unknown, |at| rate(per_second(at)) + "/s");
        (format!("{name} {} {now:<8}", trend(&line)), Tone::Plain)
    });
    text += &canvas.flow("RPS      ", &rps.collect::<Vec<_>>());
    let bad = rows.iter().zip(names).map(|((row, arm), name)| {
        let line: Vec<_> = row.iter().map(|at| at.map(failing)).collect();
        let now = told(&minute, *arm).map_or_else(unknown, |at| share(failing(at)));
        (format!("{name} {} {now:<8}", scaled(&line, most)), Tone::Plain)
    });
    text += &canvas.flow("ERRORS   ", &bad.collect::<Vec<_>>());
    text
}

/// Seconds in slots of so many, which stay where they are as time goes by.
fn slots(curve: &[SecondView], each: u64) -> Vec<Vec<&SecondView>> {
    let mut slots: Vec<(u64, Vec<&SecondView>)> = Vec::new();
    for second in curve {
        match slots.last_mut() {
            Some((at, slot)) if *at == second.at / each => slot.push(second),
            _ => slots.push((second.at / each, vec![second])),
        }
    }
    slots.into_iter().map(|(_, slot)| slot).collect()
}

fn pods(view: &ReleaseView) -> Vec<Piece> {
    let drawn = |PodsView { wanted, serving }: PodsView| match wanted.max(serving) {
        0 => String::new(),
        all if all > DRAWN => String::new(),
        all => {
            let serving = serving.min(all);
            let (there, not) = (serving as usize, (all - serving) as usize);
            format!("{}{} ", "▣".repeat(there), "□".repeat(not))
        }
    };
    let of = |name: &str, pods: PodsView| {
        let PodsView { wanted, serving } = pods;
        let told = match wanted.max(serving) {
            0 => "no pods".to_owned(),
            all => format!("{}{serving} of {all} serve", drawn(pods)),
        };
        let tone = if serving < wanted { Tone::Doubtful } else { Tone::Plain };
        (format!("{name} {told}"), tone)
    };
    let mut pieces = Vec::new();
    if !view.canary.is_empty() {
        let (mut told, mut tone) = of(&view.canary, view.pods.canary);
        if view.phase == Phase::Held {
            told = format!("{} {}held", view.canary, drawn(view.pods.canary));
            tone = Tone::Plain;
        }
        pieces.push((told, tone));
    }
    // Pods of the old version go as those of the new one come.
    let (told, tone) = of(&view.stable, view.pods.stable);
    let leaving = view.phase == Phase::Promoting;
    pieces.push((told, if leaving { Tone::Plain } else { tone }));
    pieces
}

fn callers(view: &ReleaseView, canvas: Canvas) -> Vec<Piece> {
    let mut all: Vec<_> = view.callers.iter().collect();
    all.sort_by_key(|caller| std::cmp::Reverse(caller.errors.canary.all));
    let sum: u64 = all.iter().map(|caller| caller.errors.canary.all).sum();
    let told = all.into_iter().map(|CallerView { name, errors }| {
        let part = match 100.0 * float(errors.canary.all) / float(sum.max(1)) {
            part @ ..0.5 if part > 0.0 => "<1 %".to_owned(),
            part => format!("{part:.0} %"),
        };
        match (errors.canary.bad, errors.canary.share()) {
            (1.., Some(bad)) => format!("{name} {part} ({} fail)", share(bad)),
            _ => format!("{name} {part}"),
        }
    });
    some(told, canvas)
}

fn some(all: impl ExactSizeIterator<Item = String>, canvas: Canvas) -> Vec<Piece> {
    let most = if canvas.wide { usize::MAX } else { SOME };
    let more = all.len().saturating_sub(most);
    let mut pieces: Vec<_> = all.take(most).map(|text| (text, Tone::Plain)).collect();
    if more > 0 {
        pieces.push((format!("and {more} more"), Tone::Plain));
    }
    pieces
}

fn log(view: &ReleaseView, canvas: Canvas) -> String {
    let most = if canvas.wide { usize::MAX } else { SOME };
    let mut text = String::new();
    for (at, entry) in view.history.iter().take(most).enumerate() {
        let head = if at == 0 { "LOG      " } else { "         " };
        let mut told = printable(&entry.did);
        if !entry.why.is_empty() {
            told += &format!(": {}", printable(&entry.why));
        }
        if !entry.who.is_empty() {
            told += &format!(" (by {})", printable(&entry.who));
        }
        text += &canvas.text(&format!("{head}{}  ", clock(entry.at)), &told, Tone::Plain);
    }
    text
}

/// What makes the Deployment what it was: no one but its owner changes it.
pub(super) fn undo(view: &ReleaseView, canvas: Canvas) -> String {
    let ReleaseView { namespace, name, canary, stable, .. } = view;
    let again = format!("tulle release start {namespace}/{name}");
    let deployment = view.target.strip_prefix("Deployment ").filter(|one| !one.contains(' '));
    let told = match deployment {
        _ if canvas.local => format!("write into the YAML what {stable} was"),
        Some(deployment) => format!("kubectl -n {namespace} rollout undo deployment/{deployment}"),
        None => format!("bring {canary} to a version that works, or take it away"),
    };
    let mut text = canvas.text("undo it:   ", &told, Tone::Strong);
    if deployment.is_some() && !canvas.local {
        let told = format!(
            "revert the change that made {canary}, or it comes back, and stays held: a version that has failed is not let in again by itself"
        );
        text += &canvas.text("in Git:    ", &told, Tone::Plain);
    }
    text + &canvas.text("try again: ", &again, Tone::Plain)
}
