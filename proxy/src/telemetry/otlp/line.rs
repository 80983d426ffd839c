//! A record as a line of the access log: <https://opentelemetry.io/docs/specs/otel/logs/data-model/>.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
};
use tulle_xds::text::bounded;

use super::span;
use crate::{
    error::Reason,
    telemetry::{Direction, closed::Closed},
};

/// Its name, which says what attributes it has.
const EVENT: &str = "tulle.access";

/// Bytes of a detail.
const MAX_TEXT: usize = 1 << 10;

/// The line, if it has one.
pub(super) fn of(closed: &Closed) -> Option<LogRecord> {
    let stands_for_others = closed.line?;
    let mut attributes = span::common(closed);
    attributes.text("tulle.direction", closed.direction.as_str());
    if let Some(status) = closed.status.filter(|_| closed.grpc.is_none()) {
        attributes.number("http.response.status_code", status.as_u16());
    }
    attributes.text("rpc.response.status_code", closed.grpc.unwrap_or_default());
    attributes.text("error.type", closed.reason.map_or("", Reason::as_str));
    attributes.text("tulle.detail", bounded(&closed.detail, MAX_TEXT));
    attributes.text("tulle.policy", closed.policy.as_deref().unwrap_or_default());
    attributes.text("tulle.audit", closed.audited.as_deref().unwrap_or_default());
    attributes.text("tulle.route", closed.route.as_deref().unwrap_or_default());
    attributes.seconds("tulle.duration", closed.ended.saturating_duration_since(closed.begun));
    let sizes = match closed.protocol {
        Some(_) => ["http.request.body.size", "http.response.body.size"],
        None => ["tulle.tcp.received", "tulle.tcp.sent"],
    };
    attributes.number(sizes[0], closed.received);
    attributes.number(sizes[1], closed.sent);
    if closed.direction == Direction::Outbound {
        attributes.text("tulle.peer.namespace", &*closed.peer.0);
        attributes.text("tulle.peer.workload", &*closed.peer.1);
    }
    if let Some(caller) = &closed.caller {
        attributes.text("tulle.peer.id", caller.id.as_str());
        attributes.text("tulle.peer.pod", caller.pod.as_deref().unwrap_or_default());
    }
    if let Some(endpoint) = &closed.endpoint {
        attributes.text("network.peer.address", endpoint.address.ip().to_string());
        attributes.number("network.peer.port", endpoint.address.port());
    }
    if closed.attempts > 0 {
        attributes.number("tulle.attempts", closed.attempts);
    }
    attributes.yes("tulle.mirror", closed.copy);
    attributes.yes("tulle.sampled", stands_for_others);
    attributes.extras(&closed.fields);
    let (severity, text) = match closed.error {
        true => (SeverityNumber::Error, "ERROR"),
        false => (SeverityNumber::Info, "INFO"),
    };
    let time = closed.nanoseconds(closed.ended);
    let body = AnyValue { value: Some(Value::StringValue(summary(closed))) };
    let position = closed.position;
    Some(LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.into(),
        severity_text: text.to_owned(),
        body: Some(body),
        attributes: attributes.0,
        flags: position.map_or(0, |position| position.flags().into()),
        trace_id: position.map(|position| position.trace.bytes().to_vec()).unwrap_or_default(),
        span_id: position.map(|position| position.span.bytes().to_vec()).unwrap_or_default(),
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    })
}

/// For whoever reads it: `GET web/cart 503 timeout`.
fn summary(closed: &Closed) -> String {
    let (host, path) = (bounded(&closed.host, MAX_TEXT), bounded(&closed.path, MAX_TEXT));
    let status = closed.status.map(|status| status.as_str().to_owned());
    let words = [
        Some(closed.protocol.map_or("tcp", |_| closed.verb).to_owned()),
        Some(if host.is_empty() {
            closed.destination.to_string()
        } else {
            format!("{host}{path}")
        }),
        status.filter(|_| closed.grpc.is_none()),
        closed.grpc.map(str::to_owned),
        closed.reason.map(|reason| reason.as_str().to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
