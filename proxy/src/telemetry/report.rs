//! What was counted since the last time, for the control plane's store, on the connection that configuration comes by. Questions
//! about what ended lately come and are answered on the way.
//!
//! **Invariant.** What was counted reaches the store once, or is kept for a minute: a report without an answer is sent again
//! under its number. (A control plane that took it, lost the connection before its answer, and is not the one that the proxy comes to
//! next, has it a second time.)

mod message;

use std::{collections::VecDeque, time::Duration};

use futures_util::stream;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Status, Streaming, transport::Channel};
use tulle_proto::telemetry::v1::{
    Attempts, LaneRequests, Question, ReportRequest, ReportResponse,
    telemetry_service_client::TelemetryServiceClient,
};

use super::{edges::Edges, series::Tally, tap::Tap};
use crate::{
    mesh::Store,
    tls::{Certs, control_plane::Connection},
};

/// Between a stream that ended and the next one on the same connection: a control plane of an older version serves no reports.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the answer to the last report on a connection may take.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// What nobody took for so long is not reported any more: it would count as what happens now. That time is missing.
const LATE: Duration = Duration::from_secs(60);
/// Until the control plane says how often it wants reports.
const INTERVAL: Duration = Duration::from_secs(10);
/// Of what is being released.
const RELEASED: Duration = Duration::from_secs(1);
/// How long an answer to a question may take until it is on its way.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that wait for their answers; more at once are not answered.
const MOST_QUESTIONS: usize = 16;

/// Reports what the data path counts.
#[derive(Debug)]
pub struct Reporter {
    edges: Edges,
    /// This process.
    process: u64,
    /// The last report.
    number: u64,
    /// It, as long as nobody has said that it is in the store.
    unanswered: Option<Counted>,
    /// When it was made; before the first one, when the process began.
    made: Instant,
    interval: Duration,
    tap: Tap,
    certs: Certs,
    /// Not answered yet.
    questions: VecDeque<Question>,
    store: Store,
}

/// What was counted in some time.
#[derive(Debug)]
struct Counted {
    edges: Tally,
    attempts: Vec<Attempts>,
    lanes: Vec<LaneRequests>,
}

impl Counted {
    /// It is too late to tell of it.
    fn clear(&mut self) {
        self.edges.take();
        self.attempts.clear();
        self.lanes.clear();
    }
}

/// Why a conversation ended.
enum Over {
    /// There is a newer connection, or none.
    Moved,
    /// The process ends, and has said all.
    Ended,
    /// The stream broke.
    Broken(Status),
}

impl Reporter {
    pub(super) fn new(edges: Edges, tap: Tap, certs: Certs, store: Store) -> Self {
        let process = rand::random();
        let made = Instant::now();
        Self {
            edges,
            process,
            number: 0,
            unanswered: None,
            made,
            interval: INTERVAL,
            tap,
            certs,
            questions: VecDeque::new(),
            store,
        }
    }

    /// Reports on whatever connection there is, until `end`; then a last time.
    pub async fn run(mut self, mut connections: Connection, mut end: watch::Receiver<()>) {
        loop {
            let connection = connections.borrow_and_update().clone();
            let Some(channel) = connection else {
                tokio::select! {
                    changed = connections.changed() => if changed.is_err() { return },
                    _ended = end.changed() => return,
                }
                continue;
            };
            let status = match self.converse(channel, (&mut connections, &mut end)).await {
                Over::Moved => continue,
                Over::Ended => return,
                Over::Broken(status) => status,
            };
            tracing::debug!(%status, "the control plane does not take reports");
            tokio::select! {
                () = sleep(PAUSE) => {}
                changed = connections.changed() => if changed.is_err() { return },
                _ended = end.changed() => return,
            }
        }
    }

