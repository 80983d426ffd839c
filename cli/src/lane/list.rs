//! `tulle lane list`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use tulle_control_plane::{
    console::{LaneView, LanesView},
    telemetry::lanes::By,
};

use super::{ask, ways_in};
use crate::{
    observe::{Error, Format, Source, Whom, colored, label, units},
    table::{Cell, Column, Table, Tone},
};

/// Lanes, their pods and their requests.
///
/// PODS: of each Service that leads to some of the lane, those that are ready. REQ/S: each hop of each request once. ENTRY, BAGGAGE,
/// STATE, TRACE: how many were known to be in the lane by what it says of its entry, by their baggage, by tracestate, and by
/// traceparent alone. LOST?: sent in no lane by workloads that were answering requests of it; `tulle lane check` says more. IDLE:
/// since the last one was told of.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle lane list           all that you may see\n  \
    tulle lane list -n shop --window 5m\n  \
    tulle lane list -o json | jq '.items[].name'")]
pub(super) struct Args {
    /// Only this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    /// What time figures are of: 30s, 5m; at most 15m.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "1m")]
    window: Duration,
    #[command(flatten)]
    whom: Whom,
}

const COLUMNS: [Column; 11] = [
    Column::text("NAMESPACE", 3),
    Column::text("NAME", 0),
    Column::text("PODS", 1),
    Column::numbers("FORCE", 8),
    Column::numbers("REQ/S", 2),
    Column::numbers("ENTRY", 4),
    Column::numbers("BAGGAGE", 5),
    Column::numbers("STATE", 7),
    Column::numbers("TRACE", 6),
    Column::numbers("LOST?", 2),
    Column::numbers("IDLE", 3),
];
/// As long as it is.
const WAY: Column = Column::text("INTO IT", 0);

impl Args {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let source = Source::find(&self.whom.place).await?;
        let all = ask(&source, (self.namespace.as_deref(), None), self.window, false).await?;
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(&all)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(&all)?,
            format => table(&all, format, colored()) + &doubts(&all),
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// For people. How a request enters stands behind the rest in [`Format::Wide`].
pub(super) fn table(all: &LanesView, format: Format, colored: bool) -> String {
    let wide = format == Format::Wide;
    if all.items.is_empty() {
        return "there are no lanes; `tulle lane open NAME` prints one\n".to_owned();
    }
    let columns: Vec<_> = COLUMNS.into_iter().chain(wide.then_some(WAY)).collect();
    let mut table = match wide {
        true => Table::within(&columns, None, colored),
        false => Table::of(&columns, colored),
    };
    for lane in &all.items {
        let way = wide.then(|| ways_in(lane).join("; or ").into());
        table.push(row(lane, all.window).into_iter().chain(way).collect());
    }
    table.to_string()
}

fn row(lane: &LaneView, window: f64) -> [Cell; 11] {
    let known = |by| lane.known_by.get(&by).copied().unwrap_or(0);
    let all: u64 = lane.known_by.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
    let rate = (window > 0.0).then(|| all as f64 / window);
    let force = (lane.of > 0).then(|| format!("{}/{}", lane.in_force, lane.of));
    let in_force = lane.in_force == lane.of;
    let sent = lane.workloads.iter().flat_map(|workload| &workload.sent);
    let lost: u64 = sent.filter(|sent| !sent.by.is_in()).map(|sent| sent.requests).sum();
    let pods = lane.services.iter().map(|one| format!("{} {}/{}", one.name, one.ready, one.pods));
    let pods = pods.collect::<Vec<_>>().join(", ");
    let ready = lane.services.iter().all(|one| one.ready == one.pods);
    let idle = lane.idle.map(units::span);
    [
        lane.namespace.clone().into(),
        lane.name.clone().into(),
        Cell::new(&pods, if ready { Tone::Plain } else { Tone::Doubtful }),
        Cell::new(&force.unwrap_or_default(), if in_force { Tone::Plain } else { Tone::Doubtful }),
        rate.map(|rate| format!("{rate:.1}")).unwrap_or_default().into(),
        known(By::Entry).to_string().into(),
        known(By::Baggage).to_string().into(),
        known(By::Tracestate).to_string().into(),
        known(By::Traceparent).to_string().into(),
        Cell::new(&lost.to_string(), if lost > 0 { Tone::Doubtful } else { Tone::Plain }),
        idle.unwrap_or_default().into(),
    ]
}

/// What keeps the answer from being whole.
pub(super) fn doubts(all: &LanesView) -> String {
    match all.unheard.is_empty() {
        true => String::new(),
        false => format!("incomplete: {} did not say what it knows\n", all.unheard.join(", ")),
    }
}
