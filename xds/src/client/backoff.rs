//! How long to wait before the next try.

use std::time::Duration;

use rand::Rng;

const BASE: Duration = Duration::from_millis(100);
/// After a connection that cost the server something.
const MAX: Duration = Duration::from_secs(15);
/// After one that the kernel refused: nobody is there yet, and whoever comes finds its clients within this time.
const MAX_REFUSED: Duration = Duration::from_millis(500);

/// Decorrelated jitter: each pause is random between the base and three times the one before, so
/// that clients which lost the same server do not come back together.
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Debug)]
pub(super) struct Backoff {
    last: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { last: BASE }
    }

    /// The pause before the next try; `refused` if nobody listens at the address.
    pub(super) fn next(&mut self, refused: bool, random: &mut impl Rng) -> Duration {
        let longest = (self.last * 3).min(if refused { MAX_REFUSED } else { MAX });
        self.last = random.random_range(BASE..=longest.max(BASE));
        self.last
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.last = BASE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_bounds_and_start_over() {
        let mut random = rand::rng();
        let mut backoff = Backoff::new();
        let mut longest = Duration::ZERO;
        for _ in 0..1000 {
            let before = backoff.last;
            let pause = backoff.next(false, &mut random);
            assert!(pause >= BASE && pause <= MAX && pause <= before * 3, "{pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest > Duration::from_secs(5), "{longest:?}");
        assert!(backoff.next(true, &mut random) <= MAX_REFUSED);
        backoff.reset();
        assert!(backoff.next(false, &mut random) <= BASE * 3);
    }
}
