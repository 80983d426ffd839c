//! An answer of Prometheus: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, de::IgnoredAny};
use tulle_runtime::histogram::{Histogram, bucket};
use tulle_xds::grpc;

use super::promql::{Counted, range, step};
use crate::telemetry::{
    Ask, Denial, Direction, Edge, Outcome, Peer, Row, Security, Totals, Workload,
};

/// Points of all edges together: of each are some hundred bytes.
const MOST_POINTS: usize = 200_000;

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

/// A series: of an instant, or of a range.
#[derive(Deserialize)]
struct Series {
    metric: HashMap<String, String>,
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    histogram: Option<(f64, Native)>,
    #[serde(default)]
    histograms: Vec<(f64, Native)>,
}

/// A native histogram.
#[derive(Deserialize)]
struct Native {
    /// How its bounds are meant, from above, up to, and how many.
    #[serde(default)]
    buckets: Vec<(i32, String, String, String)>,
}

/// When the first sample was, in seconds since 1970. `None`: there is none.
pub(super) fn first(body: &[u8]) -> Result<Option<u64>, String> {
    let answer = answer(body)?;
    let times =
        answer.data.result.iter().flat_map(|series| series.values.iter().chain(&series.value));
    Ok(times.map(|(time, _)| seconds(*time)).min())
}

