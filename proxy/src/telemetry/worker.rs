//! What one worker counts, each for itself: nobody waits for another, or writes to its cache lines.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::time::Instant;

use tulle_xds::model::Endpoint;

use super::{
    Direction,
    closed::Closed,
    edge::Edge,
    edges::Edges,
    lanes,
    outbox::{Outbox, Outboxes},
    series::{Counter, Tally},
    tap::{self, Past, Tap, Texts},
    versions::Of,
};
use crate::request::lane::Passage;

/// Methods that labels tell apart. What a client makes up is one of them, too.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"];

/// What one worker counts of the data path.
#[derive(Debug)]
pub struct Worker {
    edges: Edges,
    tally: Arc<Mutex<Tally>>,
    active: Arc<Methods>,
    outbox: Outbox,
    ring: tap::Own,
    strangers: Strangers,
}

/// Requests with spans because a stranger says so that a worker lets have them in a second. A stranger is who has not proven an
/// identity: anybody who can reach the port.
const MOST_OF_STRANGERS: u32 = 100;

/// How many there were in this second.
#[derive(Debug, Default)]
struct Strangers(Mutex<Option<(Instant, u32)>>);

impl Strangers {
    fn admits(&self, now: Instant) -> bool {
        let mut second = self.0.lock();
        let (begun, admitted) = second
            .filter(|(begun, _)| now.saturating_duration_since(*begun) < Duration::from_secs(1))
            .unwrap_or((now, 0));
        let admits = admitted < MOST_OF_STRANGERS;
        *second = Some((begun, admitted + u32::from(admits)));
        admits
    }
}

impl Worker {
    pub(super) fn new(edges: &Edges, active: &Active, outboxes: &Outboxes, tap: &Tap) -> Self {
        let methods = Arc::<Methods>::default();
        active.0.lock().push(Arc::clone(&methods));
        Self {
            edges: edges.clone(),
            tally: edges.tally(),
            active: methods,
            outbox: outboxes.outbox(),
            ring: tap.ring(),
            strangers: Strangers::default(),
        }
    }

    /// Has it sent on.
    pub(super) fn tell(&self, closed: Closed) {
        self.outbox.put(closed);
    }

    /// Remembers it for a while. `make` gets memory that there is.
    pub(super) fn remember(&self, make: impl FnOnce(Texts) -> Past) {
        self.ring.lock().push(make);
    }

    /// Whether one more request has spans because somebody without an identity wants it. What has none is counted as dropped.
    pub(super) fn admits_stranger(&self, now: Instant) -> bool {
        let admits = self.strangers.admits(now);
        if !admits {
            self.outbox.drops_span();
        }
        admits
    }

    /// Counts what happened on an edge.
    pub(super) fn count(
        &self,
        edge: &Edge<'_>,
        now: Instant,
        events: impl FnOnce(&mut Counter<'_>),
    ) {
        self.edges.count(&self.tally, edge, now, events);
    }

    /// An attempt at a pod of a version that is being released has ended, or a request to one.
    pub(super) fn attempted(&self, of: Of<'_>, bad: bool, took: Option<Duration>) {
        self.edges.versions().count(of, bad, took);
    }

    /// A request of a lane has ended, or perhaps of one.
    pub(super) fn passed(&self, edge: lanes::Edge<'_>, passage: &Passage) {
        self.edges.lanes().count(edge, passage);
    }

    /// An attempt to open an opaque connection to this endpoint has ended.
    pub fn dialled(&self, endpoint: &Endpoint, bad: bool) {
        let (namespace, workload) = endpoint.workload.split_once('/').unwrap_or_default();
        let (direction, revision) = (Direction::Outbound, endpoint.revision.as_str());
        self.attempted(Of { direction, namespace, workload, revision }, bad, None);
    }

    /// A request for the application with this method begins.
    pub(super) fn begins(&self, method: &'static str) {
        self.active.of(method).began.fetch_add(1, Ordering::Relaxed);
    }

    /// A request for the application with this method has ended.
    pub(super) fn ends(&self, method: &'static str) {
        self.active.of(method).ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// The label of a method; `None` could not be read.
pub(super) fn method_label(method: Option<&Method>) -> &'static str {
    let known = |method: &Method| METHODS.into_iter().find(|known| *known == method.as_str());
    method.and_then(known).unwrap_or("_OTHER")
}

/// Requests for the application that began and that ended, by method.
#[derive(Debug, Default)]
struct Methods([Requests; METHODS.len()]);

#[derive(Debug, Default)]
struct Requests {
    began: AtomicU64,
    ended: AtomicU64,
}

impl Methods {
    fn of(&self, method: &'static str) -> &Requests {
        let index = METHODS.iter().position(|known| *known == method);
        &self.0[index.unwrap_or(METHODS.len() - 1)]
    }
}

/// Requests for the application under way, of all workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Active(Arc<Mutex<Vec<Arc<Methods>>>>);

impl Collector for Active {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests that the application has received and whose answers have not ended, gRPC calls among them";
        let name = "http_server_active_requests";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let workers = self.0.lock().clone();
        for (index, method) in METHODS.iter().enumerate() {
            let sum = |of: fn(&Requests) -> &AtomicU64| {
                let all = workers.iter().filter_map(|worker| worker.0.get(index));
                all.map(|requests| of(requests).load(Ordering::Relaxed)).sum::<u64>()
            };
            // In this order, or one that ends meanwhile would be one too few.
            let (ended, began) = (sum(|requests| &requests.ended), sum(|requests| &requests.began));
            if began > 0 {
                let open = i64::try_from(began.saturating_sub(ended)).unwrap_or(i64::MAX);
                let labels = [("http_request_method", *method), ("url_scheme", "http")];
                ConstGauge::new(open).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_strangers_have_spans_in_a_second() {
        let (strangers, now) = (Strangers::default(), Instant::now());
        let of = |at: Instant| (0..1000).filter(|_| strangers.admits(at)).count();
        let second = Duration::from_secs(1);
        assert_eq!([of(now), of(now + second / 2), of(now + second)], [100, 0, 100]);
    }
}
