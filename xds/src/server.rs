//! The server: one task for each stream, between its client, its [`Session`] and the [`Cache`].
//!
//! Who the caller is follows from the connection ([`Authorize`]), never from what it says of
//! itself; what it may see follows from who it is. Delta and state-of-the-world streams differ in
//! their messages ([`wire`]) and in their session only.

mod conversation;
mod pushed;
mod share;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    },
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::{self, Stream},
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{Notify, mpsc},
    time,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Response, Status, Streaming};

use crate::{
    cache::{Cache, Dialect, View},
    model::{Here, Kind, SpiffeId},
    server::{
        conversation::Conversation,
        share::{Names, Share},
        wire::{MAX_SAID, Variant},
    },
    session::{KindStatus, NameNews, NameStatus, Session, state::StateSession},
    text::{bounded, printable},
};

pub use crate::protocol::Node;
pub use pushed::Pushed;

/// How long a stream may be open before its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Responses that may wait for the transport. Each kind has at most one that is not answered, so
/// that a client which reads never fills it.
const QUEUE: usize = 8;

/// Streams that one pod may have open: one for each of its clients, and those that were cut off but
/// are not known to be. What they subscribe to is bounded for all together ([`share`]).
pub const MAX_STREAMS: usize = 16;

/// Decides who a caller is.
pub trait Authorize: Send + Sync + 'static {
    /// Refuses a stream of which nothing was read yet, by what the transport proved: nobody whom
    /// [`authorize`](Self::authorize) will not let in makes us hold a message.
    ///
    /// # Errors
    /// The status with which the stream is refused.
    fn admit(&self, _extensions: &Extensions) -> Result<(), Status> {
        Ok(())
    }

    /// The caller, from what the transport proved. `extensions` are those of the request: whatever
    /// the server that accepted the connection put there, such as the peer's certificates. `node`
    /// is what the caller says of itself.
    ///
    /// # Errors
    /// The status with which the stream is refused.
    fn authorize(&self, extensions: &Extensions, node: &Node) -> Result<Caller, Status>;

    /// Resolves once a caller that was let in is to leave, with what it is told: its pod is gone, for example. Never, if
    /// this says nothing else.
    fn revoked(&self, _extensions: &Extensions, _caller: &Caller) -> BoxFuture<'static, Status> {
        std::future::pending().boxed()
    }
}

/// Who opened a stream, proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// `NAMESPACE/POD`; also the name of the only workload resource that it may see.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Its identity.
    pub identity: SpiffeId,
    /// Where it is.
    pub here: Here,
}

impl Caller {
    /// What it sees of what is published for a dialect.
    pub fn view(&self, dialect: Dialect) -> View {
        View { dialect, namespace: self.namespace.as_str().into(), here: self.here.clone() }
    }
}

/// How a stream stands: for status and dumps.
#[derive(Debug, Clone, Serialize)]
pub struct SessionStatus {
    /// Number of the stream since the start of this process.
    pub id: u64,
    /// Who opened it.
    pub caller: Caller,
    /// What it understands, as it says: this decides how it is told, never what.
    pub dialect: Dialect,
    /// Version of its program, as it says.
    pub version: String,
    /// What it subscribes to, and what of it is in force.
    pub kinds: Vec<KindStatus>,
}

/// What has happened on a stream since it was asked last.
#[derive(Debug, Clone)]
pub enum StreamNews {
    /// Some names stand otherwise.
    Changed {
        /// Whose stream it is.
        caller: Caller,
        /// What it understands.
        dialect: Dialect,
        /// Which, and how.
        names: Vec<NameNews>,
    },
    /// It has ended.
    Closed,
}

/// The aggregated discovery service, delta and state of the world. Clones serve the same sessions.
#[derive(Clone)]
pub struct AdsService {
    inner: Arc<Inner>,
}

struct Inner {
    cache: Cache,
    authorize: Arc<dyn Authorize>,
    stop: Shared<BoxFuture<'static, ()>>,
    sessions: Mutex<BTreeMap<u64, Arc<AnyOpen>>>,
    last_id: AtomicU64,
    /// Streams on which something has happened; see [`AdsService::take_news`].
    stirred: Mutex<BTreeSet<u64>>,
    pushed: Pushed,
}

