//! What happened to one request or one opaque connection.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{Method, StatusCode, Version};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;
use tulle_xds::{
    model::{Origin, RouteConfiguration, SpiffeId},
    text::bounded,
};

use super::metrics::{Key, Outcome};
use crate::{
    context::Shared,
    error::{Error, Reason},
    upstream::{Cluster, EndpointState},
};

/// Bytes of a host, of a path and of a detail that are written into a line.
const MAX_TEXT: usize = 1 << 10;

/// Which way a request or connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// One request or opaque connection. It is written when it is dropped, at the latest; who drops it
/// without [`finish`](Self::finish) or [`fail`](Self::fail) says that the client went away.
pub struct Record {
    shared: Arc<Shared>,
    direction: Direction,
    started: Instant,
    client: SocketAddr,
    destination: SocketAddr,
    ended: bool,
    reason: Option<Reason>,
    detail: Cow<'static, str>,
    request: Option<RequestPart>,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// Who is on the other side, as proven by mTLS.
    pub peer: Option<SpiffeId>,
    /// The other side's pod, `NAMESPACE/POD`.
    pub peer_pod: Option<String>,
    /// Whether the connection to or from the other proxy is encrypted by us.
    pub tls: bool,
    /// The cluster that was chosen, as its metric label says it.
    pub service: Option<Arc<str>>,
    /// The endpoint that answered, or was tried last.
    pub upstream: Option<SocketAddr>,
    /// Attempts at endpoints.
    pub attempts: u32,
    rule: Option<(Arc<RouteConfiguration>, usize)>,
}

/// What only a request has.
struct RequestPart {
    version: Version,
    /// `None` if it could not be read.
    method: Option<Method>,
    host: String,
    path: String,
    status: Option<StatusCode>,
    grpc_status: Option<u32>,
    /// It is a copy, whose answer nobody waits for.
    copy: bool,
}

impl Direction {
    /// The word for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Record {
    /// An opaque connection, until [`request`](Self::request) says that it is a request.
    pub fn new(
        shared: Arc<Shared>,
        direction: Direction,
        client: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        Self {
            shared,
            direction,
            started: Instant::now(),
            client,
            destination,
            ended: false,
            reason: None,
            detail: Cow::Borrowed(""),
            request: None,
            received: Arc::default(),
            sent: Arc::default(),
            peer: None,
            peer_pod: None,
            tls: false,
            service: None,
            upstream: None,
            attempts: 0,
            rule: None,
        }
    }

    /// This is a request with this head.
    pub fn request(&mut self, head: &http::request::Parts) {
        let host =
            head.headers.get(http::header::HOST).map(|h| String::from_utf8_lossy(h.as_bytes()));
        let host = host.or_else(|| head.uri.authority().map(|a| Cow::Borrowed(a.as_str())));
        self.request = Some(RequestPart {
            version: head.version,
            method: Some(head.method.clone()),
            host: host.unwrap_or_default().into_owned(),
            path: head.uri.path().to_owned(),
            status: None,
            grpc_status: None,
            copy: false,
        });
    }

    /// This is a copy of a request with this head, which came in `version`.
    pub fn copy_of(&mut self, head: &http::request::Parts, version: Version) {
        self.request(head);
        self.version(version);
        self.is_copy();
    }

    /// This request is a copy.
    pub fn is_copy(&mut self) {
        if let Some(request) = &mut self.request {
            request.copy = true;
        }
    }

    /// This is a request of HTTP/1 of which the head cannot be read.
    pub fn unreadable_request(&mut self) {
        self.request = Some(RequestPart {
            version: Version::HTTP_11,
            method: None,
            host: String::new(),
            path: String::new(),
            status: None,
            grpc_status: None,
            copy: false,
        });
    }

    /// The rule that matched.
    pub fn matched(&mut self, route: &Arc<RouteConfiguration>, rule: usize) {
        self.rule = Some((Arc::clone(route), rule));
    }

    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The version that the client spoke, where that is another than its proxy's.
    pub fn version(&mut self, version: Version) {
        if let Some(request) = &mut self.request {
            request.version = version;
        }
    }

    /// An attempt at `endpoint` of `cluster` begins.
    pub fn attempt(&mut self, cluster: &Cluster, endpoint: &EndpointState) {
        self.attempts += 1;
        let told = endpoint.told();
        self.upstream = Some(told.address);
        if self.direction == Direction::Outbound {
            self.service = Some(cluster.label());
            self.tls = told.identity.is_some();
            self.peer.clone_from(&told.identity);
            self.peer_pod = (!told.pod.is_empty()).then(|| told.pod.clone());
        }
    }

