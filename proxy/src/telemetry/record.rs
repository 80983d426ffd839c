//! What happened to one request or one opaque connection.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode, Version};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;
use tulle_xds::{
    model::{Endpoint, Origin, RouteConfiguration, SpiffeId},
    text::bounded,
};

use super::{
    edge::{Edge, Server},
    grpc,
    metrics::{Outcome, method_label},
    series::{Event, Kind, Status},
};
use crate::{
    context::Shared,
    error::{Error, Reason},
    request::head,
    tls::Peer,
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
    policy: Option<&'static str>,
    request: Option<RequestPart>,
    /// It is an opaque connection that was counted as opened.
    opened: bool,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// Who calls the application, as proven by mTLS.
    caller: Option<Arc<Peer>>,
    towards: Towards,
    /// The endpoint that answered, or was tried last.
    endpoint: Option<Arc<Endpoint>>,
    attempts: u32,
    rule: Option<(Arc<RouteConfiguration>, usize)>,
}

/// What the application called.
enum Towards {
    /// Not known (yet); or the application is the one who is called.
    Nothing,
    Cluster(Arc<Cluster>),
    /// Outside of the mesh.
    External,
}

/// What only a request has.
struct RequestPart {
    version: Version,
    /// `None` if it could not be read.
    method: Option<Method>,
    /// The method in labels.
    verb: &'static str,
    host: String,
    path: String,
    /// The client says that it is a gRPC call.
    grpc: bool,
    status: Option<StatusCode>,
    grpc_status: Option<u32>,
    /// From its arrival to the head of its answer.
    first_byte: Option<Duration>,
    /// It is a copy, whose answer nobody waits for.
    copy: bool,
}

impl Direction {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// Which end of a request this proxy is, in labels.
    pub fn reporter(self) -> &'static str {
        match self {
            Self::Inbound => "destination",
            Self::Outbound => "source",
        }
    }
}

