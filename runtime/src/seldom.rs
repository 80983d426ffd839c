//! For what strangers can make us say.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Pause between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Something is said once a second at most.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<Option<Instant>>,
    unsaid: AtomicU64,
}

impl Seldom {
    /// Nothing was said yet. For statics.
    pub const fn new() -> Self {
        Self { last: Mutex::new(None), unsaid: AtomicU64::new(0) }
    }

    /// Whether to say it now, and then how often it was not said since the last time.
    pub fn now(&self) -> Option<u64> {
        let now = Instant::now();
        let mut last = self.last.lock();
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_said_seldom_says_how_often_it_was_not() {
        let strays = Seldom::new();
        assert_eq!(strays.now(), Some(0));
        assert_eq!([strays.now(), strays.now()], [None, None]);
        tokio::time::advance(PAUSE).await;
        assert_eq!([strays.now(), strays.now()], [Some(2), None]);
    }
}
