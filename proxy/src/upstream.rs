//! Upstreams: where requests go, and what was measured there.
//!
//! ```text
//! [ Cluster ] -> [ EndpointState ] <- [ Pool ] <- one attempt ([ send ])
//!   settings       load               connections of one worker
//! ```
//!
//! This room owns what is *measured*: load, limits and connections. What was *told* (settings and
//! endpoints) arrives through [`Cluster::update`] and [`Cluster::set_endpoints`]; an endpoint that
//! an update does not touch keeps its state and its connections. Load and limits are shared by all
//! workers of the process (atomics); connections belong to one worker.

pub mod balance;
pub mod connect;
pub mod limits;
pub mod local;
pub mod pool;
pub mod send;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tulle_xds::model;

use balance::{Candidates, Ticket};
use limits::Limits;

/// A set of interchangeable endpoints with its settings, limits and load.
#[derive(Debug)]
pub struct Cluster {
    settings: ArcSwap<model::Cluster>,
    endpoints: ArcSwap<EndpointSet>,
    limits: Limits,
    ticket: Ticket,
    label: Arc<str>,
    /// The address from which endpoints are dialled; the kernel chooses if `None`.
    source: Option<IpAddr>,
}

impl Cluster {
    /// A cluster with its first endpoints (of the same name).
    pub fn new(settings: model::Cluster, endpoints: model::Endpoints) -> Self {
        let set = EndpointSet::new(endpoints, None);
        let label = match &settings.service {
            Some(service) => format!("{}:{}", service.host, service.port).into(),
            None => settings.name.as_str().into(),
        };
        Self {
            label,
            limits: Limits::new(settings.limits.clone()),
            settings: ArcSwap::from_pointee(settings),
            endpoints: ArcSwap::from_pointee(set),
            ticket: Ticket::default(),
            source: None,
        }
    }

    /// The same cluster, dialled from `source`: how an inbound proxy is told apart from the
    /// application's own connections.
    #[must_use]
    pub fn dialled_from(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    /// Takes new settings. Load and connections stay; limits bind from the next request on.
    pub fn update(&self, settings: model::Cluster) {
        self.limits.update(settings.limits.clone());
        self.settings.store(Arc::new(settings));
    }

    /// Takes the new list of endpoints. An endpoint whose address, identity and pod stay the same
    /// keeps its load and its connections, whatever its health or weight.
    pub fn set_endpoints(&self, endpoints: model::Endpoints) {
        let old = self.endpoints.load_full();
        self.endpoints.store(Arc::new(EndpointSet::new(endpoints, Some(&old))));
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<model::Cluster> {
        self.settings.load_full()
    }

    /// The endpoints in force.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.load_full()
    }

    /// What logs and metrics call it: `HOST:PORT` of its Service, else its name.
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.label)
    }

    /// The limits and what is taken of them.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The address from which endpoints are dialled.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Chooses an endpoint that is not among `tried`; one of those if there is no other.
    /// `None` if no endpoint may get requests.
    pub fn pick(&self, tried: &[u64]) -> Option<Arc<EndpointState>> {
        let policy = self.settings.load().balance;
        let set = self.endpoints.load();
        let index = set.candidates.pick(
            policy,
            &self.ticket,
            |i| set.eligible[i].active(),
            |i| tried.contains(&set.eligible[i].id),
        )?;
        Some(Arc::clone(&set.eligible[index]))
    }
}

/// The endpoints of a cluster at one moment.
#[derive(Debug)]
pub struct EndpointSet {
    /// All of them, in the order in which they were told.
    all: Vec<Arc<EndpointState>>,
    /// Those that may get requests: the ready ones; if there are none, those that still serve while
    /// they end.
    eligible: Vec<Arc<EndpointState>>,
    candidates: Candidates,
}

impl EndpointSet {
    fn new(told: model::Endpoints, old: Option<&Self>) -> Self {
        let all: Vec<_> = told.endpoints.into_iter().map(|e| EndpointState::next(e, old)).collect();
        let with = |health| all.iter().filter(move |e| e.told().health == health).cloned();
        let mut eligible: Vec<_> = with(model::Health::Ready).collect();
        if eligible.is_empty() {
            eligible = with(model::Health::Draining).collect();
        }
        let candidates = Candidates::new(eligible.iter().map(|e| e.told().weight));
        Self { all, eligible, candidates }
    }

    /// All endpoints, whatever their health.
    pub fn all(&self) -> &[Arc<EndpointState>] {
        &self.all
    }

    /// The endpoints that may get requests.
    pub fn eligible(&self) -> &[Arc<EndpointState>] {
        &self.eligible
    }
}

/// One endpoint: what was told about it, and what is measured.
#[derive(Debug)]
pub struct EndpointState {
    id: u64,
    told: ArcSwap<model::Endpoint>,
    active: AtomicU32,
}

impl EndpointState {
    /// The state that an unchanged endpoint had in `old`, or a new one.
    fn next(told: model::Endpoint, old: Option<&EndpointSet>) -> Arc<Self> {
        let same = |state: &&Arc<Self>| {
            let had = state.told.load();
            had.address == told.address
                && had.identity == told.identity
                && had.pod_uid == told.pod_uid
        };
        if let Some(state) = old.and_then(|set| set.all.iter().find(same)) {
            state.told.store(Arc::new(told));
            return Arc::clone(state);
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            told: ArcSwap::from_pointee(told),
            active: AtomicU32::new(0),
        })
    }

    /// A number that no other endpoint state of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What was told about it last.
    pub fn told(&self) -> Arc<model::Endpoint> {
        self.told.load_full()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.told.load().address
    }

    /// Requests and opaque connections in flight, over all workers.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts one request or connection as in flight until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }
}

/// One request or opaque connection in flight at an endpoint.
#[derive(Debug)]
pub struct Active(Arc<EndpointState>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
