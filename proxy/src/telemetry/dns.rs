use std::fmt;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tulle_runtime::metrics::Registry;

/// Metrics of DNS. Clones share them.
#[derive(Clone)]
pub struct Dns {
    questions: Family<Labels, Counter>,
    dropped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    answered_by: &'static str,
}

impl Dns {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self { questions: Family::default(), dropped: Counter::default() };
        registry.register(|r| {
            r.register(
                "tulle_dns_questions",
                "Questions of the application for names, by who answered them: mesh, resolver, or nobody",
                metrics.questions.clone(),
            );
            r.register(
                "tulle_dns_dropped",
                "Questions that were dropped because too many were open",
                metrics.dropped.clone(),
            );
        });
        metrics
    }

    /// Counts a question.
    pub fn answered(&self, by: &'static str) {
        self.questions.get_or_create(&Labels { answered_by: by }).inc();
    }

    /// Counts a question that nobody looked at.
    pub fn dropped(&self) {
        self.dropped.inc();
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns")
    }
}
