//! The series of edges, as workers count them, each for itself, and Prometheus reads them.

mod families;
mod labels;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeMetric, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
        NoLabelSet,
    },
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};
use tokio::time::Instant;
use tulle_runtime::{
    histogram::{self, Histogram},
    metrics::Example,
};

pub(super) use self::families::{FAMILIES, Family, Values};
use super::{
    edge::Edge,
    lanes::Lanes,
    series::{BOUNDS, Counter, Tally, Took},
    table::{Lost, Shown, Table},
    versions::Versions,
};

/// Labels of one series, but for tags.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The series of edges. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Edges(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    /// What the clock on the wall said then.
    began: SystemTime,
    table: Mutex<Table>,
    /// What was counted since the last report, whatever the tags.
    unreported: Mutex<Table>,
    tallies: Mutex<Vec<Arc<Mutex<Tally>>>>,
    /// Of what was encoded last.
    examples: Mutex<Vec<Example>>,
    versions: Versions,
    lanes: Lanes,
}

impl Edges {
    pub(super) fn new() -> Self {
        let (begun, began) = (Instant::now(), SystemTime::now());
        let (table, unreported) = (Mutex::default(), Mutex::default());
        let (tallies, examples) = (Mutex::default(), Mutex::default());
        let (versions, lanes) = Default::default();
        Self(Arc::new(Inner {
            begun,
            began,
            table,
            unreported,
            tallies,
            examples,
            versions,
            lanes,
        }))
    }

    /// Where one more worker counts.
    pub(super) fn tally(&self) -> Arc<Mutex<Tally>> {
        let tally = Arc::<Mutex<Tally>>::default();
        self.0.tallies.lock().push(Arc::clone(&tally));
        tally
    }

    /// What comes of attempts at versions that are being released.
    pub(super) fn versions(&self) -> &Versions {
        &self.0.versions
    }

    /// Requests of lanes.
    pub(super) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    /// Exemplars of what was encoded last.
    pub(super) fn examples(&self) -> Vec<Example> {
        std::mem::take(&mut *self.0.examples.lock())
    }

    /// Counts what happened on an edge, in the tally of its worker.
    pub(super) fn count(
        &self,
        tally: &Mutex<Tally>,
        edge: &Edge<'_>,
        now: Instant,
        events: impl FnOnce(&mut Counter<'_>),
    ) {
        let now = self.since_begin(now);
        let mut tally = tally.lock();
        if tally.count(edge, now, events) {
            let counted = tally.take();
            drop(tally);
            self.take_in(counted, now);
        }
    }

    /// Everything that was counted by now, and the time: milliseconds since these series began.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let now = self.gather();
        self.0.table.lock().show(now)
    }

    /// When time began for its series.
    pub(super) fn began(&self) -> SystemTime {
        self.0.began
    }

    /// Everything that was counted by now, and what became `other`.
    fn show(&self) -> (Vec<Shown>, Lost) {
        let now = self.gather();
        let mut table = self.0.table.lock();
        (table.show(now), table.lost())
    }

    /// What was counted since this was asked last.
    pub(super) fn unreported(&self) -> Tally {
        self.gather();
        self.0.unreported.lock().drain()
    }

    /// Takes in what each worker has counted by now.
    fn gather(&self) -> u64 {
        let now = self.since_begin(Instant::now());
        let tallies = self.0.tallies.lock().clone();
        for tally in tallies {
            // A statement of its own: its worker is held up no longer than this takes.
            let counted = tally.lock().take();
            self.take_in(counted, now);
        }
        now
    }

    fn take_in(&self, counted: Tally, now: u64) {
        self.0.unreported.lock().add(counted.untagged(), now);
        self.0.table.lock().add(counted, now);
    }

    fn since_begin(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.0.begun);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Collector for Edges {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (shown, lost) = self.show();
        let mut examples = Vec::new();
        for family in FAMILIES {
            family.encode(&shown, &mut to, &mut examples)?;
        }
        *self.0.examples.lock() = examples;
        for (name, help, lost) in [
            (
                "tulle_telemetry_dropped_series",
                "Series of edges that were counted as `other` for want of room, the ones that rested longest first",
                lost.series,
            ),
            (
                "tulle_telemetry_dropped_values",
                "Values of metrics' tags that were counted as `other` because there were maxValues of them",
                lost.values,
            ),
        ] {
            let family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(lost).encode(family)?;
        }
        Ok(())
    }
}

impl Family {
    /// Its name in a scrape, if it is one that has exemplars.
    fn in_seconds(&self) -> &'static str {
        match self.name {
            "http_client_request_duration" => "http_client_request_duration_seconds",
            "http_server_request_duration" => "http_server_request_duration_seconds",
            "rpc_client_call_duration" => "rpc_client_call_duration_seconds",
            "rpc_server_call_duration" => "rpc_server_call_duration_seconds",
            other => other,
        }
    }

    /// What a counter counts, as OpenTelemetry writes units.
    pub(super) fn counts(&self) -> &'static str {
        match self.name {
            "tulle_client_attempts" => "{attempt}",
            "tulle_tcp_connections" => "{connection}",
            _ => "{request}",
        }
    }

    fn encode(
        &self,
        shown: &[Shown],
        to: &mut DescriptorEncoder<'_>,
        examples: &mut Vec<Example>,
    ) -> Result<(), fmt::Error> {
        let (unit, kind) = match self.values {
            Values::Durations => (Some(Unit::Seconds), MetricType::Histogram),
            Values::Times => (None, MetricType::Counter),
            Values::Bytes => (Some(Unit::Bytes), MetricType::Counter),
        };
        let mut family = to.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        let mut nth = 0;
        for series in shown {
            let direction = series.edge.edge().direction;
            if let Some(own) = (self.labels)(direction, &series.kind) {
                examples.extend(series.cells.took.exemplars.examples(self.in_seconds(), nth));
                nth += 1;
                let tags = series.edge.tags().iter();
                let tags = tags.map(|tag| (&*tag.label.name, tag.value.clone().into_owned()));
                let labels = series.edge.labels().into_iter().chain(own).chain(tags).collect();
                self.values.encode(series, labels, &mut family)?;
            }
        }
        Ok(())
    }
}

