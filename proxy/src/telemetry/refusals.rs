//! What was refused or lost before there was a request to speak of.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use tulle_runtime::{log::Lines, metrics::Registry};

use crate::net::listen::ConnectionLimit;

/// Counts connections that are open or were refused, and access log lines that nobody took.
pub fn count_refusals(registry: &Registry, connections: ConnectionLimit, lines: Lines) {
    registry.register(|r| r.register_collector(Box::new(Refusals { connections, lines })));
}

#[derive(Debug)]
struct Refusals {
    connections: ConnectionLimit,
    lines: Lines,
}

impl Collector for Refusals {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let open = i64::try_from(self.connections.open()).unwrap_or(i64::MAX);
        let open = ConstGauge::new(open);
        let help = "Open connections from clients";
        open.encode(to.encode_descriptor(
            "tulle_connections_open",
            help,
            None,
            open.metric_type(),
        )?)?;
        let refused = ConstCounter::new(number(self.connections.refused()));
        let help = "Connections that were reset because too many were open";
        let kind = refused.metric_type();
        refused.encode(to.encode_descriptor("tulle_connections_refused", help, None, kind)?)?;
        let lost = ConstCounter::new(self.lines.dropped());
        let help = "Access log lines that were dropped because standard output was not read";
        lost.encode(to.encode_descriptor(
            "tulle_log_lines_dropped",
            help,
            None,
            lost.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_in_the_metrics() {
        let registry = Registry::default();
        let lines = Lines::to(std::io::sink());
        count_refusals(&registry, ConnectionLimit::new(1), lines);
        let text = registry.render();
        for line in [
            "tulle_connections_open 0",
            "tulle_connections_refused_total 0",
            "tulle_log_lines_dropped_total 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
