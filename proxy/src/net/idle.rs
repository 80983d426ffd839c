//! Has a stream or connection carried nothing for too long?
//!
//! The bytes that its record counts anyway are looked at, [`LOOKS`] times in the time that is
//! allowed: carrying a byte costs nothing more, and an end comes at most an eighth of that time late.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::error::{Error, Reason};

const LOOKS: u32 = 16;

/// Expires once neither of two counters has moved for a time.
#[derive(Debug)]
pub struct Idle {
    within: Duration,
    counters: [Arc<AtomicU64>; 2],
    carried: u64,
    since: Instant,
    look: Pin<Box<Sleep>>,
}

impl Idle {
    /// The time begins now. `counters` are the bytes of both directions.
    pub fn new(within: Duration, counters: [Arc<AtomicU64>; 2]) -> Self {
        let look = Box::pin(sleep(every(within)));
        let mut idle = Self { within, counters, carried: 0, since: Instant::now(), look };
        idle.carried = idle.count();
        idle
    }

    /// Something was carried that is not counted: the time begins anew.
    pub fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Resolves when it has expired, with what that means. Cancel safe.
    pub async fn expired(&mut self) -> Error {
        poll_fn(|cx| self.poll_expired(cx)).await
    }

    /// The same, as one poll.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            let (now, carried) = (Instant::now(), self.count());
            if carried != self.carried {
                self.carried = carried;
                self.since = now;
            } else if now - self.since >= self.within {
                let within = self.within;
                let detail =
                    format!("no byte in either direction within {within:?} (timeouts.idle)");
                return Poll::Ready(Error::new(Reason::Timeout, detail).set_by(&["timeouts.idle"]));
            }
            self.look.as_mut().reset(now + every(self.within));
        }
    }

    fn count(&self) -> u64 {
        self.counters
            .iter()
            .fold(0, |sum, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
    }
}

/// Resolves when `idle` has expired; without one never.
pub async fn expired(idle: Option<&mut Idle>) -> Error {
    match idle {
        Some(idle) => idle.expired().await,
        None => std::future::pending().await,
    }
}

fn every(within: Duration) -> Duration {
    (within / LOOKS).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(16);

    /// How long it takes from now.
    async fn takes(idle: &mut Idle) -> Duration {
        let begun = Instant::now();
        assert_eq!(idle.expired().await.reason(), Reason::Timeout);
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_expires_when_nothing_moves_and_at_most_an_eighth_late() {
        let counters: [Arc<AtomicU64>; 2] = Default::default();
        let mut idle = Idle::new(WITHIN, counters.clone());
        let in_time = WITHIN..=WITHIN + WITHIN / 8;
        let took = takes(&mut idle).await;
        assert!(in_time.contains(&took), "{took:?}");

        // A byte each way, at the worst moments.
        let mut idle = Idle::new(WITHIN, counters.clone());
        for counter in &counters {
            let moved = async {
                advance(WITHIN - Duration::from_millis(1)).await;
                counter.fetch_add(1, Ordering::Relaxed);
            };
            tokio::select! {
                biased;
                error = idle.expired() => panic!("{error}"),
                () = moved => {}
            }
        }
        let took = takes(&mut idle).await;
        assert!(in_time.contains(&took), "{took:?}");

        let mut idle = Idle::new(WITHIN, counters);
        advance(WITHIN / 2).await;
        idle.restart();
        let took = takes(&mut idle).await;
        assert!(in_time.contains(&took), "{took:?}");
    }
}
