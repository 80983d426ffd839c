//! The TLS side of the port for people: whoever has a certificate of the cluster's own authority may show it, others come with a
//! token.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tulle_runtime::{http::Terms, room::Room};

use super::TlsError;
use crate::ca::server_certificate::ServerCertificate;

/// What a connection is served under: a page asks every second on the same one, and may be far away.
pub fn terms() -> Terms {
    let wire = std::time::Duration::from_secs(30);
    Terms { body: 0, wire, keep_alive: true }
}

/// Connections at once. By way of the API server all people come from one address.
pub fn room() -> Room {
    Room::new(1024, 256)
}

/// The TLS side, where clients are known by `authority`.
///
/// # Errors
/// If these are no certificates of an authority.
pub fn tls(
    certificate: Arc<ServerCertificate>,
    authority: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut roots = RootCertStore::empty();
    let (_added, odd) = roots.add_parsable_certificates(authority.iter().cloned());
    if odd > 0 {
        tracing::warn!(odd, "some certificates of the cluster's authority cannot be used");
    }
    let builder = if roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would skip the check of the client's certificate.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Keeps the TLS side true to the authority, forever: connections that are open stay.
pub async fn follow(
    mut authority: watch::Receiver<Arc<[CertificateDer<'static>]>>,
    certificate: Arc<ServerCertificate>,
    current: watch::Sender<Arc<ServerConfig>>,
) {
    while authority.changed().await.is_ok() {
        let known = Arc::clone(&authority.borrow_and_update());
        match tls(Arc::clone(&certificate), &known) {
            Ok(tls) => drop(current.send_replace(tls)),
            Err(error) => tracing::error!(%error, "people are still known by the last authority"),
        }
    }
}