/// An open stream, for the list.
struct Open<S: ?Sized> {
    caller: Caller,
    dialect: Dialect,
    version: String,
    /// Of all streams of its pod.
    names: Names,
    /// It is to go elsewhere.
    leave: Notify,
    session: Mutex<S>,
}

impl AdsService {
    /// Serves what `cache` holds to whom `authorize` lets in.
    pub fn new(cache: Cache, authorize: Arc<dyn Authorize>) -> Self {
        Self::until(cache, authorize, std::future::pending())
    }

    /// The same, until `stop`: then every stream ends with `UNAVAILABLE`, and its client comes back
    /// to another replica.
    pub fn until(
        cache: Cache,
        authorize: Arc<dyn Authorize>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let inner = Inner {
            cache,
            authorize,
            stop: stop.boxed().shared(),
            sessions: Mutex::default(),
            last_id: AtomicU64::new(0),
            stirred: Mutex::default(),
            pushed: Pushed::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The service for a tonic server.
    pub fn into_server(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self)
    }

    /// What has happened on each stream, by its number, since this was asked last. It costs what has
    /// happened, not what there is.
    pub fn take_news(&self) -> Vec<(u64, StreamNews)> {
        let stirred = std::mem::take(&mut *self.inner.stirred.lock()).into_iter();
        let news = stirred.map(|id| {
            let open = self.inner.sessions.lock().get(&id).cloned();
            let news = open.map_or(StreamNews::Closed, |open| StreamNews::Changed {
                caller: open.caller.clone(),
                dialect: open.dialect,
                names: open.session.lock().take_news(),
            });
            (id, news)
        });
        news.collect()
    }

    /// What all streams together have sent.
    pub fn pushed(&self) -> Pushed {
        self.inner.pushed.clone()
    }

    /// How a name stands on a stream, if the stream is open and the name subscribed there.
    pub fn name_status(&self, stream: u64, kind: Kind, name: &str) -> Option<NameStatus> {
        let open = self.inner.sessions.lock().get(&stream).cloned()?;
        let session = open.session.lock();
        session.name_status(kind, name)
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.inner.sessions.lock().len()
    }

    /// Ends so many streams with `UNAVAILABLE`, the oldest first, so that their clients go to another replica. Only clients
    /// of ours: others would come back on the connection that they have.
    pub fn end(&self, streams: usize) {
        let sessions = self.inner.sessions.lock();
        let ours = sessions
            .values()
            .filter(|open| matches!(open.dialect, Dialect::Tulle | Dialect::Other(_)));
        ours.take(streams).for_each(|open| open.leave.notify_one());
    }

    /// All open streams, oldest first.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let open: Vec<_> =
            self.inner.sessions.lock().iter().map(|(&id, open)| (id, Arc::clone(open))).collect();
        let status = |(id, open): (u64, Arc<AnyOpen>)| SessionStatus {
            id,
            caller: open.caller.clone(),
            dialect: open.dialect,
            version: open.version.clone(),
            kinds: open.session.lock().status(),
        };
        open.into_iter().map(status).collect()
    }
}

impl fmt::Debug for AdsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.inner.sessions.lock().len();
        f.debug_struct("AdsService").field("streams", &streams).finish_non_exhaustive()
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.stream::<StateSession>(request).map(Response::new)
    }

    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.stream::<Session>(request).map(Response::new)
    }
}

