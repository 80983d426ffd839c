//! How often a sidecar reports, and what, as a control plane hears it. Time stands still but for what somebody waits for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use http::Request;
use hyper_util::rt::TokioIo;
use tokio::{
    io::duplex,
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tonic::{
    Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};
use tulle_proto::telemetry::v1::{
    ReportRequest, ReportResponse,
    telemetry_service_server::{TelemetryService, TelemetryServiceServer},
};
use tulle_xds::model::{Protocol, Released};

use super::{
    ends::{Does, full, http1, plays},
    harness::{Pair, Told},
};

/// A control plane that wants reports once a minute.
#[derive(Debug, Clone)]
struct Hears {
    reports: mpsc::Sender<(Instant, ReportRequest)>,
    taken: Arc<AtomicU64>,
    /// It breaks off instead of answering so many reports.
    breaks: Arc<AtomicU64>,
}

impl Hears {
    fn answer(&self) -> ReportResponse {
        let taken = self.taken.load(Ordering::Relaxed);
        ReportResponse { taken, interval_ms: 60_000, question: None }
    }

    fn hear(&self, report: ReportRequest) -> Result<ReportResponse, Status> {
        let number = report.number;
        self.reports.try_send((Instant::now(), report)).unwrap();
        let less =
            self.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if less.is_ok() {
            return Err(Status::unavailable("broken"));
        }
        self.taken.store(number, Ordering::Relaxed);
        Ok(self.answer())
    }
}

#[tonic::async_trait]
impl TelemetryService for Hears {
    type ReportStream = BoxStream<'static, Result<ReportResponse, Status>>;

    async fn report(
        &self,
        request: tonic::Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (this, first) = (self.clone(), Ok(self.answer()));
        let answers = request.into_inner().map(move |report| this.hear(report?));
        Ok(Response::new(stream::iter([first]).chain(answers).boxed()))
    }
}

/// A connection to it that is no socket: as long as something is on its way no time passes.
async fn connect(hears: Hears) -> Channel {
    let (client, server) = duplex(1 << 16);
    let incoming = stream::iter([Ok::<_, std::io::Error>(server)]).chain(stream::pending());
    let service = Server::builder().add_service(TelemetryServiceServer::new(hears));
    tokio::spawn(service.serve_with_incoming(incoming));
    let mut client = Some(client);
    let connector = tower::service_fn(move |_uri| {
        let client = client.take().ok_or_else(|| std::io::Error::other("once"));
        async move { client.map(TokioIo::new) }
    });
    Endpoint::from_static("http://control-plane").connect_with_connector(connector).await.unwrap()
}

/// Reports of the client's sidecar, whose application has sent one request.
struct Reports {
    heard: mpsc::Receiver<(Instant, ReportRequest)>,
    last: Instant,
    _open: (watch::Sender<Option<Channel>>, watch::Sender<()>),
}

impl Reports {
    async fn of(pair: &mut Pair, breaks: u64) -> Self {
        let request = Request::get("/").header("host", "cart").body(full("")).unwrap();
        http1(pair.outbound).await.send_request(request).await.unwrap();
        pair.client.record().await;
        time::pause();
        let (reports, heard) = mpsc::channel(16);
        let (taken, breaks) = (Arc::default(), Arc::new(breaks.into()));
        let channel = connect(Hears { reports, taken, breaks }).await;
        let (connections, connection) = watch::channel(Some(channel));
        let (end, ends) = watch::channel(());
        let shared = &pair.client.shared;
        let reporter = shared.metrics.reporter(shared.certs.clone(), shared.store.clone());
        tokio::spawn(reporter.run(connection, ends));
        Self { heard, last: Instant::now(), _open: (connections, end) }
    }

    /// The next one, and how many milliseconds after the last one it came.
    async fn next(&mut self) -> (u128, ReportRequest) {
        let (at, report) = self.heard.recv().await.unwrap();
        let after = at - std::mem::replace(&mut self.last, at);
        (after.as_millis(), report)
    }
}

async fn pair(released: Released) -> Pair {
    let (application, _) = plays(|_, _| Does::Answer(200)).await;
    Pair::new(&[application], Told { protocol: Protocol::Http, released, ..Told::default() }).await
}

#[tokio::test]
async fn what_is_released_is_told_of_each_second_also_if_nothing_happens() {
    let mut pair = pair(Released::No).await;
    let mut reports = Reports::of(&mut pair, 0).await;
    let (_, first) = reports.next().await;
    assert_eq!((first.edges.len(), first.attempts.len()), (1, 0));
    let (after, _) = reports.next().await;
    assert!(after.abs_diff(60_000) < 10, "{after}");
    // Not only at the end of the minute.
    pair.client.told_otherwise(|workload| workload.counted = true);
    for _ in 0..3 {
        let (after, report) = reports.next().await;
        assert!(after.abs_diff(1000) < 10, "{after}");
        assert_eq!((report.edges.len(), report.attempts.len()), (0, 0));
    }
    pair.client.told_otherwise(|workload| workload.counted = false);
    let (after, _) = reports.next().await;
    assert!(after <= 1010, "it was due: {after}");
    let (after, _) = reports.next().await;
    assert!(after.abs_diff(60_000) < 10, "{after}");
}

#[tokio::test]
async fn attempts_of_a_report_without_an_answer_are_told_again_under_its_number() {
    let mut pair = pair(Released::Counted).await;
    let mut reports = Reports::of(&mut pair, 2).await;
    let (_, first) = reports.next().await;
    assert_eq!((first.number, first.attempts.len(), first.attempts[0].all), (1, 1, 1));
    for _ in 0..2 {
        assert_eq!(reports.next().await.1, first);
    }
    let (_, next) = reports.next().await;
    assert_eq!((next.number, next.attempts.len()), (2, 0));
}
