//! Durations by buckets that grow exponentially, 2^[`SCALE`] of them for each doubling: whatever the durations are, each is
//! known to 4.4 %, and two histograms are added bucket by bucket. With half the buckets ([`Histogram::coarsen`]) it is 9 %.
//!
//! OpenTelemetry's exponential histogram of this scale and Prometheus' native histogram of this schema have the same buckets.
//! See <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram> and
//! <https://prometheus.io/docs/specs/native_histograms/>.

mod adder;

pub use self::adder::Adder;

/// Both call it so, OpenTelemetry a scale and Prometheus a schema.
pub const SCALE: i8 = 3;

/// Where the buckets of one doubling begin: 2^(n/8).
const STEPS: [f64; 1 << SCALE] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_7,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// How often each bucket was hit. Values are positive or zero, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    scale: i8,
    zero: u64,
    /// By [`bucket`], in order; no count is 0.
    buckets: Vec<(i16, u64)>,
}

/// What is no histogram: buckets out of order, twice, hit no times, or a scale that is not below [`SCALE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no histogram")]
pub struct NoHistogram;

impl Default for Histogram {
    fn default() -> Self {
        Self { scale: SCALE, zero: 0, buckets: Vec::new() }
    }
}

/// The bucket of a value above 0. That of index `i` holds what is above 2^(i/8) seconds, and at most 2^((i+1)/8).
pub fn bucket(value: f64) -> i16 {
    // IEEE 754: what is subnormal is shorter than anything that can be measured.
    const FRACTION: u32 = 52;
    let bits = value.max(f64::MIN_POSITIVE).to_bits();
    let doubling = i16::try_from(bits >> FRACTION).unwrap_or(i16::MAX) - 1023;
    let one = 1023 << FRACTION;
    let mantissa = f64::from_bits(bits & ((1 << FRACTION) - 1) | one);
    let above = STEPS.partition_point(|step| *step < mantissa);
    (doubling << SCALE) + i16::try_from(above).unwrap_or(0) - 1
}

/// The upper end of this bucket of [`SCALE`], which is still in it.
fn edge(bucket: i16) -> f64 {
    let next = i32::from(bucket) + 1;
    let within = usize::try_from(next.rem_euclid(1 << SCALE)).unwrap_or(0);
    // Not 2^(n/8), whose last digit may be another one.
    STEPS[within] * f64::from(next.div_euclid(1 << SCALE)).exp2()
}

impl Histogram {
    /// What was counted elsewhere, `buckets` by [`bucket`] at `scale`.
    ///
    /// # Errors
    /// [`NoHistogram`].
    pub fn from_parts(scale: i8, zero: u64, buckets: Vec<(i16, u64)>) -> Result<Self, NoHistogram> {
        let ordered = buckets.is_sorted_by(|(one, _), (next, _)| one < next);
        let hit = buckets.iter().all(|(_, times)| *times > 0);
        match ordered && hit && (0..=SCALE).contains(&scale) {
            true => Ok(Self { scale, zero, buckets }),
            false => Err(NoHistogram),
        }
    }

    /// Counts one value.
    pub fn observe(&mut self, value: f64) {
        if value > 0.0 {
            self.add(bucket(value) >> (SCALE - self.scale), 1);
        } else {
            self.zero += 1;
        }
    }

    /// Counts all that `other` counted. The coarser of the two scales is that of the sum.
    pub fn merge(&mut self, other: &Self) {
        self.coarsen(other.scale);
        let halvings = other.scale - self.scale;
        self.zero = self.zero.saturating_add(other.zero);
        // Both are in order: one pass, without a search for each bucket.
        let mut at = 0;
        for (bucket, times) in &other.buckets {
            let bucket = bucket >> halvings;
            while self.buckets.get(at).is_some_and(|(known, _)| *known < bucket) {
                at += 1;
            }
            match self.buckets.get_mut(at).filter(|(known, _)| *known == bucket) {
                Some((_, sum)) => *sum = sum.saturating_add(*times),
                None => self.buckets.insert(at, (bucket, *times)),
            }
        }
    }

    /// Has no more than 2^`scale` buckets for each doubling from now on.
    pub fn coarsen(&mut self, scale: i8) {
        let halvings = self.scale - scale;
        if halvings <= 0 {
            return;
        }
        self.scale = scale;
        for (bucket, _) in &mut self.buckets {
            *bucket >>= halvings;
        }
        self.buckets.dedup_by(|(bucket, times), (kept, sum)| {
            let same = bucket == kept;
            if same {
                *sum = sum.saturating_add(*times);
            }
            same
        });
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(self.zero, |sum, (_, times)| sum.saturating_add(*times))
    }

