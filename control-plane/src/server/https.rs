//! HTTPS, as the webhook and people are served: whoever can connect may ask, so what a connection costs is bounded.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tulle_runtime::{
    drain::Drain,
    http::{Handler, Terms, serve_on},
    room::Room,
};

use super::{ACCEPT_PAUSE, FAILURES, HANDSHAKE, Tls};
use crate::metrics::Metrics;

/// So long a connection is kept.
const LONGEST: Duration = Duration::from_secs(600);
/// For what is being answered when the drain starts.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// Who asks: an extension of each request.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// The certificates that it has shown, its own first, of which it holds the key. Whose they are nobody has verified: that
    /// is for whoever asks them for a name, [`crate::ca::subject`].
    pub shown: Arc<[CertificateDer<'static>]>,
}

/// A port.
#[derive(Debug)]
pub struct Https<H> {
    /// What it is called in logs.
    pub name: &'static str,
    /// What answers.
    pub handler: H,
    /// The TLS side of the port, as it is now.
    pub tls: Tls,
    /// What each connection is served under.
    pub terms: Terms,
    /// Connections at once.
    pub room: Room,
    /// Where failures are counted.
    pub metrics: Arc<Metrics>,
}

impl<H: Handler> Https<H> {
    /// Serves until the drain starts; what is being answered then is answered.
    pub async fn serve(self, listener: TcpListener, drain: Drain) {
        let port = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.started() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(port = port.name, %error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = port.room.enter(Some(peer.ip())) else {
                port.metrics.connections_refused.inc();
                continue;
            };
            let (port, in_flight) = (Arc::clone(&port), drain.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = ends_with(&in_flight, port.terms.keep_alive) => {}
                    () = Box::pin(port.connection(tcp, peer.ip())) => {}
                }
                drop((place, in_flight));
            });
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, address: IpAddr) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls.borrow()));
        let reason = match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let shown = shown.iter().cloned().map(CertificateDer::into_owned).collect();
                let client = Client { address, shown };
                let terms = self.terms;
                return serve_on(stream, &Known { client, port: self }, terms).await;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("took longer than {HANDSHAKE:?}"),
        };
        self.metrics.handshake_failures.inc();
        if let Some(unsaid) = FAILURES.now() {
            tracing::info!(port = self.name, %address, reason, unsaid, "TLS handshake failed");
        }
    }
}

/// A connection that is kept would hold the drain up, and outlive who it is of: it is cut, and whoever asks comes again.
async fn ends_with(drain: &Drain, kept: bool) {
    if !kept {
        return std::future::pending().await;
    }
    tokio::select! {
        () = drain.started() => sleep(LAST_ANSWER).await,
        () = sleep(LONGEST) => {}
    }
}

/// Says with each request who asks.
struct Known<H> {
    client: Client,
    port: Arc<Https<H>>,
}

impl<H: Handler> Handler for Known<H> {
    async fn handle(&self, mut request: Request<Bytes>) -> Response<Bytes> {
        request.extensions_mut().insert(self.client.clone());
        self.port.handler.handle(request).await
    }
}
