//! The control plane's own certificate: made in memory, renewed in place.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::issue::Authority;

/// The names that clients expect of a control plane in this namespace: its Service's, short and whole.
pub fn names(namespace: &str, cluster_domain: &str) -> Vec<String> {
    let short = format!("tulle-control-plane.{namespace}.svc");
    let whole = format!("{short}.{cluster_domain}");
    vec![short, whole]
}

/// The server's current certificate. New handshakes get the newest one.
pub struct ServerCertificate {
    authority: Authority,
    names: Vec<String>,
    current: RwLock<Arc<CertifiedKey>>,
}

/// Why there is no certificate for the server.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServerCertificateError {
    #[error("the server's certificate: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("the server's key: {0}")]
    Key(#[from] rustls::Error),
}

impl ServerCertificate {
    /// Makes the first one.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn new(
        authority: Authority,
        names: Vec<String>,
    ) -> Result<Arc<Self>, ServerCertificateError> {
        let current = RwLock::new(Arc::new(make(&authority, &names)?));
        Ok(Arc::new(Self { authority, names, current }))
    }

    /// Renews it at half of its life, and when the root changes, forever. Cancel safe.
    pub async fn renew(&self) {
        let half = (self.authority.lifetime() / 2).max(Duration::from_secs(1));
        let mut root = self.authority.changes();
        loop {
            tokio::select! {
                () = tokio::time::sleep(half) => {}
                changed = root.changed() => if changed.is_err() { return },
            }
            match make(&self.authority, &self.names) {
                Ok(made) => *self.current.write() = Arc::new(made),
                Err(error) => tracing::error!(%error, "the old server certificate stays in use"),
            }
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

fn make(authority: &Authority, names: &[String]) -> Result<CertifiedKey, ServerCertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let issued = authority.server(names, &key)?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
    Ok(CertifiedKey::new(issued.chain, signer))
}
