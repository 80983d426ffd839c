//! What the types of a Telemetry cannot rule out.

use std::collections::BTreeSet;

use tulle_expression::{Expression, MAX_LENGTH, Variable, taken};

use super::{Destination, Header, Logs, MetricTag, Metrics, Tag, Telemetry, Traces};
use crate::validate::{Problem, Problems, Validate, too_many};

/// Most tags and destinations of one list.
const MAX_TAGS: usize = 10;
const MAX_DESTINATIONS: usize = 4;
const MAX_HEADERS: usize = 8;
/// Header fields that the protocol says by itself; beside these all that begin with `grpc-`.
const PROTOCOL_HEADERS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

impl Validate for Telemetry {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let spec = &self.spec;
        if let Some(selector) = &spec.selector {
            selector.check("spec.selector", &mut problems);
        }
        if let Some(traces) = &spec.traces {
            check_traces(traces, &mut problems);
        }
        if let Some(logs) = &spec.logs {
            check_logs(logs, &mut problems);
        }
        if let Some(metrics) = &spec.metrics {
            check_metrics(metrics, &mut problems);
        }
        problems.into_vec()
    }
}

fn check_traces(traces: &Traces, problems: &mut Problems) {
    check_destinations("spec.traces.destinations", traces.destinations.as_deref(), problems);
    check_tags("spec.traces.tags", traces.tags.as_deref(), is_attribute, problems);
}

/// Whether it is an attribute that we give.
fn is_attribute(name: &str) -> bool {
    taken::ATTRIBUTES.contains(&name) || taken::OURS.iter().any(|ours| name.starts_with(ours))
}

fn check_logs(logs: &Logs, problems: &mut Problems) {
    if let Some(filter) = logs.filter.as_deref().filter(|filter| !filter.is_empty()) {
        let read = Expression::filter(filter);
        problems.check(read.is_err(), "spec.logs.filter", || reason(read.err()));
    }
    check_destinations("spec.logs.destinations", logs.destinations.as_deref(), problems);
    // In a record that is sent on they are attributes.
    let taken = |name: &str| {
        taken::FIELDS.contains(&name) || taken::TRACE_FIELDS.contains(&name) || is_attribute(name)
    };
    check_tags("spec.logs.fields", logs.fields.as_deref(), taken, problems);
}

fn check_metrics(metrics: &Metrics, problems: &mut Problems) {
    check_destinations("spec.metrics.destinations", metrics.destinations.as_deref(), problems);
    let seconds = metrics.interval.map(|interval| interval.get().as_millis());
    let wrong = seconds.is_some_and(|millis| !(1000..=3_600_000).contains(&millis));
    problems.check(wrong, "spec.metrics.interval", || "it must be from 1s to 1h".to_owned());
    let tags = metrics.tags.as_deref().unwrap_or_default();
    too_many("spec.metrics.tags", tags.len(), MAX_TAGS, problems);
    // As Prometheus has them.
    let labels: Vec<String> = tags.iter().map(|tag| tag.name.replace('.', "_")).collect();
    for (i, tag) in tags.iter().enumerate() {
        let MetricTag { name, value, max_values } = tag;
        let field = format!("spec.metrics.tags[{i}]");
        let label = labels.get(i).map(String::as_str).unwrap_or_default();
        let ours = taken::OURS.iter().any(|ours| label.starts_with(&ours.replace('.', "_")));
        check_name(&field, name, "._", problems);
        check_taken(&field, name, ours || taken::LABELS.contains(&label), problems);
        let hidden = label.starts_with("__");
        problems.check(hidden, &format!("{field}.name"), || {
            format!("{name:?}: names with two `_` in front are Prometheus' own; choose another")
        });
        let twice = labels.iter().take(i).any(|earlier| earlier == label);
        check_twice(&field, name, twice, problems);
        check_expression(&field, value, problems);
        let drawn = Expression::parse(value).is_ok_and(|read| read.uses(Variable::Sampled));
        problems.check(drawn, &format!("{field}.value"), || {
            "`sampled` is not known when a request is counted: it is about lines of the log"
                .to_owned()
        });
        problems.range(&format!("{field}.maxValues"), *max_values, 1..=100);
    }
}

