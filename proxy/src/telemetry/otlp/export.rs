//! Takes what there is to tell, encodes it once, and hands it to each destination's lane.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tokio::{
    task::yield_now,
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};
use tulle_xds::model::{Otlp, Telemetry};

use super::{SCHEMA, Signal, lane::Lane, line, queue::Batch, resource, scope, series, span};
use crate::{
    mesh::Store,
    telemetry::{Metrics, closed::Closed, outbox::BATCH},
};

/// So many records are made messages of without a pause: some hundreds of microseconds.
const SLICE: usize = 32;

/// When what there is is sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a span or a line waits for others, unless there are many.
    pub gather: Duration,
    /// The time between two reports of series.
    pub series: Duration,
    /// How long the last of all may take at the end of the process.
    pub last: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { gather: seconds(1), series: seconds(60), last: seconds(3) }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Export {
    store: Store,
    metrics: Metrics,
    pace: Pace,
    lanes: HashMap<(Signal, Otlp), Lane>,
}

impl Export {
    /// To whoever the store's workload names, from time to time.
    pub fn new(store: Store, metrics: Metrics, pace: Pace) -> Self {
        Self { store, metrics, pace, lanes: HashMap::new() }
    }

    /// Sends until `ended` resolves, and then what is left.
    pub async fn run(mut self, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        let mut told = self.store.watch();
        let outboxes = self.metrics.outboxes().clone();
        let mut report = self.reports();
        self.follow();
        loop {
            tokio::select! {
                biased;
                () = &mut ended => break,
                // Its writer ends with the process.
                Ok(()) = told.changed() => {
                    self.follow();
                    if report.period() != self.every() {
                        report = self.reports();
                    }
                }
                // Before the records, which under load are always there.
                _at = report.tick(), if self.wants(Signal::Metrics) => self.series(),
                () = outboxes.some() => {
                    tokio::select! {
                        () = sleep(self.pace.gather) => {}
                        () = outboxes.much() => {}
                        () = &mut ended => break,
                    }
                    self.records().await;
                }
            }
        }
        self.records().await;
        self.series();
        let emptied = join_all(self.lanes.values().map(Lane::emptied));
        if timeout(self.pace.last, emptied).await.is_err() {
            tracing::warn!(within = ?self.pace.last, "a destination did not take the last telemetry");
        }
    }

    /// Begins to send to those who are new, and ends with those who are gone.
    fn follow(&mut self) {
        let workload = self.store.current().workload.clone();
        let wanted = workload.as_deref().map(|w| destinations(&w.telemetry)).unwrap_or_default();
        self.lanes.retain(|lane, _| wanted.contains(lane));
        for (signal, to) in wanted {
            let counts = Arc::clone(self.metrics.sent(signal));
            self.lanes.entry((signal, to.clone())).or_insert_with(|| Lane::new(signal, to, counts));
        }
    }

    /// When metrics are sent.
    fn reports(&self) -> Interval {
        let mut reports = interval(self.every());
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reports
    }

    /// How often that is.
    fn every(&self) -> Duration {
        let workload = self.store.current().workload.clone();
        let said = workload.map_or(0, |workload| workload.telemetry.metrics.interval_ms);
        if said == 0 { self.pace.series } else { Duration::from_millis(said.into()) }
    }

    fn wants(&self, signal: Signal) -> bool {
        self.lanes.keys().any(|(wanted, _)| *wanted == signal)
    }