impl Record {
    /// An opaque connection, until [`request`](Self::request) says that it is a request. `caller` has
    /// proven who it is.
    pub fn new(
        shared: Arc<Shared>,
        direction: Direction,
        client: SocketAddr,
        destination: SocketAddr,
        caller: Option<Arc<Peer>>,
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
            policy: None,
            request: None,
            opened: false,
            received: Arc::default(),
            sent: Arc::default(),
            caller,
            towards: Towards::Nothing,
            endpoint: None,
            attempts: 0,
            rule: None,
        }
    }

    /// This is a request with this head.
    pub fn request(&mut self, head: &http::request::Parts) {
        let host =
            head.headers.get(http::header::HOST).map(|h| String::from_utf8_lossy(h.as_bytes()));
        let host = host.or_else(|| head.uri.authority().map(|a| Cow::Borrowed(a.as_str())));
        self.begin(RequestPart {
            version: head.version,
            method: Some(head.method.clone()),
            verb: method_label(Some(&head.method)),
            host: host.unwrap_or_default().into_owned(),
            path: head.uri.path().to_owned(),
            grpc: head::is_grpc(&head.headers),
            status: None,
            grpc_status: None,
            first_byte: None,
            copy: false,
        });
    }

    /// This is a copy of a request with this head, which came in `version`, for `cluster`.
    pub fn copy_of(
        &mut self,
        head: &http::request::Parts,
        version: Version,
        cluster: &Arc<Cluster>,
    ) {
        self.request(head);
        self.version(version);
        self.is_copy();
        self.towards = Towards::Cluster(Arc::clone(cluster));
    }

    /// This request is a copy.
    pub fn is_copy(&mut self) {
        if let Some(request) = &mut self.request {
            request.copy = true;
        }
    }

    /// This is a request of HTTP/1 of which the head cannot be read.
    pub fn unreadable_request(&mut self) {
        self.begin(RequestPart {
            version: Version::HTTP_11,
            method: None,
            verb: method_label(None),
            host: String::new(),
            path: String::new(),
            grpc: false,
            status: None,
            grpc_status: None,
            first_byte: None,
            copy: false,
        });
    }

    fn begin(&mut self, request: RequestPart) {
        if self.direction == Direction::Inbound {
            self.shared.metrics.begins(request.verb);
        }
        self.request = Some(request);
    }

    /// This is an opaque connection, whose other end is there.
    pub fn opened(&mut self) {
        let event = Event { kind: Kind::Flow, took: Some(Duration::ZERO), received: 0, sent: 0 };
        self.shared.metrics.count(&self.edge(), &event, self.started);
        self.opened = true;
    }

    /// The rule that matched.
    pub fn matched(&mut self, route: &Arc<RouteConfiguration>, rule: usize) {
        self.rule = Some((Arc::clone(route), rule));
    }

    /// The version that the client spoke, where that is another than its proxy's.
    pub fn version(&mut self, version: Version) {
        if let Some(request) = &mut self.request {
            request.version = version;
        }
    }

    /// An attempt at `endpoint` of `cluster` begins.
    pub fn attempt(&mut self, cluster: &Arc<Cluster>, endpoint: &EndpointState) {
        self.attempts += 1;
        self.endpoint = Some(endpoint.told());
        if self.direction == Direction::Outbound {
            self.towards = Towards::Cluster(Arc::clone(cluster));
        }
    }

    /// It is this number of attempts that have been made.
    pub fn attempts(&mut self, attempts: u32) {
        self.attempts = attempts;
    }

    /// It leaves the mesh.
    pub fn external(&mut self) {
        self.towards = Towards::External;
    }

    /// An attempt has ended. Those of copies are not counted, as they are no one's requests, and
    /// neither are those at the application behind this proxy.
    pub fn tried(&self, outcome: Outcome) {
        if self.direction == Direction::Outbound && !self.is_own_copy() {
            self.shared.metrics.attempt(outcome);
        }
    }

    /// Whether it is a copy that this proxy made.
    fn is_own_copy(&self) -> bool {
        self.direction == Direction::Outbound && self.request.as_ref().is_some_and(|r| r.copy)
    }

    /// The status with which it is answered, from now on.
    pub fn status(&mut self, status: StatusCode) {
        if let Some(request) = &mut self.request {
            request.status = Some(status);
            request.first_byte = Some(self.started.elapsed());
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
            self.policy = error.policy();
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

    /// What its series are about.
    fn edge(&self) -> Edge<'_> {
        let server = match &self.towards {
            Towards::Nothing => Server::None,
            Towards::Cluster(cluster) => match cluster.service() {
                Some(service) => Server::Service(&service.host, service.port),
                None => Server::Other,
            },
            Towards::External => Server::Other,
        };
        let (direction, peer, route) = (self.direction, self.workload(), self.origin());
        Edge { direction, peer, server, route }
    }

    /// Namespace and name of the workload on the other side, or its class.
    fn workload(&self) -> (&str, &str) {
        match (self.direction, &self.caller, &self.endpoint) {
            (Direction::Inbound, Some(caller), _) => (caller.id.namespace(), caller.workload()),
            (Direction::Inbound, None, _) => ("", self.class(self.client.ip())),
            (Direction::Outbound, _, Some(endpoint)) => endpoint
                .workload
                .split_once('/')
                .unwrap_or_else(|| ("", self.class(endpoint.address.ip()))),
            (Direction::Outbound, _, None) => match self.towards {
                Towards::External => ("", "internet"),
                _ => ("", "unknown"),
            },
        }
    }

    /// What is known of who has no name.
    fn class(&self, address: IpAddr) -> &'static str {
        match &self.shared.store.current().workload {
            None => "unknown",
            Some(me) if me.mesh_ranges.iter().any(|range| range.contains(&address)) => {
                "cluster-unmeshed"
            }
            Some(_) => "internet",
        }
    }

    /// Counts that it has ended.
    fn count(&self, now: Instant) {
        let error = self.reason.map_or("", Reason::as_str);
        let metrics = &self.shared.metrics;
        if self.is_own_copy() {
            if let Towards::Cluster(cluster) = &self.towards {
                metrics.mirrored(cluster, error);
            }
            return;
        }
        let edge = self.edge();
        let once = |kind, took| Event { kind, took, received: 0, sent: 0 };
        let took = Some(now.duration_since(self.started));
        match &self.request {
            Some(request) => {
                let kind = match self.grpc() {
                    Some(status) => Kind::Rpc { status, error },
                    None => Kind::Http {
                        method: request.verb,
                        status: request.status.map_or(Status::None, |s| Status::Exact(s.as_u16())),
                        error,
                    },
                };
                metrics.count(&edge, &once(kind, took), now);
                if self.direction == Direction::Inbound {
                    metrics.ends(request.verb);
                }
            }
            None => {
                let opened = (!self.opened).then_some(Duration::ZERO);
                let (received, sent) = (&self.received, &self.sent);
                let flow = Event {
                    received: received.load(Ordering::Relaxed),
                    sent: sent.load(Ordering::Relaxed),
                    ..once(Kind::Flow, opened)
                };
                metrics.count(&edge, &flow, now);
                metrics.count(&edge, &once(Kind::Closed { error }, took), now);
            }
        }
        if let Some(policy) = self.policy {
            let kind = Kind::Denied { policy, reason: error };
            metrics.count(&edge, &once(kind, Some(Duration::ZERO)), now);
        }
    }

    /// The name of its gRPC status, if it is a call. One that the server did not say follows from how the
    /// call ended otherwise.
    fn grpc(&self) -> Option<&'static str> {
        let request = self.request.as_ref().filter(|request| request.grpc)?;
        let by_reason = || self.reason.map(|reason| reason.grpc_status().into());
        let status = request.grpc_status.or_else(by_reason);
        Some(grpc::name(status.unwrap_or_else(|| grpc::of_http(request.status))))
    }

    /// The record as one line of JSON.
    fn line(&self, now: Instant) -> Vec<u8> {
        let request = self.request.as_ref();
        let read = request.filter(|r| r.method.is_some());
        let (endpoint, caller) = (self.endpoint.as_deref(), self.caller.as_deref());
        let other = endpoint.filter(|_| self.direction == Direction::Outbound);
        let identity = other.and_then(|endpoint| endpoint.identity.as_ref());
        let pod = other.map(|endpoint| endpoint.pod.as_str()).filter(|pod| !pod.is_empty());
        let me = self.shared.store.current().workload.clone();
        let revision = match self.direction {
            Direction::Inbound => me.as_ref().map(|me| me.revision.as_str()),
            Direction::Outbound => other.map(|endpoint| endpoint.revision.as_str()),
        };
        let service = match &self.towards {
            Towards::Nothing => None,
            Towards::Cluster(cluster) => Some(cluster.label()),
            Towards::External => Some("external"),
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
            detail: (!self.detail.is_empty()).then(|| shown(&self.detail)),
            policy: self.policy,
            duration_ms: milliseconds(now.duration_since(self.started)),
            first_byte_ms: request.and_then(|r| r.first_byte).map(milliseconds),
            bytes_received: self.received.load(Ordering::Relaxed),
            bytes_sent: self.sent.load(Ordering::Relaxed),
            tls: caller.is_some() || identity.is_some(),
            peer: caller.map(|caller| &caller.id).or(identity),
            peer_pod: caller.and_then(|caller| caller.pod.as_deref()).or(pod),
            service,
            route: self.origin().map(route_text),
            attempts: (self.attempts > 0).then_some(self.attempts),
            upstream: endpoint.map(|endpoint| endpoint.address).or(external),
            revision: revision.filter(|revision| !revision.is_empty()),
            client: self.client,
            destination: self.destination,
        };
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
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
    detail: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'static str>,
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
        let now = Instant::now();
        self.count(now);
        self.shared.lines.write(self.line(now));
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
