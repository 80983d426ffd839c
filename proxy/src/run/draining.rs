use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tulle_runtime::{
    drain::{Stage, Trigger},
    ready::{Blocker, Readiness},
};

/// How long inbound traffic may keep the application from being told to end, unless injection says
/// otherwise.
pub const HOLD: Duration = Duration::from_secs(10);

/// Nothing new came for so long: callers know that this pod ends.
const QUIET: Duration = Duration::from_secs(1);

/// How often inbound traffic is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// A hook that is asked while no drain begins within this time is about a container alone, for
/// example one that failed its liveness probe: there is nothing to wait for.
const BEGINS: Duration = Duration::from_secs(1);

/// The end of inbound traffic: begun by `tulle-proxy drain` (the preStop hook) or SIGTERM, whichever
/// is first. Outbound traffic goes on until SIGTERM, because the application still works. Clones
/// share one state.
///
/// ```text
///  pod deleted ─► Announcing ── nothing new for a while ─► Refusing ── nothing in flight ─► drained
///                 all is served, with GOAWAY               other sidecars are sent elsewhere   │
///                 or `connection: close`                                                       ▼
///                                      SIGTERM to the application, which the hook held back so long
/// ```
///
/// After that the application may close its ports at once: nobody is there whom it could hurt.
#[derive(Debug, Clone)]
pub struct Draining {
    state: Arc<watch::Sender<DrainState>>,
    readiness: Readiness,
    /// From the beginning on, for ever.
    not_ready: Arc<Mutex<Option<Blocker>>>,
    hold: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainState {
    /// Not begun.
    Serving,
    /// Callers are told to go, what is in flight ends.
    Draining,
    /// Nothing is in flight, or it took as long as it may.
    Drained,
}

/// What the application has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests and connections so far.
    pub arrived: u64,
    /// Those that have not ended.
    pub in_flight: usize,
}

impl DrainState {
    /// The word for `/drain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

impl Draining {
    /// Not begun. It may take as long as `hold`.
    pub fn new(readiness: Readiness, hold: Duration) -> Self {
        let state = Arc::new(watch::Sender::new(DrainState::Serving));
        Self { state, readiness, not_ready: Arc::default(), hold }
    }

    /// Begins: the proxy is not ready from now on. Again does nothing.
    pub fn start(&self) {
        self.not_ready.lock().get_or_insert_with(|| self.readiness.block("draining"));
        self.advance(DrainState::Draining);
    }

    /// Ends: whoever waits need not wait any more.
    pub fn finish(&self) {
        self.advance(DrainState::Drained);
    }

    /// How far it is.
    pub fn state(&self) -> DrainState {
        *self.state.borrow()
    }

    /// Resolves once the application may be told to end. Answers a container's preStop hook.
    pub async fn held(&self) {
        if timeout(BEGINS, self.reached(DrainState::Draining)).await.is_ok() {
            self.reached(DrainState::Drained).await;
        }
    }

    /// Waits for the beginning, then drains what holds `inbound`'s other end. Returns when nothing is
    /// in flight any more according to `load`, or after as long as it may take.
    pub async fn run(self, inbound: &Trigger, load: impl Fn() -> Load) {
        self.reached(DrainState::Draining).await;
        tracing::info!(at_most = ?self.hold, "draining inbound traffic");
        let begun = Instant::now();
        inbound.advance(Stage::Announcing);
        let quiet = QUIET.min(self.hold / 4);
        let (mut seen, mut since) = (load().arrived, begun);
        while since.elapsed() < quiet && begun.elapsed() < self.hold / 2 {
            sleep(LOOK.min(quiet)).await;
            let now = load().arrived;
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        inbound.advance(Stage::Refusing);
        while load().in_flight > 0 && begun.elapsed() < self.hold {
            sleep(LOOK.min(quiet)).await;
        }
        let left = load().in_flight;
        tracing::info!(in_flight = left, took = ?begun.elapsed(), "inbound traffic has drained");
        self.finish();
    }

    async fn reached(&self, wanted: DrainState) {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| *state >= wanted).await.is_ok();
        debug_assert!(reached, "this handle keeps the sender");
    }

    fn advance(&self, to: DrainState) {
        self.state.send_if_modified(|state| {
            let further = *state < to;
            *state = to.max(*state);
            further
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use tulle_runtime::drain::{self, Drain};

    use super::*;

    /// A drain under way, and the load that it sees.
    struct Case {
        draining: Draining,
        readiness: Readiness,
        drain: Drain,
        arrived: Arc<AtomicU64>,
        in_flight: Arc<AtomicUsize>,
        done: tokio::task::JoinHandle<()>,
    }

    fn begin(in_flight: usize) -> Case {
        let readiness = Readiness::new();
        let (trigger, drain) = drain::channel();
        let draining = Draining::new(readiness.clone(), HOLD);
        let (arrived, in_flight) = (Arc::default(), Arc::new(AtomicUsize::new(in_flight)));
        let (counted, active) = (Arc::clone(&arrived), Arc::clone(&in_flight));
        let runs = draining.clone();
        let done = tokio::spawn(async move {
            let load = || Load {
                arrived: AtomicU64::load(&counted, Ordering::Relaxed),
                in_flight: active.load(Ordering::Relaxed),
            };
            runs.run(&trigger, load).await;
        });
        Case { draining, readiness, drain, arrived, in_flight, done }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_pod_waits_for_quiet_alone() {
        let case = begin(0);
        assert_eq!(case.draining.state(), DrainState::Serving);
        let begun = Instant::now();
        case.draining.start();
        case.draining.start();
        case.drain.reached(Stage::Announcing).await;
        assert_eq!(case.readiness.pending(), ["draining"]);
        case.draining.held().await;
        case.done.await.unwrap();
        assert!((QUIET..QUIET + LOOK * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(case.draining.state(), DrainState::Drained);
        assert!(!case.readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_keep_coming_are_sent_elsewhere_and_what_is_in_flight_ends() {
        let case = begin(1);
        let begun = Instant::now();
        case.draining.start();
        let arrived = Arc::clone(&case.arrived);
        tokio::spawn(async move {
            loop {
                arrived.fetch_add(1, Ordering::Relaxed);
                sleep(QUIET / 2).await;
            }
        });
        case.drain.reached(Stage::Refusing).await;
        assert!((HOLD / 2..HOLD * 3 / 5).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(case.draining.state(), DrainState::Draining);
        case.in_flight.store(0, Ordering::Relaxed);
        case.done.await.unwrap();
        assert!(begun.elapsed() < HOLD * 3 / 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_holds_nothing_back_for_ever() {
        let case = begin(1);
        let begun = Instant::now();
        case.draining.start();
        case.done.await.unwrap();
        assert!((HOLD..HOLD + LOOK * 2).contains(&begun.elapsed()));
        assert_eq!(case.drain.stage(), Stage::Refusing, "streams go on until the application ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_with_no_drain_is_answered_soon_and_sigterm_answers_all() {
        let case = begin(1);
        let begun = Instant::now();
        case.draining.held().await;
        assert!(begun.elapsed() <= BEGINS + LOOK);
        case.draining.start();
        let held = tokio::spawn({
            let draining = case.draining.clone();
            async move { draining.held().await }
        });
        case.draining.finish();
        held.await.unwrap();
        assert_eq!(case.draining.state(), DrainState::Drained);
    }
}