fn check_tags(
    field: &str,
    tags: Option<&[Tag]>,
    taken: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    let tags = tags.unwrap_or_default();
    too_many(field, tags.len(), MAX_TAGS, problems);
    for (i, Tag { name, value }) in tags.iter().enumerate() {
        let field = format!("{field}[{i}]");
        check_name(&field, name, "._-", problems);
        check_taken(&field, name, taken(name), problems);
        check_twice(&field, name, tags.iter().take(i).any(|tag| tag.name == *name), problems);
        check_expression(&field, value, problems);
    }
}

fn check_name(field: &str, name: &str, others: &str, problems: &mut Problems) {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let all = name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
    let good = first && all && name.len() <= 64;
    problems.check(!good, &format!("{field}.name"), || {
        format!(
            "{name:?} is no name: it begins with a letter and has letters, digits and {others}, 64 at most"
        )
    });
}

fn check_taken(field: &str, name: &str, taken: bool, problems: &mut Problems) {
    problems.check(taken, &format!("{field}.name"), || {
        format!("{name:?} is a name that Tulle or OpenTelemetry gives by itself; choose another")
    });
}

fn check_twice(field: &str, name: &str, twice: bool, problems: &mut Problems) {
    problems.check(twice, &format!("{field}.name"), || format!("{name:?} is listed twice"));
}

fn check_expression(field: &str, text: &str, problems: &mut Problems) {
    let read = Expression::parse(text);
    problems.check(read.is_err(), &format!("{field}.value"), || reason(read.err()));
}

fn reason(bad: Option<tulle_expression::Bad>) -> String {
    bad.map(|bad| bad.to_string()).unwrap_or_default()
}

fn check_destinations(field: &str, all: Option<&[Destination]>, problems: &mut Problems) {
    let all = all.unwrap_or_default();
    too_many(field, all.len(), MAX_DESTINATIONS, problems);
    for (i, destination) in all.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let Destination { endpoint, headers, .. } = destination;
        problems.check(!is_endpoint(endpoint), &format!("{field}.endpoint"), || {
            format!(
                "{:?}: write http://HOST:PORT or https://HOST:PORT, without a path",
                short(endpoint)
            )
        });
        let twice = all.iter().take(i).any(|earlier| {
            earlier.endpoint == *endpoint && earlier.protocol == destination.protocol
        });
        problems.check(twice, &field, || format!("{:?} is listed twice", short(endpoint)));
        too_many(&format!("{field}.headers"), headers.len(), MAX_HEADERS, problems);
        let mut seen = BTreeSet::new();
        for (i, header) in headers.iter().enumerate() {
            check_header(&format!("{field}.headers[{i}]"), header, problems);
            problems.check(
                !seen.insert(&header.name),
                &format!("{field}.headers[{i}].name"),
                || format!("{:?} is listed twice", short(&header.name)),
            );
        }
    }
}

/// Its value is named nowhere: it may be a credential.
fn check_header(field: &str, Header { name, value }: &Header, problems: &mut Problems) {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || b"-_.".contains(&b));
    problems.check(!good, &format!("{field}.name"), || {
        format!(
            "{:?}: a name has lower-case letters, digits, `-`, `_` and `.`, 64 at most",
            short(name)
        )
    });
    let own = PROTOCOL_HEADERS.contains(&name.as_str()) || name.starts_with("grpc-");
    problems.check(own, &format!("{field}.name"), || {
        format!("{name:?}: the protocol says this one by itself; leave it out")
    });
    let good = value.len() <= 4096 && value.bytes().all(|b| (b' '..=b'~').contains(&b));
    problems.check(!good, &format!("{field}.value"), || {
        "a value has printable ASCII characters, 4096 at most".to_owned()
    });
}

fn is_endpoint(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some((host, port)) = authority.and_then(|authority| authority.rsplit_once(':')) else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let name = || {
        host.bytes().next().is_some_and(plain)
            && host.bytes().next_back().is_some_and(plain)
            && host.bytes().all(|b| plain(b) || b"._-".contains(&b))
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.map_or_else(name, |ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    let number = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 300 && host && number && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// What somebody wrote, bounded.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The schema of the CRD has this bound as a number.
const _: () = assert!(MAX_LENGTH == 1024);