impl AdsService {
    fn stream<S: Variant>(
        &self,
        request: tonic::Request<Streaming<S::Request>>,
    ) -> Result<Responses<S::Response>, Status> {
        let (_metadata, extensions, requests) = request.into_parts();
        self.inner.authorize.admit(&extensions)?;
        let (responses, outgoing) = mpsc::channel(QUEUE);
        let inner = Arc::clone(&self.inner);
        // The driver is polled by the transport together with the responses, so that it ends with
        // the stream however that ends: there is no task to leak.
        let driver = async move {
            let stop = inner.stop.clone();
            let outcome = tokio::select! {
                biased;
                () = stop => Err(Status::unavailable(
                    "the control plane is shutting down: connect again",
                )),
                outcome = inner.serve::<S>(extensions, requests, &responses) => outcome,
            };
            outcome.err().map(Err)
        };
        let driver = stream::once(Box::pin(driver)).filter_map(std::future::ready);
        let responses = ReceiverStream::new(outgoing).map(Ok);
        Ok(Box::pin(stream::select(responses, driver)))
    }
}

impl Inner {
    /// One stream, from its first request to its end.
    async fn serve<S: Variant>(
        &self,
        extensions: Extensions,
        mut requests: Streaming<S::Request>,
        responses: &mpsc::Sender<S::Response>,
    ) -> Result<(), Status> {
        let first =
            time::timeout(FIRST_REQUEST, requests.message()).await.map_err(|_elapsed| {
                Status::deadline_exceeded("no request within 10 s of opening the stream")
            })??;
        let Some(first) = first else { return Ok(()) };
        let announced = S::node(&first);
        let dialect = wire::dialect(announced);
        let node = announced.map(wire::node).unwrap_or_default();
        let refused = |status: &Status| {
            let node = printable(bounded(&node.id, MAX_SAID));
            tracing::warn!(node, %status, "a stream was refused");
        };
        let caller = self.authorize.authorize(&extensions, &node).inspect_err(refused)?;
        let mut revoked = self.authorize.revoked(&extensions, &caller);
        let view = caller.view(dialect);
        let listed = self.open::<S>(caller, dialect, &node.version).inspect_err(refused)?;
        let mut stream = Conversation {
            open: &listed.open,
            share: Share::new(Names::clone(&listed.open.names), dialect),
            subscriber: self.cache.subscriber(view),
            responses,
            pushed: self.pushed.stream(),
        };
        stream.take(first)?;
        loop {
            stream.send().await?;
            self.stirred.lock().insert(listed.id);
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => stream.take(request)?,
                    None => return Ok(()),
                },
                () = stream.subscriber.changed() => stream.note_changes(),
                () = listed.open.leave.notified() => {
                    return Err(Status::unavailable("other replicas have fewer streams: connect again"));
                }
                why = &mut revoked => return Err(why),
            }
        }
    }

    /// Puts a stream on the list.
    ///
    /// # Errors
    /// If its pod has [`MAX_STREAMS`] already.
    fn open<S: Variant>(
        &self,
        caller: Caller,
        dialect: Dialect,
        version: &str,
    ) -> Result<Listed<'_, S>, Status> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Mutex::new(S::new(&caller.pod, dialect));
        let mut sessions = self.sessions.lock();
        let mut others = sessions.values().filter(|other| other.caller == caller).peekable();
        let names = others.peek().map(|other| Names::clone(&other.names)).unwrap_or_default();
        if others.count() >= MAX_STREAMS {
            return Err(Status::resource_exhausted(format!(
                "pod {} has {MAX_STREAMS} streams open already: use one for all kinds",
                caller.pod
            )));
        }
        let (version, leave) = (version.to_owned(), Notify::new());
        let open = Arc::new(Open { caller, dialect, version, names, leave, session });
        sessions.insert(id, Arc::<Open<S>>::clone(&open));
        drop(sessions);
        tracing::info!(stream = id, pod = open.caller.pod, version = open.version, "stream opened");
        Ok(Listed { inner: self, id, open })
    }
}

/// An entry of the list, as long as the stream lives.
struct Listed<'a, S> {
    inner: &'a Inner,
    id: u64,
    open: Arc<Open<S>>,
}

impl<S> Drop for Listed<'_, S> {
    fn drop(&mut self) {
        self.inner.sessions.lock().remove(&self.id);
        self.inner.stirred.lock().insert(self.id);
        tracing::info!(stream = self.id, pod = self.open.caller.pod, "stream closed");
    }
}

/// An open stream of either variant.
type AnyOpen = Open<dyn wire::Status>;