impl Values {
    fn encode(
        &self,
        Shown { kind, cells, .. }: &Shown,
        mut labels: Vec<(&str, String)>,
        family: &mut MetricEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        match self {
            Self::Durations => {
                durations(&cells.took, kind.bounds(), family.encode_family(&labels)?)
            }
            Self::Times => ConstCounter::new(cells.times).encode(family.encode_family(&labels)?),
            Self::Bytes => {
                for (direction, bytes) in [("received", cells.received), ("sent", cells.sent)] {
                    labels.push(("tulle_io_direction", direction.to_owned()));
                    ConstCounter::new(bytes).encode(family.encode_family(&labels)?)?;
                    labels.pop();
                }
                Ok(())
            }
        }
    }
}

/// In both forms: as text there are only the classic buckets.
fn durations(
    took: &Took,
    bounds: &[f64; BOUNDS],
    mut to: MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    // The last bucket has no end.
    let mut pairs = bounds.iter().copied().chain([f64::INFINITY]).zip(took.classic);
    let classic: [(f64, u64); BOUNDS + 1] =
        std::array::from_fn(|_| pairs.next().unwrap_or_default());
    let native = Native::of(&took.histogram);
    let native = NativeHistogram {
        schema: i32::from(histogram::SCALE),
        zero_threshold: 0.0,
        zero_count: took.histogram.zero(),
        negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
        positive: NativeHistogramBuckets { spans: &native.spans, deltas: &native.deltas },
        created: None,
    };
    let seconds = Duration::from_nanos(took.nanoseconds).as_secs_f64();
    let times = took.classic.iter().sum();
    to.encode_histogram_with_native::<NoLabelSet>(seconds, times, &classic, None, native)
}

/// Buckets as Prometheus writes them: runs of neighbours, each count as the difference to the one before.
struct Native {
    /// How many buckets are left out before, and how many come.
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
}

impl Native {
    fn of(histogram: &Histogram) -> Self {
        let mut native = Self { spans: Vec::new(), deltas: Vec::new() };
        let (mut next, mut last) = (0, 0);
        for (bucket, times) in histogram.buckets() {
            // Prometheus numbers them by their upper bounds.
            let index = i32::from(*bucket) + 1;
            match native.spans.last_mut().filter(|_| index == next) {
                Some((_, len)) => *len += 1,
                None => native.spans.push((index - next, 1)),
            }
            let times = i64::try_from(*times).unwrap_or(i64::MAX);
            native.deltas.push(times - last);
            (next, last) = (index + 1, times);
        }
        native
    }
}

#[cfg(test)]
mod tests {
    use tulle_expression::taken;

    use super::*;
    use crate::telemetry::{
        Direction,
        series::{Kind, Status},
    };

    /// A tag of that name would be there twice.
    #[test]
    fn no_tag_has_the_name_of_a_label() {
        let error = "timeout";
        let kinds = [
            Kind::Http { method: "GET", status: Status::Exact(504), error },
            Kind::Rpc { status: "OK", error },
            Kind::Flow,
            Kind::Closed { error },
            Kind::Tried { outcome: "ok" },
            Kind::Denied { policy: "p".into(), reason: error, mode: "audit" },
        ];
        let (mut labels, directions) = (Labels::new(), [Direction::Inbound, Direction::Outbound]);
        for family in FAMILIES {
            let of =
                |kind| directions.into_iter().filter_map(move |end| (family.labels)(end, kind));
            let of_family: Vec<_> = kinds.iter().flat_map(of).collect();
            assert!(!of_family.is_empty(), "{} counts something", family.name);
            labels.extend(of_family.into_iter().flatten());
        }
        labels.extend(Edge::other(Direction::Inbound).name().labels());
        labels.push(("server_port", String::new()));
        for (name, _) in labels {
            let ours = taken::OURS.iter().any(|ours| name.starts_with(ours));
            assert!(ours || taken::LABELS.contains(&name), "{name} is not in taken::LABELS");
        }
    }

    #[test]
    fn buckets_are_runs_of_neighbours_each_the_difference_to_the_one_before() {
        let of = |seconds: &[f64]| {
            let mut histogram = Histogram::default();
            seconds.iter().for_each(|seconds| histogram.observe(*seconds));
            let Native { spans, deltas } = Native::of(&histogram);
            (spans, deltas)
        };
        assert_eq!(of(&[0.0]), (vec![], vec![]));
        // Bucket 0 of Prometheus ends at 1 s.
        assert_eq!(of(&[1.0]), (vec![(0, 1)], vec![1]));
        // Ends 2^(-8/8), 2^(7/8), 2 s and 4 s.
        let values = [0.5, 0.5, 0.5, 1.83, 1.99, 1.99, 3.99];
        assert_eq!(of(&values), (vec![(-8, 1), (14, 2), (7, 1)], vec![3, -2, 1, -1]));
    }
}
