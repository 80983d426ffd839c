//! The data path's metrics, for Prometheus. Names follow OpenTelemetry's conventions where one
//! exists; `docs/observability.md` lists them all.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType, counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram,
    },
    registry::Unit,
};
use tokio::time::Instant;
use tulle_runtime::metrics::Registry;

use super::{
    Direction,
    edge::{Edge, OTHER},
    edges::Edges,
    series::{Event, OF_REQUESTS},
};
use crate::{error::Reason, upstream::Cluster};

/// The data path's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    edges: Edges,
    active: Active,
    attempts: Family<AttemptLabels, Counter>,
    /// Of `attempts`, found once: most are these.
    attempted: Counter,
    retried: Counter,
    handshakes: Family<HandshakeLabels, Counter>,
    detected: Family<DetectLabels, Histogram>,
    rejected: Family<RejectedLabels, Counter>,
    exhausted: Family<ServerLabels, Counter>,
    ejections: Family<EjectionLabels, Counter>,
    mirrored: Family<MirroredLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    tulle_reporter: &'static str,
    tls_established: &'static str,
    tls_protocol_version: &'static str,
    tulle_peer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DetectLabels {
    tulle_reporter: &'static str,
    tulle_protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    limit: &'static str,
}

/// A cluster in labels: the Service that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct ServerLabels {
    server_address: String,
    server_port: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EjectionLabels {
    #[prometheus(flatten)]
    server: ServerLabels,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MirroredLabels {
    #[prometheus(flatten)]
    server: ServerLabels,
    error_type: &'static str,
}

impl ServerLabels {
    pub(super) fn of(cluster: &Cluster) -> Self {
        match cluster.service() {
            Some(service) => {
                Self { server_address: service.host.clone(), server_port: service.port.to_string() }
            }
            None => Self { server_address: OTHER.to_owned(), server_port: String::new() },
        }
    }
}

/// How one attempt at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a response that the client gets.
    Ok,
    /// It was made again, whatever it had come to.
    Retried,
    /// It failed, and so did the request.
    Failed(Reason),
}

/// What a TLS handshake, or its absence, says about the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The other side is of the mesh and has proven who it is.
    Established,
    /// It should be of the mesh, and the handshake failed.
    Failed,
    /// There was none: it is outside of the mesh.
    Plaintext,
}

