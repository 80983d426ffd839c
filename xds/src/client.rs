//! The client: keeps a stream to the control plane and hands over what comes.
//!
//! ```text
//!  Handle::subscribe ──► [ Subscription ] ──► requests ──►┐
//!                              ▲                          ├── tonic ── control plane
//!  Event::Update ◄─────────────┴───────────── responses ◄─┘
//!        └─ ack.accept() / ack.reject(…)
//! ```
//!
//! Losing the control plane changes nothing: what was accepted stays, the client comes back with
//! jitter and names the versions that it has, and only differences are sent.

mod backoff;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    model::{Invalid, Kind},
    subscription::{Receipt, Subscription, Update},
    text,
};
use backoff::Backoff;

pub use crate::protocol::{Node, Received, Version};

/// Longest time for a connection, and for the server's first sign of life on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest message that is taken. Servers of ours stay below 4 MiB unless one resource is larger.
const MAX_MESSAGE: usize = 64 << 20;

/// Requests and events that may wait; what exceeds it waits as state, not as a queue.
const QUEUE: usize = 8;

/// Why no connection could be made.
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// Makes a fresh connection: with the certificate that is the current one then.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Channel, ConnectError>> + Send + Sync>;

/// What a [`Client`] needs.
#[derive(Clone)]
pub struct ClientConfig {
    /// Who we are.
    pub node: Node,
    /// How to reach the control plane.
    pub connect: Connect,
}

/// Keeps the stream; [`run`](Self::run) it.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

/// Says what is wanted. Never blocks; what is said before or between connections is remembered.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A stream is open.
    Connected,
    /// The stream is gone, or could not be opened. The client goes on trying.
    Disconnected {
        /// Why.
        error: String,
    },
    /// Resources changed: to be decoded, applied, and then acknowledged.
    Update {
        /// Kind of all of them.
        kind: Kind,
        /// New or changed.
        changed: Vec<Received>,
        /// Names of those that do not exist, or not any more.
        removed: Vec<String>,
        /// To be answered. Until then the server sends nothing more of this kind.
        ack: Ack,
    },
}

/// The answer that an update waits for. Dropped without one, all of it counts as rejected.
#[derive(Debug)]
#[must_use = "the server waits for an answer"]
pub struct Ack {
    shared: Arc<Shared>,
    receipt: Option<Receipt>,
}

impl Client {
    /// A client that wants its own workload, named `config.node.id`, and nothing else yet.
    /// Events wait in the receiver; while it is full the client reads nothing more.
    pub fn new(config: ClientConfig) -> (Self, Handle, mpsc::Receiver<Event>) {
        let mut subscription = Subscription::new(config.node.clone());
        subscription.subscribe(Kind::Workload, &config.node.id);
        let shared =
            Arc::new(Shared { subscription: Mutex::new(subscription), wake: Notify::new() });
        let (events, receiver) = mpsc::channel(QUEUE);
        let handle = Handle { shared: Arc::clone(&shared) };
        (Self { config, shared, events }, handle, receiver)
    }

    /// Connects, and connects again, until the receiver of events is dropped.
    pub async fn run(self) {
        let mut backoff = Backoff::new();
        while !self.events.is_closed() {
            let Err(error) = Box::pin(self.stream(&mut backoff)).await else {
                return;
            };
            self.shared.subscription.lock().disconnected();
            let pause = backoff.next(error.is_refused(), &mut rand::rng());
            let error = error.to_string();
            tracing::warn!(%error, retry_in = ?pause, "no stream to the control plane");
            if self.events.send(Event::Disconnected { error }).await.is_err() {
                return;
            }
            tokio::select! {
                () = time::sleep(pause) => {}
                () = self.events.closed() => return,
            }
        }
    }

    /// One stream, from connection to its end. `Ok` when nobody listens any more.
    async fn stream(&self, backoff: &mut Backoff) -> Result<(), StreamError> {
        let channel = time::timeout(CONNECT_TIMEOUT, (self.config.connect)())
            .await
            .map_err(|_elapsed| StreamError::Slow)?
            .map_err(StreamError::Connect)?;
        self.shared.subscription.lock().connected();
        let (requests, outgoing) = mpsc::channel(QUEUE);
        // Servers may wait for the first request before they answer at all.
        while requests.capacity() > 1 {
            let Some(request) = self.shared.subscription.lock().next_request() else {
                break;
            };
            if requests.try_send(wire::request(request)).is_err() {
                break;
            }
        }
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let call = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let responses = time::timeout(CONNECT_TIMEOUT, call)
            .await
            .map_err(|_elapsed| StreamError::Slow)??
            .into_inner();
        if self.events.send(Event::Connected).await.is_err() {
            return Ok(());
        }
        self.converse(requests, responses, backoff).await
    }

