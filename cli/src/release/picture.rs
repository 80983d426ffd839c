//! A release on a screen.

use tulle_control_plane::{
    release::Pair,
    steer::{GateView, ReleaseView, SecondView},
};
use tulle_xds::text::printable;

use super::{is_under_way, versions, words};
use crate::{
    observe::{colored, units},
    table::{Cell, Column, Table, Tone, terminal_width},
};

/// Of the bar of evidence.
const EVIDENCE: usize = 12;
/// Seconds of a small chart.
const CHART: usize = 30;
/// Where the table stands among the lines; no line of text has this.
const TABLE: &str = "\0";
/// Entries of the history that are shown.
const LOG: usize = 4;

/// How it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) width: usize,
    pub(super) colored: bool,
}

impl Style {
    pub(super) fn of_terminal() -> Self {
        Self { width: terminal_width().unwrap_or(120), colored: colored() }
    }
}

/// All that is to be seen of it.
pub(super) fn draw(release: &ReleaseView, style: Style) -> String {
    let mut table = String::new();
    let mut lines = vec![headline(release), release.reason.clone()];
    if !release.steps.is_empty() {
        lines.push(track(release));
    }
    if is_under_way(release.phase) || release.requests > 0 {
        lines.push(String::new());
        table = gates(release, style);
        lines.push(TABLE.to_owned());
        let (requests, least) = (release.requests, release.min_requests);
        lines.push(format!("samples   {requests} of {least} needed in this step"));
        lines.extend(charts(&release.curve));
    }
    lines.push(pods(release));
    let callers =
        release.callers.iter().map(|caller| share_of(release, &caller.name, caller.errors));
    let callers: Vec<_> = callers.collect();
    if !callers.is_empty() {
        lines.push(format!("callers   {}", callers.join("   ")));
    }
    let log = release.history.iter().take(LOG);
    lines.extend(log.map(|entry| {
        let who = if entry.who.is_empty() { String::new() } else { format!("  by {}", entry.who) };
        let why = if entry.why.is_empty() { String::new() } else { format!("  ({})", entry.why) };
        format!("{}  {}{who}{why}", time(entry.at), entry.did)
    }));
    lines.extend(words::remedy(release));
    let fit = |line: &String| -> String {
        match line.as_str() {
            // It fits by itself, and has colors of its own.
            TABLE => table.trim_end().to_owned(),
            line => printable(line).chars().take(style.width).collect(),
        }
    };
    lines.iter().map(fit).collect::<Vec<_>>().join("\n") + "\n"
}

fn headline(release: &ReleaseView) -> String {
    let ReleaseView { namespace, name, phase, .. } = release;
    let mut parts = vec![format!("{namespace}/{name}"), format!("{phase:?}"), versions(release)];
    if release.step > 0 {
        parts.push(format!("step {} of {}", release.step, release.steps.len()));
    }
    if is_under_way(release.phase) {
        let capped = if release.capped { ", capped by its pods" } else { "" };
        parts.push(format!("weight {}{capped}", percent(release.share)));
    }
    parts.push(format!("on {} of {} proxies", release.on, release.of));
    parts.join("   ")
}

/// `✔ 1 % ── ◐ 5 % 29 of 120 s ── ○ 25 % ── ○ promotion`.
fn track(release: &ReleaseView) -> String {
    let steps = release.steps.iter().enumerate().map(|(at, step)| {
        let number = at + 1;
        let extra = [
            (step.matches > 0, " + matches"),
            (step.mirror > 0, " + mirror"),
            (step.approve, ", approved"),
        ];
        let extra: String = extra.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
        let weight = percent(step.weight);
        match number.cmp(&release.step) {
            _ if release.canary.is_empty() => format!("○ {weight}{extra}"),
            std::cmp::Ordering::Less => format!("✔ {weight}{extra}"),
            std::cmp::Ordering::Equal => {
                format!("◐ {weight}{extra} {} of {} s", release.spent, step.lasts)
            }
            std::cmp::Ordering::Greater => format!("○ {weight}{extra}"),
        }
    });
    steps.chain(["○ promotion".to_owned()]).collect::<Vec<_>>().join(" ── ")
}

