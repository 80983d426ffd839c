//! `tulle release why`: the same in sentences, and what to do.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::{
    release::{Arm, Pair},
    steer::{GateView, ReleaseView},
};

use super::{
    canvas::{Canvas, count, is_under_way, share, title, weight},
    desk::Desk,
    gates::{self, number},
    screen, steps,
};
use crate::{
    observe::{Error, Format, Which, Whom, units::time},
    table::Tone,
};

/// Callers that are named.
const CALLERS: usize = 3;

/// Why a release is where it is, in sentences, and what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release why reviews\n  \
    tulle release why shop/reviews")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Whom,
}

impl Args {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let asked = self.which.asked()?;
        let desk = Desk::find(&self.whom.place).await?;
        let view = desk.one(&asked).await?;
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(&view)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(&view)?,
            Format::Table | Format::Wide => text(&view, Canvas::of(self.whom.output, &desk)),
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// All of it.
pub(super) fn text(view: &ReleaseView, canvas: Canvas) -> String {
    let plain = |text: &str| canvas.text("", text, Tone::Plain);
    let mut text = canvas.text("", &place(view), Tone::Strong);
    text += &plain(&format!("Why: {}.", view.reason.trim_end_matches('.')));
    if !view.problems.is_empty() {
        let told = view.problems.join("; ");
        text += &plain(&format!(
            "Wrong in the Release itself: {told}. What is refused changes nothing."
        ));
    }
    let judged = is_under_way(view) || view.phase == Phase::Held;
    if view.of > 0 && !view.in_force {
        let late = view.laggards.join(", ");
        let late = if late.is_empty() { String::new() } else { format!("; not yet: {late}") };
        text += &plain(&format!("{} of {} proxies that call it do so{late}.", view.on, view.of));
    } else if view.of > 0 && judged {
        text += &plain(&format!("In force on all {} proxies that call it.", view.of));
    }
    if judged {
        text += "\n";
        for one in &view.gates {
            let state = (format!("{}:", one.state.to_lowercase()), gates::tone(one));
            text += &canvas.said(state, &gate(one, view));
        }
        if let Some(told) = samples(view) {
            text += &plain(&told);
        }
        if let Some(told) = callers(view) {
            text += &plain(&told);
        }
    }
    text += &format!("\n{}", plain(&format!("What to do: {}.", advice(view))));
    if view.phase == Phase::Held {
        text += &screen::undo(view, canvas);
    }
    text
}

/// Where it is.
fn place(view: &ReleaseView) -> String {
    let ReleaseView { canary, stable, target, step, steps, .. } = view;
    let name = title(view);
    match view.phase {
        _ if stable.is_empty() => format!("Release {name} of {target} has seen no version yet."),
        Phase::Idle => format!("{name} is idle: {stable} is the version of {target}."),
        Phase::Waiting => format!("{name} waits: {canary} shall replace {stable} of {target}."),
        Phase::Promoting => format!(
            "{name} is being promoted: {canary} replaces {stable} of {target}, pod by pod; it gets {} of the requests.",
            weight(view.share)
        ),
        Phase::Promoted => format!("{name} is done: {stable} is the version of {target}."),
        Phase::Held if view.share > 0.0 => format!(
            "{name} is held: {canary} of {target} takes over no further; what {stable} cannot carry, {}, goes to its pods that were let in before.",
            weight(view.share)
        ),
        Phase::Held if !canary.is_empty() => format!(
            "{name} is held: {canary} of {target} gets no requests, {stable} serves all of them."
        ),
        Phase::Held | Phase::RolledBack => {
            format!("{name} has gone back: {stable} is the version of {target}.")
        }
        Phase::Progressing | Phase::Paused => {
            let what = if view.phase == Phase::Paused { "is paused" } else { "goes on" };
            let capped = match view.capped {
                true => format!(
                    ", and not the {} that it shall get: its {} pods carry no more without more load each than those of {stable} have, and `maxSurge` of the Deployment says how many there can be",
                    weight(view.weight),
                    view.pods.canary.serving
                ),
                false => String::new(),
            };
            let place = match step {
                0 => "before its first step".to_owned(),
                _ => format!("in step {step} of {}", steps.len()),
            };
            format!(
                "{name} {what}: {canary}, which shall replace {stable} of {target}, is {place} and gets {} of the requests{capped}.",
                weight(view.share)
            )
        }
    }
}

/// What a gate says, with its arithmetic.
fn gate(gate: &GateView, view: &ReleaseView) -> String {
    let GateView { gate: name, evidence, proof, .. } = gate;
    match name.as_str() {
        "errors" => {
            let (told, chance) = (compared(gate, view.errors, "failed"), chance(gate));
            format!("{told} {chance}")
        }
        "latency" => {
            let what = match view.slower_than {
                Some(edge) => format!("took longer than {}", time(Some(edge))),
                None => "were slow (what that is is not known yet)".to_owned(),
            };
            format!("{} {}", compared(gate, view.slow, &what), chance(gate))
        }
        "restarts" => {
            let (ended, most) = (number(*evidence), number((proof - 1.0).max(0.0)));
            format!(
                "Restarts of the canary's containers in this step: {ended}; up to {most} are forgiven."
            )
        }
        _ if gate.why.is_empty() => format!("{name} has said nothing yet."),
        _ => format!("{name}: {}.", gate.why.trim_end_matches('.')),
    }
}

/// `2 of 1,840 requests to the canary failed (0.11 %), 36 of 35,760 to the stable version (0.10 %): 1.1 times as often.`
fn compared(gate: &GateView, pair: Pair, what: &str) -> String {
    let arm = |arm: Arm| match arm.share() {
        Some(part) => format!("{} of {} ({})", count(arm.bad), count(arm.all), share(part)),
        None => "none of none".to_owned(),
    };
    let (canary, stable) = (arm(pair.canary), arm(pair.stable));
    let times = match gates::ratio(gate).as_deref() {
        None | Some("∞") => String::new(),
        Some(times) => format!(": {times} times as often"),
    };
    format!(
        "Of the requests in this step {canary} to the canary {what}, and {stable} to the stable version{times}."
    )
}

/// What evidence means.
fn chance(gate: &GateView) -> String {
    let (evidence, proof) = (number(gate.evidence), number(gate.proof));
    // Of errors there are two numbers, of which the greater one is shown.
    let one = if gate.gate == "errors" { "two" } else { "one" };
    match gate.evidence {
        value if value >= gate.proof => format!(
            "Evidence {evidence}, and {proof} is proof: a version that is no worse than it may be gets there in fewer than {one} of {proof} releases."
        ),
        2.0.. => format!(
            "Evidence {evidence} of {proof}: a version that is no worse gets there in {one} of {evidence} releases at most, so it may be chance; from 10 on the step does not end, from {proof} on it is proof."
        ),
        _ => format!("Evidence {evidence} of {proof}: nothing speaks against it."),
    }
}

fn samples(view: &ReleaseView) -> Option<String> {
    let lacking = view.min_requests.saturating_sub(view.requests);
    let wanted = view.step > 0 && view.weight > 0.0 && is_under_way(view);
    (wanted && lacking > 0).then(|| {
        format!(
            "The canary has had {} of the {} requests that it takes to end a step.",
            count(view.requests),
            count(view.min_requests)
        )
    })
}

fn callers(view: &ReleaseView) -> Option<String> {
    let mut all: Vec<_> = view.callers.iter().filter(|one| one.errors.canary.all > 0).collect();
    all.sort_by_key(|one| std::cmp::Reverse((one.errors.canary.bad, one.errors.canary.all)));
    let each = all.iter().take(CALLERS).map(|one| {
        let Arm { all, bad } = one.errors.canary;
        format!("{} ({} failed of {})", one.name, count(bad), count(all))
    });
    let each: Vec<_> = each.collect();
    let more = match all.len().saturating_sub(CALLERS) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!each.is_empty()).then(|| format!("The canary is called by {}{more}.", each.join(", ")))
}

