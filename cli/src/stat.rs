//! `tulle stat`: how workloads do.

use std::process::ExitCode;

use clap::Parser;
use tulle_control_plane::telemetry::view::{TREND_POINT, View, WorkloadView};

use crate::{
    observe::{
        Error, Look, Page, Style, label,
        units::{bytes, percent, rate, time, trend},
    },
    table::{Cell, Column, Table, Tone},
};

/// How workloads do: requests, success, latency, mTLS.
///
/// Figures are what a workload's own sidecars saw come in; of one without sidecars, what its callers' saw. They are of the last
/// minute, up to a slot of ten seconds that is over, or while somebody watches of the last ten seconds. OK%: requests that did
/// not fail by the fault of server or mesh; what policy denied or a caller gave up is not among the failures. REPORT: pods whose
/// sidecars have reported within 35 seconds, of all pods; what the others did is not in the figures. TREND: a dot is a minute of
/// which nothing is known.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle stat                       every workload\n  \
    tulle stat -n shop deploy        the Deployments of a namespace\n  \
    tulle stat -n shop reviews -w    one workload, drawn anew every second\n  \
    tulle stat -o json | jq '.items[] | select(.signals.ok < 99)'")]
pub(crate) struct Args {
    /// A kind (`deploy`, `sts`, `ds`, `pod`, …), a name, or KIND/NAME.
    #[arg(value_name = "WORKLOAD")]
    workload: Option<String>,
    /// Only this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    /// Stay, and draw it anew every second. Sidecars report every second for it, but for a name without a namespace.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    look: Look,
}

/// Kinds by the names that people type.
const KINDS: [(&str, &[&str]); 7] = [
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
    ("ReplicaSet", &["replicaset", "replicasets", "rs"]),
    ("Job", &["job", "jobs"]),
    ("CronJob", &["cronjob", "cronjobs", "cj"]),
    ("Pod", &["pod", "pods", "po"]),
];

const COLUMNS: [Column; 15] = [
    Column::text("NAMESPACE", 4),
    Column::text("NAME", 0),
    Column::numbers("RPS", 0),
    Column::numbers("OK%", 0),
    Column::numbers("P50", 2),
    Column::numbers("P99", 0),
    Column::numbers("MTLS%", 3),
    Column::numbers("IN", 6),
    Column::numbers("OUT", 6),
    Column::numbers("CONN/S", 7),
    Column::numbers("REPORT", 1),
    Column::numbers("P95", 8),
    Column::numbers("RECEIVED", 9),
    Column::numbers("SENT", 9),
    Column::text("TREND 15m", 5),
];
/// Those between the first and the last that only `wide` has.
const WIDE: std::ops::Range<usize> = 11..14;

/// Which workloads.
#[derive(Default)]
struct Stat {
    namespace: Option<String>,
    kind: Option<&'static str>,
    name: Option<String>,
}

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let named = args.workload.as_deref().map_or(Ok(Stat::default()), Stat::named)?;
    args.look.print(&Stat { namespace: args.namespace.clone(), ..named }, args.watch)
}

impl Stat {
    /// A kind, a name, or both.
    fn named(text: &str) -> Result<Self, Error> {
        let (kind, name) = match text.split_once('/') {
            Some((wanted, name)) => {
                let wrong = || {
                    Error::Usage(format!(
                        "{wanted:?} is no kind of workload: write deploy, sts, ds, rs, job, cronjob or pod, or the name alone; the namespace goes behind -n"
                    ))
                };
                (Some(kind(wanted).ok_or_else(wrong)?), Some(name.to_owned()))
            }
            None => match kind(text) {
                Some(kind) => (Some(kind), None),
                None => (None, Some(text.to_owned())),
            },
        };
        if let Some(name) = &name {
            label(name).map_err(|why| Error::Usage(format!("{name:?}: {why}")))?;
        }
        Ok(Self { namespace: None, kind, name })
    }
}

