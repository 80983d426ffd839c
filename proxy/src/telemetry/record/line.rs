//! A record as a line of the access log, of which `docs/logs.md` has the table.

use std::{borrow::Cow, net::SocketAddr, sync::atomic::Ordering, time::Duration};

use http::{Method, Version};
use rand::Rng as _;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;
use tulle_expression::{Value, Variable};
use tulle_xds::{
    model::{Origin, SpiffeId},
    text::bounded,
};

use super::{Direction, Record, Towards, facts::Ended};
use crate::{
    context::Settings,
    error::Reason,
    telemetry::{fault::Fault, wanted::Wanted},
};

/// Bytes of a host, of a path and of a detail that are written into a line.
const MAX_TEXT: usize = 1 << 10;

impl Record {
    /// The record as one line of JSON. If it is `sampled`, it stands for others without a line.
    pub(super) fn line(&self, now: Instant, sampled: bool, wanted: &Wanted) -> Vec<u8> {
        let request = self.request.as_ref();
        let read = request.filter(|r| r.method.is_some());
        let (endpoint, caller) = (self.endpoint.as_deref(), self.caller.as_deref());
        let other = endpoint.filter(|_| self.direction == Direction::Outbound);
        let pod = other.map(|endpoint| endpoint.pod.as_str()).filter(|pod| !pod.is_empty());
        let me = self.cx.store.current().workload.clone();
        let revision = match self.direction {
            Direction::Inbound => me.as_ref().map(|me| me.revision.as_str()),
            Direction::Outbound => other.map(|endpoint| endpoint.revision.as_str()),
        };
        let external = matches!(self.towards, Towards::External).then_some(self.destination);
        let line = Line {
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            direction: self.direction,
            protocol: self.protocol(),
            method: read.and_then(|r| r.method.as_ref()).map(Method::as_str),
            host: read.map(|r| shown(&r.host)),
            path: read.map(|r| shown(&r.path)),
            mirror: request.is_some_and(|r| r.copy),
            status: request.and_then(|r| r.status).map(|s| s.as_u16()),
            grpc_status: self.grpc(),
            reason: self.reason.map(Reason::as_str),
            fault: self.fault().map(Fault::as_str),
            detail: (!self.detail.is_empty()).then(|| shown(&self.detail)),
            policy: self.policy.as_deref(),
            audit: self.audited.as_deref(),
            duration_ms: milliseconds(now.duration_since(self.started)),
            first_byte_ms: request.and_then(|r| r.first_byte).map(milliseconds),
            bytes_received: self.received.load(Ordering::Relaxed),
            bytes_sent: self.sent.load(Ordering::Relaxed),
            tls: self.is_mtls(),
            peer: self.peer_id(),
            peer_pod: caller.and_then(|caller| caller.pod.as_deref()).or(pod),
            service: self.service(),
            route: self.origin().map(route_text),
            attempts: (self.attempts > 0).then_some(self.attempts),
            upstream: endpoint.map(|endpoint| endpoint.address).or(external),
            revision: revision.filter(|revision| !revision.is_empty()),
            client: self.client,
            destination: self.destination,
            trace_id: self.position.map(|position| position.trace.to_string()),
            span_id: self.position.map(|position| position.span.to_string()),
            trace_sampled: self.position.is_some_and(|position| position.is_sampled()),
            sampled,
        };
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        if !wanted.fields.is_empty() {
            self.add(&mut bytes, wanted, now);
        }
        bytes.push(b'\n');
        bytes
    }

    /// Adds what more is wanted to an object that is not empty.
    fn add(&self, bytes: &mut Vec<u8>, wanted: &Wanted, now: Instant) {
        let ended = Ended::of(self, now);
        let end = bytes.pop();
        for (name, value) in ended.extras(&wanted.fields) {
            let name = serde_json::Value::from(name);
            let value = match value {
                Value::Bool(truth) => truth.into(),
                Value::Int(number) => number.into(),
                text => serde_json::Value::from(&*shown(&text.text())),
            };
            bytes.extend_from_slice(format!(",{name}:{value}").as_bytes());
        }
        bytes.extend(end);
    }

