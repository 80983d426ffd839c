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

    /// All metrics, in the form that the scraper likes best: Prometheus' messages, which have native histograms, or text.
    pub fn scrape(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        if accept.is_some_and(prefers_protobuf) {
            let encoded = prometheus_protobuf::encode_to_vec(&self.inner.lock());
            let encoded = encoded.expect("encoding into memory cannot fail");
            return answer(StatusCode::OK, PROTOBUF, encoded);
        }
        answer(StatusCode::OK, TEXT, self.render())
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

/// Whether it ranks Prometheus' messages before text. What it says nothing of, it does not take.
fn prefers_protobuf(accept: &str) -> bool {
    let best = |is: fn(&str, &str) -> bool| {
        let ranked = accept.split(',').filter_map(|range| {
            let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
            let quality = parameters.split(';').find_map(|p| p.trim().strip_prefix("q="));
            let quality = quality.map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
            is(kind.trim(), parameters).then_some(quality)
        });
        ranked.fold(0.0, f32::max)
    };
    let protobuf = best(|kind, parameters| {
        kind == "application/vnd.google.protobuf"
            && parameters.contains("io.prometheus.client.MetricFamily")
            && parameters.contains("delimited")
    });
    let text = best(|kind, _| matches!(kind, "application/openmetrics-text" | "text/plain"));
    protobuf > 0.0 && protobuf >= text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

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
    fn a_scraper_gets_what_it_ranks_first() {
        const MESSAGES: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let registry = Registry::default();
        registry.register(|r| r.register("tulle_requests", "Requests", Counter::<u64>::default()));
        for (accept, expected) in [
            (None, TEXT),
            (Some("*/*".to_owned()), TEXT),
            (Some(MESSAGES.to_owned()), PROTOBUF),
            // Prometheus 2.42 with native histograms, and without.
            (Some(format!("{MESSAGES},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")), PROTOBUF),
            (Some("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1".to_owned()), TEXT),
            (Some(format!("application/openmetrics-text;version=1.0.0;q=0.6, {MESSAGES};q=0.5")), TEXT),
            (Some(format!("{MESSAGES};q=0")), TEXT),
            (Some(format!("{MESSAGES};q=high")), TEXT),
            (Some("application/vnd.google.protobuf;proto=other;encoding=delimited".to_owned()), TEXT),
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
