//! What has ended and is to be sent on: each worker puts it into an outbox of its own, and whoever sends it empties them all.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::closed::Closed;

/// Records that wait in one worker's outbox. What comes while it is full is dropped and counted.
const MOST: usize = 2048;

/// So many are worth being sent.
pub(super) const BATCH: usize = 512;

/// What one worker has put.
type Own = Arc<Mutex<Vec<Closed>>>;

/// The outboxes of all workers. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Outboxes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: Mutex<Vec<Own>>,
    /// There is something, where nothing was.
    some: Notify,
    /// There is much.
    much: Notify,
    dropped_spans: AtomicU64,
    dropped_lines: AtomicU64,
}

/// That of one worker.
#[derive(Debug)]
pub(super) struct Outbox {
    own: Own,
    all: Outboxes,
}

impl Outboxes {
    /// One more.
    pub(super) fn outbox(&self) -> Outbox {
        let own = Own::default();
        self.0.all.lock().push(Arc::clone(&own));
        Outbox { own, all: self.clone() }
    }

    /// Everything that is there.
    pub(super) fn take(&self) -> Vec<Closed> {
        let all = self.0.all.lock().clone();
        // A statement of its own for each: its worker is held up no longer than that takes.
        all.iter().flat_map(|own| mem::take(&mut *own.lock())).collect()
    }

    /// Resolves when there is something. Cancel safe.
    pub(super) async fn some(&self) {
        self.0.some.notified().await;
    }

    /// Resolves when there is much. Cancel safe.
    pub(super) async fn much(&self) {
        self.0.much.notified().await;
    }

    /// Spans, and lines of the access log, for which there was no room.
    pub(super) fn dropped(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.0.dropped_spans), of(&self.0.dropped_lines))
    }
}

impl Outbox {
    /// There is a request that shall have no span though somebody wants one.
    pub(super) fn drops_span(&self) {
        self.all.0.dropped_spans.fetch_add(1, Ordering::Relaxed);
    }

    /// Never waits for anybody who sends.
    pub(super) fn put(&self, closed: Closed) {
        let inner = &self.all.0;
        let mut own = self.own.lock();
        if own.len() >= MOST {
            inner.dropped_spans.fetch_add(closed.span_count() as u64, Ordering::Relaxed);
            inner.dropped_lines.fetch_add(closed.line.is_some().into(), Ordering::Relaxed);
            return;
        }
        own.push(closed);
        let waiting = own.len();
        drop(own);
        match waiting {
            1 => inner.some.notify_one(),
            BATCH => inner.much.notify_one(),
            _ => {}
        }
    }
}
