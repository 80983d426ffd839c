//! Durations by buckets that grow exponentially, 2^[`SCALE`] of them for each doubling: whatever the durations are, each is
//! known to 4.4 %, and two histograms are added bucket by bucket.
//!
//! OpenTelemetry's exponential histogram of this scale and Prometheus' native histogram of this schema have the same buckets.
//! See <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram> and
//! <https://prometheus.io/docs/specs/native_histograms/>.

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    zero: u64,
    /// By [`bucket`], in order; no count is 0.
    buckets: Vec<(i16, u64)>,
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

impl Histogram {
    /// Counts one value.
    pub fn observe(&mut self, value: f64) {
        if value > 0.0 {
            self.add(bucket(value), 1);
        } else {
            self.zero += 1;
        }
    }

    /// Counts all that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.zero += other.zero;
        for (bucket, times) in &other.buckets {
            self.add(*bucket, *times);
        }
    }

    /// What was counted since it was `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.buckets.iter().peekable();
        let buckets = self.buckets.iter().filter_map(|(bucket, times)| {
            let known = before.next_if(|(other, _)| other == bucket);
            let more = times - known.map_or(0, |(_, times)| *times);
            (more > 0).then_some((*bucket, more))
        });
        Self { buckets: buckets.collect(), zero: self.zero - earlier.zero }
    }

    /// How often it was 0.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// The other buckets that were hit, by [`bucket`], in order.
    pub fn buckets(&self) -> &[(i16, u64)] {
        &self.buckets
    }

    fn add(&mut self, bucket: i16, times: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.buckets[index].1 += times,
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

    proptest! {
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
            let of = |values: &[f64]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|value| histogram.observe(*value));
                histogram
            };
            let (before, later) = (of(&first), of(&then));
            let mut all = before.clone();
            all.merge(&later);
            prop_assert_eq!(&all, &of(&[first, then].concat()));
            prop_assert!(all.buckets().is_sorted());
            prop_assert_eq!(all.since(&before), later);
        }
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![Just(0.0), 0.001..100.0_f64], 0..50)
    }
}
