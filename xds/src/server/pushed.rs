//! What clients were sent, and have not answered yet: for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// What all streams together have sent. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Pushed(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    pending: AtomicUsize,
}

impl Pushed {
    /// Bytes of responses so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Responses that their clients have neither accepted nor rejected yet.
    pub fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Relaxed)
    }

    /// One stream's part.
    pub(super) fn stream(&self) -> Part {
        Part { of_all: self.clone(), pending: 0 }
    }
}

/// One stream's part in it. What it has not been answered to is forgotten with it.
#[derive(Debug)]
pub(super) struct Part {
    of_all: Pushed,
    pending: usize,
}

impl Part {
    /// A response of so many bytes goes out.
    pub(super) fn sends(&self, bytes: usize) {
        self.of_all.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many responses wait for an answer now.
    pub(super) fn waits_for(&mut self, answers: usize) {
        self.of_all.0.pending.fetch_add(answers, Ordering::Relaxed);
        self.of_all.0.pending.fetch_sub(self.pending, Ordering::Relaxed);
        self.pending = answers;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.waits_for(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_waits_for_ends_with_it() {
        let pushed = Pushed::default();
        let (mut first, mut second) = (pushed.stream(), pushed.stream());
        first.waits_for(2);
        second.waits_for(3);
        first.waits_for(1);
        first.sends(10);
        second.sends(5);
        assert_eq!((pushed.bytes(), pushed.pending()), (15, 4));
        drop(second);
        assert_eq!((pushed.bytes(), pushed.pending()), (15, 1));
    }
}
