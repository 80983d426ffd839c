//! A receiver of OTLP in this process, over HTTP, that does as it is told: for what a real one would not do on demand.

use std::{collections::HashMap, fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest,
        metrics::v1::ExportMetricsServiceRequest,
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        },
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{Exemplar, ExponentialHistogramDataPoint, Metric, metric::Data},
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::sleep};
use tulle_xds::model::{Logs, Metrics, Otlp, OtlpProtocol, Telemetry, Traces};

use super::harness::Sidecar;
use crate::telemetry::{Export, Pace};

/// What it does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Takes,
    /// All but so many.
    TakesAllBut(i64),
    Says(u16),
    /// Never answers.
    Hangs,
}

#[derive(Debug, Default)]
struct Got {
    spans: Vec<(String, Span)>,
    lines: Vec<LogRecord>,
    metrics: Vec<Metric>,
    requests: usize,
    scopes: Vec<String>,
}

/// See the [module](self).
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    got: Arc<Mutex<Got>>,
    pub(super) does: Arc<Mutex<Does>>,
}

/// How a series of durations stands.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) attributes: HashMap<String, String>,
    pub(super) count: u64,
    pub(super) exemplars: Vec<Exemplar>,
}

/// What holds while telemetry leaves a sidecar.
pub(super) type Exports = (oneshot::Sender<()>, JoinHandle<()>);

/// What of spans tests look at.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The service that made it.
    pub(super) service: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) kind: i32,
    pub(super) attributes: HashMap<String, String>,
    pub(super) span: Span,
}

impl Collector {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (got, does) = (Arc::<Mutex<Got>>::default(), Arc::new(Mutex::new(Does::Takes)));
        let (noted, script) = (Arc::clone(&got), Arc::clone(&does));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (got, does) = (Arc::clone(&noted), Arc::clone(&script));
                let service = service_fn(move |request| {
                    let does = *does.lock();
                    answer(Arc::clone(&got), does, request)
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, got, does }
    }

    /// It as a destination.
    pub(super) fn otlp(&self) -> Otlp {
        Otlp {
            endpoint: format!("http://{}/base", self.address),
            protocol: OtlpProtocol::Http,
            headers: [("x-key".to_owned(), "secret".to_owned())].into(),
        }
    }

    /// All signals to it, with so many traces in a million.
    pub(super) fn telemetry(&self, ppm: u32) -> Telemetry {
        all_to(self.otlp(), ppm)
    }

    pub(super) fn requests(&self) -> usize {
        self.got.lock().requests
    }

    pub(super) fn scopes(&self) -> Vec<String> {
        self.got.lock().scopes.clone()
    }

    /// The newest point of each series of this metric.
    pub(super) fn points(&self, name: &str) -> Vec<Point> {
        let got = self.got.lock();
        let Some(metric) = got.metrics.iter().rfind(|metric| metric.name == name) else {
            return Vec::new();
        };
        match metric.data.clone().unwrap() {
            Data::ExponentialHistogram(histogram) => {
                let of = |point: ExponentialHistogramDataPoint| {
                    assert_eq!(point.scale, 3);
                    assert!(point.start_time_unix_nano <= point.time_unix_nano);
                    let buckets = point.positive.unwrap().bucket_counts;
                    assert_eq!(buckets.iter().sum::<u64>() + point.zero_count, point.count);
                    let attributes = texts(&point.attributes);
                    Point { attributes, count: point.count, exemplars: point.exemplars }
                };
                histogram.data_points.into_iter().map(of).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the newest point with this attribute has counted so many.
    pub(super) async fn has_point(&self, metric: &str, (key, value): (&str, &str), count: u64) {
        let has = |point: &Point| {
            let is_it = point.attributes.get(key).is_some_and(|found| found == value);
            is_it && point.count == count
        };
        for _ in 0..2000 {
            if self.points(metric).iter().any(has) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("no {metric} where {key} is {value} has {count}");
    }

    /// All spans, once there are so many.
    pub(super) async fn spans(&self, count: usize) -> Vec<Seen> {
        let spans = self.all(count, |got| &got.spans).await;
        spans.into_iter().map(seen).collect()
    }

    /// All log records, once there are so many.
    pub(super) async fn lines(&self, count: usize) -> Vec<LogRecord> {
        self.all(count, |got| &got.lines).await
    }

    async fn all<T: Clone + Debug>(&self, count: usize, of: fn(&Got) -> &Vec<T>) -> Vec<T> {
        for _ in 0..2000 {
            let came = of(&self.got.lock()).clone();
            if came.len() >= count {
                assert_eq!(came.len(), count, "{came:#?}");
                return came;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let came = of(&self.got.lock()).clone();
        panic!("{} in place of {count}: {came:#?}", came.len());
    }
}

/// All signals to this destination.
pub(super) fn all_to(to: Otlp, ppm: u32) -> Telemetry {
    let destinations = vec![to];
    Telemetry {
        traces: Traces {
            sampling_ppm: ppm,
            destinations: destinations.clone(),
            ..Traces::default()
        },
        logs: Logs { destinations: destinations.clone(), ..Logs::default() },
        metrics: Metrics { destinations, ..Metrics::default() },
    }
}

fn seen((service, span): (String, Span)) -> Seen {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Seen {
        service,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind,
        attributes: texts(&span.attributes),
        span,
    }
}

pub(super) fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |attribute: &KeyValue| {
        let text = match attribute.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(yes) => yes.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(text).collect()
}

async fn answer(
    got: Arc<Mutex<Got>>,
    does: Does,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    assert_eq!(head.headers["x-key"], "secret");
    got.lock().requests += 1;
    let mut response = Response::new(Full::default());
    let rejected = match does {
        Does::Takes => 0,
        Does::TakesAllBut(rejected) => rejected,
        Does::Says(status) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(response);
        }
        Does::Hangs => std::future::pending().await,
    };
    note(&mut got.lock(), head.uri.path(), body);
    if rejected > 0 {
        let partial =
            ExportTracePartialSuccess { rejected_spans: rejected, error_message: "too old".into() };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
        *response.body_mut() = Full::new(answer.encode_to_vec().into());
    }
    Ok(response)
}

fn note(got: &mut Got, path: &str, body: Bytes) {
    match path {
        "/base/v1/traces" => {
            for of in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let service = texts(&of.resource.unwrap().attributes)["service.name"].clone();
                for scope in of.scope_spans {
                    got.scopes.push(scope.scope.unwrap().name);
                    got.spans.extend(scope.spans.into_iter().map(|span| (service.clone(), span)));
                }
            }
        }
        "/base/v1/logs" => {
            for of in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
                got.lines.extend(of.scope_logs.into_iter().flat_map(|scope| scope.log_records));
            }
        }
        "/base/v1/metrics" => {
            for of in ExportMetricsServiceRequest::decode(body).unwrap().resource_metrics {
                got.metrics.extend(of.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
            }
        }
        other => panic!("{other}"),
    }
}

/// How this sidecar's telemetry leaves it; dropping the sender has it send the last.
pub(super) fn exports(of: &Sidecar) -> Exports {
    let pace = Pace {
        gather: Duration::from_millis(5),
        series: Duration::from_millis(20),
        last: Duration::from_secs(2),
    };
    exports_at(of, pace)
}

/// So, at another pace.
pub(super) fn exports_at(of: &Sidecar, pace: Pace) -> Exports {
    let (end, ended) = oneshot::channel();
    let export = Export::new(of.shared.store.clone(), of.shared.metrics.clone(), pace);
    let ended = async move { drop(ended.await) };
    (end, tokio::spawn(Box::pin(export.run(ended))))
}
