//! `tulle tap`: what just happened, request by request, and what happens.

mod line;

use std::{io, io::Write as _, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::time::sleep;
use tulle_control_plane::telemetry::{
    tap::{MOST, escape},
    view::TapView,
};

use self::line::Lines;
use crate::{
    observe::{Error, Format, Source, Style, Whom, colored, label, units::duration},
    stat,
    table::terminal_width,
};

/// What just happened, request by request, and what happens: who called whom, how it ended, and why.
///
/// Sidecars remember the last 256 requests and connections for each of their workers, also those of which the access log has no line.
/// First these are printed, then what ends while you watch; --once prints the first alone. A filter is about how a request ended, so
/// that it finds what has failed before anybody looked. Each sidecar tells of both of its sides: `in` is what came to the workload,
/// `out` what it called; a request that never left its caller is among that one's. Queries of paths are not shown.
///
/// Header fields are kept only while somebody asks for them, by --header or --show-header, so of what ended before they are not known.
/// Values of authorization, cookie, set-cookie, proxy-authorization, x-api-key and all other fields whose names say that they are
/// secret (token, session, …-key) are masked in the sidecar.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle tap -n shop payments                      what payments' sidecars see, until Ctrl-C\n  \
    tulle tap -n shop deploy/payments --status 5xx --slower 200ms --once\n  \
    tulle tap -n shop payments --failed --since 1m  what went wrong within a minute, and why\n  \
    tulle tap -n shop --to payments --outbound      how calls of payments look to its callers\n  \
    tulle tap -n shop pod/cart-7d9c-x2x9k --reason timeout -o wide\n  \
    tulle tap -n shop payments --header x-tenant=blue --show-header user-agent\n  \
    tulle tap -n shop payments -o json | jq .why\n\n\
    Reasons: connect, reset, timeout, no_endpoint, overflow, denied, tls, protocol, route_not_found,\n\
    invalid_backend, control_plane, external_refused, connection_limit, retired, canceled")]
pub(crate) struct Args {
    /// A workload, a pod or a Service: NAME or KIND/NAME (`deploy`, `sts`, `pod`, `svc`, …); all of the namespace if not given.
    #[arg(value_name = "NAME")]
    target: Option<String>,
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: String,
    /// Only these HTTP statuses: 404, 5xx, 400-499; several with commas.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only this gRPC status: UNAVAILABLE.
    #[arg(long, value_name = "NAME")]
    grpc_status: Option<String>,
    /// Only what took at least so long: 200ms, 2s.
    #[arg(long, value_name = "TIME", value_parser = short)]
    slower: Option<Duration>,
    /// Only what a sidecar ended for this reason.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only what ended otherwise than it should, whoever is to blame.
    #[arg(long)]
    failed: bool,
    /// Only calls of this workload: NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "WORKLOAD")]
    from: Option<String>,
    /// Only calls to this workload or Service: NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "WORKLOAD")]
    to: Option<String>,
    /// Only this method.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only paths that begin so.
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Only what has this header field, in the request or the answer; with exactly this value.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = field)]
    header: Vec<String>,
    /// Show this header field.
    #[arg(long, value_name = "NAME")]
    show_header: Vec<String>,
    /// Of what is remembered only what ended within this time: 30s, 1m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    since: Option<Duration>,
    /// Only what came to the workload.
    #[arg(long, conflicts_with = "outbound")]
    inbound: bool,
    /// Only what it called.
    #[arg(long)]
    outbound: bool,
    /// Print what is remembered, and end.
    #[arg(long)]
    once: bool,
    /// Records at a time, the latest.
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    most: u32,
    #[command(flatten)]
    whom: Whom,
}

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// Values of these are never told, so that nobody finds them by trying.
const MASKED: [&str; 5] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let query = args.query()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(args.follow(&query)))
}

impl Args {
    /// The question, without cursor.
    fn query(&self) -> Result<String, Error> {
        let (kind, name) = match self.target.as_deref().map(|target| target.split_once('/')) {
            None => (None, None),
            Some(None) => (None, self.target.clone()),
            Some(Some((wanted, name))) => (Some(kind(wanted)?.to_owned()), Some(name.to_owned())),
        };
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64().to_string());
        let direction = match (self.inbound, self.outbound) {
            (true, _) => Some("inbound".to_owned()),
            (_, true) => Some("outbound".to_owned()),
            _ => None,
        };
        let one = [
            ("namespace", Some(self.namespace.clone())),
            ("kind", kind),
            ("name", name),
            ("status", self.status.clone()),
            ("grpc", self.grpc_status.clone()),
            ("slower", seconds(self.slower)),
            ("since", seconds(self.since)),
            ("reason", self.reason.clone()),
            ("failed", self.failed.then(|| "true".to_owned())),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("method", self.method.clone()),
            ("path", self.path.clone()),
            ("direction", direction),
            ("most", Some(self.most.to_string())),
        ];
        let one = one.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let headers = self.header.iter().map(|header| ("header", header.clone()));
        let shown = self.show_header.iter().map(|name| ("show", name.clone()));
        let all = one.chain(headers).chain(shown);
        let pairs: Vec<_> = all.map(|(key, value)| format!("{key}={}", escape(&value))).collect();
        Ok(pairs.join("&"))
    }

    async fn follow(&self, query: &str) -> Result<ExitCode, Error> {
        let source = Source::find(&self.whom.place).await?;
        let mut printer = Printer::of(self);
        let mut cursor = String::new();
        let mut answered = false;
        loop {
            match page(&source, query, &cursor).await {
                Ok(page) => {
                    cursor.clone_from(&page.cursor);
                    printer.print(&page)?;
                    if self.once && page.silent.len() == page.asked {
                        return Ok(ExitCode::FAILURE);
                    }
                }
                // What has answered once comes back: another replica, another certificate.
                Err(error) if answered && !matches!(error, Error::Output(_)) => {
                    printer.note(&format!("{error}; asking again"));
                }
                Err(error) => return Err(error),
            }
            answered = true;
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
            sleep(PAUSE).await;
        }
    }
}

