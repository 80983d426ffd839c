//! What the process counts, as Prometheus reads it.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{encoding::text, registry};

/// The content type of [`Registry::render`] (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
}
