//! What the control plane remembers of the mesh's traffic, with nothing else installed.
//!
//! ```text
//! proxies ──reports──► service ──► [ Store ] ◄── query ◄── stat, edges, routes ◄── terminal, dashboard
//!         ◄─how often──                            ├─ the other replicas' stores, added up
//!                                                  └─ beyond their reach a Prometheus, if there is one
//!         ◄─questions─►         [ tap ] ◄───────── what ended lately: not kept here, but asked of the proxies
//! ```
//!
//! Each replica keeps what the proxies report whose streams it has; a question is asked of all of them. What a replica that is
//! lost knew of the past is lost with it, never the view of what is now.

mod answers;
pub mod api;
pub mod edge;
pub mod lanes;
mod packed;
pub mod prometheus;
pub mod query;
mod scope;
mod service;
mod slots;
mod store;
pub mod tap;
mod took;
mod totals;
pub mod versions;
pub mod view;
mod wire;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tulle_proto::telemetry::v1::ReportRequest;

pub use self::{
    answers::Answers,
    edge::{Direction, Edge, NoEdge, Peer, Security, Workload},
    prometheus::Prometheus,
    query::Query,
    scope::Scope,
    service::{Telemetry, service},
    store::{Ask, Counted, Of, Reporting, Row, Store},
    took::Took,
    totals::{Denial, Flow, Outcome, Totals},
};
use self::{
    lanes::{Lanes, Requests},
    versions::{Attempts, Tolds, Versions},
};
use crate::world::objects::Name;

/// Between two looks at what is over.
const SWEEP: Duration = Duration::from_secs(10);
/// How often proxies report; and those whom somebody watches.
const INTERVAL: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(1);
/// For so long after somebody has looked their proxies report every second.
const LOOKED_AT: Duration = Duration::from_secs(30);

/// The store of this replica, and who is looking. Clones share.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    /// Another one each time that the program begins.
    process: u64,
    memory: Mutex<Memory>,
    /// Counts when somebody began to look at something.
    looks: watch::Sender<u64>,
    /// On which proxies can be asked.
    lines: tap::Lines,
}

#[derive(Debug, Default)]
struct Memory {
    store: Store,
    answers: Answers,
    versions: Versions,
    lanes: Lanes,
}

/// What this replica has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What happened.
    pub rows: Arc<Vec<Row>>,
    /// Who reports.
    pub reporting: Vec<Reporting>,
    /// Something of what was asked for was forgotten before its time.
    pub shortened: bool,
    /// For how long it has been taking reports: of what was before it knows nothing.
    pub since: Duration,
    /// For how long all replicas have been that say this together. What was before that they know in part: what proxies told
    /// one that is gone is lost.
    pub whole: Duration,
}

impl Default for Hub {
    fn default() -> Self {
        let (begun, looks) = (Instant::now(), watch::Sender::new(0));
        Self(Arc::new(Inner {
            begun,
            process: rand::random(),
            memory: Mutex::default(),
            looks,
            lines: tap::Lines::default(),
        }))
    }
}

impl Hub {
    /// Forgets what is over, forever.
    pub async fn run(self) {
        loop {
            // As soon as a slot is over, so that nobody who asks has to wait until answers are read anew.
            let over = self.now().as_secs() / SWEEP.as_secs() + 1;
            sleep_until(self.0.begun + SWEEP * u32::try_from(over).unwrap_or(u32::MAX)).await;
            let Memory { store, answers, versions, lanes } = &mut *self.0.memory.lock();
            let now = self.now();
            store.sweep(now);
            versions.sweep(now);
            lanes.sweep(now);
            answers.renew(store, now);
        }
    }

    /// Takes a report of a pod of this workload and template, and returns the last one of its process that is in the store, and
    /// when.
    fn take(&self, pod: &Name, of: (&Workload, &str), report: &ReportRequest) -> (u64, Duration) {
        let counted = Counted::read(of.0, report);
        let (attempts, requests) = (Attempts::read(of, report), Requests::read(of.0, report));
        let Memory { store, versions, lanes, .. } = &mut *self.0.memory.lock();
        let now = self.now();
        if store.take((pod, of.0), counted, now) {
            versions.add(attempts, now);
            lanes.add(requests, now);
        }
        (store.taken(pod, report.process), now)
    }