fn advice(view: &ReleaseView) -> String {
    let name = title(view);
    let doubted = view.gates.iter().find(|gate| gate.state == "Amber");
    match view.phase {
        _ if view.before.is_some() => "delete one of the two Releases".to_owned(),
        _ if view.stable.is_empty() => {
            "see that its target runs, and is spelled as it is".to_owned()
        }
        Phase::Idle => {
            "nothing; a release begins with the next change of the pod template".to_owned()
        }
        Phase::Promoted => "nothing".to_owned(),
        Phase::RolledBack => {
            "nothing here; a release begins with the next change of the pod template".to_owned()
        }
        Phase::Waiting => format!(
            "if it takes long, see why pods of {} do not serve: `kubectl -n {} get pods`, and `kubectl describe` of one; the application's own readiness counts, that of the sidecar does not. If a webhook is asked, see what it waits for, or go on without it: `tulle release step {name}`",
            view.canary, view.namespace
        ),
        Phase::Promoting => format!(
            "nothing; gates still watch, and `tulle release rollback {name}` still stops it"
        ),
        Phase::Paused => format!(
            "if what is said above is all right, `tulle release resume {name}`; if not, `tulle release rollback {name}`. If a gate turns red what `onFail` says is done all the same"
        ),
        Phase::Progressing if doubted.is_some() => format!(
            "wait: more requests make it clear, and the canary gets no more of them meanwhile. Whoever knows better says `tulle release rollback {name}` or `tulle release step {name}`"
        ),
        Phase::Progressing => match steps::next(view) {
            Some(next) => format!("nothing; next: {next}"),
            None => "nothing".to_owned(),
        },
        Phase::Held => {
            "undo the change, or repair it by a new one, which is released anew".to_owned()
        }
    }
}