impl Page for Stat {
    type Item = WorkloadView;

    fn path(&self) -> String {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => {
                format!("/telemetry/stat?namespace={namespace}&name={name}")
            }
            (Some(namespace), None) => format!("/telemetry/stat?namespace={namespace}"),
            (None, _) => "/telemetry/stat".to_owned(),
        }
    }

    fn is_narrow(&self) -> bool {
        self.namespace.is_some() || self.name.is_none()
    }

    fn keep(&self, item: &WorkloadView) -> bool {
        self.kind.is_none_or(|kind| item.kind == kind)
            && self.name.as_ref().is_none_or(|name| item.name == *name)
    }

    fn table(&self, view: &View<WorkloadView>, style: Style) -> String {
        let shown = |index: usize| style.wide || !WIDE.contains(&index);
        let columns = COLUMNS.into_iter().enumerate().filter(|(index, _)| shown(*index));
        let columns: Vec<_> = columns.map(|(_, column)| column).collect();
        let mut table = Table::of(&columns, style.colored);
        for item in &view.items {
            let cells = row(item).into_iter().enumerate().filter(|(index, _)| shown(*index));
            table.push(cells.map(|(_, cell)| cell).collect());
        }
        let mut quiet: String = view.items.iter().filter_map(uncounted).collect();
        quiet.extend(trends_in_part(view));
        if table.is_empty() { "no such workload\n".to_owned() } else { format!("{table}{quiet}") }
    }
}

/// The kind that people mean by this name.
pub(crate) fn kind(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    KINDS.iter().find(|(_, names)| names.contains(&text.as_str())).map(|(kind, _)| *kind)
}

/// That trends go back to when not all replicas of the control plane were there.
fn trends_in_part(view: &View<WorkloadView>) -> Option<String> {
    let minutes = view.items.iter().map(|item| item.trend.iter().flatten().count()).max()?;
    let whole = (view.whole / f64::from(TREND_POINT)).floor();
    let known = f64::from(u32::try_from(minutes).unwrap_or(u32::MAX));
    (known > whole).then(|| {
        format!("TREND: of what was more than {whole} min ago it is known in part: a replica of the control plane began then\n")
    })
}

/// That its sidecars count nothing, and why, where it is so.
fn uncounted(item: &WorkloadView) -> Option<String> {
    let WorkloadView { namespace, name, pods, uncounted, uncounted_by, .. } = item;
    let by = uncounted_by.join(", ");
    (*uncounted > 0).then(|| {
        format!("{namespace}/{name}: {uncounted} of {pods} pods count nothing: metrics are disabled by Telemetry {by}\n")
    })
}

fn row(item: &WorkloadView) -> [Cell; 15] {
    let signals = &item.signals;
    let told = signals.requests > 0 || signals.connections > 0.0;
    let number = |text: String| Cell::from(text);
    let bad = |bad: bool, text: &str| Cell::new(text, if bad { Tone::Bad } else { Tone::Plain });
    // Without a sidecar anywhere nothing is known, which is not the same as nothing.
    let known = item.known && (item.reporting > 0 || told);
    let rate = |value: f64| if known { rate(value) } else { String::new() };
    [
        item.namespace.clone().into(),
        item.name.clone().into(),
        number(rate(signals.rps)),
        bad(signals.ok.is_some_and(|ok| ok < 99.0), &percent(signals.ok)),
        number(time(signals.p50)),
        number(time(signals.p99)),
        bad(signals.mtls.is_some_and(|mtls| mtls < 100.0), &percent(signals.mtls)),
        number(item.callers.to_string()),
        number(item.callees.to_string()),
        number(rate(signals.connections)),
        bad(item.reporting < item.pods, &format!("{}/{}", item.reporting, item.pods)),
        number(time(signals.p95)),
        number(bytes(signals.received)),
        number(bytes(signals.sent)),
        number(trend(&item.trend)),
    ]
}

