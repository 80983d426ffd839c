//! Several control planes that are one: each proxy has its stream at one of them, and only all together know on how many
//! proxies an object is in force. Whoever writes statuses is told by the others, and tells them their share of the streams.
//!
//! ```text
//! status::follow ──► own ──► tell ──gRPC──► hear (at the holder of the Lease) ──► Others ──► its status::follow
//!        balance ◄── share ◄──────────────────────────────────────────────────────┘
//! ```

mod balance;
mod hear;
mod others;
mod survey;
mod tell;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use self::{balance::Balance, tell::Teller};
pub use self::{
    hear::Listener,
    others::Others,
    survey::{Stream, Survey, Surveyor},
};
use crate::{
    ca::issue::Authority,
    roster::Roster,
    server::replica,
    status::Told,
    steer::{Answer, Call, Releases},
    telemetry::{
        lanes,
        versions::{self, Target, Tolds},
    },
    world::objects::{Name, ObjectRef},
};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Code, Response, Status, transport::Channel};
use tulle_proto::replica::v1::{
    ObserveRequest, ObserveResponse, SteerRequest, SurveyRequest, TapRequest, TapResponse,
    replica_service_client::ReplicaServiceClient, replica_service_server::ReplicaServiceServer,
};
use tulle_xds::text;

/// How long a new holder of the Lease waits for what the others say, before it writes what it knows.
const GATHER: Duration = Duration::from_secs(5);
/// How long another replica may take to answer somebody's question.
const PATIENCE: Duration = Duration::from_secs(2);
/// Replicas that are asked at once.
const AT_ONCE: usize = 16;

/// What a replica says of each object, also of those that none of its proxies uses: otherwise nobody could tell it from one
/// that it does not know yet.
pub type Tellings = BTreeMap<ObjectRef, Told>;

/// This replica among the others.
#[derive(Debug, Clone)]
pub struct Replica {
    /// What they say.
    pub others: Others,
    /// Who and where they are.
    pub roster: Roster,
    /// This replica's pod: the others have its ServiceAccount.
    pub pod: Name,
    /// Trust domain of their identities.
    pub trust_domain: String,
    /// Makes this replica's certificate.
    pub authority: Authority,
    /// The port that all serve gRPC on.
    pub port: u16,
    /// The name that all prove there.
    pub name: String,
    /// The streams of this replica's proxies, and what they have reported.
    pub surveyor: Surveyor,
    /// Whoever steers releases here, if this replica does.
    pub releases: Releases,
    /// Connections on which others are asked.
    pub connections: Connections,
}

/// Why a replica did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// In words.
    pub reason: String,
    /// What was asked for is more than it says at once.
    pub too_much: bool,
}

impl From<String> for Silence {
    fn from(reason: String) -> Self {
        Self { reason, too_much: false }
    }
}

/// Connections to other replicas, as long as they last. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<Name, Channel>>>);

impl Replica {
    /// Tells what this replica's proxies say to the holder of the Lease, who is to be said in what this returns; and keeps
    /// their number at its share.
    pub fn start(
        &self,
        own: watch::Receiver<Arc<Tellings>>,
        tasks: &mut JoinSet<()>,
    ) -> watch::Sender<Option<Name>> {
        let (leader, leads) = watch::channel(None);
        let (count, streams) = watch::channel(0);
        let (share, told) = watch::channel(None);
        let balance = Balance {
            ads: self.surveyor.ads.clone(),
            others: self.others.clone(),
            streams: count,
            told,
        };
        tasks.spawn(balance.run());
        let teller = Teller { replica: self.clone(), own, streams, share, leader: leads };
        tasks.spawn(teller.run());
        leader
    }

    /// The gRPC service by which others tell this one.
    pub fn service(&self) -> ReplicaServiceServer<Listener> {
        hear::service(self.clone())
    }

    /// A connection to another replica.
    async fn connect(&self, to: &Name) -> Result<Channel, String> {
        let Self { roster, pod, trust_domain, authority, port, name, .. } = self;
        let there = roster.get(to).ok_or_else(|| format!("pod {to} is not there"))?;
        let ip = there.ips.first().ok_or_else(|| format!("pod {to} has no address"))?;
        let own = roster.get(pod).ok_or_else(|| format!("our own pod {pod} is not there"))?;
        let (address, own) = (SocketAddr::new(*ip, *port), own.attested(pod, trust_domain));
        let connected = replica::connect(address, name, authority, &own).await;
        connected.map_err(|error| error.to_string())
    }

    /// What all other replicas answer, in the order of their names; and those that did not, for want of which `lacks` is so. One
    /// that is not ready is asked too: it may have proxies all the same.
    pub async fn ask_others<T, F: Future<Output = Result<T, Silence>>>(
        &self,
        lacks: &'static str,
        ask: impl Fn(Self, Name) -> F,
    ) -> (Vec<(Name, T)>, Vec<(String, Silence)>) {
        let (heard, unheard) = self.ask_within(PATIENCE, ask).await;
        for (name, silence) in &unheard {
            tracing::warn!(replica = %name, reason = silence.reason, "{lacks}");
        }
        let unheard = unheard.into_iter().map(|(name, silence)| (name.to_string(), silence));
        (heard, unheard.collect())
    }

