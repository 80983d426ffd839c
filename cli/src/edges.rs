//! `tulle edges`: who calls whom.

use std::process::ExitCode;

use clap::Parser;
use tulle_control_plane::telemetry::view::{EdgeView, End, Travels, View};

use crate::{
    observe::{
        Error, Look, Page, Style, label,
        units::{bytes, percent, rate, time},
    },
    table::{Cell, Column, Table, Tone},
};

/// Who calls whom, and how: requests, success, latency, mTLS.
///
/// An edge's figures are its caller's sidecar's; where the caller has none, those of who is called. Without a namespace in front
/// it is no workload of the mesh: `internet`, `cluster-unmeshed` (an address of the cluster without sidecar), `unknown` (nobody
/// was reached), `other` (for want of room).
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle edges                   all of them\n  \
    tulle edges -n shop           those that begin or end in a namespace\n  \
    tulle edges -n shop reviews   those of one workload or Service\n  \
    tulle edges -o json | jq '.items[] | select(.security == \"plaintext\")'")]
pub(crate) struct Args {
    /// Only those of this workload or Service; -n says of which namespace.
    #[arg(value_name = "NAME", requires = "namespace", value_parser = label)]
    target: Option<String>,
    /// Only those that begin or end in this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    /// Stay, and draw it anew every second.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    look: Look,
}

const COLUMNS: [Column; 13] = [
    Column::text("FROM", 0),
    Column::text("TO", 0),
    Column::text("SERVICE", 4),
    Column::numbers("RPS", 0),
    Column::numbers("OK%", 0),
    Column::numbers("P50", 3),
    Column::numbers("P99", 1),
    Column::numbers("CONN/S", 5),
    Column::text("MTLS", 2),
    Column::numbers("TRIES", 7),
    Column::numbers("P95", 7),
    Column::numbers("RECEIVED", 8),
    Column::numbers("SENT", 8),
];
/// Columns from here on are for `wide`.
const WIDE: usize = 9;

struct Edges {
    query: String,
}

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let namespace = args.namespace.iter().map(|namespace| format!("namespace={namespace}"));
    let target = args.target.iter().map(|name| format!("name={name}"));
    let query = namespace.chain(target).collect::<Vec<_>>().join("&");
    args.look.print(&Edges { query }, args.watch)
}

/// NAMESPACE/NAME, or a class.
pub(crate) fn end(end: &End) -> String {
    match end.namespace.as_str() {
        "" => end.name.clone(),
        namespace => format!("{namespace}/{}", end.name),
    }
}

/// A Service's host as short as it can be: `reviews.shop:9080`.
pub(crate) fn service(host: &str) -> String {
    let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
    match host.split_once(".svc.") {
        Some((short, _)) => format!("{short}:{port}"),
        None => format!("{host}:{port}"),
    }
}

impl Page for Edges {
    type Item = EdgeView;

    fn path(&self) -> String {
        format!("/telemetry/edges?{}", self.query)
    }

    fn table(&self, view: &View<EdgeView>, style: Style) -> String {
        let count = if style.wide { COLUMNS.len() } else { WIDE };
        let mut table = Table::of(&COLUMNS[..count], style.colored);
        for item in &view.items {
            table.push(row(item).into_iter().take(count).collect());
        }
        match table.is_empty() {
            true => format!("nobody has called anybody within {} s\n", view.window),
            false => table.to_string(),
        }
    }
}

fn row(item: &EdgeView) -> [Cell; 13] {
    let signals = &item.signals;
    let bad = |bad: bool, text: &str| Cell::new(text, if bad { Tone::Bad } else { Tone::Plain });
    let travels = match item.security {
        None => bad(false, ""),
        Some(Travels::Mtls) => bad(false, "yes"),
        Some(Travels::Plaintext) => bad(true, "PLAINTEXT"),
    };
    let attempts = signals.attempts.map(|attempts| format!("{attempts:.2}"));
    [
        end(&item.from).into(),
        end(&item.to).into(),
        item.service.as_deref().map(service).unwrap_or_default().into(),
        rate(signals.rps).into(),
        bad(signals.ok.is_some_and(|ok| ok < 99.0), &percent(signals.ok)),
        time(signals.p50).into(),
        time(signals.p99).into(),
        rate(signals.connections).into(),
        travels,
        attempts.unwrap_or_default().into(),
        time(signals.p95).into(),
        bytes(signals.received).into(),
        bytes(signals.sent).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_can_be() {
        assert_eq!(service("reviews.shop.svc.cluster.local:9080"), "reviews.shop:9080");
        assert_eq!(service("example.org:443"), "example.org:443");
        let class = End { namespace: String::new(), name: "internet".to_owned() };
        assert_eq!(end(&class), "internet");
    }
}