#[cfg(test)]
mod tests {
    use tulle_control_plane::telemetry::view::Signals;

    use super::*;

    #[test]
    fn what_is_not_known_is_not_zero() {
        let item = |name: &str, reporting, signals: Signals| WorkloadView {
            namespace: "shop".to_owned(),
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
            signals,
            callers: 1,
            callees: 4,
            pods: 2,
            known: name != "quiet",
            reporting,
            uncounted: if name == "quiet" { 2 } else { 0 },
            uncounted_by: if name == "quiet" { vec!["shop/q".to_owned()] } else { Vec::new() },
            trend: vec![None, Some(1.0), Some(2.0)],
        };
        let busy = Signals {
            requests: 24720,
            rps: 412.0,
            ok: Some(99.98),
            p50: Some(0.008),
            p99: Some(0.061),
            mtls: Some(100.0),
            ..Signals::default()
        };
        let items = vec![
            item("frontend", 2, busy),
            item("idle", 2, Signals::default()),
            item("unmeshed", 0, Signals::default()),
            item("quiet", 2, Signals::default()),
        ];
        let view =
            View { window: 60.0, whole: 3600.0, items, unheard: Vec::new(), shortened: false };
        let style = |wide| Style { wide, colored: false };
        let lines = Stat::default().table(&view, style(false));
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE  NAME      RPS    OK%    P50   P99  MTLS%  IN  OUT  CONN/S  REPORT  TREND 15m",
                "shop       frontend  412  99.98  8.0ms  61ms    100   1    4       0     2/2  ·▅█",
                "shop       idle        0      -      -     -      -   1    4       0     2/2  ·▅█",
                "shop       unmeshed    -      -      -     -      -   1    4       -     0/2  ·▅█",
                "shop       quiet       -      -      -     -      -   1    4       -     2/2  ·▅█",
                "shop/quiet: 2 of 2 pods count nothing: metrics are disabled by Telemetry shop/q",
            ]
        );
        let young = View { whole: 70.0, ..view };
        let last = Stat::default().table(&young, style(false)).lines().last().map(str::to_owned);
        assert!(last.is_some_and(|last| last.contains("more than 1 min ago it is known in part")));
        let wide = Stat::default().table(&young, style(true));
        assert!(wide.contains("P95") && wide.contains("RECEIVED"), "{wide}");
    }

    #[test]
    fn only_what_is_named_is_asked_for_and_watched() {
        let path = |namespace: Option<&str>, text: &str| {
            let named = Stat::named(text).ok().unwrap();
            let stat = Stat { namespace: namespace.map(str::to_owned), ..named };
            (stat.path(), stat.is_narrow())
        };
        let stat = |query: &str| format!("/telemetry/stat{query}");
        assert_eq!(path(Some("shop"), "web"), (stat("?namespace=shop&name=web"), true));
        assert_eq!(path(Some("shop"), "deploy/web"), (stat("?namespace=shop&name=web"), true));
        assert_eq!(path(Some("shop"), "deploy"), (stat("?namespace=shop"), true));
        assert_eq!(path(None, "deploy"), (stat(""), true));
        // In which namespaces there is such a workload nobody knows before all were asked for.
        assert_eq!(path(None, "web"), (stat(""), false));
    }

    #[test]
    fn kinds_have_short_names() {
        for (text, kind, name) in [
            ("deploy", Some("Deployment"), None),
            ("STS", Some("StatefulSet"), None),
            ("reviews", None, Some("reviews")),
            ("deploy/reviews", Some("Deployment"), Some("reviews")),
        ] {
            let found = Stat::named(text).ok().unwrap();
            assert_eq!((found.kind, found.name.as_deref()), (kind, name), "{text}");
        }
        assert!(Stat::named("web&watch=true").is_err());
        let wrong = Stat::named("shop/reviews").err().unwrap().to_string();
        assert!(wrong.contains("behind -n"), "{wrong}");
    }
}