    /// Sends what has ended, in turns with what else this thread does: it answers DNS, too.
    async fn records(&self) {
        let all = self.metrics.outboxes().take();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (some, more) = rest.split_at(batch(rest));
            let (mut spans, mut lines) = (Vec::new(), Vec::new());
            for few in some.chunks(SLICE) {
                spans.extend(few.iter().flat_map(span::of));
                lines.extend(few.iter().filter_map(line::of));
                yield_now().await;
            }
            self.spans(spans);
            yield_now().await;
            self.lines(lines);
            yield_now().await;
            rest = more;
        }
    }

    fn spans(&self, spans: Vec<Span>) {
        self.put(Signal::Spans, spans.len(), || ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans,
                    schema_url: SCHEMA.to_owned(),
                }],
                schema_url: SCHEMA.to_owned(),
            }],
        });
    }

    fn lines(&self, log_records: Vec<LogRecord>) {
        self.put(Signal::Logs, log_records.len(), || ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope()),
                    log_records,
                    schema_url: SCHEMA.to_owned(),
                }],
                schema_url: SCHEMA.to_owned(),
            }],
        });
    }

    /// Sends how series stand.
    fn series(&self) {
        if !self.wants(Signal::Metrics) {
            return;
        }
        let (points, metrics) = series::of(self.metrics.edges(), SystemTime::now());
        self.put(Signal::Metrics, points, || ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics,
                    schema_url: SCHEMA.to_owned(),
                }],
                schema_url: SCHEMA.to_owned(),
            }],
        });
    }

    fn resource(&self) -> Resource {
        resource::of(self.store.current().workload.as_deref())
    }

    fn put<M: Message>(&self, signal: Signal, items: usize, message: impl FnOnce() -> M) {
        if items == 0 || !self.wants(signal) {
            return;
        }
        let batch = Batch { items, bytes: message().encode_to_vec().into() };
        for ((_, _), lane) in self.lanes.iter().filter(|((wanted, _), _)| *wanted == signal) {
            lane.put(batch.clone());
        }
    }
}

/// How many of them go together: one at least, and of all others no more than a batch of spans.
fn batch(closed: &[Closed]) -> usize {
    let spans = closed.iter().scan(0, |sum, closed| {
        *sum += closed.span_count().max(1);
        Some(*sum)
    });
    spans.take_while(|spans| *spans <= BATCH).count().max(1)
}

/// Who gets what.
fn destinations(telemetry: &Telemetry) -> Vec<(Signal, Otlp)> {
    let Telemetry { traces, logs, metrics } = telemetry;
    let series = if metrics.off { &[][..] } else { &metrics.destinations };
    let all = [
        (Signal::Spans, &traces.destinations[..]),
        (Signal::Logs, &logs.destinations),
        (Signal::Metrics, series),
    ];
    all.into_iter().flat_map(|(signal, to)| to.iter().map(move |to| (signal, to.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::time::Instant;
    use tulle_runtime::metrics::Registry;

    use super::*;
    use crate::telemetry::{Direction, closed::Extras};

    /// One with a line.
    fn closed() -> Closed {
        let (now, nowhere) = (Instant::now(), ([127, 0, 0, 1], 80).into());
        Closed {
            direction: Direction::Inbound,
            line: Some(true),
            spans: None,
            position: None,
            begun: now,
            ended: now,
            time: SystemTime::now(),
            protocol: None,
            method: None,
            verb: "",
            host: String::new(),
            path: String::new(),
            copy: false,
            status: None,
            grpc: None,
            error: false,
            reason: None,
            detail: "".into(),
            policy: None,
            audited: None,
            received: 0,
            sent: 0,
            peer: (String::new(), String::new()),
            caller: None,
            endpoint: None,
            server: None,
            route: None,
            attempts: 0,
            client: nowhere,
            destination: nowhere,
            attributes: Extras::new(),
            fields: Extras::new(),
        }
    }

    #[test]
    fn a_large_batch_is_encoded_in_turns_with_what_else_its_thread_does() {
        let (store, _publisher, _questions) = Store::new();
        let metrics = Metrics::new(&Registry::default());
        let outbox = metrics.outboxes().outbox();
        (0..10 * SLICE).for_each(|_| outbox.put(closed()));
        let export = Export::new(store, metrics, Pace::default());
        let mut records = std::pin::pin!(export.records());
        let mut cx = Context::from_waker(Waker::noop());
        let turns = (0..).take_while(|_| records.as_mut().poll(&mut cx).is_pending()).count();
        assert!(turns >= 10, "{turns}");
    }
}
