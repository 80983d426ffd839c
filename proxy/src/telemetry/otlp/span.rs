//! A record as spans, by the conventions for HTTP (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>) and gRPC
//! (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>). No query, no header, and no part of a body is in them.

use http::{StatusCode, Version};
use opentelemetry_proto::tonic::trace::v1::{
    Span, Status,
    span::{Event, SpanKind},
    status::StatusCode as Verdict,
};
use tulle_xds::{model::Endpoint, text::bounded};

use super::Attributes;
use crate::{
    error::Reason,
    telemetry::{
        Direction,
        closed::{Closed, SpanPart},
        grpc,
        record::{Attempt, Noted},
        trace::SpanId,
    },
};

/// Bytes of a host, of a path and of a detail.
const MAX_TEXT: usize = 1 << 10;

/// Bytes of a gRPC method's name.
const MAX_METHOD: usize = 256;

/// The low eight bits of a span's flags are W3C's; these say that it is known whether its parent is another process's, and
/// that it is.
const PARENT_IS_REMOTE: u32 = 0x300;
const PARENT_IS_LOCAL: u32 = 0x100;

/// Its spans: one, or one and those of its attempts below it.
pub(super) fn of(closed: &Closed) -> Vec<Span> {
    let Some(part) = &closed.spans else {
        return Vec::new();
    };
    let position = part.position;
    let mut attributes = common(closed);
    attributes.text("tulle.route", closed.route.clone().unwrap_or_default());
    attributes.text("tulle.policy", closed.policy.as_deref().unwrap_or_default());
    attributes.text("tulle.reason", closed.reason.map_or("", Reason::as_str));
    attributes.yes("tulle.mirror", closed.copy);
    attributes.extras(&closed.attributes);
    let result = match closed.reason {
        Some(reason) => Came::Failed(reason, closed.status),
        None => Came::Answered(closed.status),
    };
    let one = part.attempts.len() <= 1;
    let mut request = Span {
        start_time_unix_nano: closed.nanoseconds(closed.begun),
        end_time_unix_nano: closed.nanoseconds(closed.ended),
        events: part.events.iter().map(|noted| event(closed, noted)).collect(),
        ..begin(closed, part, position.span, position.parent)
    };
    request.flags = u32::from(position.flags())
        | if position.parent.is_some() { PARENT_IS_REMOTE } else { PARENT_IS_LOCAL };
    if let Some(endpoint) = closed.endpoint.as_deref().filter(|_| one) {
        peer(&mut attributes, closed, endpoint);
    }
    end(&mut request, closed, attributes, result);
    let below = part.attempts.iter().enumerate().filter(|_| !one);
    let below = below.map(|(nth, attempt)| of_attempt(closed, part, nth, attempt));
    std::iter::once(request).chain(below).collect()
}

/// What an attempt or a request came to.
#[derive(Clone, Copy)]
enum Came {
    Answered(Option<StatusCode>),
    /// Perhaps after the head of an answer.
    Failed(Reason, Option<StatusCode>),
}

fn of_attempt(closed: &Closed, part: &SpanPart, nth: usize, attempt: &Attempt) -> Span {
    let request = part.position.span;
    let (ended, result) = match attempt.ended {
        Some((at, Ok(status))) => (at, Came::Answered(Some(status))),
        Some((at, Err(reason))) => (at, Came::Failed(reason, None)),
        // The last one ends with the request.
        None => match closed.reason {
            Some(reason) => (closed.ended, Came::Failed(reason, closed.status)),
            None => (closed.ended, Came::Answered(closed.status)),
        },
    };
    let mut attributes = common(closed);
    if nth > 0 {
        attributes.number("http.request.resend_count", nth as u64);
    }
    peer(&mut attributes, closed, &attempt.endpoint);
    let mut span = Span {
        start_time_unix_nano: closed.nanoseconds(attempt.begun),
        end_time_unix_nano: closed.nanoseconds(ended),
        flags: u32::from(part.position.flags()) | PARENT_IS_LOCAL,
        ..begin(closed, part, attempt.span, Some(request))
    };
    end(&mut span, closed, attributes, result);
    span
}

fn begin(closed: &Closed, part: &SpanPart, span: SpanId, parent: Option<SpanId>) -> Span {
    let kind = match closed.direction {
        Direction::Inbound => SpanKind::Server,
        Direction::Outbound => SpanKind::Client,
    };
    let state = part.state.as_ref().and_then(|state| state.to_str().ok());
    Span {
        trace_id: part.position.trace.bytes().to_vec(),
        span_id: span.bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        trace_state: state.unwrap_or_default().to_owned(),
        name: name(closed),
        kind: kind.into(),
        ..Span::default()
    }
}

/// The method alone, as no template of a path is known; of a gRPC call its full name, if it has one.
fn name(closed: &Closed) -> String {
    match closed.grpc {
        Some(status) => grpc_method(&closed.path, status).unwrap_or("grpc").to_owned(),
        None if closed.verb == "_OTHER" => "HTTP".to_owned(),
        None => closed.verb.to_owned(),
    }
}

/// `package.Service/Method`. Names are few where a server has them: `None` is a path of another form, and one that no
/// server has, or clients could make up any number of names.
fn grpc_method<'a>(path: &'a str, status: &str) -> Option<&'a str> {
    let is_word = |word: &str| {
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        word.bytes().next().is_some_and(begins)
            && word.bytes().all(|byte| begins(byte) || byte.is_ascii_digit())
    };
    let name = path.strip_prefix('/').filter(|name| name.len() <= MAX_METHOD)?;
    let (service, method) = name.split_once('/')?;
    let well_formed = service.split('.').all(is_word) && is_word(method);
    (well_formed && status != "UNIMPLEMENTED").then_some(name)
}

