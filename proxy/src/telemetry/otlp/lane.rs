//! One signal on its way to one destination.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tulle_xds::model::Otlp;

use super::{
    Signal,
    queue::{self, Answer, Batch, Queue},
    transport::Transport,
};

/// The time that a destination has to take a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of what was to be sent, over all destinations of a signal.
#[derive(Debug, Default)]
pub(in super::super) struct Counts {
    pub(in super::super) sent: AtomicU64,
    /// For want of room, or because its destination went away or the process ended.
    pub(in super::super) dropped: AtomicU64,
    /// The destination said that it will not take it.
    pub(in super::super) refused: AtomicU64,
}

/// See the [module](self). Ends with its handle.
#[derive(Debug)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    signal: Signal,
    to: Otlp,
    queue: Mutex<Queue>,
    counts: Arc<Counts>,
    /// There is something to send.
    some: Notify,
    /// There is nothing left to send.
    empty: Notify,
}

impl Lane {
    /// Begins to send.
    pub(super) fn new(signal: Signal, to: Otlp, counts: Arc<Counts>) -> Self {
        let queue = Mutex::new(Queue::new(signal == Signal::Metrics));
        let (some, empty) = (Notify::new(), Notify::new());
        let shared = Arc::new(Shared { signal, to, queue, counts, some, empty });
        let task = tokio::spawn(Box::pin(Arc::clone(&shared).run()));
        Self { shared, task }
    }

    /// Has it sent; what there is no room for is counted.
    pub(super) fn put(&self, batch: Batch) {
        let dropped = self.shared.queue.lock().put(batch);
        self.shared.counts.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        self.shared.some.notify_one();
    }

    /// Resolves when all is sent. Cancel safe.
    pub(super) async fn emptied(&self) {
        loop {
            let empty = self.shared.empty.notified();
            if self.shared.queue.lock().len() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
        let left = self.shared.queue.lock().take_all();
        // A newer point would have said the same.
        if self.shared.signal != Signal::Metrics {
            self.shared.counts.dropped.fetch_add(left as u64, Ordering::Relaxed);
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut transport = match Transport::new(&self.to) {
            Ok(transport) => transport,
            Err(error) => {
                let (signal, to) = (self.signal.as_str(), &self.to.endpoint);
                tracing::error!(signal, to, %error, "nothing is sent there");
                return self.refuse_all().await;
            }
        };
        let mut failures = 0;
        loop {
            let Some(batch) = self.queue.lock().first() else {
                self.empty.notify_waiters();
                self.some.notified().await;
                continue;
            };
            let sending = transport.send(self.signal, batch.bytes.clone());
            let answer = timeout(PATIENCE, Box::pin(sending)).await.unwrap_or_else(|_elapsed| {
                Answer::Again { after: None, why: format!("no answer within {PATIENCE:?}") }
            });
            let Answer::Again { after, why } = answer else {
                self.answered(&batch, answer, &mut failures);
                continue;
            };
            // What was under way on it may have been cut short.
            transport.close();
            failures += 1;
            let pause = queue::pause(failures, after, rand::rng().random());
            if failures == 1 {
                self.warn(&why, "telemetry waits for its destination");
            } else {
                tracing::debug!(to = self.to.endpoint, why, failures, ?pause, "tries again");
            }
            sleep(pause).await;
        }
    }

    /// A batch is done with.
    fn answered(&self, batch: &Batch, answer: Answer, failures: &mut u32) {
        self.queue.lock().done(batch);
        let refused = match answer {
            Answer::Taken { rejected, message } => {
                if rejected > 0 || !message.is_empty() {
                    self.warn(&message, "the destination did not take all");
                }
                rejected.min(batch.items)
            }
            Answer::Refused(why) => {
                self.warn(&why, "the destination refuses telemetry");
                batch.items
            }
            Answer::Again { .. } => 0,
        };
        self.counts.refused.fetch_add(refused as u64, Ordering::Relaxed);
        self.counts.sent.fetch_add((batch.items - refused) as u64, Ordering::Relaxed);
        if *failures > 0 {
            tracing::info!(
                signal = self.signal.as_str(),
                to = self.to.endpoint,
                "telemetry is taken again"
            );
            *failures = 0;
        }
    }

    /// There is no way to send anything.
    async fn refuse_all(&self) {
        loop {
            let refused = self.queue.lock().take_all();
            self.counts.refused.fetch_add(refused as u64, Ordering::Relaxed);
            self.empty.notify_waiters();
            self.some.notified().await;
        }
    }

    fn warn(&self, why: &str, what: &'static str) {
        static OFTEN: tulle_runtime::seldom::Seldom = tulle_runtime::seldom::Seldom::new();
        if let Some(unsaid) = OFTEN.now() {
            tracing::warn!(
                signal = self.signal.as_str(),
                to = self.to.endpoint,
                why,
                unsaid,
                "{what}"
            );
        }
    }
}
