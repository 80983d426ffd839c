//! What the process counts, as Prometheus reads it.

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
    inner: Arc<Mutex<registry::Registry>>,
}

impl Registry {
    /// Registers metrics; the doc comment of a metric is its HELP.
    pub fn register<T>(&self, with: impl FnOnce(&mut registry::Registry) -> T) -> T {
        with(&mut self.inner.lock())
    }

    /// All metrics, in the form that the scraper likes best: Prometheus' messages, which have native histograms, OpenMetrics
    /// text, or plain text.
    pub fn scrape(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        match preferred(accept.unwrap_or_default()) {
            PROTOBUF => {
                let encoded = prometheus_protobuf::encode_to_vec(&self.inner.lock());
                answer(StatusCode::OK, PROTOBUF, encoded.expect("encoding into memory cannot fail"))
            }
            TEXT => answer(StatusCode::OK, TEXT, self.render()),
            plain => answer(StatusCode::OK, plain, older(&self.render())),
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.inner.lock()).expect("writing to a String cannot fail");
        out
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
/// are neither units nor an end.
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
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

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
