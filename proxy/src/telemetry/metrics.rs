//! The data path's metrics, for Prometheus. Names follow OpenTelemetry's conventions where one
//! exists; `docs/metrics.md` lists them all.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Unit,
};
use tulle_runtime::metrics::Registry;

use super::{
    Direction,
    edge::OTHER,
    edges::Edges,
    otlp::{Counts, Signal},
    outbox::Outboxes,
    report::Reporter,
    sent::{self, Sent},
    series::OF_REQUESTS,
    tap::Tap,
    worker::{Active, Worker},
};
use crate::{error::Reason, mesh::Store, tls::Certs, upstream::Cluster};

/// The data path's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    edges: Edges,
    active: Active,
    outboxes: Outboxes,
    sent: Sent,
    tap: Tap,
    handshakes: Family<HandshakeLabels, Counter>,
    detected: Family<DetectLabels, Histogram>,
    rejected: Family<RejectedLabels, Counter>,
    exhausted: Family<ServerLabels, Counter>,
    ejections: Family<EjectionLabels, Counter>,
    mirrored: Family<MirroredLabels, Counter>,
    expressions: Counter,
    lanes: Family<LaneLabels, Counter>,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    tulle_lane: String,
    tulle_reporter: &'static str,
    tulle_lane_by: &'static str,
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

impl Outcome {
    /// The word for labels.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retried => "retried",
            Self::Failed(reason) => reason.as_str(),
        }
    }
}

impl Metrics {
    /// Registers the data path's metrics.
    pub fn new(registry: &Registry) -> Self {
        let inner = Arc::new(Inner {
            edges: Edges::new(),
            active: Active::default(),
            outboxes: Outboxes::default(),
            sent: Sent::default(),
            tap: Tap::default(),
            handshakes: Family::default(),
            detected: Family::new_with_constructor(|| Histogram::new(OF_REQUESTS)),
            rejected: Family::default(),
            exhausted: Family::default(),
            ejections: Family::default(),
            mirrored: Family::default(),
            expressions: Counter::default(),
            lanes: Family::default(),
        });
        let edges = inner.edges.clone();
        registry.exemplify(move || edges.examples());
        registry.register(|r| {
            r.register_collector(Box::new(inner.edges.clone()));
            r.register_collector(Box::new(inner.active.clone()));
            let (sent, outboxes) = (inner.sent.clone(), inner.outboxes.clone());
            r.register_collector(Box::new(sent::Shows { sent, outboxes }));
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
                "tulle_telemetry_expression_failures",
                "Expressions of Telemetry that had no value for a request",
                inner.expressions.clone(),
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
                "tulle_lane_requests",
                "Requests of lanes, and requests without a lane that were sent while some of the lane were answered, by what says so",
                inner.lanes.clone(),
            );
        });
        Self(inner)
    }

    /// Says what the data path counts to the control plane, and when the certificate ends.
    pub fn reporter(&self, certs: Certs, store: Store) -> Reporter {
        Reporter::new(self.0.edges.clone(), self.0.tap.clone(), certs, store)
    }

    /// What came of attempts at versions that are being released, since this was asked last.
    #[cfg(test)]
    pub(crate) fn attempts(&self) -> Vec<tulle_proto::telemetry::v1::Attempts> {
        self.0.edges.versions().take()
    }

    /// What there is to tell of lanes, since this was asked last.
    #[cfg(test)]
    pub(crate) fn lanes(&self) -> Vec<tulle_proto::telemetry::v1::LaneRequests> {
        self.0.edges.lanes().take()
    }

    /// What one more worker counts.
    pub fn worker(&self) -> Worker {
        Worker::new(&self.0.edges, &self.0.active, &self.0.outboxes, &self.0.tap)
    }

    /// What has ended and is to be sent on.
    pub(super) fn outboxes(&self) -> &Outboxes {
        &self.0.outboxes
    }

    /// What became of what was sent on.
    pub(super) fn sent(&self, signal: Signal) -> &Arc<Counts> {
        self.0.sent.of(signal)
    }

    /// What ended lately.
    pub(crate) fn tap(&self) -> &Tap {
        &self.0.tap
    }

    /// The series of edges.
    pub(super) fn edges(&self) -> &Edges {
        &self.0.edges
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

    /// An expression of Telemetry had no value for a request.
    pub(super) fn expression_failed(&self) {
        self.0.expressions.inc();
    }

    /// Counts one request of a lane, or perhaps of it, by how that is known.
    pub fn in_lane(&self, lane: &str, direction: Direction, by: &'static str) {
        let labels = LaneLabels {
            tulle_lane: lane.to_owned(),
            tulle_reporter: direction.reporter(),
            tulle_lane_by: by,
        };
        self.0.lanes.get_or_create(&labels).inc();
    }

    /// Counts one copy of a request for `cluster`; `error` is why it failed or was not sent.
    pub fn mirrored(&self, cluster: &Cluster, error_type: &'static str) {
        let labels = MirroredLabels { server: ServerLabels::of(cluster), error_type };
        self.0.mirrored.get_or_create(&labels).inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
