//! Spans, lines of the access log and series of edges, for whoever the control plane says, by OpenTelemetry's protocol:
//! <https://opentelemetry.io/docs/specs/otlp/>.
//!
//! ```text
//! workers ─► outboxes ─┐                                                    ┌─► [ queue ] ─► [ lane ] ─► [ transport ]: a destination
//!            edges ────┴─► [ export ], on the main thread ─► [ span ], ─────┤
//!                                                            [ line ],      └─► [ queue ] ─► [ lane ] ─► …
//!                                                            [ series ]: encoded once, for all destinations
//! ```
//!
//! **Invariants.** No worker waits for anything here. Whatever waits has a bound, and what has no place is counted
//! (`tulle_telemetry_dropped_total`). One destination never waits for another.

mod export;
mod lane;
mod line;
mod queue;
mod resource;
mod series;
mod span;
mod transport;

pub use export::{Export, Pace};
pub(super) use lane::Counts;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use tulle_expression::Value as Said;

use super::closed::Extras;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Signal {
    Spans,
    Logs,
    Metrics,
}

impl Signal {
    pub(super) const ALL: [Self; 3] = [Self::Spans, Self::Logs, Self::Metrics];

    /// The word for labels.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// Its method of gRPC.
    fn method(self) -> &'static str {
        match self {
            Self::Spans => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// Its path of HTTP, below the endpoint's own.
    fn path(self) -> &'static str {
        match self {
            Self::Spans => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }
}

/// Who says all this. An application's own SDK has other names, so that the same metric of both is told apart.
fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "dev.tulle.proxy".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// The conventions by which names are chosen.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Attributes, of those that say anything.
#[derive(Debug, Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.put(key, Value::StringValue(value));
        }
    }

    fn number(&mut self, key: &str, value: impl TryInto<i64>) {
        self.put(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    fn yes(&mut self, key: &str, value: bool) {
        if value {
            self.put(key, Value::BoolValue(true));
        }
    }

    fn seconds(&mut self, key: &str, value: std::time::Duration) {
        self.put(key, Value::DoubleValue(value.as_secs_f64()));
    }

    /// What a Telemetry wants said.
    fn extras(&mut self, extras: &Extras) {
        for (name, value) in extras {
            match value {
                Said::Int(number) => self.number(name, *number),
                Said::Bool(value) => self.put(name, Value::BoolValue(*value)),
                other => self.text(name, other.clone().text()),
            }
        }
    }

    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}
