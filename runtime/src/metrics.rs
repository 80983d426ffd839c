//! What the process counts, as Prometheus reads it.

mod examples;
mod process;

pub use examples::Example;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{prometheus_protobuf, text},
    registry,
};

use crate::http::answer;

/// OpenMetrics 1.0.0, as [`Registry::render`] writes it.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Prometheus' older text, for whoever does not ask for OpenMetrics: `promtool check metrics` understands no other.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What Prometheus asks for where it is to keep native histograms:
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#protobuf-format>.
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The process's metrics. Clones share one registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    registry: registry::Registry,
    /// Says the exemplars of what was encoded last.
    examples: Option<Examples>,
}

type Examples = Box<dyn Fn() -> Vec<Example> + Send>;

impl Registry {
    /// One that says what the process takes of the machine, beside what is registered.
    pub fn of_process() -> Self {
        let registry = Self::default();
        registry.register(|r| r.register_collector(Box::new(process::Process::starting())));
        registry
    }

    /// Registers metrics; the doc comment of a metric is its HELP.
    pub fn register<T>(&self, with: impl FnOnce(&mut registry::Registry) -> T) -> T {
        with(&mut self.inner.lock().registry)
    }

    /// Has histograms have exemplars. After each encoding `examples` is asked for those of what was just encoded.
    pub fn exemplify(&self, examples: impl Fn() -> Vec<Example> + Send + 'static) {
        self.inner.lock().examples = Some(Box::new(examples));
    }

