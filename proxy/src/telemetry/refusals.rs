//! What was refused or lost before there was a request to speak of.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tulle_runtime::{
    log::{self, Lines},
    metrics::Registry,
};

use crate::context::Connections;

/// Counts connections that are open or were refused, and lines that nobody took.
pub fn count_refusals(registry: &Registry, connections: Connections, lines: Lines) {
    registry.register(|r| r.register_collector(Box::new(Refusals { connections, lines })));
}

#[derive(Debug)]
struct Refusals {
    connections: Connections,
    lines: Lines,
}

impl Collector for Refusals {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Connections { inbound, outbound } = &self.connections;
        let sides = [("inbound", inbound), ("outbound", outbound)];
        let help = "Open connections from clients";
        let mut open =
            to.encode_descriptor("tulle_connections_open", help, None, MetricType::Gauge)?;
        for (direction, limit) in sides {
            let number = i64::try_from(limit.open()).unwrap_or(i64::MAX);
            ConstGauge::new(number).encode(open.encode_family(&[("direction", direction)])?)?;
        }
        let help = "Connections that were reset because too many were open";
        let mut refused =
            to.encode_descriptor("tulle_connections_refused", help, None, MetricType::Counter)?;
        for (direction, limit) in sides {
            let number = u64::try_from(limit.refused()).unwrap_or(u64::MAX);
            ConstCounter::new(number)
                .encode(refused.encode_family(&[("direction", direction)])?)?;
        }
        let paused = self.connections.inbound.paused() + self.connections.outbound.paused();
        let lost = [
            (
                "tulle_accept_pauses",
                "Pauses in accepting connections, for want of file descriptors or memory",
                u64::try_from(paused).unwrap_or(u64::MAX),
            ),
            (
                "tulle_log_lines_dropped",
                "Access log lines that were dropped because standard output was not read",
                self.lines.dropped(),
            ),
            (
                "tulle_diagnostics_dropped",
                "Diagnostics that were dropped because standard error was not read",
                log::dropped(),
            ),
        ];
        for (name, help, number) in lost {
            let lost = ConstCounter::new(number);
            lost.encode(to.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_in_the_metrics() {
        let registry = Registry::default();
        let lines = Lines::to(std::io::sink());
        count_refusals(&registry, Connections::new(1), lines);
        let text = registry.render();
        for line in [
            "tulle_connections_open{direction=\"inbound\"} 0",
            "tulle_connections_refused_total{direction=\"outbound\"} 0",
            "tulle_accept_pauses_total 0",
            "tulle_log_lines_dropped_total 0",
            "tulle_diagnostics_dropped_total",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
