//! The data path's metrics, for Prometheus. Names follow OpenTelemetry's conventions where one
//! exists.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use tulle_runtime::metrics::Registry;

use super::record::{Direction, Record};

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Series that are kept apart; what comes beyond is counted as service and peer `other`.
const MOST_SERIES: usize = 4096;

/// The data path's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    client_duration: Family<HttpLabels, Histogram>,
    server_duration: Family<HttpLabels, Histogram>,
    tcp_opened: Family<TcpLabels, Counter>,
    tcp_sent: Family<TcpLabels, Counter>,
    tcp_received: Family<TcpLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    ejections: Family<EjectionLabels, Counter>,
    mirrored: Family<MirroredLabels, Counter>,
    folded: Counter,
    /// Series by what a record says: the labels' texts are made once.
    http: RwLock<HashMap<Key, Histogram>>,
    tcp: RwLock<HashMap<Key, Tcp>>,
}

/// What distinguishes two series. Texts are shared with what was told, so that a key costs no
/// allocation but for the reference counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) direction: Direction,
    pub(super) peer: Option<tulle_xds::model::SpiffeId>,
    pub(super) service: Option<Arc<str>>,
    pub(super) route: Option<tulle_xds::model::Origin>,
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) tls: bool,
}

#[derive(Clone)]
struct Tcp {
    opened: Counter,
    sent: Counter,
    received: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    service: String,
    tulle_peer: String,
    tulle_route: String,
    http_response_status_code: u16,
    error_type: &'static str,
    tls: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TcpLabels {
    direction: &'static str,
    service: String,
    tulle_peer: String,
    error_type: &'static str,
    tls: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    side: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EjectionLabels {
    service: String,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MirroredLabels {
    service: String,
    error_type: &'static str,
}

/// How one attempt at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a response.
    Ok,
    /// It never reached the application and was tried again.
    Retried,
    /// It failed, and so did the request.
    Failed,
}

impl Metrics {
    /// Registers the data path's metrics.
    pub fn new(registry: &Registry) -> Self {
        let duration = || Histogram::new(BUCKETS);
        let inner = Inner {
            client_duration: Family::new_with_constructor(duration),
            server_duration: Family::new_with_constructor(duration),
            tcp_opened: Family::default(),
            tcp_sent: Family::default(),
            tcp_received: Family::default(),
            attempts: Family::default(),
            handshakes: Family::default(),
            rejected: Family::default(),
            ejections: Family::default(),
            mirrored: Family::default(),
            folded: Counter::default(),
            http: RwLock::default(),
            tcp: RwLock::default(),
        };
        registry.register(|r| {
            r.register(
                "http_client_request_duration_seconds",
                "Duration of requests that the application sent, as it saw them",
                inner.client_duration.clone(),
            );
            r.register(
                "http_server_request_duration_seconds",
                "Duration of requests that the application received",
                inner.server_duration.clone(),
            );
            r.register(
                "tulle_tcp_connections",
                "Opaque connections that ended",
                inner.tcp_opened.clone(),
            );
            r.register(
                "tulle_tcp_sent_bytes",
                "Bytes that servers sent on opaque connections",
                inner.tcp_sent.clone(),
            );
            r.register(
                "tulle_tcp_received_bytes",
                "Bytes that clients sent on opaque connections",
                inner.tcp_received.clone(),
            );
            r.register(
                "tulle_client_attempts",
                "Attempts at endpoints; divided by requests it is the retry amplification",
                inner.attempts.clone(),
            );
            r.register(
                "tulle_tls_handshakes",
                "TLS handshakes with other proxies",
                inner.handshakes.clone(),
            );
            r.register(
                "tulle_limit_rejected",
                "Requests refused because a limit was reached",
                inner.rejected.clone(),
            );
            r.register(
                "tulle_upstream_ejections",
                "Endpoints that were left out for a while because they failed",
                inner.ejections.clone(),
            );
            r.register(
                "tulle_mirrored_requests",
                "Copies of requests, by the Service they were for and why they failed, if they did",
                inner.mirrored.clone(),
            );
            r.register(
                "tulle_telemetry_folded",
                "Requests and connections that were counted as `other` for want of room",
                inner.folded.clone(),
            );
        });
        Self(Arc::new(inner))
    }

    /// Counts one attempt at an endpoint.
    pub fn attempt(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::Retried => "retried",
            Outcome::Failed => "failed",
        };
        self.0.attempts.get_or_create(&AttemptLabels { outcome }).inc();
    }

    /// Counts one TLS handshake with another proxy, as its `client` or `server` side.
    pub fn handshake(&self, side: &'static str, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.0.handshakes.get_or_create(&HandshakeLabels { side, result }).inc();
    }

    /// Counts one refusal because `limit` was reached.
    pub fn rejected(&self, limit: &'static str) {
        self.0.rejected.get_or_create(&RejectedLabels { limit }).inc();
    }

    /// Counts one endpoint of `service` that is left out.
    pub fn ejected(&self, service: &str, cause: &'static str) {
        let labels = EjectionLabels { service: service.to_owned(), cause };
        self.0.ejections.get_or_create(&labels).inc();
    }

    /// Counts one copy of a request for `service`; `error` is why it failed or was not sent.
    pub fn mirrored(&self, service: &str, error_type: &'static str) {
        let labels = MirroredLabels { service: service.to_owned(), error_type };
        self.0.mirrored.get_or_create(&labels).inc();
    }

    /// Counts a request that ended.
    pub(super) fn http(&self, record: &Record, seconds: f64) {
        let (key, family) = (record.key(), self.0.duration(record));
        // A statement of its own: the read lock ends with it, before the write lock is taken.
        let known = self.0.http.read().get(&key).cloned();
        let series = known.unwrap_or_else(|| {
            let mut kept = self.0.http.write();
            let key = if kept.len() < MOST_SERIES { key } else { self.0.fold(key) };
            let series = family.get_or_create(&http_labels(&key)).clone();
            kept.insert(key, series.clone());
            series
        });
        series.observe(seconds);
    }

    /// Counts an opaque connection that ended.
    pub(super) fn tcp(&self, record: &Record, received: u64, sent: u64) {
        let key = record.key();
        // A statement of its own: the read lock ends with it, before the write lock is taken.
        let known = self.0.tcp.read().get(&key).cloned();
        let series = known.unwrap_or_else(|| {
            let mut kept = self.0.tcp.write();
            let key = if kept.len() < MOST_SERIES { key } else { self.0.fold(key) };
            let labels = tcp_labels(&key);
            let series = Tcp {
                opened: self.0.tcp_opened.get_or_create(&labels).clone(),
                sent: self.0.tcp_sent.get_or_create(&labels).clone(),
                received: self.0.tcp_received.get_or_create(&labels).clone(),
            };
            kept.insert(key, series.clone());
            series
        });
        series.opened.inc();
        series.received.inc_by(received);
        series.sent.inc_by(sent);
    }
}

impl Inner {
    fn duration(&self, record: &Record) -> &Family<HttpLabels, Histogram> {
        match record.direction() {
            Direction::Inbound => &self.server_duration,
            Direction::Outbound => &self.client_duration,
        }
    }

    fn fold(&self, key: Key) -> Key {
        self.folded.inc();
        Key { peer: None, service: Some("other".into()), route: None, ..key }
    }
}

fn http_labels(key: &Key) -> HttpLabels {
    HttpLabels {
        service: text(key.service.as_deref()),
        tulle_peer: text(key.peer.as_ref().map(|id| id.as_str())),
        tulle_route: key.route.as_ref().map(super::record::route_text).unwrap_or_default(),
        http_response_status_code: key.status,
        error_type: key.error,
        tls: if key.tls { "true" } else { "false" },
    }
}

fn tcp_labels(key: &Key) -> TcpLabels {
    TcpLabels {
        direction: key.direction.as_str(),
        service: text(key.service.as_deref()),
        tulle_peer: text(key.peer.as_ref().map(|id| id.as_str())),
        error_type: key.error,
        tls: if key.tls { "true" } else { "false" },
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
