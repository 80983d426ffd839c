//! A record as lines for people.

use tulle_control_plane::telemetry::view::{End, RecordView};
use tulle_xds::text::printable;

use crate::observe::{Style, units::time};

/// Characters of a request that are shown at least, however narrow the terminal is.
const LEAST: usize = 12;
/// On a narrower terminal what the line below says is not said twice.
const NARROW: usize = 72;
/// Characters of who calls whom to which lines are aligned.
const ALIGNED: usize = 36;

/// How records are printed, and how wide what is aligned was so far.
#[derive(Debug)]
pub(super) struct Lines {
    namespace: String,
    style: Style,
    width: Option<usize>,
    ends: usize,
}

impl Lines {
    /// For whoever asked about this namespace, which then needs no saying.
    pub(super) fn new(namespace: &str, style: Style, width: Option<usize>) -> Self {
        Self { namespace: namespace.to_owned(), style, width, ends: 0 }
    }

    /// Of these records.
    pub(super) fn of(&mut self, records: &[RecordView]) -> String {
        let ends: Vec<_> = records.iter().map(|record| self.ends(record)).collect();
        let widest = ends.iter().map(|ends| ends.chars().count().min(ALIGNED)).max();
        self.ends = self.ends.max(widest.unwrap_or_default());
        records.iter().zip(ends).map(|(record, ends)| self.record(record, &ends)).collect()
    }

    fn record(&self, record: &RecordView, ends: &str) -> String {
        let direction = if record.direction == "inbound" { "in " } else { "out" };
        let gap = " ".repeat(self.ends.saturating_sub(ends.chars().count()));
        let before = format!("{}  {direction}  {ends}{gap}  ", clock(&record.time));
        let came = match (&record.grpc_status, record.status) {
            (grpc, _) if !grpc.is_empty() => printable(grpc),
            (_, Some(status)) => status.to_string(),
            _ if record.failed => "failed".to_owned(),
            _ => "ok".to_owned(),
        };
        let reason = match record.reason.as_str() {
            "" => String::new(),
            _ if !record.why.is_empty() && self.width.is_some_and(|width| width < NARROW) => {
                String::new()
            }
            reason => format!("  {}", printable(reason)),
        };
        let took = time(Some(record.duration_seconds));
        let wide = before.chars().count()
            + 2
            + came.chars().count()
            + 2
            + took.len()
            + reason.chars().count();
        let request = match self.width {
            Some(width) => cut(&request(record), width.saturating_sub(wide).max(LEAST)),
            None => request(record),
        };
        let came = self.red(record.failed, &came);
        let mut text =
            format!("{before}{request}  {came}  {took}{}\n", self.red(record.failed, &reason));
        for more in self.more(record) {
            text += &format!("    {more}\n");
        }
        text
    }

    /// What stands below its line.
    fn more(&self, record: &RecordView) -> Vec<String> {
        let mut all = Vec::new();
        if !record.why.is_empty() {
            all.push(format!("why: {}", printable(&record.why)));
        }
        for header in &record.headers {
            let sign = if header.response { '<' } else { '>' };
            all.push(format!("{sign} {}: {}", printable(&header.name), printable(&header.value)));
        }
        if self.style.wide {
            let attempts = (record.attempts > 0).then(|| record.attempts.to_string());
            let security = record.security.map(|security| format!("{security:?}").to_lowercase());
            let parts = [
                ("pod", record.pod.clone()),
                ("service", record.service.clone()),
                ("route", record.route.clone()),
                ("policy", record.policy.clone()),
                ("attempts", attempts.unwrap_or_default()),
                ("security", security.unwrap_or_default()),
                ("peer", record.peer_id.clone()),
                ("peer-pod", record.peer_pod.clone()),
                ("upstream", record.upstream.clone()),
                ("protocol", record.protocol.clone()),
                ("fault", record.fault.clone()),
                ("trace", record.trace_id.clone()),
            ];
            let said = parts.iter().filter(|(_, value)| !value.is_empty());
            let said: Vec<_> =
                said.map(|(name, value)| format!("{name}={}", printable(value))).collect();
            all.push(said.join("  "));
        }
        all
    }

    /// `caller → called`
    fn ends(&self, record: &RecordView) -> String {
        let called = match record.workload.namespace.is_empty() && !record.service.is_empty() {
            // Nobody was reached: the Service that should have been.
            true => self.service(&record.service),
            false => self.end(&record.workload),
        };
        format!("{} → {called}", self.end(&record.caller))
    }

    fn end(&self, end: &End) -> String {
        let (namespace, name) = (printable(&end.namespace), printable(&end.name));
        match namespace.is_empty() || namespace == self.namespace {
            true => name,
            false => format!("{namespace}/{name}"),
        }
    }

    /// `NAME.NAMESPACE.svc.…:PORT`, short.
    fn service(&self, service: &str) -> String {
        match service.split('.').collect::<Vec<_>>()[..] {
            [name, namespace, "svc", ..] => {
                self.end(&End { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => printable(service),
        }
    }

    fn red(&self, bad: bool, text: &str) -> String {
        match bad && self.style.colored && !text.is_empty() {
            true => format!("\u{1b}[31m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// What was asked; of a connection, where it went.
fn request(record: &RecordView) -> String {
    match record.method.is_empty() {
        true => printable(&format!("{} {}", record.protocol, record.destination)),
        false => printable(&format!("{} {}", record.method, record.path)),
    }
}

fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// The time of day, of RFC 3339, to the millisecond.
fn clock(time: &str) -> String {
    let day = time.split_once('T').map_or(time, |(_, day)| day);
    let digits: String = day.trim_end_matches('Z').chars().take(12).collect();
    match digits.len() {
        // Without a fraction of the second.
        8 => format!("{}.000", printable(&digits)),
        _ => format!("{:0<12}", printable(&digits)),
    }
}