    /// Sends requests and hands over responses until the stream ends.
    async fn converse(
        &self,
        requests: mpsc::Sender<DeltaDiscoveryRequest>,
        mut responses: Streaming<DeltaDiscoveryResponse>,
        backoff: &mut Backoff,
    ) -> Result<(), StreamError> {
        let mut undelivered: Option<Event> = None;
        loop {
            let to_say = self.shared.subscription.lock().has_request();
            tokio::select! {
                () = self.shared.wake.notified() => {}
                slot = requests.reserve(), if to_say => {
                    // A closed request side shows as an error of the response side.
                    let slot = slot.map_err(|_closed| StreamError::Ended)?;
                    if let Some(request) = self.shared.subscription.lock().next_request() {
                        slot.send(wire::request(request));
                    }
                }
                slot = self.events.reserve(), if undelivered.is_some() => {
                    let Ok(slot) = slot else { return Ok(()) };
                    if let Some(event) = undelivered.take() {
                        slot.send(event);
                    }
                }
                response = responses.message(), if undelivered.is_none() => {
                    let response = wire::response(response?.ok_or(StreamError::Ended)?)?;
                    backoff.reset();
                    undelivered = self.shared.receive(response);
                }
                () = self.events.closed() => return Ok(()),
            }
        }
    }
}

impl Handle {
    /// Wants a resource from now on; nothing happens if it is wanted already. An
    /// [`Event::Update`] brings it, or says in `removed` that it does not exist.
    pub fn subscribe(&self, kind: Kind, name: impl AsRef<str>) {
        self.shared.subscription.lock().subscribe(kind, name.as_ref());
        self.shared.wake.notify_one();
    }

    /// Does not want it any more. An update that is on its way may still bring it.
    pub fn unsubscribe(&self, kind: Kind, name: impl AsRef<str>) {
        self.shared.subscription.lock().unsubscribe(kind, name.as_ref());
        self.shared.wake.notify_one();
    }
}

impl Ack {
    /// All of the update is in force.
    pub fn accept(self) {
        self.answer(&[]);
    }

    /// What these name is not in force, and is reported with the reason; the rest is.
    pub fn reject(self, rejected: Vec<Invalid>) {
        self.answer(&rejected);
    }

    fn answer(mut self, rejected: &[Invalid]) {
        self.answer_once(rejected);
    }

    fn answer_once(&mut self, rejected: &[Invalid]) {
        if let Some(receipt) = self.receipt.take() {
            self.shared.subscription.lock().answer(receipt, rejected);
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let Some(receipt) = &self.receipt else { return };
        let dropped: Vec<_> = receipt
            .names()
            .map(|name| Invalid {
                resource: name.to_owned(),
                field: "resource".to_owned(),
                reason: "the client gave up before it applied the update".to_owned(),
            })
            .collect();
        self.answer_once(&dropped);
    }
}

/// `endpoint` with what a long-lived stream needs: HTTP/2 pings that notice a dead peer within 20 s
/// (10 s between pings, 10 s for an answer), also while nothing is said.
pub fn long_lived(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .keep_alive_while_idle(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
}

#[derive(Debug)]
struct Shared {
    subscription: Mutex<Subscription>,
    /// The subscription has something to say.
    wake: Notify,
}

impl Shared {
    fn receive(self: &Arc<Self>, response: crate::protocol::Response) -> Option<Event> {
        let Update { kind, changed, removed, receipt } =
            self.subscription.lock().receive(response)?;
        let ack = Ack { shared: Arc::clone(self), receipt: Some(receipt) };
        Some(Event::Update { kind, changed, removed, ack })
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("connect: {0}")]
    Connect(ConnectError),
    #[error("the control plane did not answer within {CONNECT_TIMEOUT:?}: is its address right?")]
    Slow,
    #[error("the control plane closed the stream")]
    Ended,
    #[error("{}", text::status(.0))]
    Status(Box<Status>),
    #[error(transparent)]
    BadResponse(#[from] wire::BadResponse),
}

impl StreamError {
    /// Whether nobody listens at the control plane's address.
    fn is_refused(&self) -> bool {
        let Self::Connect(error) = self else {
            return false;
        };
        let first: &(dyn std::error::Error + 'static) = &**error;
        std::iter::successors(Some(first), |error| error.source()).any(|error| {
            let io = error.downcast_ref::<std::io::Error>();
            io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        })
    }
}

impl From<Status> for StreamError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_refusal_is_found_below_what_wraps_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot connect")]
        struct Wrapped(#[source] Error);
        let refused =
            |kind: ErrorKind| StreamError::Connect(Box::new(Wrapped(kind.into()))).is_refused();
        assert!(refused(ErrorKind::ConnectionRefused));
        assert!(!refused(ErrorKind::TimedOut));
        assert!(!StreamError::Slow.is_refused());
    }
}
