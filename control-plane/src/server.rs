//! The gRPC port: TLS 1.3, client certificates verified if offered, bounded handshakes.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tulle_runtime::drain::Drain;

use crate::{
    ca::{root::Root, server_certificate::ServerCertificate},
    metrics::Metrics,
};

/// Handshakes at once: each is half a millisecond of CPU, and a stuck one costs a slot for
/// [`HANDSHAKE`].
const HANDSHAKES: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
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
    for trusted in root.trusted() {
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

/// Connections that have shaken hands, until the drain starts.
pub fn incoming(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
    drain: Drain,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (connections, incoming) = mpsc::channel(HANDSHAKES);
    let accept = accept(listener, tls, metrics, connections);
    tokio::spawn(async move {
        tokio::select! {
            () = drain.started() => {}
            () = accept => {}
        }
    });
    ReceiverStream::new(incoming)
}

async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
    connections: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let tls = TlsAcceptor::from(Arc::clone(&tls.borrow()));
        let connections = connections.clone();
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let _permit = permit;
            // Small messages must not wait for acknowledgements; failing that, they do.
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            let handshake = timeout(HANDSHAKE, Box::pin(tls.accept(tcp))).await;
            let failure = match handshake {
                Ok(Ok(stream)) => {
                    // An error means that the server is shutting down.
                    let _sent = connections.send(Ok(stream)).await.is_ok();
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "took longer than 10 s".to_owned(),
            };
            metrics.handshake_failures.inc();
            tracing::info!(%peer, error = failure, "TLS handshake failed");
        });
    }
}
