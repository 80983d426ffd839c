//! Series of edges as OpenTelemetry's metrics: those that Prometheus reads, by their own names. Counters go on from the time
//! that each series says it began.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        self as sent, AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint,
        Metric, NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point,
    },
};
use tulle_runtime::histogram::{self, Histogram};

use super::Attributes;
use crate::telemetry::{
    edges::{Edges, FAMILIES, Family, Labels, Values},
    exemplar::Exemplar,
    series::Took,
    table::Shown,
    tags::Tag,
};

/// How many points there are, and the metrics that have any.
pub(super) fn of(edges: &Edges, now: SystemTime) -> (usize, Vec<Metric>) {
    let clock = Clock { began: edges.began(), now };
    let shown = edges.shown();
    let all: Vec<_> = FAMILIES.iter().map(|family| metric(family, &shown, &clock)).collect();
    let points = all.iter().map(|(points, _)| *points).sum();
    let metrics = all.into_iter().filter(|(points, _)| *points > 0).map(|(_, metric)| metric);
    (points, metrics.collect())
}

/// What the clock on the wall says, and said when the series' own began: whoever gets another start takes it for a series
/// that begins anew.
struct Clock {
    began: SystemTime,
    now: SystemTime,
}

impl Clock {
    /// So many milliseconds after the beginning.
    fn start(&self, since_begin: u64) -> u64 {
        nanoseconds(self.began + Duration::from_millis(since_begin))
    }

    fn now(&self) -> u64 {
        nanoseconds(self.now)
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A metric, and how many points it has.
fn metric(family: &Family, shown: &[Shown], clock: &Clock) -> (usize, Metric) {
    let of_family = shown.iter().filter_map(|series| {
        let own = (family.labels)(series.edge.edge().direction, &series.kind)?;
        Some((series, [series.edge.labels(), own].concat()))
    });
    let cumulative = AggregationTemporality::Cumulative.into();
    let sum = |data_points: Vec<NumberDataPoint>| {
        let points = data_points.len();
        (
            points,
            Data::Sum(Sum { data_points, aggregation_temporality: cumulative, is_monotonic: true }),
        )
    };
    let ((points, data), unit) = match family.values {
        Values::Durations => {
            let data_points: Vec<_> =
                of_family.map(|(series, labels)| durations(series, labels, clock)).collect();
            let data = ExponentialHistogram { aggregation_temporality: cumulative, data_points };
            ((data.data_points.len(), Data::ExponentialHistogram(data)), "s")
        }
        Values::Times => {
            let all =
                of_family.map(|(series, labels)| number(series, labels, series.cells.times, clock));
            (sum(all.collect()), family.counts())
        }
        Values::Bytes => {
            let both = of_family.flat_map(|(series, labels)| {
                let ways = [("received", series.cells.received), ("sent", series.cells.sent)];
                ways.map(|(way, bytes)| {
                    let way = vec![("tulle_io_direction", way.to_owned())];
                    number(series, [labels.clone(), way].concat(), bytes, clock)
                })
            });
            (sum(both.collect()), "By")
        }
    };
    let metric = Metric {
        name: dotted(family.name),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    };
    (points, metric)
}

fn number(series: &Shown, labels: Labels, value: u64, clock: &Clock) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(series, labels),
        start_time_unix_nano: clock.start(series.since),
        time_unix_nano: clock.now(),
        value: Some(number_data_point::Value::AsInt(value.try_into().unwrap_or(i64::MAX))),
        ..NumberDataPoint::default()
    }
}

fn durations(series: &Shown, labels: Labels, clock: &Clock) -> ExponentialHistogramDataPoint {
    let Took { classic, histogram, nanoseconds, exemplars } = &series.cells.took;
    ExponentialHistogramDataPoint {
        attributes: attributes(series, labels),
        start_time_unix_nano: clock.start(series.since),
        time_unix_nano: clock.now(),
        count: classic.iter().sum(),
        sum: Some(Duration::from_nanos(*nanoseconds).as_secs_f64()),
        scale: histogram::SCALE.into(),
        zero_count: histogram.zero(),
        positive: buckets(histogram),
        exemplars: exemplars.all().map(example).collect(),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn example(of: &Exemplar) -> sent::Exemplar {
    let time = of.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    sent::Exemplar {
        time_unix_nano: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        span_id: of.span.bytes().to_vec(),
        trace_id: of.trace.bytes().to_vec(),
        value: Some(sent::exemplar::Value::AsDouble(of.took.as_secs_f64())),
        ..sent::Exemplar::default()
    }
}

/// All buckets from the first to the last that was hit. Ours have OpenTelemetry's numbers.
fn buckets(histogram: &Histogram) -> Option<Buckets> {
    let (first, _) = histogram.buckets().first()?;
    let (last, _) = histogram.buckets().last()?;
    let index = |bucket: i16| usize::try_from(i32::from(bucket) - i32::from(*first)).unwrap_or(0);
    let mut bucket_counts = vec![0; index(*last) + 1];
    for (bucket, times) in histogram.buckets() {
        bucket_counts[index(*bucket)] = *times;
    }
    Some(Buckets { offset: i32::from(*first), bucket_counts })
}

fn attributes(of: &Shown, labels: Labels) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    for Tag { label, value } in of.edge.tags() {
        attributes.text(&label.attribute, value.clone());
    }
    for (name, value) in labels {
        let key = dotted(name);
        match (name, value.parse::<u16>()) {
            ("server_port" | "http_response_status_code", Ok(number)) => {
                attributes.number(&key, number);
            }
            _ => attributes.text(&key, value),
        }
    }
    attributes.0
}

/// OpenTelemetry's name of what Prometheus has with `_` for each `.`.
fn dotted(name: &str) -> String {
    match name {
        "outcome" => "tulle.outcome".to_owned(),
        "rpc_status_code" => "rpc.response.status_code".to_owned(),
        "http_response_status_code" => "http.response.status_code".to_owned(),
        name => name.replace('_', "."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_whole_from_the_first_to_the_last() {
        let mut histogram = Histogram::default();
        assert_eq!(buckets(&histogram), None);
        [0.0, 1.0, 1.5, 1.5, 2.0].into_iter().for_each(|value| histogram.observe(value));
        // (2^(-1/8), 1] is -1; 1.5 is in (2^(4/8), 2^(5/8)]; (2^(7/8), 2] is 7.
        let expected = Buckets { offset: -1, bucket_counts: vec![1, 0, 0, 0, 0, 2, 0, 0, 1] };
        assert_eq!(buckets(&histogram), Some(expected));
    }

    #[test]
    fn names_are_the_conventions() {
        for (name, expected) in [
            ("http_client_request_duration", "http.client.request.duration"),
            ("http_response_status_code", "http.response.status_code"),
            ("server_address", "server.address"),
            ("error_type", "error.type"),
            ("tulle_tcp_io", "tulle.tcp.io"),
        ] {
            assert_eq!(dotted(name), expected);
        }
    }
}