/// What an answer comes to that shall be one number; it may be NaN or infinite.
pub(super) fn number(body: &[u8]) -> Result<f64, String> {
    #[derive(Deserialize)]
    struct Answer {
        data: Found,
    }
    #[derive(Deserialize)]
    #[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
    enum Found {
        Scalar((f64, String)),
        Vector(Vec<Sample>),
        Matrix(IgnoredAny),
        String(IgnoredAny),
    }
    #[derive(Deserialize)]
    struct Sample {
        value: Option<(f64, String)>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(none_of_prometheus)?;
    let value = match answer.data {
        Found::Scalar(value) => Some(value),
        Found::Vector(mut all) => match (all.pop(), all.len()) {
            (None, _) => return Err("no value".to_owned()),
            (Some(one), 0) => one.value,
            (Some(_), more) => {
                return Err(format!("{} values: make one of them, as sum(…) does", more + 1));
            }
        },
        Found::Matrix(_) => return Err("a range of values is no number".to_owned()),
        Found::String(_) => return Err("a text is no number".to_owned()),
    };
    let (_, text) = value.ok_or("a histogram is no number: histogram_quantile(…) makes one")?;
    text.parse().map_err(|_malformed| format!("{text:.32?} is no number"))
}

fn answer(body: &[u8]) -> Result<Answer, String> {
    serde_json::from_slice(body).map_err(none_of_prometheus)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn none_of_prometheus(error: serde_json::Error) -> String {
    format!("its answer is none of Prometheus: {error}")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn seconds(time: f64) -> u64 {
    time.round() as u64
}

/// What a failure says, or the text as it is.
pub(super) fn error(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Failure {
        error: String,
    }
    let said = serde_json::from_slice(body).map(|failure: Failure| failure.error);
    let mut said = said.unwrap_or_else(|_no_json| String::from_utf8_lossy(body).into_owned());
    said.retain(|c| !c.is_control());
    said.chars().take(300).collect()
}

/// A workload's name, and what it sees of whom by which rule.
type Key = (String, String, EdgeKey, String);
type EdgeKey = (Direction, Peer, (String, u16), Security);

/// Rows, while answers come in.
pub(super) struct Rows {
    ask: Ask,
    begin: u64,
    step: u64,
    points: u32,
    /// What grew in a range, for a step.
    part: f64,
    rows: BTreeMap<Key, Vec<Part>>,
}

/// A point of a row.
#[derive(Default, Clone)]
struct Part {
    totals: Totals,
    /// Of durations: below a bound, so many. Summed over all classic series of the edge.
    classic: BTreeMap<u64, (f64, f64)>,
    /// By bucket.
    native: BTreeMap<i16, f64>,
}

impl Rows {
    pub(super) fn new(ask: &Ask, now: u64) -> Self {
        let (step, points) = step(ask);
        let begin = now.saturating_sub(step * u64::from(points));
        #[expect(clippy::cast_precision_loss, reason = "seconds of a month are exact")]
        let part = step as f64 / range(ask) as f64;
        Self { ask: ask.clone(), begin, step, points, part, rows: BTreeMap::new() }
    }

    /// Adds an answer.
    pub(super) fn add(&mut self, counts: Counted, body: &[u8]) -> Result<(), String> {
        for series in answer(body)?.data.result {
            let Some(key) = key(&series.metric) else { continue };
            let (begin, step, points, share) = (self.begin, self.step, self.points, self.part);
            if self.rows.len() * points as usize >= MOST_POINTS && !self.rows.contains_key(&key) {
                return Err("more edges than can be shown at once; ask for a namespace".to_owned());
            }
            let row =
                self.rows.entry(key).or_insert_with(|| vec![Part::default(); points as usize]);
            let at =
                |time: f64| seconds(time).saturating_sub(begin).div_ceil(step).saturating_sub(1);
            for (time, value) in series.value.iter().chain(&series.values) {
                let value = value.parse().unwrap_or(0.0) * share;
                if let Some(part) = row.get_mut(index(at(*time))).filter(|_| value.is_finite()) {
                    part.count(counts, &series.metric, value);
                }
            }
            for (time, native) in series.histogram.iter().chain(&series.histograms) {
                if let Some(part) = row.get_mut(index(at(*time))) {
                    part.durations(native, share);
                }
            }
        }
        Ok(())
    }

    /// What there is since `begins`.
    pub(super) fn done(self, begins: u64, workload: impl Fn(&str, &str) -> Workload) -> Vec<Row> {
        let known = self.step * u64::from(self.points) - begins.saturating_sub(self.begin);
        let covers = u32::try_from(known).unwrap_or(u32::MAX);
        let rows = self.rows.into_iter().map(|((namespace, name, edge, route), parts)| {
            let (direction, peer, server, security) = edge;
            let workload = workload(&namespace, &name);
            Row {
                edge: Edge { workload, direction, peer, server, security }.into(),
                route: if self.ask.routes { route } else { String::new() },
                points: parts.into_iter().map(Part::done).collect(),
                covers,
            }
        });
        rows.filter(|row| row.points.iter().any(|point| *point != Totals::default())).collect()
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// `None`: it is no series of an edge.
fn key(labels: &HashMap<String, String>) -> Option<Key> {
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let direction = match label("tulle_reporter").as_str() {
        "source" => Direction::Outbound,
        "destination" => Direction::Inbound,
        _ => return None,
    };
    let security = match label("tulle_security").as_str() {
        "mtls" => Security::Mtls,
        "plaintext" => Security::Plaintext,
        _ => Security::Unknown,
    };
    let peer =
        Peer { namespace: label("tulle_peer_namespace"), name: label("tulle_peer_workload") };
    let server = (label("server_address"), label("server_port").parse().unwrap_or(0));
    let edge = (direction, peer, server, security);
    Some((label("namespace"), label("workload"), edge, label("tulle_route")))
}

impl Part {
    fn count(&mut self, counts: Counted, labels: &HashMap<String, String>, value: f64) {
        let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        let Self { totals, .. } = self;
        let times = whole(value);
        if times == 0 && counts != Counted::Buckets {
            return;
        }
        match counts {
            Counted::Requests => totals.requests.push((outcome(labels), times)),
            Counted::Buckets => {
                let bound: f64 = label("le").parse().unwrap_or(f64::INFINITY);
                let (_, below) = self.classic.entry(bound.to_bits()).or_insert((bound, 0.0));
                *below += value;
            }
            // Their durations alone: they come as histograms.
            Counted::Natives => {}
            Counted::Tries => totals.tries.push((label("outcome").to_owned(), times)),
            Counted::Connections => {
                let flow = &mut totals.flow;
                match (label("tulle_connection_state"), label("error_type")) {
                    ("opened", _) => add(&mut flow.opened, times),
                    (_, "") => add(&mut flow.closed, times),
                    _ => {
                        add(&mut flow.closed, times);
                        add(&mut flow.failed, times);
                    }
                }
            }
            Counted::Bytes => match label("tulle_io_direction") {
                "received" => add(&mut totals.flow.received, times),
                _ => add(&mut totals.flow.sent, times),
            },
            Counted::Denials => {
                let denial = Denial {
                    policy: label("tulle_policy").to_owned(),
                    reason: label("tulle_reason").to_owned(),
                    audit: label("tulle_mode") == "audit",
                };
                totals.denials.push((denial, times));
            }
        }
    }

    fn durations(&mut self, native: &Native, share: f64) {
        for (_, low, high, times) in &native.buckets {
            if let (Ok(low), Ok(high), Ok(times)) =
                (low.parse(), high.parse(), times.parse::<f64>())
            {
                *self.native.entry(bucket(middle(low, high))).or_default() += times * share;
            }
        }
    }

    fn done(mut self) -> Totals {
        // Classic buckets count what is below as well, and are in order: positive numbers are, by their bits.
        let (mut low, mut counted) = (0.0, 0.0);
        let mut by_bucket: BTreeMap<i16, f64> = BTreeMap::new();
        for (bound, below) in self.classic.into_values() {
            let here = (below - counted).max(0.0);
            *by_bucket.entry(bucket(middle(low, bound))).or_default() += here;
            (low, counted) = (bound, below.max(counted));
        }
        if by_bucket.is_empty() {
            by_bucket = self.native;
        }
        let buckets = by_bucket.into_iter().map(|(bucket, times)| (bucket, whole(times)));
        let buckets = buckets.filter(|(_, times)| *times > 0).collect();
        let scale = Histogram::default().scale();
        // What comes in order and is above 0 is a histogram.
        self.totals.took.histogram = Histogram::from_parts(scale, 0, buckets).unwrap_or_default();
        self.totals
    }
}

fn add(sum: &mut u64, times: u64) {
    *sum = sum.saturating_add(times);
}

/// A duration for all in a bucket: in its middle by the logarithm.
fn middle(low: f64, high: f64) -> f64 {
    match (low > 0.0, high.is_finite()) {
        (true, true) => (low * high).sqrt(),
        (true, false) => low,
        (false, true) => high / 2.0,
        (false, false) => 0.0,
    }
}

fn outcome(labels: &HashMap<String, String>) -> Outcome {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let status = label("http_response_status_code").trim_end_matches("xx").parse().unwrap_or(0);
    let grpc = grpc::number(label("rpc_status_code"));
    // The status itself is no reason of the proxy's.
    let error = label("error_type");
    let by_status = error.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    Outcome { status, grpc, error: if by_status { String::new() } else { error.to_owned() } }
}

/// What grew is estimated by Prometheus, and so seldom whole.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and makes 0 of what is no number"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}
