//! Upstreams: where requests go, and what was measured there.
//!
//! ```text
//! [ Cluster ] -> [ EndpointState ] <- [ Pool ] <- one attempt ([ send ])
//!   settings       load, [ eject ]    connections of one worker
//! ```
//!
//! This room owns what is *measured*: load, limits and connections. What was *told* (settings and
//! endpoints) arrives through [`Cluster::update`] and [`Cluster::set_endpoints`]; an endpoint that
//! an update does not touch keeps its state and its connections. Load, limits and ejections are
//! shared by all workers of the process; connections belong to one worker.

pub mod balance;
pub mod connect;
pub mod eject;
pub mod limits;
pub mod local;
pub mod pool;
pub mod retire;
pub mod send;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tulle_xds::model::{self, Here};

use balance::{Candidates, Ticket};
use eject::{Out, Outs, Streaks, Verdict};
use limits::Limits;
use pool::Connections;
use retire::Retirement;

/// A set of interchangeable endpoints with its settings, limits and load.
#[derive(Debug)]
pub struct Cluster {
    settings: ArcSwap<model::Cluster>,
    endpoints: ArcSwap<EndpointSet>,
    here: ArcSwap<Here>,
    /// Locked by whoever swaps `endpoints` or `settings`.
    outs: Mutex<Outs>,
    limits: Limits,
    retirement: Retirement,
    ticket: Ticket,
    service: Option<model::ServicePort>,
    label: String,
    connections: Connections,
    /// It is the application behind this proxy.
    local: bool,
    /// The address from which endpoints are dialled; the kernel chooses if `None`.
    source: Option<IpAddr>,
    /// Where an endpoint that refuses is dialled instead, and from which address.
    other: Option<(SocketAddr, Option<IpAddr>)>,
}

impl Cluster {
    /// A cluster with its first endpoints (of the same name).
    pub fn new(settings: model::Cluster, endpoints: model::Endpoints) -> Self {
        let (all, here) = (EndpointState::all(endpoints, None), Arc::<Here>::default());
        let set = EndpointSet::new(all, &Outs::default(), &here);
        let label = match &settings.service {
            Some(service) => format!("{}:{}", service.host, service.port),
            None => settings.name.clone(),
        };
        Self {
            label,
            service: settings.service.clone(),
            connections: Connections::default(),
            limits: Limits::new(settings.limits.clone()),
            retirement: Retirement::new(settings.released == model::Released::Retired),
            settings: ArcSwap::from_pointee(settings),
            endpoints: ArcSwap::from_pointee(set),
            here: ArcSwap::new(here),
            outs: Mutex::default(),
            ticket: Ticket::default(),
            local: false,
            source: None,
            other: None,
        }
    }

    /// The same cluster as the application behind this proxy, dialled from `source`: how an inbound proxy is told apart from the
    /// application's own connections.
    #[must_use]
    pub fn dialled_from(mut self, source: Option<IpAddr>) -> Self {
        self.local = true;
        self.source = source;
        self
    }

    /// The same cluster, whose one endpoint is dialled at `other` when it refuses.
    #[must_use]
    pub fn or_at(mut self, other: Option<(SocketAddr, Option<IpAddr>)>) -> Self {
        self.other = other;
        self
    }

    /// Takes new settings. Load and connections stay; limits bind from the next request on, and
    /// without ejection who was left out is back at once.
    pub fn update(&self, settings: model::Cluster) {
        self.limits.update(settings.limits.clone());
        let mut outs = self.outs();
        if settings.ejection.is_none() {
            outs.clear();
            self.rebuild(&outs);
        }
        let retired = settings.released == model::Released::Retired;
        self.settings.store(Arc::new(settings));
        self.retirement.set(retired);
    }

    /// Takes the new list of endpoints. An endpoint whose address, identity and pod stay the same
    /// keeps its load, its connections and what it failed at, whatever its health or weight.
    pub fn set_endpoints(&self, endpoints: model::Endpoints) {
        let outs = self.outs();
        let all = EndpointState::all(endpoints, Some(&self.endpoints.load()));
        self.endpoints.store(Arc::new(EndpointSet::new(all, &outs, &self.here.load())));
    }

    /// Takes where this workload is: some endpoints are for those who are near.
    pub fn set_here(&self, here: Arc<Here>) {
        let outs = self.outs();
        if **self.here.load() != *here {
            self.here.store(here);
            self.rebuild(&outs);
        }
    }

    /// Draws the conclusion from who is out.
    fn rebuild(&self, outs: &Outs) {
        let all = self.endpoints.load().all.clone();
        self.endpoints.store(Arc::new(EndpointSet::new(all, outs, &self.here.load())));
    }

