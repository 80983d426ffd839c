//! Exemplars of histograms: `prometheus-client` encodes those of its own histograms alone, so that ours are put in once the
//! rest is encoded.

use std::{collections::HashMap, fmt::Write as _, time::SystemTime};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    self as messages, LabelPair, MetricFamily,
};

/// An exemplar of a bucket of a histogram that was just encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The metric's name, with its unit.
    pub family: &'static str,
    /// The number of the series among those of its family, in the order in which they were encoded.
    pub series: usize,
    /// The number of the bucket among those of its series.
    pub bucket: usize,
    /// What it names: at most 128 characters, all together (OpenMetrics 1.0.0, exemplars).
    pub labels: Vec<(&'static str, String)>,
    /// The value that was observed.
    pub value: f64,
    /// When it was.
    pub time: SystemTime,
}

/// OpenMetrics text with these exemplars.
pub(super) fn into_text(text: String, examples: &[Example]) -> String {
    if examples.is_empty() {
        return text;
    }
    let key = |of: &Example| (of.family, of.series, of.bucket);
    let examples: HashMap<_, _> = examples.iter().map(|of| (key(of), of)).collect();
    let mut out = String::with_capacity(text.len() + examples.len() * 128);
    let (mut family, mut series, mut bucket) = ("", 0, 0);
    for line in text.lines() {
        out.push_str(line);
        if let Some((name, _)) = line.split_once("_bucket{") {
            if name != family {
                (family, series, bucket) = (name, 0, 0);
            }
            if let Some(example) = examples.get(&(name, series, bucket)) {
                write(&mut out, example);
            }
            // Each series has all of its buckets, the one without end last.
            let last = line.contains("le=\"+Inf\"");
            (series, bucket) = if last { (series + 1, 0) } else { (series, bucket + 1) };
        }
        out.push('\n');
    }
    out
}

fn write(out: &mut String, Example { labels, value, time, .. }: &Example) {
    let named: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let written = write!(out, " # {{{}}} {value} {}", named.join(","), since.as_secs_f64());
    written.expect("writing to a String cannot fail");
}

/// Prometheus' messages with these exemplars, in both places in which its versions look for them.
pub(super) fn into_messages(families: &mut [MetricFamily], examples: Vec<Example>) {
    for example in examples {
        let family = families.iter_mut().find(|family| family.name == example.family);
        let series = family.and_then(|family| family.metric.get_mut(example.series));
        let Some(histogram) = series.and_then(|series| series.histogram.as_mut()) else {
            continue;
        };
        let label = example.labels.into_iter();
        let label = label.map(|(name, value)| LabelPair { name: name.to_owned(), value }).collect();
        let timestamp = Some(example.time.into());
        let said = messages::Exemplar { label, value: example.value, timestamp };
        if let Some(bucket) = histogram.bucket.get_mut(example.bucket) {
            bucket.exemplar = Some(said.clone());
        }
        histogram.exemplars.push(said);
    }
}