async fn page(source: &Source, query: &str, cursor: &str) -> Result<TapView, Error> {
    let answer = source.get(&format!("/telemetry/tap?{query}&cursor={cursor}")).await?;
    Ok(serde_json::from_str(&answer)?)
}

/// Prints pages, and what is to be said of them besides.
struct Printer {
    format: Format,
    lines: Lines,
    /// What was said last, so that it is not said every second.
    noted: Vec<String>,
    new: Vec<String>,
}

impl Printer {
    fn of(args: &Args) -> Self {
        let format = args.whom.output;
        let style = Style { wide: format == Format::Wide, colored: colored() };
        let lines = Lines::new(&args.namespace, style, terminal_width());
        Self { format, lines, noted: Vec::new(), new: Vec::new() }
    }

    fn print(&mut self, page: &TapView) -> Result<(), Error> {
        let mut text = String::new();
        for record in &page.records {
            text += &match self.format {
                Format::Json => serde_json::to_string(record)? + "\n",
                Format::Yaml => format!("---\n{}", serde_yaml_ng::to_string(record)?),
                Format::Table | Format::Wide => String::new(),
            };
        }
        if matches!(self.format, Format::Table | Format::Wide) {
            text = self.lines.of(&page.records);
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        doubts(page).iter().for_each(|doubt| self.note(doubt));
        self.noted = std::mem::take(&mut self.new);
        Ok(())
    }

    /// For people, beside what is for programs.
    fn note(&mut self, text: &str) {
        let text = tulle_xds::text::printable(text);
        if !self.noted.contains(&text) {
            // Nobody is left to tell if it is closed.
            let _closed = writeln!(io::stderr(), "tulle tap: {text}");
            self.noted.push(text.clone());
        }
        self.new.push(text);
    }
}

/// What keeps a page from being whole.
fn doubts(page: &TapView) -> Vec<String> {
    let mut doubts = Vec::new();
    let some = |names: &[String]| match names {
        [first, second, third, _, ..] => {
            format!("{first}, {second}, {third} and {} more", names.len() - 3)
        }
        few => few.join(", "),
    };
    match &page.silent[..] {
        [] => {}
        all if all.len() == page.asked => doubts.push(format!(
            "no sidecar answers, of {}: pods without one see nothing (`tulle stat` says REPORT 0); one that is not connected or of an older version says nothing (`tulle proxy status`)",
            some(all)
        )),
        those => doubts.push(format!(
            "no sidecar answers of {}: what these saw is missing; `tulle proxy status` says which are connected",
            some(those)
        )),
    }
    if !page.unheard.is_empty() {
        doubts.push(format!(
            "incomplete: {} did not say what its sidecars know",
            page.unheard.join(", ")
        ));
    }
    if page.not_asked > 0 {
        doubts.push(format!(
            "{} of {} pods are asked: name a workload or a pod",
            page.asked,
            page.asked + page.not_asked
        ));
    }
    if page.left_out > 0 {
        doubts.push(format!(
            "{} earlier records were left out: filters or --most, {MOST} at most",
            page.left_out
        ));
    }
    if page.missed > 0 {
        doubts.push(format!(
            "{} requests came and went between two questions: sidecars remember the last 256",
            page.missed
        ));
    }
    doubts
}

/// The kind that people mean.
fn kind(text: &str) -> Result<&'static str, Error> {
    let service = ["service", "services", "svc"].contains(&text.to_lowercase().as_str());
    let known = if service { Some("Service") } else { stat::kind(text) };
    known.ok_or_else(|| {
        Error::Usage(format!(
            "{text:?} is no kind: write deploy, sts, ds, rs, job, cronjob, pod or svc, or the name alone; the namespace goes behind -n"
        ))
    })
}

/// `200ms`, `2s`, `1m`.
fn short(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: write 200ms, 2s or 1m");
    match text.strip_suffix("ms") {
        Some(number) => number.parse().map(Duration::from_millis).map_err(|_none| wrong()),
        None => duration(text).map_err(|_none| wrong()),
    }
}

/// `NAME` or `NAME=VALUE`.
fn field(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match !value.is_empty() && MASKED.contains(&name.to_lowercase().as_str()) {
        true => {
            Err(format!("the value of {name} is masked; without a value it finds what has one"))
        }
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
