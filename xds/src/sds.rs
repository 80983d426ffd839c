//! Secret discovery (SDS): a certificate, its key and the roots, for an Envoy beside this process.
//!
//! ```text
//!  watch: Secrets ──► [ SdsService ] ══ StreamSecrets, DeltaSecrets ══► Envoy
//! ```
//!
//! Two names are served: [`CERTIFICATE`] and [`ROOTS`]. Before there is a certificate nothing is
//! answered, and each new one is pushed to every open stream. Who may ask is the business of
//! whoever opened the socket: the key goes to everybody who can connect.

mod wire;

use std::{fmt, pin::Pin, sync::Arc};

use envoy_types::pb::envoy::service::{
    discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
    secret::v3::secret_discovery_service_server::{
        SecretDiscoveryService, SecretDiscoveryServiceServer,
    },
};
use futures_util::{
    StreamExt as _,
    stream::{self, Stream},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::wire::{Delta, State, Variant};

/// Name of the secret that is a certificate with its key (`tls_certificate`).
pub const CERTIFICATE: &str = "default";

/// Name of the secret that is the roots to trust (`validation_context`).
pub const ROOTS: &str = "ROOTCA";

/// Responses that may wait for the transport: a certificate is renewed every few hours.
const QUEUE: usize = 2;

/// What is served. Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The certificate chain, leaf first, PEM.
    pub chain: String,
    /// Its private key, PEM.
    pub key: String,
    /// All roots that are trusted, PEM.
    pub roots: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("chain", &self.chain.len())
            .field("key", &"redacted")
            .field("roots", &self.roots.len())
            .finish()
    }
}

/// The newest secrets, `None` before there are any.
pub type Newest = watch::Receiver<Option<Arc<Secrets>>>;

/// The secret discovery service.
#[derive(Debug, Clone)]
pub struct SdsService {
    secrets: Newest,
}

impl SdsService {
    /// Serves what `secrets` holds. Streams end when its sender is gone.
    pub fn new(secrets: Newest) -> Self {
        Self { secrets }
    }

    /// The service for a tonic server.
    pub fn into_server(self) -> SecretDiscoveryServiceServer<Self> {
        SecretDiscoveryServiceServer::new(self)
    }

    fn stream<V: Variant>(&self, requests: Streaming<V::Request>) -> Responses<V::Response> {
        let (responses, outgoing) = mpsc::channel(QUEUE);
        let secrets = self.secrets.clone();
        // Polled together with the responses: there is no task to leak.
        let driver = async move { serve::<V>(requests, secrets, &responses).await.err().map(Err) };
        let driver = stream::once(Box::pin(driver)).filter_map(std::future::ready);
        Box::pin(stream::select(ReceiverStream::new(outgoing).map(Ok), driver))
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for SdsService {
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Ok(Response::new(self.stream::<Delta>(request.into_inner())))
    }

    type StreamSecretsStream = Responses<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Ok(Response::new(self.stream::<State>(request.into_inner())))
    }

    async fn fetch_secrets(
        &self,
        _request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets change: use StreamSecrets or DeltaSecrets"))
    }
}

/// One stream, to its end.
async fn serve<V: Variant>(
    mut requests: Streaming<V::Request>,
    mut secrets: Newest,
    responses: &mpsc::Sender<V::Response>,
) -> Result<(), Status> {
    let mut conversation = V::default();
    loop {
        let newest = secrets.borrow_and_update().clone();
        if let Some(response) = newest.and_then(|newest| conversation.next(&newest)) {
            let closed = |_| Status::cancelled("the client is gone");
            responses.send(response).await.map_err(closed)?;
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => conversation.take(request)?,
                None => return Ok(()),
            },
            changed = secrets.changed() => changed.map_err(|_ended| {
                Status::unavailable("the agent is ending: connect again")
            })?,
        }
    }
}

#[cfg(test)]
mod tests;
