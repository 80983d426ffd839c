use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};
use tulle_runtime::{
    drain::Trigger,
    ready::{Blocker, Readiness},
};

/// The end of inbound traffic: begun by `tulle-proxy drain` (the preStop hook) or SIGTERM, whichever
/// is first. Outbound traffic goes on until SIGTERM, because the application still works. Clones
/// share one state.
#[derive(Debug, Clone)]
pub struct Draining {
    state: Arc<watch::Sender<DrainState>>,
    readiness: Readiness,
    /// From the beginning on, for ever.
    not_ready: Arc<Mutex<Option<Blocker>>>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainState {
    /// Not begun.
    Serving,
    /// Nothing new is taken, what is in flight ends.
    Draining,
    /// Nothing is in flight, or the deadline has passed.
    Drained,
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
    /// Not begun.
    pub fn new(readiness: Readiness) -> Self {
        let state = Arc::new(watch::Sender::new(DrainState::Serving));
        Self { state, readiness, not_ready: Arc::default() }
    }

    /// Begins: the proxy is not ready from now on. Again does nothing.
    pub fn start(&self) {
        self.not_ready.lock().get_or_insert_with(|| self.readiness.block("draining"));
        self.state.send_if_modified(|state| {
            let begins = *state == DrainState::Serving;
            if begins {
                *state = DrainState::Draining;
            }
            begins
        });
    }

    /// How far it is.
    pub fn state(&self) -> DrainState {
        *self.state.borrow()
    }

    /// Waits for the beginning, drains what holds `inbound`'s other end, and returns when that is
    /// done or took as long as `deadline`.
    pub async fn run(self, mut inbound: Trigger, deadline: Duration) {
        let mut state = self.state.subscribe();
        let begun = state.wait_for(|state| *state != DrainState::Serving).await.is_ok();
        debug_assert!(begun, "this handle keeps the sender");
        tracing::info!(?deadline, "draining inbound traffic");
        inbound.start();
        if timeout(deadline, inbound.finished()).await.is_err() {
            tracing::warn!("inbound traffic did not end in time");
        }
        self.state.send_replace(DrainState::Drained);
    }
}

#[cfg(test)]
mod tests {
    use tulle_runtime::drain;

    use super::*;

    #[tokio::test]
    async fn ends_with_the_last_request_or_the_deadline() {
        let readiness = Readiness::new();
        let (trigger, request) = drain::channel();
        let draining = Draining::new(readiness.clone());
        let done = tokio::spawn(draining.clone().run(trigger, Duration::from_secs(30)));
        assert_eq!(draining.state(), DrainState::Serving);
        draining.start();
        draining.start();
        request.started().await;
        assert_eq!(draining.state(), DrainState::Draining);
        assert_eq!(readiness.pending(), ["draining"]);
        drop(request);
        done.await.unwrap();
        assert_eq!(draining.state(), DrainState::Drained);
        assert!(!readiness.is_ready());

        let (trigger, _stuck) = drain::channel();
        let draining = Draining::new(Readiness::new());
        draining.start();
        draining.clone().run(trigger, Duration::from_millis(1)).await;
        assert_eq!(draining.state(), DrainState::Drained);
    }
}
