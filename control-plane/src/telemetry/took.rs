//! How long something took, as a histogram, and how such ones are read and added.

use tulle_proto::telemetry::v1 as proto;
use tulle_runtime::histogram::{Histogram, SCALE};

/// Buckets of one histogram: those from a microsecond to a week are 320.
const MOST_BUCKETS: usize = 320;
/// A histogram may tell apart 2^this many durations that are one here: its scale is 8 at most.
const FINEST: u32 = 5;

/// Durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Took {
    /// In seconds.
    pub histogram: Histogram,
    /// All together.
    pub nanoseconds: u64,
}

/// What a proxy sent is no histogram that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoHistogram;

impl Took {
    pub(super) fn read(message: Option<&proto::Histogram>) -> Result<Self, NoHistogram> {
        let Some(message) = message else { return Ok(Self::default()) };
        let scale = i8::try_from(message.scale).map_err(|_beyond| NoHistogram)?;
        // What a finer one tells apart is added up, which is exact: each of our buckets is two of the next scale.
        let halvings = u32::from((scale - SCALE).max(0).unsigned_abs());
        let most = MOST_BUCKETS << halvings.min(FINEST);
        let fits = message.steps.len() == message.counts.len() && message.steps.len() <= most;
        if !fits || halvings > FINEST {
            return Err(NoHistogram);
        }
        let mut at = 0_i32;
        let mut buckets: Vec<(i16, u64)> = Vec::new();
        for (index, (step, times)) in message.steps.iter().zip(&message.counts).enumerate() {
            at = at.checked_add(*step).filter(|_| index == 0 || *step > 0).ok_or(NoHistogram)?;
            let bucket = i16::try_from(at >> halvings).map_err(|_beyond| NoHistogram)?;
            match buckets.last_mut().filter(|(last, _)| *last == bucket) {
                Some((_, sum)) if *times > 0 => *sum = sum.saturating_add(*times),
                _ => buckets.push((bucket, *times)),
            }
        }
        let histogram = Histogram::from_parts(scale.min(SCALE), message.zero, buckets);
        let histogram = histogram.map_err(|_none| NoHistogram)?;
        Ok(Self { histogram, nanoseconds: message.nanoseconds })
    }

    pub(super) fn message(&self) -> Option<proto::Histogram> {
        let Self { histogram, nanoseconds } = self;
        if histogram.count() == 0 {
            return None;
        }
        Some(proto::Histogram {
            scale: histogram.scale().into(),
            zero: histogram.zero(),
            steps: histogram.steps().collect(),
            counts: histogram.buckets().iter().map(|(_, times)| *times).collect(),
            nanoseconds: *nanoseconds,
        })
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.histogram.merge(&other.histogram);
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::totals::Totals, *};

    pub(in super::super) fn took() -> impl Strategy<Value = Took> {
        vec(prop_oneof![Just(0.0), 0.001..100.0_f64], 0..20).prop_map(|values| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.observe(*value));
            Took { nanoseconds: histogram.count() * 7, histogram }
        })
    }

    #[test]
    fn durations_that_make_no_sense_are_left_out() {
        let histogram = |scale, steps: &[i32], counts: &[u64]| proto::Histogram {
            scale,
            steps: steps.to_vec(),
            counts: counts.to_vec(),
            ..proto::Histogram::default()
        };
        for bad in [
            histogram(3, &[1], &[]),
            histogram(9, &[1], &[1]),
            histogram(5, &[1, -1], &[1, 1]),
            histogram(5, &[1, 1, 1], &[1, 1, 0]),
            histogram(300, &[1], &[1]),
            histogram(3, &[40_000], &[1]),
            histogram(3, &[32_000, 32_000], &[1, 1]),
            histogram(3, &[1, 0], &[1, 1]),
            histogram(3, &[1], &[0]),
            histogram(3, &[1; MOST_BUCKETS + 1], &[1; MOST_BUCKETS + 1]),
        ] {
            let requests = vec![proto::Requests { status: 200, times: 1, ..Default::default() }];
            let counts = proto::Counts { requests, took: Some(bad.clone()), ..Default::default() };
            let mut totals = Totals::default();
            assert_eq!(totals.read(&counts), 1, "{bad:?}");
            assert_eq!((totals.requested(), totals.took), (1, Took::default()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_finer_histogram_is_read_as_what_it_is_here(values in vec(0.001..100.0_f64, 1..50), finer in 1..6_i32) {
            let mut here = Histogram::default();
            let mut there = std::collections::BTreeMap::<i32, u64>::new();
            for value in &values {
                here.observe(*value);
                // By the definition: above base^i, at most base^(i+1).
                let base = f64::from(1 << (i32::from(SCALE) + finer));
                #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
                let index = (value.log2() * base).ceil() as i32 - 1;
                *there.entry(index).or_default() += 1;
            }
            let mut last = 0;
            let steps = there.keys().map(|at| at - std::mem::replace(&mut last, *at)).collect();
            let scale = i32::from(SCALE) + finer;
            let message = proto::Histogram { scale, steps, counts: there.into_values().collect(), ..Default::default() };
            prop_assert_eq!(Took::read(Some(&message)).map(|took| took.histogram), Ok(here));
        }
    }
}
