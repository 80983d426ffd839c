//! `tulle lane check`.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use tokio::time::sleep;
use tulle_control_plane::{
    console::{LaneView, LanesView, PassedView},
    telemetry::lanes::By,
};

use super::{ask, list::doubts, verdict, verdict::Finding, ways_in};
use crate::{
    observe::{Error, Format, Source, Which, Whom, colored, units},
    table::{Cell, Column, Table, Tone},
};

/// Sidecars report within this time once somebody looks.
const LISTENS: Duration = Duration::from_secs(2);

/// Find the hop that loses a lane.
///
/// For each workload: how many requests of the lane it got, and what it sent meanwhile, in the lane and in none. Who forwards neither
/// `baggage` nor `traceparent` is named, and what to do. What was sent in no lane while other requests were answered as well may be
/// theirs: that is said as `perhaps`. The command listens for two seconds first, so that what was just sent is counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle lane check pr-1234 -n shop\n  \
    tulle lane check pr-1234 --window 15m     in all namespaces that have a lane of this name\n  \
    tulle lane check pr-1234 -o json | jq '.findings'\n\n\
    Exit codes: 0 no hop loses it, 3 one does, 4 perhaps one does, or no request of it was seen, 1 nobody could\n\
    be asked.")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// What time figures are of: 30s, 5m; at most 15m.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "5m")]
    window: Duration,
    #[command(flatten)]
    whom: Whom,
}

/// For programs.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    view: LanesView,
    findings: Vec<Finding>,
}

const COLUMNS: [Column; 7] = [
    Column::text("WORKLOAD", 0),
    Column::numbers("GOT", 0),
    Column::text("SENT TO", 0),
    Column::numbers("IN LANE", 0),
    Column::text("BY", 2),
    Column::numbers("IN NONE", 0),
    Column::numbers("ALONE", 1),
];

impl Args {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let source = Source::find(&self.whom.place).await?;
        let asked = self.which.asked()?;
        let of = (asked.namespace.as_deref(), Some(asked.name.as_str()));
        // Who looks is told by the second from then on; what came until now may still be on its way.
        let known = ask(&source, of, self.window, true).await?;
        if known.items.is_empty() {
            let name = &asked.name;
            let told = format!("there is no Lane {name}; `tulle lane list` says which there are");
            return Err(Error::Usage(told));
        }
        sleep(LISTENS).await;
        let view = ask(&source, of, self.window, true).await?;
        let findings = verdict::findings(&view.items);
        let code = verdict::code(&view.items, &findings);
        let checked = Checked { view, findings };
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(&checked)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(&checked)?,
            Format::Table | Format::Wide => {
                told(&checked.view, &checked.findings, colored()) + &doubts(&checked.view)
            }
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::from(code))
    }
}

/// For people.
pub(super) fn told(view: &LanesView, findings: &[Finding], colored: bool) -> String {
    let mut text = String::new();
    let time = units::span(view.window);
    for lane in &view.items {
        let LaneView { namespace, name, .. } = lane;
        if lane.known_by.values().sum::<u64>() == 0 {
            text += &format!("{namespace}/{name}: no request of it was seen in the last {time}\n");
            let ways = ways_in(lane).into_iter().map(|way| format!("  into it: {way}\n"));
            text += &ways.collect::<String>();
            continue;
        }
        text += &format!("{namespace}/{name}, in the last {time}:\n");
        text += &hops(lane, colored);
    }
    for finding in findings {
        let Finding { sure, says, remedy, .. } = finding;
        let (word, tone) = match sure {
            verdict::Sure::Loses => ("LOST", Tone::Bad),
            verdict::Sure::Perhaps => ("perhaps", Tone::Doubtful),
            verdict::Sure::Note => ("note", Tone::Plain),
        };
        text += &format!("\n{}: {says}\n", tone.paint(word, colored));
        if !remedy.is_empty() {
            text += &format!("  -> {remedy}\n");
        }
    }
    let seen = view.items.iter().any(|lane| !lane.known_by.is_empty());
    if seen && !findings.iter().any(|finding| finding.sure != verdict::Sure::Note) {
        text += &format!("\n{}: no hop loses it\n", Tone::Good.paint("ok", colored));
    }
    text
}

/// What each workload got and sent.
fn hops(lane: &LaneView, colored: bool) -> String {
    let mut table = Table::of(&COLUMNS, colored);
    for workload in &lane.workloads {
        let got: u64 = workload.received.iter().map(|one| one.requests).sum();
        let to = verdict::destinations(&workload.sent);
        // A workload's name stands once.
        let mut own = std::iter::once([workload.name.clone(), got.to_string()]);
        let mut row = |rest: [Cell; 5]| {
            let own = own.next().unwrap_or_default().map(Cell::from);
            table.push(own.into_iter().chain(rest).collect());
        };
        for (peer, sent) in &to {
            row(passed(peer, sent));
        }
        if to.is_empty() {
            row(std::array::from_fn(|_| String::new().into()));
        }
    }
    table.to_string()
}

/// What it sent to one other.
fn passed(peer: &str, sent: &[&PassedView]) -> [Cell; 5] {
    let within = sent.iter().filter(|one| one.by.is_in());
    let by: BTreeSet<_> = within.clone().map(|one| word(one.by)).collect();
    let by: Vec<_> = by.into_iter().collect();
    let within: u64 = within.map(|one| one.requests).sum();
    let outside: u64 = sent.iter().filter(|one| !one.by.is_in()).map(|one| one.requests).sum();
    let alone: u64 = sent.iter().map(|one| one.alone).sum();
    let tone = if outside > 0 { Tone::Doubtful } else { Tone::Plain };
    [
        peer.to_owned().into(),
        within.to_string().into(),
        by.join(", ").into(),
        Cell::new(&outside.to_string(), tone),
        alone.to_string().into(),
    ]
}

/// As it stands in headers.
fn word(by: By) -> &'static str {
    match by {
        By::Baggage => "baggage",
        By::Tracestate => "tracestate",
        By::Entry => "entry",
        By::Traceparent => "traceparent",
        By::Nothing | By::UnknownTrace | By::Unclear => "",
    }
}
