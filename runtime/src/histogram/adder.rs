use super::{Histogram, SCALE};

/// Buckets that keep their place for the next sum: at the finest scale those from a microsecond to a week.
const USUAL: usize = 320;

/// Adds histograms up. Its buckets stand in an array, where none is searched for: of many histograms that takes a fraction of
/// what as many times [`Histogram::merge`] would.
#[derive(Debug, Clone)]
pub struct Adder {
    scale: i8,
    zero: u64,
    /// The bucket of the first of `times`.
    first: i16,
    times: Vec<u64>,
}

impl Default for Adder {
    fn default() -> Self {
        Self { scale: SCALE, zero: 0, first: 0, times: Vec::new() }
    }
}

impl Adder {
    /// Counts what was counted elsewhere, `buckets` by [`bucket`](super::bucket) at `scale`, from 0 to [`SCALE`]. The coarsest
    /// scale of all is that of the sum.
    pub fn add(&mut self, scale: i8, zero: u64, buckets: impl IntoIterator<Item = (i16, u64)>) {
        if scale < self.scale {
            let mut sum = self.take();
            sum.coarsen(scale);
            self.scale = scale;
            self.add(scale, sum.zero, sum.buckets);
        }
        let halvings = scale - self.scale;
        self.zero = self.zero.saturating_add(zero);
        for (bucket, times) in buckets {
            let sum = self.bucket(bucket >> halvings);
            *sum = sum.saturating_add(times);
        }
    }

    #[inline]
    fn bucket(&mut self, bucket: i16) -> &mut u64 {
        let at = usize::try_from(i32::from(bucket) - i32::from(self.first));
        match at.ok().filter(|at| *at < self.times.len()) {
            Some(at) => &mut self.times[at],
            None => self.room_for(bucket),
        }
    }

    #[cold]
    fn room_for(&mut self, bucket: i16) -> &mut u64 {
        if self.times.is_empty() {
            self.first = bucket;
        }
        let distance = usize::from(self.first.abs_diff(bucket));
        if bucket < self.first {
            self.times.splice(..0, std::iter::repeat_n(0, distance));
            self.first = bucket;
            return &mut self.times[0];
        }
        self.times.resize(self.times.len().max(distance + 1), 0);
        &mut self.times[distance]
    }

    /// What was added, all of it since this was last called.
    pub fn take(&mut self) -> Histogram {
        let hit = |(bucket, times): (i16, &u64)| (*times > 0).then_some((bucket, *times));
        let count = self.times.iter().filter(|times| **times > 0).count();
        let mut buckets = Vec::with_capacity(count);
        buckets.extend((self.first..).zip(&self.times).filter_map(hit));
        let (scale, zero) = (self.scale, self.zero);
        (self.scale, self.zero) = (SCALE, 0);
        // The next one will mostly hit the same.
        match self.times.len() {
            ..=USUAL => self.times.fill(0),
            _ => self.times.clear(),
        }
        Histogram { scale, zero, buckets }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{of, values},
        *,
    };

    proptest! {
        #[test]
        fn it_says_what_merging_one_by_one_says(all in prop::collection::vec((values(), 0..=SCALE), 0..6)) {
            let (mut adder, mut merged) = (Adder::default(), Histogram::default());
            for round in 0..2 {
                for (values, scale) in &all {
                    let mut one = of(values);
                    one.coarsen(*scale);
                    merged.merge(&one);
                    adder.add(one.scale, one.zero, one.buckets);
                }
                prop_assert_eq!(adder.take(), std::mem::take(&mut merged), "round {}", round);
            }
        }

        #[test]
        fn any_buckets_have_room(buckets in prop::collection::vec((any::<i16>(), 1..=u64::MAX), 0..4)) {
            let mut adder = Adder::default();
            adder.add(SCALE, u64::MAX, buckets.iter().copied());
            adder.add(SCALE, 1, []);
            let mut map = std::collections::BTreeMap::<i16, u64>::new();
            for (bucket, times) in buckets {
                let sum = map.entry(bucket).or_default();
                *sum = sum.saturating_add(times);
            }
            let sum = adder.take();
            prop_assert_eq!(sum.zero(), u64::MAX);
            prop_assert_eq!(sum.buckets(), map.into_iter().collect::<Vec<_>>());
        }
    }
}