impl Metrics {
    /// Registers the data path's metrics.
    pub fn new(registry: &Registry) -> Self {
        let attempts = Family::<AttemptLabels, Counter>::default();
        let attempt = |outcome| attempts.get_or_create(&AttemptLabels { outcome }).clone();
        let inner = Arc::new(Inner {
            edges: Edges::new(),
            active: Active::default(),
            attempted: attempt("ok"),
            retried: attempt("retried"),
            attempts,
            handshakes: Family::default(),
            detected: Family::new_with_constructor(|| Histogram::new(OF_REQUESTS)),
            rejected: Family::default(),
            exhausted: Family::default(),
            ejections: Family::default(),
            mirrored: Family::default(),
        });
        registry.register(|r| {
            r.register_collector(Box::new(inner.edges.clone()));
            r.register_collector(Box::new(inner.active.clone()));
            r.register(
                "tulle_client_attempts",
                "Attempts at endpoints of other services, by what came of them; divided by requests it is the retry amplification",
                inner.attempts.clone(),
            );
            r.register(
                "tulle_tls_handshakes",
                "Connections by whether mTLS was established, and with whom",
                inner.handshakes.clone(),
            );
            r.register_with_unit(
                "tulle_detect_duration",
                "Time in which a connection showed what it speaks, where nobody declared it",
                Unit::Seconds,
                inner.detected.clone(),
            );
            r.register(
                "tulle_limit_rejected",
                "Requests and connections refused because a limit was reached",
                inner.rejected.clone(),
            );
            r.register(
                "tulle_retry_budget_exhausted",
                "Retries that were not made for want of budget",
                inner.exhausted.clone(),
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
        });
        Self(inner)
    }

    /// Counts what happened on an edge.
    pub(super) fn count(&self, edge: &Edge<'_>, event: &Event, now: Instant) {
        self.0.edges.count(edge, event, now);
    }

    /// A request for the application with this method begins.
    pub(super) fn begins(&self, method: &'static str) {
        self.0.active.of(method).0.fetch_add(1, Ordering::Relaxed);
    }

    /// A request for the application with this method has ended.
    pub(super) fn ends(&self, method: &'static str) {
        self.0.active.of(method).1.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one attempt at an endpoint.
    pub fn attempt(&self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.0.attempted.inc(),
            Outcome::Retried => self.0.retried.inc(),
            Outcome::Failed(reason) => {
                let outcome = reason.as_str();
                self.0.attempts.get_or_create(&AttemptLabels { outcome }).inc()
            }
        };
    }

    /// Counts one connection to or from another workload by what became of its handshake.
    pub fn handshake(&self, direction: Direction, handshake: Handshake) {
        let (established, version, peer) = match handshake {
            // There is no other version between sidecars.
            Handshake::Established => ("true", "1.3", "mesh"),
            Handshake::Failed => ("false", "", "mesh"),
            Handshake::Plaintext => ("false", "", "plaintext"),
        };
        let labels = HandshakeLabels {
            tulle_reporter: direction.reporter(),
            tls_established: established,
            tls_protocol_version: version,
            tulle_peer: peer,
        };
        self.0.handshakes.get_or_create(&labels).inc();
    }

    /// A connection has shown after so long that it speaks `protocol`.
    pub fn detected(&self, direction: Direction, protocol: &'static str, took: Duration) {
        let labels =
            DetectLabels { tulle_reporter: direction.reporter(), tulle_protocol: protocol };
        self.0.detected.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts one refusal because `limit` was reached.
    pub fn rejected(&self, limit: &'static str) {
        self.0.rejected.get_or_create(&RejectedLabels { limit }).inc();
    }

    /// Counts one retry for which `cluster` has no budget.
    pub fn budget_exhausted(&self, cluster: &Cluster) {
        self.0.exhausted.get_or_create(&ServerLabels::of(cluster)).inc();
    }

    /// Counts one endpoint of `cluster` that is left out.
    pub fn ejected(&self, cluster: &Cluster, cause: &'static str) {
        let labels = EjectionLabels { server: ServerLabels::of(cluster), cause };
        self.0.ejections.get_or_create(&labels).inc();
    }

    /// Counts one copy of a request for `cluster`; `error` is why it failed or was not sent.
    pub fn mirrored(&self, cluster: &Cluster, error_type: &'static str) {
        let labels = MirroredLabels { server: ServerLabels::of(cluster), error_type };
        self.0.mirrored.get_or_create(&labels).inc();
    }
}

/// Methods that labels tell apart. What a client makes up is one of them, too.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"];

/// The label of a method; `None` could not be read.
pub(super) fn method_label(method: Option<&Method>) -> &'static str {
    let known = |method: &Method| METHODS.into_iter().find(|known| *known == method.as_str());
    method.and_then(known).unwrap_or("_OTHER")
}

/// Requests for the application that began and that ended, by method.
#[derive(Debug, Clone, Default)]
struct Active(Arc<[(AtomicU64, AtomicU64); METHODS.len()]>);

impl Active {
    fn of(&self, method: &'static str) -> &(AtomicU64, AtomicU64) {
        let index = METHODS.iter().position(|known| *known == method);
        &self.0[index.unwrap_or(METHODS.len() - 1)]
    }
}

impl Collector for Active {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests that the application has received and whose answers have not ended, gRPC calls among them";
        let name = "http_server_active_requests";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (method, (began, ended)) in METHODS.iter().zip(&*self.0) {
            // In this order, or one that ends meanwhile would be one too few.
            let (ended, began) = (ended.load(Ordering::Relaxed), began.load(Ordering::Relaxed));
            if began > 0 {
                let open = i64::try_from(began.saturating_sub(ended)).unwrap_or(i64::MAX);
                let labels = [("http_request_method", *method), ("url_scheme", "http")];
                ConstGauge::new(open).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