    /// All metrics, in the form that the scraper likes best: Prometheus' messages, which have native histograms, OpenMetrics
    /// text, or plain text.
    pub fn scrape(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        match preferred(accept.unwrap_or_default()) {
            PROTOBUF => answer(StatusCode::OK, PROTOBUF, self.messages()),
            TEXT => answer(StatusCode::OK, TEXT, self.render()),
            plain => answer(StatusCode::OK, plain, older(&self.render())),
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let inner = self.inner.lock();
        text::encode(&mut out, &inner.registry).expect("writing to a String cannot fail");
        examples::into_text(out, &inner.examples())
    }

    /// All metrics as Prometheus' messages, each with its length before it.
    fn messages(&self) -> Vec<u8> {
        let inner = self.inner.lock();
        let encoded = prometheus_protobuf::encode(&inner.registry);
        let mut families = encoded.expect("encoding into memory cannot fail");
        examples::into_messages(&mut families, inner.examples());
        families.iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect()
    }
}

impl Inner {
    fn examples(&self) -> Vec<Example> {
        self.examples.as_ref().map(|examples| examples()).unwrap_or_default()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

/// The form that this `Accept` ranks first; of equals the one that says more.
fn preferred(accept: &str) -> &'static str {
    let ranges = accept.split(',').filter_map(|range| {
        let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
        let quality = parameters.split(';').find_map(|p| p.trim().strip_prefix("q="));
        let quality = quality.map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
        let message = ["io.prometheus.client.MetricFamily", "delimited"];
        let form = match kind.trim() {
            "application/vnd.google.protobuf" if message.iter().all(|p| parameters.contains(p)) => {
                PROTOBUF
            }
            "application/openmetrics-text" => TEXT,
            "text/plain" | "text/*" | "*/*" => PLAIN,
            _ => return None,
        };
        (quality > 0.0).then_some((quality, form))
    });
    let rank = |form: &str| [PLAIN, TEXT, PROTOBUF].iter().position(|known| *known == form);
    let best =
        ranges.max_by(|(a, one), (b, other)| a.total_cmp(b).then(rank(one).cmp(&rank(other))));
    best.map_or(PLAIN, |(_, form)| form)
}

/// OpenMetrics text as Prometheus' older text: what is said of a counter is said of the name with `_total`, and there
/// are neither units nor exemplars nor an end.
fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let said = |line: &str, what| {
            let name = line.strip_prefix(what)?.split(' ').next()?;
            Some(name.to_owned())
        };
        if let Some(name) = said(line, "# HELP ").or_else(|| said(line, "# TYPE ")) {
            let counter = format!("# TYPE {name} counter");
            let is_counter = line == counter || lines.peek().is_some_and(|next| *next == counter);
            let total = if is_counter { "_total" } else { "" };
            let rest = line.get("# HELP ".len() + name.len()..).unwrap_or_default();
            let what = line.get(.."# HELP ".len()).unwrap_or_default();
            out.extend([what, &name, total, rest, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([sample(line), "\n"]);
        }
    }
    out
}

/// A line without its exemplar, which begins at the first `#` that is in no label's value.
fn sample(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let at = line.find(|c| {
        let (was, plain) = (quoted, !std::mem::take(&mut escaped));
        match c {
            '"' if plain => quoted = !quoted,
            '\\' if plain => escaped = quoted,
            _ => {}
        }
        c == '#' && !was
    });
    at.and_then(|at| line.get(..at)).map_or(line, str::trim_end)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use prometheus_client::{
        encoding::prometheus_protobuf::prometheus_data_model::MetricFamily,
        metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    };
    use prost::Message as _;

    use super::*;

    #[test]
    fn renders_what_was_registered() {
        let registry = Registry::default();
        let requests: Counter = Counter::default();
        registry.register(|r| r.register("tulle_requests", "Requests", requests.clone()));
        requests.inc();
        assert!(registry.render().contains("tulle_requests_total 1\n"), "{}", registry.render());
    }

    #[test]
    fn in_the_older_text_a_counter_is_called_as_its_samples_are() {
        let registry = Registry::default();
        registry.register(|r| {
            r.register_with_unit(
                "tulle_io",
                "Bytes",
                registry::Unit::Bytes,
                Counter::<u64>::default(),
            );
            r.register("tulle_open", "Open: # TYPE", Gauge::<i64>::default());
        });
        let expected = "# HELP tulle_io_bytes_total Bytes.\n# TYPE tulle_io_bytes_total counter\ntulle_io_bytes_total 0\n\
            # HELP tulle_open Open: # TYPE.\n# TYPE tulle_open gauge\ntulle_open 0\n";
        assert_eq!(older(&registry.render()), expected);
    }

    #[test]
    fn in_the_older_text_there_are_no_exemplars() {
        for (line, expected) in [
            ("a_bucket{le=\"1\"} 2 # {trace_id=\"12\"} 0.5 17.25", "a_bucket{le=\"1\"} 2"),
            ("a{b=\"x # {y\",c=\"\\\" # {\"} 1 # {} 1", "a{b=\"x # {y\",c=\"\\\" # {\"} 1"),
            ("a{b=\"\\\\\"} 1 # {} 1", "a{b=\"\\\\\"} 1"),
            ("a{b=\"#\"} 1 2", "a{b=\"#\"} 1 2"),
        ] {
            assert_eq!(sample(line), expected);
        }
    }

    #[test]
    fn a_bucket_has_its_exemplar_in_each_form_but_the_older_text() {
        let registry = Registry::default();
        let took = Family::<Vec<(&str, &str)>, _>::new_with_constructor(|| Histogram::new([1.0]));
        registry.register(|r| r.register("tulle_took", "Took", took.clone()));
        let bare = registry.render();
        assert!(!bare.contains(" # "));
        // In the order of their encoding, which is not that of their names.
        took.get_or_create(&vec![("of", "le=\"1\"")]).observe(0.5);
        took.get_or_create(&vec![("of", "b")]).observe(0.5);
        let example = Example {
            family: "tulle_took",
            series: 1,
            bucket: 1,
            labels: vec![("trace_id", "12".to_owned()), ("span_id", "34".to_owned())],
            value: 1.5,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1250),
        };
        registry.exemplify(move || vec![example.clone()]);
        let text = registry.render();
        let buckets: Vec<_> = text.lines().filter(|line| line.contains("_bucket")).collect();
        let (sample, exemplar) = buckets[3].split_once(" # ").unwrap();
        assert_eq!(exemplar, "{trace_id=\"12\",span_id=\"34\"} 1.5 1.25");
        assert!(sample.contains("le=\"+Inf\"") && text.matches(" # {").count() == 1, "{text}");
        assert!(text.ends_with("# EOF\n") && !older(&text).contains(" # {"), "{text}");
        let messages = registry.messages();
        let family = MetricFamily::decode_length_delimited(&*messages).unwrap();
        let histogram = family.metric[1].histogram.as_ref().unwrap();
        let said = histogram.bucket[1].exemplar.as_ref().unwrap();
        assert_eq!((said.value, said.label[1].value.as_str()), (1.5, "34"));
        assert_eq!(histogram.exemplars.len(), 1);
    }

    #[test]
    fn a_scraper_gets_what_it_ranks_first() {
        const MESSAGES: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let registry = Registry::default();
        registry.register(|r| r.register("tulle_requests", "Requests", Counter::<u64>::default()));
        for (accept, expected) in [
            (None, PLAIN),
            (Some("*/*".to_owned()), PLAIN),
            (Some("application/json".to_owned()), PLAIN),
            (Some("text/plain, application/openmetrics-text".to_owned()), TEXT),
            (Some(MESSAGES.to_owned()), PROTOBUF),
            // Prometheus 2.42 with native histograms, and without.
            (Some(format!("{MESSAGES},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")), PROTOBUF),
            (Some("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1".to_owned()), TEXT),
            (Some(format!("application/openmetrics-text;version=1.0.0;q=0.6, {MESSAGES};q=0.5")), TEXT),
            (Some(format!("{MESSAGES};q=0")), PLAIN),
            (Some(format!("{MESSAGES};q=high")), PLAIN),
            (Some("application/vnd.google.protobuf;proto=other;encoding=delimited".to_owned()), PLAIN),
        ] {
            let mut request = Request::new(Bytes::new());
            if let Some(accept) = &accept {
                request.headers_mut().insert(header::ACCEPT, accept.parse().unwrap());
            }
            let answer = registry.scrape(&request);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], expected, "{accept:?}");
            assert!(!answer.body().is_empty());
        }
    }
}