    /// An attempt has ended. Those of copies are not counted: they are no one's requests.
    pub fn tried(&self, outcome: Outcome) {
        if !self.is_own_copy() {
            self.shared.metrics.attempt(outcome);
        }
    }

    /// Whether it is a copy that this proxy made.
    fn is_own_copy(&self) -> bool {
        self.direction == Direction::Outbound && self.request.as_ref().is_some_and(|r| r.copy)
    }

    /// The status with which it is answered.
    pub fn status(&mut self, status: StatusCode) {
        if let Some(request) = &mut self.request {
            request.status = Some(status);
        }
    }

    /// The `grpc-status` with which it is answered.
    pub fn grpc_status(&mut self, status: u32) {
        if let Some(request) = &mut self.request {
            request.grpc_status = Some(status);
        }
    }

    /// The counter of bytes that the client sent.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// The counter of bytes that the client was sent.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// Notes why it ends. The first reason stays: later ones follow from it.
    pub fn note(&mut self, error: &Error) {
        if self.reason.is_none() {
            self.reason = Some(error.reason());
            self.detail = Cow::Owned(error.detail().to_owned());
        }
    }

    /// It ended as it should, or as was noted.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// It ended because of `error`.
    pub fn fail(&mut self, error: &Error) {
        self.note(error);
        self.ended = true;
    }

    pub(super) fn key(&self) -> Key {
        let status = self.request.as_ref().and_then(|r| r.status).map_or(0, |s| s.as_u16());
        Key {
            direction: self.direction,
            peer: self.peer.clone(),
            service: self.service.clone(),
            route: self.origin().cloned(),
            status,
            error: self.reason.map_or("", Reason::as_str),
            tls: self.tls,
        }
    }

    fn origin(&self) -> Option<&Origin> {
        self.rule.as_ref().and_then(|(route, rule)| route.rules.get(*rule)).map(|r| &r.origin)
    }

    fn protocol(&self) -> &'static str {
        match self.request.as_ref().map(|r| r.version) {
            None => "tcp",
            Some(Version::HTTP_10) => "http/1.0",
            Some(Version::HTTP_2) => "http/2",
            Some(_) => "http/1.1",
        }
    }

    /// The record as one line of JSON.
    fn line(&self, seconds: f64) -> Vec<u8> {
        let request = self.request.as_ref();
        let read = request.filter(|r| r.method.is_some());
        let line = Line {
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            direction: self.direction,
            protocol: self.protocol(),
            method: read.and_then(|r| r.method.as_ref()).map(Method::as_str),
            host: read.map(|r| shown(&r.host)),
            path: read.map(|r| shown(&r.path)),
            mirror: request.is_some_and(|r| r.copy),
            status: request.and_then(|r| r.status).map(|s| s.as_u16()),
            grpc_status: request.and_then(|r| r.grpc_status),
            reason: self.reason.map(Reason::as_str),
            detail: (!self.detail.is_empty()).then(|| shown(&self.detail)),
            duration_ms: (seconds * 1e6).round() / 1e3,
            bytes_received: self.received.load(Ordering::Relaxed),
            bytes_sent: self.sent.load(Ordering::Relaxed),
            tls: self.tls,
            peer: self.peer.as_ref(),
            peer_pod: self.peer_pod.as_deref(),
            service: self.service.as_deref(),
            route: self.origin().map(route_text),
            attempts: (self.attempts > 0).then_some(self.attempts),
            upstream: self.upstream,
            client: self.client,
            destination: self.destination,
        };
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
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
    grpc_status: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
    duration_ms: f64,
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
    client: SocketAddr,
    destination: SocketAddr,
}

/// `KIND/NAMESPACE/NAME`, with `#RULE` if the origin is a part of the object.
pub(super) fn route_text(origin: &Origin) -> String {
    let Origin { kind, namespace, name, rule } = origin;
    let hash = if rule.is_empty() { "" } else { "#" };
    format!("{kind}/{namespace}/{name}{hash}{rule}")
}

/// The beginning of what strangers sent, with a sign if there is more: a path may have 32 KiB.
fn shown(text: &str) -> Cow<'_, str> {
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

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.note(&Error::new(Reason::Canceled, "the client went away before the end"));
        }
        let seconds = self.started.elapsed().as_secs_f64();
        if self.is_own_copy() {
            let reason = self.reason.map_or("", Reason::as_str);
            self.shared.metrics.mirrored(self.service.as_deref().unwrap_or_default(), reason);
        } else if self.request.is_some() {
            self.shared.metrics.http(self, seconds);
        } else {
            let (received, sent) = (&self.received, &self.sent);
            let bytes = (received.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
            self.shared.metrics.tcp(self, bytes.0, bytes.1);
        }
        self.shared.lines.write(self.line(seconds));
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("direction", &self.direction).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
