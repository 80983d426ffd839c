//! The side that is told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{StreamExt as _, future, stream::BoxStream};
use prost::Message as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};
use tulle_proto::replica::v1::{
    Heard, LanesRequest, LanesResponse, ObserveRequest, ObserveResponse, SteerRequest,
    SteerResponse, SurveyRequest, SurveyResponse, TapRequest, TapResponse, TellRequest,
    TellResponse, VersionsRequest, VersionsResponse,
    replica_service_server::{ReplicaService, ReplicaServiceServer},
};

use super::{Others, Replica, wire};
use crate::{
    authorize::Pods,
    telemetry::{Ask, tap::MOST_PODS},
    world::objects::Name,
};

/// Largest message, in bytes: a first one has every object, and a rejection some hundred; an answer of what is remembered has
/// every edge, or every rule of each, with some hundred bytes: `make bench` says how much that is in a large mesh.
pub(super) const LARGEST: usize = 64 << 20;

/// The gRPC service.
pub(super) fn service(replica: Replica) -> ReplicaServiceServer<Listener> {
    let listener = Listener { replica: Arc::new(replica), streams: Arc::default() };
    ReplicaServiceServer::new(listener).max_decoding_message_size(LARGEST)
}

/// Hears what other replicas say. Clones share.
#[derive(Debug, Clone)]
pub struct Listener {
    replica: Arc<Replica>,
    /// So many there were.
    streams: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl ReplicaService for Listener {
    type TellStream = BoxStream<'static, Result<TellResponse, Status>>;

    async fn tell(
        &self,
        request: Request<Streaming<TellRequest>>,
    ) -> Result<Response<Self::TellStream>, Status> {
        let Replica { others, .. } = &*self.replica;
        let replica = self.caller(&request)?;
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        others.begin(&replica, stream);
        tracing::info!(%replica, "another replica tells what its proxies say");
        let end = End { others: others.clone(), replica, stream };
        let mut said = request.into_inner();
        let heard = async move {
            while let Ok(Some(message)) = said.message().await {
                end.hear(message);
            }
        };
        let shares = WatchStream::new(others.shares()).filter_map(future::ready);
        let shares = shares.map(|share| Ok(TellResponse { share: wire::count(share) }));
        // What is said is read as long as the answers are polled: there is no task to leak.
        Ok(Response::new(shares.take_until(heard).boxed()))
    }

    async fn observe(
        &self,
        request: Request<ObserveRequest>,
    ) -> Result<Response<ObserveResponse>, Status> {
        self.caller(&request)?;
        let (ask, looks) = Ask::read(request.into_inner());
        let message = self.replica.surveyor.hub.ask(&ask, looks).message();
        bounded(message, LARGEST).map(Response::new)
    }

    async fn survey(
        &self,
        request: Request<SurveyRequest>,
    ) -> Result<Response<SurveyResponse>, Status> {
        self.caller(&request)?;
        Ok(Response::new(self.replica.surveyor.survey().message()))
    }

    async fn tap(&self, request: Request<TapRequest>) -> Result<Response<TapResponse>, Status> {
        self.caller(&request)?;
        let pods = request.into_inner().pods.into_iter().take(MOST_PODS);
        let asked =
            pods.filter_map(|pod| Some((Name::new(pod.namespace, pod.name), pod.question?)));
        let heard = self.replica.surveyor.hub.tap(asked.collect()).await;
        let pods = heard.into_iter().map(|(pod, records)| Heard {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            records,
        });
        Ok(Response::new(TapResponse { pods: pods.collect() }))
    }

    async fn versions(
        &self,
        request: Request<VersionsRequest>,
    ) -> Result<Response<VersionsResponse>, Status> {
        self.caller(&request)?;
        let answer = self.replica.surveyor.hub.tell_versions(request.into_inner());
        Ok(Response::new(answer))
    }

    async fn lanes(
        &self,
        request: Request<LanesRequest>,
    ) -> Result<Response<LanesResponse>, Status> {
        self.caller(&request)?;
        Ok(Response::new(self.replica.surveyor.hub.tell_lanes(request.into_inner())))
    }

    async fn steer(
        &self,
        request: Request<SteerRequest>,
    ) -> Result<Response<SteerResponse>, Status> {
        self.caller(&request)?;
        let call = serde_json::from_slice(&request.into_inner().call);
        let call = call.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let answer = self.replica.releases.ask(call).await;
        let answer =
            serde_json::to_vec(&answer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(SteerResponse { answer: answer.into() }))
    }
}

/// What is larger the other side would refuse, and could not say of what.
fn bounded(message: ObserveResponse, largest: usize) -> Result<ObserveResponse, Status> {
    let bytes = message.encoded_len();
    match bytes <= largest {
        true => Ok(message),
        false => Err(Status::resource_exhausted(format!(
            "it remembers {} MiB of what was asked for, and says {} MiB at most; ask for one namespace",
            bytes >> 20,
            largest >> 20
        ))),
    }
}

/// However a stream ends, what was said on it goes with it.
struct End {
    others: Others,
    replica: Name,
    stream: u64,
}

impl End {
    fn hear(&self, message: TellRequest) {
        let news = message.forces.into_iter().filter_map(wire::decode);
        self.others.hear((&self.replica, self.stream), message.streams as usize, news);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.others.end(&self.replica, self.stream);
    }
}

impl Listener {
    /// The replica that calls.
    fn caller<T>(&self, request: &Request<T>) -> Result<Name, Status> {
        let Replica { roster, pod, trust_domain, .. } = &*self.replica;
        let pods = Pods { roster: roster.clone(), trust_domain: trust_domain.clone() };
        let (caller, identity, _here) = pods.pod(request.extensions())?;
        // It was deleted, and has not ended yet.
        let gone = || Status::unavailable(format!("pod {pod} does not exist (any more)"));
        let own = roster.get(pod).ok_or_else(gone)?.attested(pod, trust_domain).identity;
        if own != identity {
            return Err(Status::permission_denied(format!(
                "{identity} is no control plane: it may neither say nor ask what proxies say"
            )));
        }
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn what_is_too_large_is_said_and_not_sent() {
        let message =
            ObserveResponse { rows: vec![Default::default(); 2 << 20], ..Default::default() };
        let bytes = message.encoded_len();
        let refused = bounded(message.clone(), bytes - 1).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("4 MiB of what was asked for"), "{refused}");
        assert_eq!(bounded(message, bytes).unwrap().rows.len(), 2 << 20);
    }
}