    /// Whether it has a line in the access log, and then whether that stands for others that have none.
    pub(super) fn is_written(&self, settings: &Settings, now: Instant) -> Option<bool> {
        let (wanted, one_in) = (&settings.wanted, settings.access_log_sample);
        let drawn = |many| rand::rng().random_ratio(1, many);
        if wanted.no_lines() {
            return None;
        }
        let Some(filter) = &wanted.filter else {
            return written(one_in, self.is_error() || self.audited.is_some(), drawn);
        };
        let mut ended = Ended::of(self, now);
        let mut holds = |sampled| {
            ended.sampled = sampled;
            // What cannot be worked out is not kept from anybody.
            filter.holds(&ended).unwrap_or_else(|failed| {
                ended.failed(failed);
                true
            })
        };
        if holds(false) {
            return Some(false);
        }
        let sample = filter.uses(Variable::Sampled).then(|| written(one_in, false, drawn));
        sample.flatten().filter(|_| holds(true))
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self.request.as_ref().map(|r| r.version) {
            None => "tcp",
            Some(Version::HTTP_10) => "http/1.0",
            Some(Version::HTTP_2) => "http/2",
            Some(_) => "http/1.1",
        }
    }
}

/// To the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The access log's line. Its time is the record's end, as that is when the line is written.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    direction: Direction,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    /// It is a copy, whose answer is thrown away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mirror: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    /// The policy that would have refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a str>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    bytes_received: u64,
    bytes_sent: u64,
    tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a SpiffeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    client: SocketAddr,
    destination: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    trace_sampled: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sampled: bool,
}

/// Whether there is a line, and then whether it stands for others that have none. `drawn` draws one of so
/// many.
pub(super) fn written(one_in: u32, error: bool, drawn: impl FnOnce(u32) -> bool) -> Option<bool> {
    match one_in {
        _ if error => Some(false),
        0 => None,
        1 => Some(false),
        many => drawn(many).then_some(true),
    }
}

/// `KIND/NAMESPACE/NAME`, with `#RULE` if the origin is a part of the object.
pub(crate) fn route_text(origin: &Origin) -> String {
    let Origin { kind, namespace, name, rule } = origin;
    let hash = if rule.is_empty() { "" } else { "#" };
    format!("{kind}/{namespace}/{name}{hash}{rule}")
}

/// The beginning of what strangers sent, with a sign if there is more: a path may have 32 KiB.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let start = bounded(text, MAX_TEXT);
    let shown = printable(start);
    if start.len() < text.len() { Cow::Owned(format!("{shown}…")) } else { shown }
}

/// What strangers sent, without control characters: a log is read in terminals.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_line_and_one_in_many_of_the_rest() {
        for (one_in, error, drawn, expected) in [
            (1, false, false, Some(false)),
            (1000, false, false, None),
            (1000, false, true, Some(true)),
            (1000, true, false, Some(false)),
            (0, false, true, None),
            (0, true, false, Some(false)),
        ] {
            assert_eq!(written(one_in, error, |_| drawn), expected, "{one_in} {error} {drawn}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\u{9b}b"), "a\u{fffd}[31m\u{fffd}b");
        assert!(matches!(printable("/ok/ä"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        let long = format!("/{}", "ä".repeat(MAX_TEXT));
        let cut = shown(&long);
        assert_eq!(cut.len(), MAX_TEXT - 1 + "…".len());
        assert!(long.starts_with(cut.trim_end_matches('…')) && cut.ends_with("ä…"));
        assert!(matches!(shown("/short"), Cow::Borrowed("/short")));
    }

    #[test]
    fn a_rule_is_named_after_its_object() {
        let mut origin = Origin {
            kind: "HTTPRoute".into(),
            namespace: "shop".into(),
            name: "web".into(),
            rule: String::new(),
        };
        assert_eq!(route_text(&origin), "HTTPRoute/shop/web");
        origin.rule = "0".into();
        assert_eq!(route_text(&origin), "HTTPRoute/shop/web#0");
    }
}
