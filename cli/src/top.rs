//! `tulle top`: by which rules a workload or Service is called, as it happens.

use std::process::ExitCode;

use clap::Parser;
use tulle_control_plane::telemetry::view::{BadBy, RouteView, Signals, View};

use crate::{
    edges::{end, service},
    observe::{
        Error, Look, Page, Style, label,
        units::{percent, rate, time},
    },
    table::{Cell, Column, Table, Tone},
};

/// By which rules a workload or Service is called, as it happens.
///
/// Each line is a rule and a caller; below it the workloads that its requests went to, if they are several. What failed most
/// comes first. TRIES: attempts for each request, which is what retries cost. BAD BY: what did not end well, also by the
/// caller's fault, in percent of all requests. Without a terminal, or with --once, it is printed once.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle top -n shop reviews           until you type q\n  \
    tulle top -n shop                   everything that is called in a namespace\n  \
    tulle top -n shop reviews --once    the last minutes that are over")]
pub(crate) struct Args {
    /// The workload or Service.
    #[arg(value_name = "NAME", value_parser = label)]
    target: Option<String>,
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: String,
    /// Print it once. Rules that nobody watched are known by the minute.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    look: Look,
}

const COLUMNS: [Column; 9] = [
    Column::text("ROUTE", 0),
    Column::text("CALLER", 0),
    Column::text("SERVICE", 4),
    Column::numbers("RPS", 0),
    Column::numbers("OK%", 0),
    Column::numbers("P50", 3),
    Column::numbers("P99", 1),
    Column::numbers("TRIES", 2),
    Column::text("BAD BY", 0),
];
/// Ways to fail that are named.
const REASONS: usize = 3;

struct Top {
    query: String,
}

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let name = args.target.as_ref().map(|name| format!("&name={name}")).unwrap_or_default();
    let top = Top { query: format!("namespace={}{name}", args.namespace) };
    let stay = !args.once && std::io::IsTerminal::is_terminal(&std::io::stdout());
    args.look.print(&top, stay)
}

impl Page for Top {
    type Item = RouteView;

    fn path(&self) -> String {
        format!("/telemetry/routes?{}", self.query)
    }

    fn table(&self, view: &View<RouteView>, style: Style) -> String {
        let mut items: Vec<_> = view.items.iter().collect();
        items.sort_by_key(|item| std::cmp::Reverse(item.signals.bad));
        let mut table = Table::of(&COLUMNS, style.colored);
        for item in items {
            let route = item.route.clone().unwrap_or_else(|| "(none)".to_owned());
            let called = item.service.as_deref().map(service).unwrap_or_default();
            table.push(row([route, end(&item.caller), called], &item.signals));
            if let [_, _, ..] = item.backends.as_slice() {
                for backend in &item.backends {
                    let to = format!("└ {}", end(&backend.to));
                    table.push(row([to, String::new(), String::new()], &backend.signals));
                }
            }
        }
        match table.is_empty() {
            true => format!("nobody has called it within {} s\n", view.window),
            false => table.to_string(),
        }
    }
}

fn row([route, caller, service]: [String; 3], signals: &Signals) -> Vec<Cell> {
    let bad = signals.ok.is_some_and(|ok| ok < 99.0);
    let attempts = signals.attempts.map(|attempts| format!("{attempts:.2}"));
    vec![
        route.into(),
        caller.into(),
        service.into(),
        rate(signals.rps).into(),
        Cell::new(&percent(signals.ok), if bad { Tone::Bad } else { Tone::Plain }),
        time(signals.p50).into(),
        time(signals.p99).into(),
        attempts.unwrap_or_default().into(),
        bad_by(signals).into(),
    ]
}

/// `timeout 0.30%, 503 0.10%, …`
fn bad_by(signals: &Signals) -> String {
    let part = |BadBy { reason, requests }: &BadBy| {
        #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
        let percent = 100.0 * *requests as f64 / signals.requests.max(1) as f64;
        format!("{reason} {percent:.2}%")
    };
    let mut parts: Vec<_> = signals.bad_by.iter().take(REASONS).map(part).collect();
    if signals.bad_by.len() > REASONS {
        parts.push("…".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use tulle_control_plane::telemetry::view::{BackendView, End};

    use super::*;

    #[test]
    fn what_fails_most_comes_first_with_its_backends() {
        let to = |name: &str| End { namespace: "shop".to_owned(), name: name.to_owned() };
        let signals = |requests, bad| Signals {
            requests,
            bad,
            rps: 10.0,
            ok: Some(100.0 - 100.0 * f64::from(u32::try_from(bad).unwrap()) / 1000.0),
            attempts: Some(1.5),
            bad_by: vec![BadBy { reason: "timeout".to_owned(), requests: bad }],
            ..Signals::default()
        };
        let item = |route: Option<&str>, signals: Signals, backends| RouteView {
            route: route.map(str::to_owned),
            caller: to("web"),
            service: Some("reviews.shop.svc.cluster.local:9080".to_owned()),
            signals,
            backends,
        };
        let backend = |name: &str, bad| BackendView { to: to(name), signals: signals(500, bad) };
        let items = vec![
            item(None, signals(1000, 0), vec![backend("reviews-v1", 0)]),
            item(
                Some("HTTPRoute/shop/r#0"),
                signals(1000, 3),
                vec![backend("reviews-v1", 1), backend("reviews-v2", 2)],
            ),
        ];
        let view =
            View { window: 60.0, whole: 3600.0, items, unheard: Vec::new(), shortened: false };
        let lines =
            Top { query: String::new() }.table(&view, Style { wide: false, colored: false });
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "ROUTE               CALLER    SERVICE             RPS    OK%  P50  P99  TRIES  BAD BY",
                "HTTPRoute/shop/r#0  shop/web  reviews.shop:9080  10.0  99.70    -    -   1.50  timeout 0.30%",
                "└ shop/reviews-v1   -         -                  10.0  99.90    -    -   1.50  timeout 0.20%",
                "└ shop/reviews-v2   -         -                  10.0  99.80    -    -   1.50  timeout 0.40%",
                "(none)              shop/web  reviews.shop:9080  10.0    100    -    -   1.50  timeout 0.00%",
            ]
        );
    }
}