    /// The same for whoever asks again and again: within this time, and who does not answer is not complained of.
    pub async fn ask_within<T, F: Future<Output = Result<T, Silence>>>(
        &self,
        patience: Duration,
        ask: impl Fn(Self, Name) -> F,
    ) -> (Vec<(Name, T)>, Vec<(Name, Silence)>) {
        let others = self.roster.siblings(&self.pod).into_iter();
        let questions = others.map(|(name, _ready)| {
            let answer = timeout(patience, ask(self.clone(), name.clone()));
            async move {
                let late = |_| Err(format!("no answer within {patience:?}").into());
                (name, answer.await.unwrap_or_else(late))
            }
        });
        let questions: Vec<_> = questions.collect();
        let answers: Vec<_> = stream::iter(questions).buffered(AT_ONCE).collect().await;
        let (mut heard, mut unheard) = (Vec::new(), Vec::new());
        for (name, answer) in answers {
            match answer {
                Ok(answer) => heard.push((name, answer)),
                Err(silence) => unheard.push((name, silence)),
            }
        }
        (heard, unheard)
    }

    /// What another replica remembers of the mesh's traffic.
    ///
    /// # Errors
    /// Why it does not say it.
    pub async fn observe(
        &self,
        to: &Name,
        question: ObserveRequest,
    ) -> Result<ObserveResponse, Silence> {
        let answer = self.client(to).await?.observe(question).await;
        self.answered(to, answer)
    }

    /// What another replica knows of its proxies right now.
    ///
    /// # Errors
    /// Why it does not say it.
    pub async fn survey(&self, to: &Name) -> Result<Survey, Silence> {
        let answer = self.client(to).await?.survey(SurveyRequest {}).await;
        self.answered(to, answer).map(Survey::read)
    }

    /// What the proxies say that have their streams at another replica.
    ///
    /// # Errors
    /// Why it does not say it.
    pub async fn tap(&self, to: &Name, question: TapRequest) -> Result<TapResponse, Silence> {
        let answer = self.client(to).await?.tap(question).await;
        self.answered(to, answer)
    }

    /// What the proxies of another replica have told of the versions of each of these workloads.
    ///
    /// # Errors
    /// Why it does not say it.
    pub async fn versions(
        &self,
        to: &Name,
        targets: &[Target],
    ) -> Result<HashMap<Target, Tolds>, Silence> {
        let answer = self.client(to).await?.versions(versions::question(targets)).await;
        self.answered(to, answer).map(|answer| versions::answer(targets, answer))
    }

    /// What the proxies of another replica have told of requests of lanes.
    ///
    /// # Errors
    /// Why it does not say it.
    pub async fn lanes(
        &self,
        to: &Name,
        ask: &lanes::Ask,
        looks: bool,
    ) -> Result<lanes::Told, Silence> {
        let answer = self.client(to).await?.lanes(lanes::question(ask, looks)).await;
        self.answered(to, answer).map(lanes::answer)
    }

    /// What came of what somebody wants of releases, at the replica that steers them.
    ///
    /// # Errors
    /// Why it does not say it.
    pub async fn steer(&self, to: &Name, call: &Call) -> Result<Answer, Silence> {
        let unread = |error: serde_json::Error| Silence::from(error.to_string());
        let call = serde_json::to_vec(call).map_err(unread)?;
        let answer = self.client(to).await?.steer(SteerRequest { call: call.into() }).await;
        let answer = self.answered(to, answer)?.answer;
        serde_json::from_slice(&answer).map_err(unread)
    }

    async fn client(&self, to: &Name) -> Result<ReplicaServiceClient<Channel>, String> {
        let known = self.connections.0.lock().get(to).cloned();
        let channel = match known {
            Some(channel) => channel,
            None => {
                let channel = self.connect(to).await?;
                self.connections.0.lock().insert(to.clone(), channel.clone());
                channel
            }
        };
        Ok(ReplicaServiceClient::new(channel).max_decoding_message_size(hear::LARGEST))
    }

    /// The next question goes on another connection if it was not answered on this one.
    fn answered<T>(&self, to: &Name, answer: Result<Response<T>, Status>) -> Result<T, Silence> {
        answer.map(Response::into_inner).map_err(|status| {
            let too_much = status.code() == Code::ResourceExhausted;
            // A replica of an older version does not know the question, and one that has too much to say is well.
            if !too_much && status.code() != Code::Unimplemented {
                self.connections.0.lock().remove(to);
            }
            Silence { reason: text::status(&status), too_much }
        })
    }

    /// Resolves once all other replicas have said something, or have had the time to: otherwise each change of the leader
    /// would write statuses of a part of the proxies.
    pub async fn all_heard(&self) {
        if timeout(GATHER, self.others.have_said()).await.is_err() {
            tracing::info!("not all other replicas have said what their proxies do");
        }
    }
}

#[cfg(test)]
mod tests;
