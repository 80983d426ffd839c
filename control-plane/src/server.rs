//! The gRPC port: TLS 1.3, client certificates verified if offered.
//!
//! Whoever can reach the port can connect, and whoever comes for its first certificate has none to
//! show. So what a client may hold before it has shown one is small, short, and bounded: in all and
//! for each address. Those that have shown one are bounded as well, but never by the others.

mod connection;
pub mod https;
pub mod outward;
pub mod people;
pub mod replica;
pub mod webhook;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tulle_runtime::{
    drain::Drain,
    ready::Readiness,
    room::{Place, Room},
    seldom::Seldom,
};

use crate::{
    ca::{root::Root, server_certificate::ServerCertificate},
    metrics::Metrics,
};

pub use connection::Connection;

/// A handshake is half a millisecond of CPU and two ways through the network.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Connections that have shaken hands and wait to be served.
const QUEUE: usize = 256;
/// Whoever can connect can make as many as it likes.
static FAILURES: Seldom = Seldom::new();
/// Long enough for a file descriptor to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TlsError {
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("verifying client certificates: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// The TLS side of the port, as it is now.
pub type Tls = watch::Receiver<Arc<ServerConfig>>;

/// The TLS side of the port. A client certificate is optional here, because whoever comes for its
/// first one has none; what needs one asks for it.
///
/// # Errors
/// If the roots are unusable.
pub fn tls(
    root: &Root,
    certificate: Arc<ServerCertificate>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for trusted in root.trusted_here() {
        roots.add(trusted.clone())?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the check of the client's certificate.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Keeps the TLS side true to the root, forever: connections that are open stay.
pub async fn follow(
    mut roots: watch::Receiver<Arc<Root>>,
    certificate: Arc<ServerCertificate>,
    current: watch::Sender<Arc<ServerConfig>>,
) {
    while roots.changed().await.is_ok() {
        let root = Arc::clone(&roots.borrow_and_update());
        match tls(&root, Arc::clone(&certificate)) {
            Ok(tls) => drop(current.send_replace(tls)),
            Err(error) => tracing::error!(%error, "clients are still known by the last root"),
        }
    }
}

/// How many connections there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// All: each pod of a large mesh has one or two. Pods that share an address share its part.
    pub all: Room,
    /// Those that have shown no certificate (yet): a node's pods may all start at once.
    pub strangers: Room,
}

impl Default for Limits {
    fn default() -> Self {
        Self { all: Room::new(32_768, 1024), strangers: Room::new(4096, 256) }
    }
}

/// What a TLS connection of this port is.
pub type Accepted = io::Result<Connection<TlsStream<TcpStream>>>;

/// Connections that have shaken hands, until the drain starts.
#[derive(Debug)]
pub struct Incoming {
    /// Whoever showed a certificate that a root of ours has signed.
    pub proven: ReceiverStream<Accepted>,
    /// Everybody else.
    pub strangers: ReceiverStream<Accepted>,
}

/// Accepts connections until the drain starts. Those that come before `readiness` wait for it, in the kernel's queue:
/// whoever is not known yet would be turned away, and stay away for longer than that.
pub fn incoming(
    listener: TcpListener,
    tls: Tls,
    limits: Limits,
    metrics: Arc<Metrics>,
    (readiness, drain): (Readiness, Drain),
) -> Incoming {
    let ((proven, proven_come), (strangers, strangers_come)) =
        (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
    let port = Port { tls, limits, metrics, proven, strangers };
    tokio::spawn(async move {
        tokio::select! {
            () = drain.started() => {}
            () = async { readiness.ready().await; port.accept(listener).await } => {}
        }
    });
    Incoming {
        proven: ReceiverStream::new(proven_come),
        strangers: ReceiverStream::new(strangers_come),
    }
}

struct Port {
    tls: Tls,
    limits: Limits,
    metrics: Arc<Metrics>,
    proven: mpsc::Sender<Accepted>,
    strangers: mpsc::Sender<Accepted>,
}

impl Port {
    /// Waits for nobody but the next connection: one that has no place is closed at once, its client
    /// comes again.
    async fn accept(self, listener: TcpListener) {
        let port = Arc::new(self);
        loop {
            let (tcp, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Limits { all, strangers } = &port.limits;
            let source = Some(peer.ip());
            let Some(places) = all.enter(source).zip(strangers.enter(source)) else {
                port.metrics.connections_refused.inc();
                tracing::debug!(%peer, "too many connections, closing this one");
                continue;
            };
            let port = Arc::clone(&port);
            tokio::spawn(async move {
                if let Err(failure) = Box::pin(port.shake_hands(tcp, places)).await {
                    port.failed(peer, &failure);
                }
            });
        }
    }

    fn failed(&self, peer: SocketAddr, error: &str) {
        self.metrics.handshake_failures.inc();
        if let Some(unsaid) = FAILURES.now() {
            tracing::info!(%peer, error, unsaid, "TLS handshake failed");
        }
    }

    async fn shake_hands(
        &self,
        tcp: TcpStream,
        (place, among_strangers): (Place, Place),
    ) -> Result<(), String> {
        // Small messages must not wait for acknowledgements; failing that, they do.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let tls = TlsAcceptor::from(Arc::clone(&self.tls.borrow()));
        let stream = timeout(HANDSHAKE, tls.accept(tcp))
            .await
            .map_err(|_elapsed| format!("took longer than {HANDSHAKE:?}"))?
            .map_err(|error| error.to_string())?;
        // A failure to send means that the server is shutting down.
        let _sent = match stream.get_ref().1.peer_certificates() {
            Some(_verified) => {
                drop(among_strangers);
                self.proven.send(Ok(Connection::proven(stream, place))).await.is_ok()
            }
            None => {
                let stranger = Connection::stranger(stream, place, among_strangers);
                self.strangers.send(Ok(stranger)).await.is_ok()
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpSocket, time::Instant};
    use tulle_runtime::drain;

    use super::*;
    use crate::ca::{issue::Authority, roots::Roots};

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    async fn port(limits: Limits, readiness: Readiness) -> (SocketAddr, Arc<Metrics>, impl Sized) {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::load_or_make(folder.path(), "cluster.local").unwrap();
        let authority = Authority::new(roots.clone(), Duration::from_secs(3600));
        let certificate = ServerCertificate::new(authority, vec!["x".to_owned()]).unwrap();
        let (current, tls) = watch::channel(tls(&roots.current(), certificate).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, (trigger, drain)) = (Arc::new(Metrics::default()), drain::channel());
        let incoming = incoming(listener, tls, limits, Arc::clone(&metrics), (readiness, drain));
        (address, metrics, (current, trigger, incoming))
    }

    /// Waits until the other side has closed; returns when.
    async fn closed(mut stream: TcpStream) -> Instant {
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)), "nobody said anything");
        Instant::now()
    }

    #[tokio::test]
    async fn whoever_stalls_in_its_handshake_keeps_nobody_else_out_and_not_for_long() {
        let limits = Limits { all: Room::new(9, 9), strangers: Room::new(3, 2) };
        let (address, metrics, _open) = port(limits, Readiness::new()).await;

        let begun = Instant::now();
        let (first, second) =
            (connect("127.0.0.2:0", address).await, connect("127.0.0.2:0", address).await);
        let at_once = closed(connect("127.0.0.2:0", address).await).await - begun;
        let third = connect("127.0.0.3:0", address).await;
        let also = closed(connect("127.0.0.4:0", address).await).await - begun;
        assert!(at_once < HANDSHAKE && also < HANDSHAKE, "{at_once:?} {also:?}");
        assert_eq!(metrics.connections_refused.get(), 2);
        for held in [first, second, third] {
            assert!(closed(held).await - begun >= HANDSHAKE);
        }
        // They are gone, and there is room again.
        let again = closed(connect("127.0.0.2:0", address).await).await;
        assert!(again - begun >= 2 * HANDSHAKE, "{:?}", again - begun);
    }

    #[tokio::test]
    async fn whoever_comes_too_early_waits() {
        let readiness = Readiness::new();
        let blocker = readiness.block("a slow source");
        let full = Limits { all: Room::new(0, 0), strangers: Room::new(0, 0) };
        let (address, metrics, _open) = port(full, readiness).await;
        let waiting = tokio::spawn(closed(connect("127.0.0.2:0", address).await));
        // As long as a connection that is accepted takes to be closed, and longer.
        let (other, _, _open) =
            port(Limits { all: Room::new(0, 0), ..Limits::default() }, Readiness::new()).await;
        closed(connect("127.0.0.2:0", other).await).await;
        assert!(!waiting.is_finished());
        assert_eq!(metrics.connections_refused.get(), 0);
        drop(blocker);
        waiting.await.unwrap();
        assert_eq!(metrics.connections_refused.get(), 1);
    }
}
