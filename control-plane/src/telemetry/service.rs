//! The side that takes reports.

use std::time::Duration;

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Request, Response, Status, Streaming};
use tulle_proto::telemetry::v1::{
    ReportRequest, ReportResponse,
    telemetry_service_server::{TelemetryService, TelemetryServiceServer},
};
use tulle_runtime::drain::Drain;

use super::{
    Hub, Workload,
    tap::{Line, Unasked},
};
use crate::{authorize::Pods, roster::Left, world::objects::Name};

/// Largest report, in bytes: a proxy's 500 series are a tenth of that.
const LARGEST: usize = 1 << 20;
/// A proxy that says more often that something has happened waits: none of ours does.
const SOONEST: Duration = Duration::from_millis(500);

/// The gRPC service, until the drain starts.
pub fn service(hub: Hub, pods: Pods, drain: Drain) -> TelemetryServiceServer<Telemetry> {
    TelemetryServiceServer::new(Telemetry { hub, pods, drain }).max_decoding_message_size(LARGEST)
}

/// Takes reports. Clones share.
#[derive(Debug, Clone)]
pub struct Telemetry {
    hub: Hub,
    pods: Pods,
    drain: Drain,
}

#[tonic::async_trait]
impl TelemetryService for Telemetry {
    type ReportStream = BoxStream<'static, Result<ReportResponse, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (Whose { pod, workload, revision }, left) = self.pods.reporter(request.extensions())?;
        let conversation = Conversation {
            line: self.hub.0.lines.open(&pod),
            hub: self.hub.clone(),
            pod,
            workload,
            revision,
            said: request.into_inner(),
            looks: self.hub.0.looks.subscribe(),
            taken: 0,
            heard: None,
            last: None,
        };
        let answers = stream::unfold(conversation, |mut conversation| async move {
            let answer = conversation.next().await.transpose()?;
            Some((answer, conversation))
        });
        let drain = self.drain.clone();
        let over = async move {
            tokio::select! {
                _left = left => {}
                () = drain.started() => {}
            }
        };
        Ok(Response::new(answers.take_until(over).boxed()))
    }
}

/// One stream.
struct Conversation {
    hub: Hub,
    pod: Name,
    workload: Workload,
    /// The template that it is of.
    revision: String,
    said: Streaming<ReportRequest>,
    looks: watch::Receiver<u64>,
    /// By which people ask what its proxy remembers.
    line: Line,
    taken: u64,
    /// When the store took the last report.
    heard: Option<Duration>,
    /// When the last report came, and how often they come since it was answered.
    last: Option<(Instant, Duration)>,
}

impl Conversation {
    /// The next answer: the first at once, then one for each report, or when reports shall come more often, or somebody asks
    /// something.
    async fn next(&mut self) -> Result<Option<ReportResponse>, Status> {
        let Some((last, told)) = self.last else {
            return Ok(Some(self.answer(Instant::now() - SOONEST)));
        };
        loop {
            tokio::select! {
                looked = self.looks.changed() => {
                    looked.map_err(|_ended| Status::unavailable("the store has ended"))?;
                    if self.hub.interval(&self.workload) < told {
                        return Ok(Some(self.answer(last)));
                    }
                }
                question = self.line.question() => {
                    // The newest stream of a pod counts: two of them would each tell what it does.
                    let Some(question) = question else {
                        return Err(Status::aborted("another stream of this pod is newer"));
                    };
                    return Ok(Some(ReportResponse { question: Some(question), ..self.answer(last) }));
                }
                report = self.said.message() => {
                    let Some(mut report) = report? else { return Ok(None) };
                    if let Some(records) = report.records.take() {
                        let unasked = |no: Unasked| Status::invalid_argument(no.to_string());
                        self.line.heard(records).map_err(unasked)?;
                        continue;
                    }
                    sleep_until(last + SOONEST).await;
                    let of = (&self.workload, self.revision.as_str());
                    let (taken, heard) = self.hub.take(&self.pod, of, &report);
                    (self.taken, self.heard) = (taken, Some(heard));
                    return Ok(Some(self.answer(Instant::now())));
                }
            }
        }
    }

    fn answer(&mut self, last: Instant) -> ReportResponse {
        let interval = self.hub.interval(&self.workload);
        self.last = Some((last, interval));
        let interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        ReportResponse { taken: self.taken, interval_ms, question: None }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(last) = self.heard {
            self.hub.left(&self.pod, last);
        }
    }
}

/// Who reports.
struct Whose {
    pod: Name,
    workload: Workload,
    /// The template that the pod is of.
    revision: String,
}

impl Pods {
    /// Who reports; and what resolves when it may not any more.
    fn reporter(
        &self,
        extensions: &tonic::Extensions,
    ) -> Result<(Whose, impl Future<Output = Left> + Send + use<>), Status> {
        let (pod, _identity, _here) = self.pod(extensions)?;
        let gone = || Status::permission_denied(format!("pod {pod} does not exist any more"));
        let member = self.roster.get(&pod).ok_or_else(gone)?;
        let workload = member.workload(&pod.namespace);
        let left = self.roster.clone().left(pod.clone(), member.uid, member.here);
        Ok((Whose { pod, workload, revision: member.revision }, left))
    }
}