    /// Reports on this connection until something else has to be done.
    async fn converse(
        &mut self,
        channel: Channel,
        (connections, end): (&mut Connection, &mut watch::Receiver<()>),
    ) -> Over {
        let (reports, mut sent) = mpsc::channel(1);
        let sent = stream::poll_fn(move |cx| sent.poll_recv(cx));
        let mut client = TelemetryServiceClient::new(channel);
        // Whoever asked on another connection does not listen any more.
        self.questions.clear();
        let mut answers = tokio::select! {
            answers = client.report(sent) => match answers {
                Ok(answers) => answers.into_inner(),
                Err(status) => return Over::Broken(status),
            },
            _changed = connections.changed() => return Over::Moved,
            _ended = end.changed() => return Over::Ended,
        };
        // What was said on a connection before may be in the store, or not: said again under its number it is not counted again.
        let first = tokio::select! {
            first = self.answer(&mut answers) => first,
            _changed = connections.changed() => return Over::Moved,
            _ended = end.changed() => return Over::Ended,
        };
        if let Err(status) = first {
            return Over::Broken(status);
        }
        let mut news = self.store.watch();
        let mut said = false;
        let mut due = Instant::now();
        loop {
            if !said && let Err(status) = self.say(&reports).await {
                return Over::Broken(status);
            }
            said = true;
            if let Err(status) = self.tell(&reports).await {
                return Over::Broken(status);
            }
            let idle = self.unanswered.is_none();
            tokio::select! {
                biased;
                answer = self.answer(&mut answers) => {
                    if let Err(status) = answer {
                        return Over::Broken(status);
                    }
                    due = due.min(Instant::now() + self.interval());
                }
                // What is released now is told of sooner.
                changed = news.changed() => {
                    if changed.is_ok() {
                        due = due.min(Instant::now() + self.interval());
                    }
                }
                _ended = end.changed() => {
                    let _late = timeout(LAST_ANSWER, self.last(&reports, &mut answers)).await;
                    return Over::Ended;
                }
                _changed = connections.changed() => {
                    if self.unanswered.is_some() {
                        let _late = timeout(LAST_ANSWER, self.answer(&mut answers)).await;
                    }
                    return Over::Moved;
                }
                () = sleep_until(due), if idle => {
                    due = Instant::now() + self.interval();
                    self.next();
                    said = false;
                }
            }
        }
    }

    /// What is on its way arrives, and so does what was counted since.
    async fn last(
        &mut self,
        reports: &mpsc::Sender<ReportRequest>,
        answers: &mut Streaming<ReportResponse>,
    ) -> Result<(), Status> {
        while self.unanswered.is_some() {
            self.answer(answers).await?;
        }
        self.next();
        self.say(reports).await?;
        self.answer(answers).await
    }

    /// Sends the report that nobody has answered, if there is one.
    async fn say(&mut self, reports: &mpsc::Sender<ReportRequest>) -> Result<(), Status> {
        let Some(counted) = &mut self.unanswered else { return Ok(()) };
        if self.made.elapsed() > LATE {
            counted.clear();
        }
        let (process, number) = (self.process, self.number);
        let edges = message::edges(&counted.edges);
        let (attempts, lanes) = (counted.attempts.clone(), counted.lanes.clone());
        let certificate_ends = self.certs.info().map_or(0, |certificate| certificate.not_after);
        let report = ReportRequest {
            process,
            number,
            edges,
            records: None,
            certificate_ends,
            attempts,
            lanes,
        };
        send(reports, report).await
    }

    /// Answers what was asked.
    async fn tell(&mut self, reports: &mpsc::Sender<ReportRequest>) -> Result<(), Status> {
        while let Some(question) = self.questions.pop_front() {
            let records = Some(self.tap.answer(&question));
            let answer = send(reports, ReportRequest { records, ..ReportRequest::default() });
            // As long as this waits, nothing is heard: where neither end reads, the stream has to go.
            let late = |_| Err(Status::deadline_exceeded("the control plane takes no answers"));
            timeout(PATIENCE, answer).await.unwrap_or_else(late)?;
        }
        Ok(())
    }

    /// Until the next report. Of what is released each second is judged, and silence is no proof of anything: also if nothing
    /// was counted.
    fn interval(&self) -> Duration {
        let released = self.store.current().is_being_released();
        if released { self.interval.min(RELEASED) } else { self.interval }
    }

    /// What was counted by now is the next report.
    fn next(&mut self) {
        self.number += 1;
        let edges = self.edges.unreported();
        let (attempts, lanes) = (self.edges.versions().take(), self.edges.lanes().take());
        let mut counted = Counted { edges, attempts, lanes };
        if self.made.elapsed() > LATE {
            counted.clear();
        }
        (self.made, self.unanswered) = (Instant::now(), Some(counted));
    }

    /// Hears one answer.
    async fn answer(&mut self, answers: &mut Streaming<ReportResponse>) -> Result<(), Status> {
        let ended = || Status::unavailable("the control plane has ended the stream");
        let answer = answers.message().await?.ok_or_else(ended)?;
        if answer.taken >= self.number {
            self.unanswered = None;
        }
        if answer.interval_ms > 0 {
            self.interval = Duration::from_millis(answer.interval_ms.into());
        }
        if self.questions.len() < MOST_QUESTIONS {
            self.questions.extend(answer.question);
        }
        Ok(())
    }
}

async fn send(reports: &mpsc::Sender<ReportRequest>, request: ReportRequest) -> Result<(), Status> {
    let sent = reports.send(request).await;
    sent.map_err(|_closed| Status::unavailable("the connection has ended"))
}
