//! Streams that a client opens and resets at once, so that they cost the server and not the client
//! (rapid reset, CVE-2023-44487). hyper bounds those that it has not looked at; here are the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// More streams reset before their time, and more than half of all, end the connection: Envoy's numbers
/// (`overload.premature_reset_total_stream_count`).
const MOST: usize = 500;

/// A stream that was waited for so long was meant.
const MEANT: Duration = Duration::from_secs(1);

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    begun: AtomicUsize,
    early: AtomicUsize,
    over: Notify,
}

/// One stream that was not answered yet.
#[derive(Debug)]
pub(super) struct Unanswered(Option<(Arc<Resets>, Instant)>);

impl Resets {
    /// A stream begins.
    pub(super) fn begun(self: &Arc<Self>) -> Unanswered {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Unanswered(Some((Arc::clone(self), Instant::now())))
    }

    /// Resolves when no stream has begun for `long`, and before twice that.
    pub(super) async fn idle(&self, long: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            sleep(long).await;
            if self.begun.load(Ordering::Relaxed) == begun {
                return;
            }
        }
    }

    /// Resolves when the client has gone too far.
    pub(super) async fn too_many(&self) {
        self.over.notified().await;
    }
}

impl Unanswered {
    /// Its response begins.
    pub(super) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let early = self.0.take().filter(|(_, begun)| begun.elapsed() < MEANT);
        let Some((resets, _)) = early else {
            return;
        };
        let early = resets.early.fetch_add(1, Ordering::Relaxed) + 1;
        if early > MOST && early > resets.begun.load(Ordering::Relaxed) / 2 {
            resets.over.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn most_streams_reset_at_once_are_too_many() {
        let resets = Arc::new(Resets::default());
        let end = |answered: bool| {
            let stream = resets.begun();
            if answered { stream.answered() } else { drop(stream) }
        };
        for _ in 0..=MOST {
            end(true);
            end(false);
        }
        // A long poll that its client gives up is none of them.
        let patient = resets.begun();
        tokio::time::advance(MEANT).await;
        drop(patient);
        assert_eq!(resets.too_many().now_or_never(), None);
        end(false);
        end(false);
        assert_eq!(resets.too_many().now_or_never(), Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_idles_when_no_stream_has_begun() {
        let streams = Arc::new(Resets::default());
        let long = Duration::from_secs(60);
        let begun = Instant::now();
        let busy = async {
            for _ in 0..5 {
                sleep(long / 2).await;
                streams.begun().answered();
            }
        };
        tokio::join!(busy, streams.idle(long));
        let last = long * 5 / 2;
        assert!(begun.elapsed() >= last + long && begun.elapsed() < last + 2 * long);
    }
}
