//! What happened to one request or one opaque connection.

mod close;
mod count;
mod facts;
mod line;
mod past;
mod place;
mod text;
mod version;

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use http::{Method, StatusCode, Version};
use serde::Serialize;
use tokio::time::Instant;
use tulle_expression::Side;
use tulle_xds::model::{Endpoint, LogFormat, Origin, RouteConfiguration, Rule, Setter};

pub(crate) use line::route_text;
pub(super) use place::{Attempt, Noted};
pub(super) use text::ENVOY_HEADERS;
pub use version::blame;

use super::{
    metrics::Outcome,
    series::Kind,
    tap::Field,
    trace::Position,
    wanted::{Kept, Wanted},
    worker::method_label,
};
use crate::{
    context::Context,
    error::{Error, Policy, Reason},
    request::{head, lane::Stay},
    tls::Peer,
    upstream::{Cluster, EndpointState},
};

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
    cx: Arc<Context>,
    direction: Direction,
    started: Instant,
    client: SocketAddr,
    destination: SocketAddr,
    ended: bool,
    reason: Option<Reason>,
    /// The server is well, and only about to end.
    ending: bool,
    detail: Cow<'static, str>,
    policy: Option<Cow<'static, str>>,
    /// The field of it that decided.
    policy_field: Option<Box<str>>,
    /// What became of an endpoint because of it.
    ejected: Option<Box<past::Ejected>>,
    /// The policy that forbade it.
    forbidden: Option<Arc<str>>,
    /// The policy that would have, were it not only audited.
    audited: Option<Arc<str>>,
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
    /// Attempts that were made again, and what the last one came to.
    retried: u64,
    outcome: Option<Outcome>,
    /// When the attempt that is under way began, if its endpoint is of a version that is being released.
    tried_since: Option<Instant>,
    rule: Option<(Arc<RouteConfiguration>, usize)>,
    /// Header fields that somebody wants told.
    kept: Kept,
    /// Those that somebody who looks asks for.
    tapped: Vec<Field>,
    /// Where it is in a trace.
    position: Option<Position>,
    /// It is in a trace that is not recorded, whose ids are made when they are needed.
    undrawn: bool,
    /// What its spans say beyond that, if it has any.
    spans: Option<Box<place::Spans>>,
    /// It keeps its trace in its lane, while it lasts; and what of it is counted for lanes.
    stay: Option<Box<Stay>>,
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
        cx: Arc<Context>,
        direction: Direction,
        client: SocketAddr,
        destination: SocketAddr,
        caller: Option<Arc<Peer>>,
    ) -> Self {
        Self {
            cx,
            direction,
            started: Instant::now(),
            client,
            destination,
            ended: false,
            reason: None,
            ending: false,
            detail: Cow::Borrowed(""),
            policy: None,
            policy_field: None,
            ejected: None,
            forbidden: None,
            audited: None,
            request: None,
            opened: false,
            received: Arc::default(),
            sent: Arc::default(),
            caller,
            towards: Towards::Nothing,
            endpoint: None,
            attempts: 0,
            retried: 0,
            outcome: None,
            tried_since: None,
            rule: None,
            kept: Kept::default(),
            tapped: Vec::new(),
            position: None,
            undrawn: false,
            spans: None,
            stay: None,
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
        self.towards(cluster);
    }

    /// Keeps what is wanted of a head.
    pub fn keep(&mut self, wanted: &Wanted, side: Side, headers: &http::HeaderMap) {
        self.kept.keep(wanted, side, headers);
        self.cx.metrics.tap().keep(side, headers, &mut self.tapped);
    }

    /// It is for an endpoint of this cluster.
    pub fn towards(&mut self, cluster: &Arc<Cluster>) {
        if self.direction == Direction::Outbound {
            self.towards = Towards::Cluster(Arc::clone(cluster));
        }
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
            self.cx.counts.begins(request.verb);
        }
        self.request = Some(request);
    }

    /// This is an opaque connection, whose other end is there.
    pub fn opened(&mut self) {
        let settings = self.cx.settings();
        if !settings.wanted.uncounted {
            let opened = count::once(Kind::Flow);
            self.count_events(self.started, &settings.wanted, |counter| counter.count(&opened));
            self.opened = true;
        }
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

    /// The version that the client speaks.
    pub fn spoken(&self) -> Version {
        self.request.as_ref().map_or(Version::HTTP_11, |request| request.version)
    }

    /// An attempt at `endpoint` of `cluster` begins.
    pub fn attempt(&mut self, cluster: &Arc<Cluster>, endpoint: &EndpointState) {
        self.attempts += 1;
        let endpoint = endpoint.told();
        self.tries_at(&endpoint);
        self.endpoint = Some(endpoint);
        self.tried_since = cluster.is_being_released().then(Instant::now);
        self.towards(cluster);
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
    pub fn tried(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Retried => self.retried += 1,
            Outcome::Ok | Outcome::Failed(_) => self.outcome = Some(outcome),
        }
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
            (self.reason, self.ending) = (Some(error.reason()), error.is_ending());
            self.detail = Cow::Owned(error.detail().to_owned());
            match error.policy() {
                Some(Policy::Forbids(policy)) => {
                    self.policy = Some(Cow::Owned(policy.to_string()));
                    self.forbidden = Some(Arc::clone(policy));
                }
                Some(Policy::Set(fields)) => self.set_by(fields),
                Some(Policy::Lacks(route)) => self.policy = Some(Cow::Owned(route.clone())),
                None => {}
            }
        }
    }

    /// This policy would forbid it, were it not only audited.
    pub fn audited(&mut self, policy: Arc<str>) {
        self.audited = Some(policy);
    }

    /// What becomes of it is for one of these fields of whatever object set it.
    pub fn set_by(&mut self, fields: &[&str]) {
        if let Some((policy, field)) = self.setter(fields) {
            (self.policy, self.policy_field) = (Some(Cow::Owned(policy)), Some(field.into()));
        }
    }

    /// The object that set one of these fields, and which.
    fn setter(&self, fields: &[&str]) -> Option<(String, String)> {
        let of = |setters: &[Setter]| {
            let is_one = |setter: &&Setter| fields.iter().any(|field| setter.field.contains(field));
            let setter = setters.iter().find(is_one);
            setter.map(|setter| (route_text(&setter.origin), setter.field.clone()))
        };
        let by_rule = self.rule().and_then(|rule| of(&rule.setters));
        let by_cluster = || match &self.towards {
            Towards::Cluster(cluster) => of(&cluster.settings().setters),
            Towards::Nothing | Towards::External => None,
        };
        by_rule.or_else(by_cluster)
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

    fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref().and_then(|(route, rule)| route.rules.get(*rule))
    }

    fn origin(&self) -> Option<&Origin> {
        self.rule().map(|rule| &rule.origin)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.note(&Error::new(Reason::Canceled, "the client went away before the end"));
        }
        let now = Instant::now();
        let settings = self.cx.settings();
        self.count(now, &settings.wanted);
        self.count_version(now, settings.counted);
        self.count_lanes();
        self.remember(now);
        let written = self.is_written(&settings, now);
        if let Some(sampled) = written {
            match settings.wanted.format {
                LogFormat::Json => self.cx.lines.write(self.line(now, sampled, &settings.wanted)),
                LogFormat::Envoy => self.cx.lines.write(self.text(now)),
                LogFormat::Off => {}
            }
        }
        self.tell(now, written.filter(|_| settings.wanted.logs_sent), &settings.wanted);
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("direction", &self.direction).finish_non_exhaustive()
    }
}
