//! Traces that are examples of what a histogram counted: of each bucket the latest that is recorded.

use std::time::{Duration, SystemTime};

use tulle_runtime::metrics::Example;

use super::{
    series::BOUNDS,
    trace::{SpanId, TraceId},
};

/// One request that took so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exemplar {
    pub(super) took: Duration,
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) time: SystemTime,
}

/// At most one for each bucket. Where no trace is recorded there is nothing, and it costs a null pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exemplars(Option<Box<[Option<Exemplar>; BOUNDS + 1]>>);

impl Exemplars {
    /// The latest of this bucket.
    pub(super) fn observe(&mut self, bucket: usize, exemplar: Exemplar) {
        let all = self.0.get_or_insert_default();
        if let Some(place) = all.get_mut(bucket) {
            *place = Some(exemplar);
        }
    }

    /// Of two of a bucket the later one stays.
    pub(super) fn merge(&mut self, other: &Self) {
        let Some(others) = other.0.as_deref() else { return };
        for (own, other) in self.0.get_or_insert_default().iter_mut().zip(others) {
            if own.map(|own| own.time) <= other.map(|other| other.time) {
                *own = *other;
            }
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Exemplar> {
        self.0.iter().flat_map(|all| all.iter().flatten())
    }

    /// As a scrape has them, of this series of this metric. They take 63 of the 128 characters that OpenMetrics allows.
    pub(super) fn examples(&self, family: &'static str, series: usize) -> Vec<Example> {
        let all = self.0.iter().flat_map(|all| all.iter().enumerate());
        let read = all.filter_map(|(bucket, one)| {
            let Exemplar { took, trace, span, time } = (*one)?;
            let labels = vec![("trace_id", trace.to_string()), ("span_id", span.to_string())];
            Some(Example { family, series, bucket, labels, value: took.as_secs_f64(), time })
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::telemetry::trace::begin_undrawn;

    fn at(seconds: u64) -> Exemplar {
        let position = begin_undrawn(&mut StdRng::seed_from_u64(seconds));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Exemplar { took: Duration::from_secs(1), trace: position.trace, span: position.span, time }
    }

    proptest! {
        /// In whatever order workers are asked.
        #[test]
        fn of_each_bucket_the_latest_stays(
            seen in prop::collection::vec((0..BOUNDS + 1, 0..50_u64, 0..3_usize), 0..40),
        ) {
            let mut workers = [const { Vec::new() }; 3];
            for (bucket, time, worker) in &seen {
                workers[*worker].push((*time, *bucket));
            }
            let mut all = Exemplars::default();
            for mut of_one in workers {
                of_one.sort_unstable();
                let mut own = Exemplars::default();
                of_one.into_iter().for_each(|(time, bucket)| own.observe(bucket, at(time)));
                all.merge(&own);
            }
            let expected: Vec<_> = (0..=BOUNDS)
                .filter_map(|of| seen.iter().filter(|(bucket, ..)| *bucket == of).map(|seen| seen.1).max())
                .map(at)
                .collect();
            prop_assert_eq!(all.all().copied().collect::<Vec<_>>(), expected);
        }
    }
}