    /// A pod's stream has ended, on which it reported last at this time.
    fn left(&self, pod: &Name, last: Duration) {
        self.0.memory.lock().store.left(pod, last);
    }

    /// How often the proxies of this workload report.
    fn interval(&self, workload: &Workload) -> Duration {
        let until = self.0.memory.lock().store.watched(workload);
        if until.is_some_and(|until| self.now() < until) { WATCHED } else { INTERVAL }
    }

    /// What this replica has. Who `looks` wants it by the second from now on, for a while; who does not may be told what was
    /// when a slot was last over.
    pub fn ask(&self, ask: &Ask, looks: bool) -> Known {
        let Memory { store, answers, .. } = &mut *self.0.memory.lock();
        let now = self.now();
        let rows = if looks { store.read(ask, now).into() } else { answers.ask(store, ask, now) };
        let reporting = store.reporting();
        if looks {
            self.look(store, &ask.of);
        }
        Known {
            rows,
            reporting,
            shortened: store.shortened(ask.window, now),
            since: now,
            whole: now,
        }
    }

    /// Somebody wants it by the second from now on, for a while.
    fn look(&self, store: &mut Store, of: &Of) {
        let now = self.now();
        let own = store.reporting().into_iter().map(|one| one.workload);
        let own = own.filter(|one| of.is_of(one));
        let all: Vec<_> = store.tellers(of).into_iter().chain(own).collect();
        if store.watch(all, now + LOOKED_AT, now) {
            self.0.looks.send_modify(|count| *count += 1);
        }
    }

    /// What was told of lanes. Who `looks` wants it by the second from now on, for a while.
    pub fn lanes(&self, ask: &lanes::Ask, looks: bool) -> lanes::Told {
        let Memory { store, lanes, .. } = &mut *self.0.memory.lock();
        let now = self.now();
        if looks {
            let of = match ask.namespace.as_str() {
                "" => Of::All,
                namespace => Of::Namespace(namespace.to_owned()),
            };
            self.look(store, &of);
        }
        lanes::Told { counts: lanes.of(ask, now), since: now, unheard: Vec::new() }
    }

    /// The pods whose proxies report to this replica, and when their certificates end, in seconds since 1970; 0: not known.
    pub fn reporters(&self) -> HashMap<Name, i64> {
        let store = &self.0.memory.lock().store;
        store.reporters().map(|(pod, ends)| (pod.clone(), ends)).collect()
    }

    /// What was told of the versions of a workload, since this replica's program began.
    pub fn versions(&self, namespace: &str, workload: &str) -> Tolds {
        let Memory { store, versions, .. } = &*self.0.memory.lock();
        let now = self.now();
        let fresh = store.fresh(now).cloned().collect();
        let (arms, callers) = versions.of((namespace, workload), now);
        Tolds { process: self.0.process, arms, callers, fresh }
    }

    fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }
}

impl Collector for Hub {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let memory = self.0.memory.lock();
        let Memory { store, answers, versions, .. } = &*memory;
        let (edges, routes) = store.len();
        let unread = store.unread().saturating_add(versions.unread());
        let (arms, lost) = (versions.len(), versions.lost());
        let bytes = store.bytes() + answers.bytes();
        let reporting: usize = store.reporting().iter().map(|one| one.proxies).sum();
        drop(memory);
        for (name, help, value) in [
            ("tulle_store_edges", "Edges that this replica remembers", edges),
            ("tulle_store_routes", "Rules of edges that this replica remembers", routes),
            ("tulle_store_size_bytes", "What this replica remembers of the mesh's traffic", bytes),
            ("tulle_store_versions", "Versions and their callers that this replica counts", arms),
            ("tulle_store_proxies", "Proxies that report to this replica", reporting),
        ] {
            let family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family)?;
        }
        for (name, help, value) in [
            (
                "tulle_store_unread_durations",
                "Histograms of durations that proxies sent and this version cannot read",
                unread,
            ),
            ("tulle_store_lost_attempts", "Attempts at versions for which there was no room", lost),
        ] {
            let family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(family)?;
        }
        Ok(())
    }
}
