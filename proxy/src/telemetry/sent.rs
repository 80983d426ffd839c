//! What became of telemetry that was to be sent to collectors.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use super::{
    otlp::{Counts, Signal},
    outbox::Outboxes,
};

/// Counts of all signals. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<[Arc<Counts>; Signal::ALL.len()]>);

impl Sent {
    /// Those of one.
    pub(super) fn of(&self, signal: Signal) -> &Arc<Counts> {
        match signal {
            Signal::Spans => &self.0[0],
            Signal::Logs => &self.0[1],
            Signal::Metrics => &self.0[2],
        }
    }
}

/// Shows them.
#[derive(Debug)]
pub(super) struct Shows {
    pub(super) sent: Sent,
    pub(super) outboxes: Outboxes,
}

impl Collector for Shows {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (spans, lines) = self.outboxes.dropped();
        let before = |signal| match signal {
            Signal::Spans => spans,
            Signal::Logs => lines,
            Signal::Metrics => 0,
        };
        let load = |counts: &Counts| {
            [&counts.sent, &counts.dropped, &counts.refused].map(|n| n.load(Ordering::Relaxed))
        };
        let families = [
            (
                "tulle_telemetry_sent",
                "Spans, log records and points of metrics that OTLP destinations have taken",
            ),
            (
                "tulle_telemetry_dropped",
                "Those that a destination did not get, for want of room or because it went away, and requests without a span because callers from outside of the mesh wanted too many",
            ),
            ("tulle_telemetry_refused", "Those that a destination said it will not take"),
        ];
        for (nth, (name, help)) in families.into_iter().enumerate() {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            for signal in Signal::ALL {
                let more = if name == "tulle_telemetry_dropped" { before(signal) } else { 0 };
                let number = load(self.sent.of(signal))[nth] + more;
                let labels = [("signal", signal.as_str())];
                ConstCounter::new(number).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
