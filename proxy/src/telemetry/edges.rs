//! The series of edges, as workers count them and Prometheus reads them.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};
use tokio::time::Instant;

use super::{
    Direction,
    edge::Edge,
    grpc,
    series::{BOUNDS, Event, Kind, Shown, Status, Table},
};

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;

/// The series of edges. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Edges(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    table: RwLock<Table>,
}

impl Edges {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner { begun: Instant::now(), table: RwLock::default() }))
    }

    /// Counts what happened on an edge.
    pub(super) fn count(&self, edge: &Edge<'_>, event: &Event, now: Instant) {
        let now = self.since_begin(now);
        // A statement of its own: the read lock ends with it, before the write lock is taken.
        let counted = self.0.table.read().count(edge, event, now);
        if !counted {
            self.0.table.write().add(edge, event, now);
        }
    }

    fn since_begin(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.0.begun);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Collector for Edges {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (shown, folded) = {
            let mut table = self.0.table.write();
            (table.show(self.since_begin(Instant::now())), table.folded())
        };
        for family in FAMILIES {
            family.encode(&shown, &mut to)?;
        }
        let help = "Series of edges that were counted as `other` for want of room, the ones that rested longest first";
        let name = "tulle_telemetry_dropped_series";
        let family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(folded).encode(family)
    }
}

/// A name in the export, and the series that have a part in it.
struct Family {
    name: &'static str,
    help: &'static str,
    values: Values,
    /// The labels beside the edge's; `None` has no part.
    labels: fn(Direction, &Kind) -> Option<Labels>,
}

enum Values {
    Durations,
    Times,
    Bytes,
}

const FAMILIES: [Family; 8] = [
    Family {
        name: "http_client_request_duration",
        help: "Duration of requests that the application sent, as it saw them, but for gRPC's",
        values: Values::Durations,
        labels: |direction, kind| http(kind).filter(|_| direction == Direction::Outbound),
    },
    Family {
        name: "http_server_request_duration",
        help: "Duration of requests that the application received, but for gRPC's",
        values: Values::Durations,
        labels: |direction, kind| {
            let mut labels = http(kind).filter(|_| direction == Direction::Inbound)?;
            labels.push(("url_scheme", "http".to_owned()));
            Some(labels)
        },
    },
    Family {
        name: "rpc_client_call_duration",
        help: "Duration of gRPC calls that the application made, as it saw them",
        values: Values::Durations,
        labels: |direction, kind| rpc(kind).filter(|_| direction == Direction::Outbound),
    },
    Family {
        name: "rpc_server_call_duration",
        help: "Duration of gRPC calls that the application received",
        values: Values::Durations,
        labels: |direction, kind| rpc(kind).filter(|_| direction == Direction::Inbound),
    },
    Family {
        name: "tulle_tcp_connections",
        help: "Opaque connections that were opened, and that were closed",
        values: Values::Times,
        labels: |_, kind| match kind {
            Kind::Flow => Some(vec![state("opened")]),
            Kind::Closed { error } => Some([vec![state("closed")], error_type(error)].concat()),
            _ => None,
        },
    },
    Family {
        name: "tulle_tcp_io",
        help: "Bytes that clients of opaque connections sent (`received`) and were sent (`sent`), counted when a connection ends",
        values: Values::Bytes,
        labels: |_, kind| (*kind == Kind::Flow).then(Vec::new),
    },
    Family {
        name: "tulle_tcp_connection_duration",
        help: "Duration of opaque connections",
        values: Values::Durations,
        labels: |_, kind| match kind {
            Kind::Closed { error } => Some(error_type(error)),
            _ => None,
        },
    },
    Family {
        name: "tulle_denials",
        help: "Requests and opaque connections that policy forbade (`enforce`), or would have (`audit`)",
        values: Values::Times,
        labels: |_, kind| match kind {
            Kind::Denied { policy, reason, mode } => Some(vec![
                ("tulle_policy", policy.to_string()),
                ("tulle_reason", (*reason).to_owned()),
                ("tulle_mode", (*mode).to_owned()),
            ]),
            _ => None,
        },
    },
];

impl Family {
    fn encode(&self, shown: &[Shown], to: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (unit, kind) = match self.values {
            Values::Durations => (Some(Unit::Seconds), MetricType::Histogram),
            Values::Times => (None, MetricType::Counter),
            Values::Bytes => (Some(Unit::Bytes), MetricType::Counter),
        };
        let mut family = to.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        for series in shown {
            let direction = series.edge.edge().direction;
            if let Some(own) = (self.labels)(direction, &series.kind) {
                let labels = [series.edge.labels(), own].concat();
                self.values.encode(series, labels, &mut family)?;
            }
        }
        Ok(())
    }
}

impl Values {
    fn encode(
        &self,
        Shown { kind, cells, .. }: &Shown,
        mut labels: Labels,
        family: &mut MetricEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        match self {
            Self::Durations => {
                // The last bucket has no end.
                let bounds = kind.bounds().iter().copied().chain([f64::INFINITY]);
                let buckets: [(f64, u64); BOUNDS + 1] = {
                    let mut pairs = bounds.zip(cells.took);
                    std::array::from_fn(|_| pairs.next().unwrap_or_default())
                };
                let seconds = Duration::from_nanos(cells.nanoseconds).as_secs_f64();
                family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    seconds,
                    cells.times(),
                    &buckets,
                    None,
                )
            }
            Self::Times => ConstCounter::new(cells.times()).encode(family.encode_family(&labels)?),
            Self::Bytes => {
                for (direction, bytes) in [("received", cells.received), ("sent", cells.sent)] {
                    labels.push(("tulle_io_direction", direction.to_owned()));
                    ConstCounter::new(bytes).encode(family.encode_family(&labels)?)?;
                    labels.pop();
                }
                Ok(())
            }
        }
    }
}

fn http(kind: &Kind) -> Option<Labels> {
    let Kind::Http { method, status, error } = *kind else { return None };
    let code = match status {
        Status::None => String::new(),
        Status::Exact(status) => status.to_string(),
        Status::Class(digit) => format!("{digit}xx"),
    };
    let error = match status {
        _ if !error.is_empty() => error_type(error),
        Status::Exact(500..) | Status::Class(5..) => error_type(&code),
        _ => Labels::new(),
    };
    let mut labels = vec![("http_request_method", method.to_owned())];
    if !code.is_empty() {
        labels.push(("http_response_status_code", code));
    }
    Some([labels, error].concat())
}

fn rpc(kind: &Kind) -> Option<Labels> {
    let Kind::Rpc { status, error } = *kind else { return None };
    let error = match error {
        "" if grpc::is_server_error(status) => status,
        error => error,
    };
    let labels =
        vec![("rpc_system_name", "grpc".to_owned()), ("rpc_status_code", status.to_owned())];
    Some([labels, error_type(error)].concat())
}

fn error_type(error: &str) -> Labels {
    if error.is_empty() { Vec::new() } else { vec![("error_type", error.to_owned())] }
}

fn state(state: &str) -> (&'static str, String) {
    ("tulle_connection_state", state.to_owned())
}