/// What the conventions want of any of its spans.
pub(super) fn common(closed: &Closed) -> Attributes {
    let mut attributes = Attributes::default();
    let Some(version) = closed.protocol else {
        attributes.text("network.transport", "tcp");
        return attributes;
    };
    attributes.text(
        "network.protocol.version",
        match version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        },
    );
    let (host, path) = (bounded(&closed.host, MAX_TEXT), bounded(&closed.path, MAX_TEXT));
    if let Some(status) = closed.grpc {
        attributes.text("rpc.system.name", "grpc");
        let method = grpc_method(&closed.path, status);
        attributes.text("rpc.method", method.unwrap_or("_OTHER"));
        if method.is_none() {
            attributes.text("rpc.method_original", path.trim_start_matches('/'));
        }
    } else {
        attributes.text("http.request.method", closed.verb);
        if let Some(method) = closed.method.as_ref().filter(|method| method.as_str() != closed.verb)
        {
            attributes.text("http.request.method_original", bounded(method.as_str(), MAX_TEXT));
        }
        attributes.text("url.path", path);
        attributes.text("url.scheme", "http");
    }
    match (closed.direction, &closed.server) {
        (Direction::Outbound, Some(server)) => {
            attributes.text("server.address", &*server.address);
            attributes.number("server.port", server.port);
        }
        _ => {
            let (name, port) = split(host);
            attributes.text("server.address", name);
            attributes.number("server.port", port.unwrap_or_else(|| closed.destination.port()));
        }
    }
    match closed.direction {
        Direction::Inbound => attributes.text("client.address", closed.client.ip().to_string()),
        Direction::Outbound if closed.grpc.is_none() => {
            attributes.text("url.full", format!("http://{host}{path}"));
        }
        Direction::Outbound => {}
    }
    if closed.direction == Direction::Inbound {
        of_peer(&mut attributes, (&closed.peer.0, &closed.peer.1));
    }
    attributes
}

/// Name and port of an authority.
fn split(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_no_port) => (host, None),
        },
        _ => (host, None),
    }
}

/// The endpoint that answered or was tried.
fn peer(attributes: &mut Attributes, closed: &Closed, endpoint: &Endpoint) {
    if closed.direction == Direction::Inbound {
        return;
    }
    attributes.text("network.peer.address", endpoint.address.ip().to_string());
    attributes.number("network.peer.port", endpoint.address.port());
    let own = (&*closed.peer.0, &*closed.peer.1);
    of_peer(attributes, endpoint.workload.split_once('/').unwrap_or(own));
    attributes.text("tulle.peer.pod", &*endpoint.pod);
    attributes.text("tulle.revision", &*endpoint.revision);
}

fn of_peer(attributes: &mut Attributes, (namespace, workload): (&str, &str)) {
    attributes.text("tulle.peer.namespace", namespace);
    attributes.text("tulle.peer.workload", workload);
}

/// What it came to: status code, error, status.
fn end(span: &mut Span, closed: &Closed, mut attributes: Attributes, came: Came) {
    let (status, reason) = match came {
        Came::Answered(status) => (status, None),
        Came::Failed(reason, status) => (status, Some(reason)),
    };
    let at_server = closed.direction == Direction::Inbound;
    // Of an attempt that was made again only the HTTP status is known.
    let grpc = closed.grpc.filter(|_| span.end_time_unix_nano == closed.nanoseconds(closed.ended));
    let mut failed = None;
    if closed.grpc.is_none() {
        if let Some(status) = status {
            attributes.number("http.response.status_code", status.as_u16());
            let client = status.is_client_error() && !at_server;
            if client || status.is_server_error() {
                failed = Some(status.as_u16().to_string());
            }
        }
    } else if let Some(name) = grpc {
        attributes.text("rpc.response.status_code", name);
        let is_error = if at_server { grpc::is_server_error(name) } else { name != "OK" };
        failed = is_error.then(|| name.to_owned());
    }
    let error = reason.map(|reason| reason.as_str().to_owned()).or_else(|| failed.clone());
    // What a client is to blame for is no error of the server.
    let excused = at_server && status.is_some_and(|status| status.is_client_error());
    if error.is_some() && !excused {
        let detail = bounded(&closed.detail, MAX_TEXT);
        let message = reason.map(|_| detail.to_owned()).unwrap_or_default();
        span.status = Some(Status { code: Verdict::Error.into(), message });
    }
    attributes.text("error.type", error.unwrap_or_default());
    span.attributes = attributes.0;
}

fn event(closed: &Closed, noted: &Noted) -> Event {
    let mut attributes = Attributes::default();
    for (key, value) in &noted.attributes {
        attributes.text(key, &**value);
    }
    Event {
        time_unix_nano: closed.nanoseconds(noted.at),
        name: noted.name.to_owned(),
        attributes: attributes.0,
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_method_has_a_name_if_it_can_be_one_and_there_is_one() {
        let long = format!("/{}/Get", "a".repeat(MAX_METHOD));
        for (path, status, name) in [
            ("/shop.v1.Cart/Get", "OK", Some("shop.v1.Cart/Get")),
            ("/Cart/_get2", "NOT_FOUND", Some("Cart/_get2")),
            ("/shop.Cart/Random7f3a", "UNIMPLEMENTED", None),
            ("/shop.Cart/Get/more", "OK", None),
            ("/shop..Cart/Get", "OK", None),
            ("/shop.Cart/Get%20", "OK", None),
            ("/7shop.Cart/Get", "OK", None),
            ("/shop.Cart/", "OK", None),
            ("shop.Cart/Get", "OK", None),
            ("//Get", "OK", None),
            ("/", "OK", None),
            (&long, "OK", None),
        ] {
            assert_eq!(grpc_method(path, status), name, "{path} {status}");
        }
    }
}