fn gates(release: &ReleaseView, style: Style) -> String {
    const COLUMNS: [Column; 6] = [
        Column::text("GATE", 0),
        Column::text("STATE", 0),
        Column::numbers("NEW", 1),
        Column::numbers("OLD", 1),
        Column::text("EVIDENCE", 2),
        Column::text("WHY", 3),
    ];
    let mut table = Table::of(&COLUMNS, style.colored);
    for gate in &release.gates {
        let tone = if gate.state == "Green" { Tone::Plain } else { Tone::Bad };
        let share =
            |share: Option<f64>| share.map(|share| percent(share * 100.0)).unwrap_or_default();
        table.push(vec![
            gate.gate.clone().into(),
            Cell::new(&gate.state.to_lowercase(), tone),
            share(gate.canary).into(),
            share(gate.stable).into(),
            bar(gate).into(),
            gate.why.clone().into(),
        ]);
    }
    table.to_string()
}

/// How far it is to proof, by orders of magnitude: nobody sees 10 of 3000 otherwise.
fn bar(gate: &GateView) -> String {
    let part = gate.evidence.max(1.0).ln() / gate.proof.max(2.0).ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few blocks")]
    let full = ((part.clamp(0.0, 1.0) * 12.0).round() as usize).min(EVIDENCE);
    format!("{}{}", "█".repeat(full), "·".repeat(EVIDENCE - full))
}

fn charts(curve: &[SecondView]) -> Vec<String> {
    if curve.is_empty() {
        return Vec::new();
    }
    let last = &curve[curve.len().saturating_sub(CHART)..];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let line = |what: &str, of: fn(&Pair) -> u64| {
        let value = |second: &SecondView| second.told.then(|| of(&second.errors) as f64);
        let values: Vec<_> = last.iter().map(value).collect();
        let lately = || values.iter().rev().take(10).flatten();
        let rate = lately().sum::<f64>() / lately().count().max(1) as f64;
        format!("{what}  {}  {rate:.1}/s", units::trend(&values))
    };
    vec![
        line("rps new ", |errors| errors.canary.all),
        line("rps old ", |errors| errors.stable.all),
        line("err new ", |errors| errors.canary.bad),
        line("err old ", |errors| errors.stable.bad),
    ]
}

fn pods(release: &ReleaseView) -> String {
    let squares = |serving: u32, wanted: u32| {
        let (full, rest) = (serving.min(20), wanted.saturating_sub(serving).min(20));
        format!("{}{}", "▣".repeat(full as usize), "□".repeat(rest as usize))
    };
    let of = |version: &str, pods: tulle_control_plane::steer::PodsView| {
        let drawn = squares(pods.serving, pods.wanted);
        format!("{version} {drawn} {} of {} serve", pods.serving, pods.wanted)
    };
    let stable = of(&release.stable, release.pods.stable);
    match release.canary.as_str() {
        "" => format!("pods      {stable}"),
        canary => format!("pods      {}   {stable}", of(canary, release.pods.canary)),
    }
}

/// Whose requests to the new version they are.
fn share_of(release: &ReleaseView, caller: &str, errors: Pair) -> String {
    let all: u64 = release.callers.iter().map(|one| one.errors.canary.all).sum();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let share = match all {
        0 => 0.0,
        all => errors.canary.all as f64 / all as f64 * 100.0,
    };
    format!("{caller} {share:.0} %")
}

/// `5 %`, `0.11 %`.
pub(super) fn percent(percent: f64) -> String {
    let text = format!("{percent:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

/// In RFC 3339's form, of seconds since 1970.
pub(super) fn time(at: u64) -> String {
    i64::try_from(at).ok().and_then(units::instant).unwrap_or_default()
}