    /// Takes in what an attempt said about its endpoint. `Some` if that leaves it out.
    pub fn judge(&self, endpoint: &EndpointState, verdict: Verdict, now: Instant) -> Option<Out> {
        let cause = endpoint.streaks.count(self.settings.load().ejection.as_ref()?, verdict)?;
        let mut outs = self.outs();
        // Settings and endpoints of after the lock: it may have waited for an update.
        let (settings, set) = (self.settings.load(), self.endpoints.load());
        let told = settings.ejection.as_ref()?;
        let ready = set.ready(&self.here.load());
        let ready = ready.iter().map(|state| state.id);
        let out = outs.eject(told, endpoint.id, ready, cause, now)?;
        self.rebuild(&outs);
        Some(out)
    }

    /// Brings back the endpoints whose time out is over, and returns them. To be called once per
    /// interval.
    pub fn look(&self, now: Instant) -> Vec<Arc<EndpointState>> {
        let mut outs = self.outs();
        let settings = self.settings.load();
        let Some(told) = &settings.ejection else {
            return Vec::new();
        };
        let all = self.endpoints.load().all.clone();
        let back = outs.look(told, |id| all.iter().any(|state| state.id == id), now);
        if !back.is_empty() {
            self.rebuild(&outs);
        }
        all.into_iter().filter(|state| back.contains(&state.id)).collect()
    }

    /// How many endpoints are left out.
    pub fn ejected(&self) -> usize {
        let (outs, set) = (self.outs(), self.endpoints.load());
        set.all.iter().filter(|state| outs.is_out(state.id)).count()
    }

    /// An endpoint's time out, if it is.
    pub fn out(&self, endpoint: &EndpointState) -> Option<Out> {
        let settings = self.settings.load();
        self.outs().out(settings.ejection.as_ref()?, endpoint.id)
    }

    pub(crate) fn outs(&self) -> MutexGuard<'_, Outs> {
        self.outs.lock()
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<model::Cluster> {
        self.settings.load_full()
    }

    /// Whether its endpoints are of a version that is being released, or of one that is being replaced.
    pub fn is_being_released(&self) -> bool {
        self.settings.load().released != model::Released::No
    }

    /// Whether its endpoints are of a version that was rolled back.
    pub fn is_retired(&self) -> bool {
        self.settings.load().released == model::Released::Retired
    }

    /// The same, for whoever must end then.
    pub fn retirement(&self) -> &Retirement {
        &self.retirement
    }

    /// The endpoints in force.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.load_full()
    }

    /// What logs call it: `HOST:PORT` of its Service, else its name.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The Service port that it stands for.
    pub fn service(&self) -> Option<&model::ServicePort> {
        self.service.as_ref()
    }

    /// Connections for HTTP to its endpoints, of all workers.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The limits and what is taken of them.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether it is the application behind this proxy.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// The address from which endpoints are dialled.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Where an endpoint that refuses is dialled instead, and from which address.
    pub fn other(&self) -> Option<(SocketAddr, Option<IpAddr>)> {
        self.other
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
    /// Those that may get requests: the ready ones that are not left out.
    eligible: Vec<Arc<EndpointState>>,
    candidates: Candidates,
}

impl EndpointSet {
    fn new(all: Vec<Arc<EndpointState>>, outs: &Outs, here: &Here) -> Self {
        let mut set = Self { all, eligible: Vec::new(), candidates: Candidates::new([]) };
        set.eligible = set.near(here, |state| !outs.is_out(state.id));
        if set.eligible.is_empty() {
            // The others are gone since: one that fails is better than none.
            set.eligible = set.near(here, |_| true);
        }
        set.candidates = Candidates::new(set.eligible.iter().map(|e| e.told().weight));
        set
    }

    /// The ready ones of a sort that are for this workload.
    fn near(&self, here: &Here, sort: impl Fn(&EndpointState) -> bool) -> Vec<Arc<EndpointState>> {
        let ready = self.ready(here).into_iter().filter(|state| sort(state));
        let told: Vec<_> = ready.map(|state| (state.told(), state)).collect();
        here.keep(told.iter().map(|(told, state)| (Arc::clone(state), &told.near)).collect())
    }

    /// The ready endpoints that a workload here may use at all; if there are none, those that still serve while they end.
    fn ready(&self, here: &Here) -> Vec<Arc<EndpointState>> {
        let of = |health| {
            let admitted = self.all.iter().filter(move |state| {
                let told = state.told.load();
                told.health == health && here.admits(&told.near)
            });
            admitted.cloned().collect::<Vec<_>>()
        };
        let ready = of(model::Health::Ready);
        if ready.is_empty() { of(model::Health::Draining) } else { ready }
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
    streaks: Streaks,
}

impl EndpointState {
    fn all(told: model::Endpoints, old: Option<&EndpointSet>) -> Vec<Arc<Self>> {
        told.endpoints.into_iter().map(|endpoint| Self::next(endpoint, old)).collect()
    }

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
            streaks: Streaks::default(),
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

    /// How often it failed in a row.
    pub fn streaks(&self) -> &Streaks {
        &self.streaks
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
