//! A real collector, which `tests/otlp/run` builds, gets what sidecars tell.
//!
//! The workload's settings are set by the test itself, in place of a control plane.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use http::{Request, request::Parts};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tulle_xds::model::{Otlp, OtlpProtocol, Protocol, Rule, Tag};

use super::{
    collector::{Exports, all_to, exports},
    ends::{Does, full, http1, plays, text},
    harness::{Pair, Told, forward},
    resilience::twice,
    telemetry::values,
};

/// Spans of one request at its client's end: one, and one for each of three attempts.
const SPANS: usize = 4;

struct Collector {
    folder: TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
    process: Child,
}

#[expect(clippy::disallowed_methods, reason = "where tests/otlp/run has built it")]
fn program() -> PathBuf {
    let place = std::env::var("TULLE_OTLP_COLLECTOR");
    place.expect("TULLE_OTLP_COLLECTOR is unset: tests/otlp/run sets it").into()
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Collector {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (grpc, http) = (free(), free());
        let exporter = |signal: &str| {
            let path = folder.path().join(signal);
            format!(
                "  file/{signal}: {{path: {}, append: true, flush_interval: 50ms}}\n",
                path.display()
            )
        };
        let pipeline = |signal: &str| {
            format!("    {signal}: {{receivers: [otlp], exporters: [file/{signal}]}}\n")
        };
        let signals = ["traces", "logs", "metrics"];
        let config = format!(
            "receivers:\n  otlp:\n    protocols: {{grpc: {{endpoint: {grpc}}}, http: {{endpoint: {http}}}}}\n\
             exporters:\n{}service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n{}",
            signals.map(exporter).concat(),
            signals.map(pipeline).concat(),
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let process = Self::start(folder.path());
        let collector = Self { folder, grpc, http, process };
        collector.listens().await;
        collector
    }

    fn start(folder: &Path) -> Child {
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("--config").arg(folder.join("config.yaml"));
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    async fn listens(&self) {
        let begun = Instant::now();
        for address in [self.grpc, self.http] {
            while TcpStream::connect(address).await.is_err() {
                let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
                assert!(begun.elapsed() < Duration::from_secs(20), "it does not listen: {}", log());
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.process = Self::start(self.folder.path());
        self.listens().await;
    }

    fn otlp(&self, protocol: OtlpProtocol) -> Otlp {
        let address = match protocol {
            OtlpProtocol::Grpc => self.grpc,
            OtlpProtocol::Http => self.http,
        };
        Otlp { endpoint: format!("http://{address}"), protocol, headers: [].into() }
    }

    /// Everything of a signal that it has written: each resource, with what its only scope has.
    fn wrote(&self, signal: &str, [all, scopes, items]: [&str; 3]) -> Vec<(Value, Value)> {
        let text = fs::read_to_string(self.folder.path().join(signal)).unwrap_or_default();
        // The last line may not be whole yet.
        let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut found = Vec::new();
        for resource in messages.flat_map(|message| message[all].as_array().unwrap().clone()) {
            let scope = &resource[scopes][0];
            assert_eq!(scope["scope"]["name"], "dev.tulle.proxy", "{resource}");
            assert_eq!(scope["scope"]["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(scope["schemaUrl"], "https://opentelemetry.io/schemas/1.44.0");
            let items = scope[items].as_array().unwrap().iter();
            found.extend(
                items.map(|item| (resource["resource"]["attributes"].clone(), item.clone())),
            );
        }
        found
    }

    fn spans(&self) -> Vec<(Value, Value)> {
        self.wrote("traces", ["resourceSpans", "scopeSpans", "spans"])
    }

    fn lines(&self) -> Vec<(Value, Value)> {
        self.wrote("logs", ["resourceLogs", "scopeLogs", "logRecords"])
    }

    /// How many requests of this service the newest point of this metric says.
    fn counted(&self, service: &str, metric: &str) -> u64 {
        let wrote = self.wrote("metrics", ["resourceMetrics", "scopeMetrics", "metrics"]);
        let is_it = |(resource, item): &&(Value, Value)| {
            item["name"] == metric && attribute(resource, "service.name") == service
        };
        let Some((_, item)) = wrote.iter().rfind(is_it) else { return 0 };
        let histogram = &item["exponentialHistogram"];
        assert_eq!(histogram["aggregationTemporality"], 2, "cumulative");
        let points = histogram["dataPoints"].as_array().unwrap().iter();
        let count = |point: &Value| {
            assert_eq!(
                attribute(&point["attributes"], "shop.method"),
                "GET",
                "by its tag: {point}"
            );
            point["count"].as_str().unwrap().parse::<u64>().unwrap()
        };
        points.map(count).sum()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

fn attribute(of: &Value, key: &str) -> String {
    let mut all = of.as_array().unwrap().iter();
    let found = all.find(|attribute| attribute["key"] == key);
    found
        .map(|found| found["value"]["stringValue"].as_str().unwrap().to_owned())
        .unwrap_or_default()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(40), "not within 40 s: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A pair that tells the collector everything.
async fn pair(to: Otlp) -> (Pair, Vec<Exports>) {
    let script =
        |head: &Parts, _| Does::Answer(if head.uri.path() == "/again" { 503 } else { 200 });
    let (application, _) = plays(script).await;
    let rules = vec![Rule { retry: Some(twice()), ..forward() }];
    let told = Told { rules, protocol: Protocol::Http, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    let mut exporting = Vec::new();
    for (sidecar, name) in [(&pair.client, "a"), (&pair.server, "b")] {
        sidecar.told_otherwise(|workload| {
            workload.owner_kind = "Deployment".to_owned();
            workload.owner_name = name.to_owned();
            *workload.telemetry = all_to(to.clone(), 1_000_000);
            let (name, expression) = ("shop.method".to_owned(), "request.method".to_owned());
            workload.telemetry.metrics.tags = vec![Tag { name, expression, max_values: 1 }];
        });
        exporting.push(exports(sidecar));
    }
    for sidecar in [&mut pair.client, &mut pair.server] {
        sidecar.forget_records();
    }
    (pair, exporting)
}

/// Sends requests, each of which must have this status at once.
async fn ask(pair: &Pair, path: &str, times: usize, status: u16) {
    let mut client = http1(pair.outbound).await;
    for _ in 0..times {
        let begun = Instant::now();
        let request = Request::get(path).header("host", "cart").body(full("")).unwrap();
        client.ready().await.unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status);
        text(answer).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a collector: tests/otlp/run"]
async fn spans_lines_and_series_arrive_by_grpc_and_by_http() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let mut collector = Collector::new().await;
        let (pair, _exporting) = pair(collector.otlp(protocol)).await;
        ask(&pair, "/", 20, 200).await;
        until("spans", || collector.spans().len() == 40).await;
        until("lines", || collector.lines().len() == 40).await;
        until("series", || collector.counted("a", "http.client.request.duration") == 20).await;
        until("series", || collector.counted("b", "http.server.request.duration") == 20).await;
        let traces = |all: &[(Value, Value)]| -> BTreeSet<String> {
            all.iter().map(|(_, item)| item["traceId"].as_str().unwrap().to_owned()).collect()
        };
        let (spans, lines) = (collector.spans(), collector.lines());
        assert_eq!((traces(&spans).len(), traces(&spans)), (20, traces(&lines)));
        for (resource, item) in spans.iter().chain(&lines) {
            let service = attribute(resource, "service.name");
            let named =
                ["service.namespace", "k8s.deployment.name", "service.instance.id", "k8s.pod.name"];
            let named = named.map(|key| attribute(resource, key));
            assert_eq!(named, ["shop", &service, "1", "pod-0"]);
            assert!(matches!(service.as_str(), "a" | "b"), "{item}");
        }
        let roots = spans.iter().filter(|(_, span)| span["parentSpanId"] == "");
        assert_eq!(roots.count(), 20);

        // It is away for a while: nobody waits for it, and nothing is lost.
        collector.kill();
        ask(&pair, "/", 200, 200).await;
        collector.restart().await;
        until("what waited", || collector.spans().len() == 440 && collector.lines().len() == 440)
            .await;
        until("series", || collector.counted("a", "http.client.request.duration") == 220).await;
        for of in [&pair.client, &pair.server] {
            assert_eq!(
                values(of, "tulle_telemetry_dropped_total", &[]),
                [0.0; 3],
                "{}",
                of.metrics()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a collector: tests/otlp/run"]
async fn what_has_no_place_is_counted_and_the_rest_arrives() {
    let mut collector = Collector::new().await;
    let (pair, _exporting) = pair(collector.otlp(OtlpProtocol::Grpc)).await;
    collector.kill();
    let times = 1600;
    ask(&pair, "/again", times, 503).await;
    let of_spans = |what: &str| {
        let all = values(&pair.client, what, &["spans"]);
        all.iter().sum::<f64>()
    };
    until("drops", || of_spans("tulle_telemetry_dropped_total") > 0.0).await;
    collector.restart().await;
    let made = (times * SPANS) as f64;
    let told =
        || of_spans("tulle_telemetry_sent_total") + of_spans("tulle_telemetry_dropped_total");
    until("the rest", || told() >= made).await;
    assert_eq!(told(), made, "each span was sent or dropped");
    let sent = of_spans("tulle_telemetry_sent_total");
    let clients =
        || collector.spans().iter().filter(|(of, _)| attribute(of, "service.name") == "a").count();
    until("files", || clients() as f64 >= sent).await;
    assert!(
        clients() as f64 <= sent + 512.0,
        "at most one batch twice: its answer may have been lost"
    );
    assert!(sent >= 2048.0, "{sent}");
}
