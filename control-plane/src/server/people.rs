//! The TLS side of the port for people: whoever has a certificate of the cluster's own authority may show it, others come with a
//! token.
//!
//! Many have both, and their certificate may be of another authority than ours is told of. So the handshake takes any certificate
//! whose key the client holds, and none of them names anybody: who is asked for a name verifies it, [`crate::ca::subject`].

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tulle_runtime::{http::Terms, room::Room};

use super::TlsError;
use crate::ca::{server_certificate::ServerCertificate, subject::ClientAuthority};

/// What a connection is served under: a page asks every second on the same one, and may be far away.
pub fn terms() -> Terms {
    let wire = std::time::Duration::from_secs(30);
    Terms { body: 0, wire, keep_alive: true }
}

/// Connections at once. By way of the API server all people come from one address.
pub fn room() -> Room {
    Room::new(1024, 256)
}

/// The TLS side, where clients are asked for a certificate of this authority.
///
/// # Errors
/// If the provider has no TLS.
pub fn tls(
    certificate: Arc<ServerCertificate>,
    authority: &ClientAuthority,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match authority.verifier() {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(Unverified(verifier))),
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would skip the check of the client's certificate.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Keeps the TLS side true to the authority, forever: connections that are open stay. By whom their certificates are known
/// `vouching` says from then on.
pub async fn follow(
    mut authority: watch::Receiver<Arc<[CertificateDer<'static>]>>,
    certificate: Arc<ServerCertificate>,
    (vouching, current): (watch::Sender<ClientAuthority>, watch::Sender<Arc<ServerConfig>>),
) {
    while authority.changed().await.is_ok() {
        let known = Arc::clone(&authority.borrow_and_update());
        let made = ClientAuthority::new(&known).map_err(TlsError::from);
        let made = made.and_then(|known| Ok((tls(Arc::clone(&certificate), &known)?, known)));
        match made {
            Ok((tls, known)) => {
                vouching.send_replace(known);
                current.send_replace(tls);
            }
            Err(error) => tracing::error!(%error, "people are still known by the last authority"),
        }
    }
}

/// Takes any certificate whose key the client holds, and says nothing of whose it is.
#[derive(Debug)]
struct Unverified(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Nothing that a handshake says of a client is believed: a name comes of `ClientAuthority::vouch` alone.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
