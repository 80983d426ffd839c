//! The last records of one worker.

use std::collections::VecDeque;

use super::{Past, Texts};

/// Records, at most.
pub(super) const MOST: usize = 256;
/// Bytes that they take, about and at most.
pub(super) const BYTES: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(in super::super) struct Ring {
    past: VecDeque<Past>,
    bytes: usize,
    /// Records that ever came.
    ended: u64,
}

impl Ring {
    /// Remembers one more; the earliest goes if there is no room. `make` gets the memory of one that went.
    pub(in super::super) fn push(&mut self, make: impl FnOnce(Texts) -> Past) {
        let texts = if self.past.len() < MOST { None } else { self.forget() };
        let past = make(texts.unwrap_or_default());
        self.bytes += past.bytes();
        self.past.push_back(past);
        while self.bytes > BYTES && self.forget().is_some() {}
        self.ended += 1;
    }

    fn forget(&mut self) -> Option<Texts> {
        let past = self.past.pop_front()?;
        self.bytes -= past.bytes();
        Some(past.texts)
    }

    /// Records that ever came.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Those of them that are remembered of what came after the first so many.
    pub(super) fn since(&self, known: u64) -> impl Iterator<Item = &Past> {
        let new = usize::try_from(self.ended.saturating_sub(known)).unwrap_or(usize::MAX);
        self.past.iter().skip(self.past.len().saturating_sub(new))
    }

    /// How many of those are forgotten.
    pub(super) fn missed(&self, known: u64) -> u64 {
        let new = self.ended.saturating_sub(known);
        new.saturating_sub(self.past.len() as u64)
    }
}
