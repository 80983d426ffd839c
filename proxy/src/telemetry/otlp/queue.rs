//! What waits for one destination, and what its answers mean. No I/O; time is an argument.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

/// Spans or lines that wait for one destination: eight batches. What comes while they do is dropped.
pub(super) const MOST_ITEMS: usize = 4096;

/// Bytes that wait, whatever there is.
const MOST_BYTES: usize = 4 << 20;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Up to this.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A request, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Spans, lines or points in it.
    pub(super) items: usize,
    pub(super) bytes: Bytes,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    items: usize,
    bytes: usize,
    /// A newer batch says all that an older one did: points of counters that go on.
    newest_alone: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was taken, but for so many items.
    Taken { rejected: usize, message: String },
    /// It can be sent again, perhaps not before so long.
    Again { after: Option<Duration>, why: String },
    /// It will never be taken.
    Refused(String),
}

impl Queue {
    pub(super) fn new(newest_alone: bool) -> Self {
        Self { newest_alone, ..Self::default() }
    }

    /// Puts a batch at the end. How many items had no place: one batch has it, however large.
    pub(super) fn put(&mut self, batch: Batch) -> usize {
        if self.newest_alone {
            self.take_all();
        } else if !self.batches.is_empty()
            && (self.items + batch.items > MOST_ITEMS
                || self.bytes + batch.bytes.len() > MOST_BYTES)
        {
            return batch.items;
        }
        self.items += batch.items;
        self.bytes += batch.bytes.len();
        self.batches.push_back(batch);
        0
    }

    /// The first one, which stays until it is [done](Self::done).
    pub(super) fn first(&self) -> Option<Batch> {
        self.batches.front().cloned()
    }

    /// The first one need not wait any longer. Another may have taken its place.
    pub(super) fn done(&mut self, batch: &Batch) {
        if self.batches.front().is_some_and(|first| first == batch) {
            self.batches.pop_front();
            self.items -= batch.items;
            self.bytes -= batch.bytes.len();
        }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// Empties it; how many items waited.
    pub(super) fn take_all(&mut self) -> usize {
        let waited = self.items;
        *self = Self::new(self.newest_alone);
        waited
    }
}

/// How long to wait after so many failures in a row; `jitter` is drawn from 0 to 1.
pub(super) fn pause(failures: u32, told: Option<Duration>, jitter: f64) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_PAUSE);
    let drawn = most.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    // Whoever says an hour gets a minute.
    told.map_or(drawn, |told| told.min(2 * LAST_PAUSE).max(drawn))
}

/// Whether a status of gRPC lets a batch be sent again; `told`: it came with the time when.
/// <https://opentelemetry.io/docs/specs/otlp/#failures>.
pub(super) fn again_by_grpc(code: i32, told: bool) -> bool {
    match code {
        1 | 4 | 10 | 11 | 14 | 15 => true,
        // Only who says when will have resources again.
        8 => told,
        _ => false,
    }
}

/// Whether a status of HTTP does: <https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes>.
pub(super) fn again_by_http(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(items: usize, bytes: usize) -> Batch {
        Batch { items, bytes: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn the_oldest_stays_and_what_has_no_place_is_said() {
        let mut queue = Queue::new(false);
        assert_eq!(queue.put(batch(MOST_ITEMS - 1, 10)), 0);
        assert_eq!(queue.put(batch(2, 10)), 2);
        assert_eq!(queue.put(batch(1, MOST_BYTES)), 1);
        assert_eq!((queue.put(batch(1, 10)), queue.len()), (0, MOST_ITEMS));
        let first = queue.first().unwrap();
        assert_eq!(queue.first(), Some(first.clone()), "it stays until it is done");
        queue.done(&first);
        assert_eq!(queue.len(), 1);
        queue.done(&first);
        assert_eq!((queue.len(), queue.take_all(), queue.first()), (1, 1, None));
    }

    #[test]
    fn of_counters_the_newest_says_all() {
        let mut queue = Queue::new(true);
        for points in [7, 5, 9] {
            assert_eq!(queue.put(batch(points, MOST_BYTES)), 0);
        }
        assert_eq!((queue.len(), queue.first().unwrap().items), (9, 9));
    }

    #[test]
    fn pauses_grow_and_a_destination_may_ask_for_more() {
        let seconds = Duration::from_secs_f64;
        for (failures, told, least, most) in [
            (1, None, 0.25, 0.5),
            (2, None, 0.5, 1.0),
            (40, None, 15.0, 30.0),
            (1, Some(7.0), 7.0, 7.0),
            (40, Some(1.0), 15.0, 30.0),
            (1, Some(3600.0), 60.0, 60.0),
        ] {
            let told = told.map(seconds);
            assert_eq!(pause(failures, told, 0.0), seconds(least), "{failures}");
            assert_eq!(pause(failures, told, 1.0), seconds(most), "{failures}");
        }
    }

    #[test]
    fn the_codes_of_the_specification() {
        let codes: Vec<i32> = (0..=16).filter(|code| again_by_grpc(*code, false)).collect();
        assert_eq!(codes, [1, 4, 10, 11, 14, 15]);
        assert!(again_by_grpc(8, true) && !again_by_grpc(3, true));
        let statuses: Vec<u16> = (100..600).filter(|status| again_by_http(*status)).collect();
        assert_eq!(statuses, [429, 502, 503, 504]);
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_the_bounds_hold(steps in prop::collection::vec((0..1000_usize, 0..2_000_000_usize, any::<bool>()), 0..60)) {
            let mut queue = Queue::new(false);
            let (mut put, mut dropped, mut done) = (0, 0, 0);
            for (items, bytes, takes) in steps {
                put += items;
                dropped += queue.put(batch(items, bytes));
                prop_assert!(queue.items <= MOST_ITEMS && queue.bytes <= MOST_BYTES);
                if takes && let Some(first) = queue.first() {
                    done += first.items;
                    queue.done(&first);
                }
            }
            prop_assert_eq!(put, dropped + done + queue.len());
        }
    }
}
