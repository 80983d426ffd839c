//! The way of a release as a line from node to node, and what comes next.
//!
//! ```text
//! ●────────●─────────────◐────────────────○────────
//! 1 % ✔    5 % ✔         25 % 1m29 of 5m  promote
//! ```

use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::{ReleaseView, StepView};

use super::canvas::{Canvas, count, span, weight};
use crate::table::Tone;

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Behind,
    Here,
    Ahead,
}

/// The line, on as many lines as it needs.
pub(super) fn line(view: &ReleaseView, canvas: Canvas) -> String {
    let nodes = nodes(view);
    let widths: Vec<_> = nodes.iter().map(|(_, label)| label.chars().count() + 3).collect();
    let mut text = String::new();
    let mut from = 0;
    while from < nodes.len() {
        let mut to = from + 1;
        let mut width = widths[from];
        // Behind the last label there need be no room.
        while to < nodes.len() && width + widths[to] <= canvas.width + 3 {
            width += widths[to];
            to += 1;
        }
        text += &row(&nodes[from..to], to == nodes.len(), canvas);
        from = to;
    }
    text
}

fn row(nodes: &[(Where, String)], last: bool, canvas: Canvas) -> String {
    let (mut above, mut below) = (String::new(), String::new());
    for (at, (place, label)) in nodes.iter().enumerate() {
        let width = label.chars().count() + 3;
        let (node, tone) = match place {
            Where::Behind => ('●', Tone::Good),
            Where::Here => ('◐', Tone::Strong),
            Where::Ahead => ('○', Tone::Plain),
        };
        let rest = if last && at + 1 == nodes.len() { 1 } else { width };
        let drawn = format!("{node}{}", "─".repeat(rest - 1));
        above += &canvas.paint(&drawn, if *place == Where::Behind { tone } else { Tone::Plain });
        below += &canvas.paint(label, tone);
        below += &" ".repeat(width - label.chars().count());
    }
    format!("{}\n{}\n", above.trim_end(), below.trim_end())
}

fn nodes(view: &ReleaseView) -> Vec<(Where, String)> {
    let promoting = view.phase == Phase::Promoting;
    let steps = view.steps.iter().enumerate().map(|(at, step)| {
        let place = match at + 1 {
            _ if promoting => Where::Behind,
            number if number < view.step => Where::Behind,
            number if number == view.step => Where::Here,
            _ => Where::Ahead,
        };
        let time = match place {
            Where::Behind => "✔".to_owned(),
            Where::Here => format!("{} of {}", span(view.spent.into()), span(step.lasts)),
            Where::Ahead => span(step.lasts),
        };
        (place, format!("{} {time}{}", weight(step.weight), besides(step, place)))
    });
    let end = if promoting { Where::Here } else { Where::Ahead };
    steps.chain([(end, "promote".to_owned())]).collect()
}

/// What a step does besides, or needs before it begins.
fn besides(step: &StepView, place: Where) -> String {
    let ahead = place == Where::Ahead;
    let all = [
        (step.matches > 0, "+match".to_owned()),
        (step.mirror > 0, format!("+mirror {} %", step.mirror)),
        (ahead && step.approve, "(asks)".to_owned()),
        (ahead && step.webhook, "(webhook)".to_owned()),
    ];
    all.into_iter().filter(|(so, _)| *so).map(|(_, text)| format!(" {text}")).collect()
}

/// What comes next, and when.
pub(super) fn next(view: &ReleaseView) -> Option<String> {
    let ahead = view.steps.get(view.step);
    let what = ahead.map_or_else(|| "promotion".to_owned(), |step| weight(step.weight));
    let asks = match ahead {
        Some(step) if step.approve => ", if somebody approves of it",
        Some(step) if step.webhook => ", if its webhook says yes",
        _ => "",
    };
    match view.phase {
        Phase::Waiting => Some(format!("{what} as soon as a pod of {} serves{asks}", view.canary)),
        Phase::Progressing => {
            let lasts = view.steps.get(view.step.checked_sub(1)?)?.lasts;
            let left = lasts.saturating_sub(view.spent.into());
            let lacking = view.min_requests.saturating_sub(view.requests);
            let when = if view.gates.iter().any(|gate| gate.state != "Green") {
                "as soon as nothing speaks against it".to_owned()
            } else if left > 0 {
                format!("in {} if all is green", span(left))
            } else if lacking > 0 && view.weight > 0.0 {
                format!("after {} more requests", count(lacking))
            } else {
                "at once".to_owned()
            };
            Some(format!("{what} {when}{asks}"))
        }
        _ => None,
    }
}
