//! Bounds on what this process has open towards one cluster: Envoy's circuit breakers.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/circuit_breaking>.
//! The counts are atomics that all workers share, so that a bound holds for the process. As in
//! Envoy a count may overshoot for a moment where two workers race.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tulle_xds::model;

/// What is taken of each bound, and the bounds.
#[derive(Debug)]
pub struct Limits {
    told: ArcSwap<model::Limits>,
    taken: Arc<Taken>,
}

/// Counts of what is open.
#[derive(Debug, Default)]
struct Taken {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    /// Told when a connection became free or was closed.
    freed: Notify,
}

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// TCP connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests in flight.
    Requests,
    /// Retries in flight (Envoy's retry budget).
    Retries,
}

impl Bound {
    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}

/// A bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {limit} {} is reached", .what.as_str())]
pub struct Full {
    /// Of what.
    pub what: Bound,
    /// The bound.
    pub limit: u32,
}

/// One taken place; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    taken: Arc<Taken>,
    what: Bound,
}

impl Limits {
    /// Nothing taken.
    pub fn new(told: model::Limits) -> Self {
        Self { told: ArcSwap::from_pointee(told), taken: Arc::default() }
    }

    /// Takes new bounds; what is open stays open.
    pub fn update(&self, told: model::Limits) {
        self.told.store(Arc::new(told));
        self.taken.freed.notify_waiters();
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Full`] if there is none.
    pub fn take(&self, what: Bound) -> Result<Permit, Full> {
        let limit = self.limit(what);
        let count = self.taken.count(what);
        if count.fetch_add(1, Ordering::Relaxed) >= limit {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(Full { what, limit });
        }
        Ok(Permit { taken: Arc::clone(&self.taken), what })
    }

    fn limit(&self, what: Bound) -> u32 {
        let told = self.told.load();
        let limit = match what {
            Bound::Connections => told.connections,
            Bound::Pending => told.pending,
            Bound::Requests => told.requests,
            Bound::Retries => {
                let in_flight =
                    self.taken(Bound::Requests).saturating_add(self.taken(Bound::Pending));
                let share = f64::from(in_flight) * told.retry_budget.percent / 100.0;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share of a u32, rounded down; `as` saturates"
                )]
                Some((share as u32).max(told.retry_budget.min_concurrency))
            }
        };
        limit.unwrap_or(u32::MAX)
    }

    /// Takes a place beyond the bound, too: Envoy lets each worker have one connection per
    /// endpoint, or a worker without any would starve.
    pub fn take_anyway(&self, what: Bound) -> Permit {
        self.taken.count(what).fetch_add(1, Ordering::Relaxed);
        Permit { taken: Arc::clone(&self.taken), what }
    }

    /// How much is taken.
    pub fn taken(&self, what: Bound) -> u32 {
        self.taken.count(what).load(Ordering::Relaxed)
    }

    /// Waits until a connection becomes free or is closed. The wait begins when this is called,
    /// not when it is first polled.
    pub fn freed(&self) -> impl Future<Output = ()> + '_ {
        let mut notified = Box::pin(self.taken.freed.notified());
        notified.as_mut().enable();
        notified
    }

    /// Wakes those that wait for a connection.
    pub fn notify_freed(&self) {
        self.taken.freed.notify_waiters();
    }
}

impl Taken {
    fn count(&self, what: Bound) -> &AtomicU32 {
        match what {
            Bound::Connections => &self.connections,
            Bound::Pending => &self.pending,
            Bound::Requests => &self.requests,
            Bound::Retries => &self.retries,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.count(self.what).fetch_sub(1, Ordering::Relaxed);
        if self.what == Bound::Connections {
            self.taken.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back() {
        let limits = Limits::new(model::Limits { requests: Some(2), ..Default::default() });
        let first = limits.take(Bound::Requests).unwrap();
        let _second = limits.take(Bound::Requests).unwrap();
        let full = limits.take(Bound::Requests).unwrap_err();
        assert_eq!(full, Full { what: Bound::Requests, limit: 2 });
        drop(first);
        assert!(limits.take(Bound::Requests).is_ok());
        assert_eq!(limits.taken(Bound::Requests), 1);
    }

    #[test]
    fn retries_are_a_share_of_requests_with_a_minimum() {
        let retry_budget = model::RetryBudget { percent: 20.0, min_concurrency: 1 };
        let limits = Limits::new(model::Limits { retry_budget, ..Default::default() });
        let _first = limits.take(Bound::Retries).unwrap();
        assert!(limits.take(Bound::Retries).is_err());
        let _requests: Vec<_> = (0..10).map(|_| limits.take(Bound::Requests).unwrap()).collect();
        let _second = limits.take(Bound::Retries).unwrap();
        assert!(limits.take(Bound::Retries).is_err());
    }

    #[test]
    fn new_bounds_hold_at_once_and_zero_means_none() {
        let limits = Limits::new(model::Limits::default());
        let _one = limits.take(Bound::Pending).unwrap();
        limits.update(model::Limits { pending: Some(0), ..Default::default() });
        assert!(limits.take(Bound::Pending).is_err());
        assert_eq!(limits.taken(Bound::Pending), 1);
    }
}