    /// The value, in seconds, that a part of all values (0 to 1) does not exceed; `None` without any. Within a bucket values are
    /// taken to be spread evenly by their logarithm.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        let float = |count: u64| count as f64;
        let rank = part.clamp(0.0, 1.0) * float(count);
        let mut below = self.zero;
        if count == 0 || (rank <= float(below) && below > 0) {
            return (count > 0).then_some(0.0);
        }
        for (bucket, times) in &self.buckets {
            let reached = below.saturating_add(*times);
            if rank <= float(reached) {
                let within = (rank - float(below)) / float(*times);
                return Some(
                    ((f64::from(*bucket) + within) / f64::from(1_i16 << self.scale)).exp2(),
                );
            }
            below = reached;
        }
        None
    }

    /// The upper end of the bucket that the [quantile](Self::quantile) is in: what is slower is in another one.
    pub fn quantile_edge(&self, part: f64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "nothing is counted so often")]
        let float = |count: u64| count as f64;
        let rank = part.clamp(0.0, 1.0) * float(self.count());
        let mut reached = self.zero;
        if rank <= float(reached) {
            return (self.count() > 0).then_some(0.0);
        }
        let bucket = self.buckets.iter().find(|(_, times)| {
            reached = reached.saturating_add(*times);
            rank <= float(reached)
        });
        let halvings = SCALE - self.scale;
        bucket.map(|(bucket, _)| edge((bucket << halvings) + (1 << halvings) - 1))
    }

    /// How many values were for sure larger than any in the bucket of this one.
    pub fn above(&self, value: f64) -> u64 {
        let own = bucket(value) >> (SCALE - self.scale);
        let all = self.buckets.iter().filter(|(bucket, _)| *bucket > own);
        all.fold(0, |sum, (_, times)| sum.saturating_add(*times))
    }

    /// There are 2^this many buckets for each doubling.
    pub fn scale(&self) -> i8 {
        self.scale
    }

    /// What was counted since it was `earlier`, of the same scale.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.buckets.iter().peekable();
        let buckets = self.buckets.iter().filter_map(|(bucket, times)| {
            let known = before.next_if(|(other, _)| other == bucket);
            let more = times - known.map_or(0, |(_, times)| *times);
            (more > 0).then_some((*bucket, more))
        });
        Self { scale: self.scale, buckets: buckets.collect(), zero: self.zero - earlier.zero }
    }

    /// What was counted since it was `earlier`, which may have been finer; `None` if that is no part of it.
    pub fn difference(&self, earlier: &Self) -> Option<Self> {
        let mut before = earlier.clone();
        before.coarsen(self.scale);
        let known = |at: &i16| self.buckets.binary_search_by_key(at, |(bucket, _)| *bucket);
        let part = before.scale == self.scale
            && before.zero <= self.zero
            && before.buckets.iter().all(|(bucket, times)| {
                known(bucket).is_ok_and(|index| *times <= self.buckets[index].1)
            });
        part.then(|| self.since(&before))
    }

    /// How often it was 0.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// The other buckets that were hit, by [`bucket`], in order.
    pub fn buckets(&self) -> &[(i16, u64)] {
        &self.buckets
    }

    /// Of the buckets, the first one's index, then how much further each is than the one before: small numbers, for messages.
    pub fn steps(&self) -> impl Iterator<Item = i32> {
        let indexes = || self.buckets.iter().map(|(bucket, _)| i32::from(*bucket));
        indexes().zip([0].into_iter().chain(indexes())).map(|(at, last)| at - last)
    }

    fn add(&mut self, bucket: i16, times: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.buckets[index].1 = self.buckets[index].1.saturating_add(times),
            Err(index) => self.buckets.insert(index, (bucket, times)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound(index: i16) -> f64 {
        (f64::from(index) / 8.0).exp2()
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for (value, expected) in [
            (1.0, -1),
            (1.0001, 0),
            (2.0, 7),
            (0.5, -9),
            (STEPS[4], 3),
            (f64::MAX, 8191),
            (1e-320, -8177),
        ] {
            assert_eq!(bucket(value), expected, "{value}");
        }
        for (n, step) in STEPS.iter().enumerate() {
            let exact = bound(i16::try_from(n).unwrap());
            assert!((step - exact).abs() < 1e-15, "{n}");
        }
    }

    #[test]
    fn quantiles_lie_where_the_values_are() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.observe(0.0);
        assert_eq!(histogram.quantile(0.99), Some(0.0));
        (1..=1000).for_each(|ms| histogram.observe(f64::from(ms) / 1000.0));
        for (part, expected) in [(0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (1.0, 1.0)] {
            let estimate = histogram.quantile(part).unwrap();
            assert!((estimate / expected - 1.0).abs() < 0.09, "{part}: {estimate}");
        }
        assert_eq!(histogram.quantile(0.0), Some(0.0));
    }

    #[test]
    fn edges_are_in_their_buckets_to_the_last_digit() {
        for index in -400..400 {
            assert_eq!(bucket(edge(index)), index);
            assert_eq!(bucket(edge(index).next_up()), index + 1);
        }
    }

    #[test]
    fn what_is_above_a_quantile_s_edge_is_what_is_slower() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile_edge(0.99), histogram.above(0.0)), (None, 0));
        histogram.observe(0.0);
        assert_eq!((histogram.quantile_edge(0.99), histogram.above(0.0)), (Some(0.0), 0));
        (1..100).for_each(|_| histogram.observe(0.1));
        (0..3).for_each(|_| histogram.observe(0.2));
        let edge = histogram.quantile_edge(0.95).unwrap();
        assert!((0.1..0.11).contains(&edge), "{edge}");
        assert_eq!((histogram.above(edge), histogram.above(0.1), histogram.above(0.2)), (3, 3, 0));
        assert_eq!((histogram.above(0.05), histogram.above(0.0)), (102, 102));
        assert_eq!(histogram.above(histogram.quantile_edge(1.0).unwrap()), 0);
        // With two buckets for each doubling it is one further up.
        histogram.coarsen(1);
        assert_eq!(histogram.quantile_edge(0.95), Some(0.125));
        assert_eq!((histogram.above(edge), histogram.above(0.2)), (3, 0));
    }

    #[test]
    fn what_is_no_part_makes_no_difference() {
        let all = of(&[0.0, 0.1, 0.2]);
        for other in [of(&[0.3]), of(&[0.1, 0.1]), of(&[0.0, 0.0])] {
            assert_eq!(all.difference(&other), None);
        }
        let mut coarse = of(&[0.1]);
        coarse.coarsen(2);
        assert_eq!(all.difference(&coarse), None);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for (scale, buckets) in [
            (4, vec![]),
            (-1, vec![]),
            (3, vec![(1, 0)]),
            (3, vec![(2, 1), (1, 1)]),
            (3, vec![(1, 1), (1, 1)]),
        ] {
            assert_eq!(Histogram::from_parts(scale, 0, buckets), Err(NoHistogram));
        }
    }

    proptest! {
        #[test]
        fn coarse_or_added_first_is_the_same(first in values(), then in values(), scale in 0..3_i8) {
            let (mut all, mut coarse) = (of(&first), of(&first));
            all.merge(&of(&then));
            all.coarsen(scale);
            coarse.coarsen(scale);
            then.iter().for_each(|value| coarse.observe(*value));
            prop_assert_eq!(&coarse, &all);
            let mut other = of(&then);
            let mut part = of(&first);
            part.coarsen(scale);
            other.merge(&part);
            prop_assert_eq!(&other, &all);
            prop_assert_eq!(all.count(), (first.len() + then.len()) as u64);
            let parts = Histogram::from_parts(all.scale(), all.zero(), all.buckets().to_vec());
            prop_assert_eq!(parts, Ok(all));
        }

        #[test]
        fn a_value_is_in_its_bucket(exponent in -30.0..30.0_f64) {
            let value = exponent.exp2();
            let index = bucket(value);
            // To within the last digit of these bounds.
            let near = 1.0 + 1e-12;
            prop_assert!(value * near > bound(index) && value <= bound(index + 1) * near);
        }

        #[test]
        fn what_came_later_is_the_difference(first in values(), then in values()) {
            let (before, later) = (of(&first), of(&then));
            let mut all = before.clone();
            all.merge(&later);
            prop_assert_eq!(&all, &of(&[first, then].concat()));
            prop_assert!(all.buckets().is_sorted());
            prop_assert_eq!(all.since(&before), later);
        }

        #[test]
        fn what_was_finer_before_makes_the_same_difference(first in values(), then in values(), scale in 0..=SCALE) {
            let (before, mut later) = (of(&first), of(&then));
            let mut all = before.clone();
            all.merge(&later);
            all.coarsen(scale);
            later.coarsen(scale);
            prop_assert_eq!(all.difference(&before), Some(later));
        }

        #[test]
        fn as_much_is_above_an_edge_as_was_larger(values in values(), part in 0.0..=1.0_f64, scale in 0..=SCALE) {
            let mut histogram = of(&values);
            histogram.coarsen(scale);
            let Some(edge) = histogram.quantile_edge(part) else { return Ok(()) };
            let larger = values.iter().filter(|value| **value > edge).count() as u64;
            prop_assert_eq!(histogram.above(edge), larger);
            let quantile = histogram.quantile(part).unwrap();
            prop_assert!(quantile <= edge * (1.0 + 1e-12), "{quantile} {edge}");
        }
    }

    pub(super) fn of(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.observe(*value));
        histogram
    }

    pub(super) fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![Just(0.0), 0.001..100.0_f64], 0..50)
    }
}
