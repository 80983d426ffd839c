use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{self, CryptoProvider},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use tokio::sync::watch;
use tulle_xds::model::SpiffeId;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    Alpn, BadIdentity,
    roots::Roots,
    server::HTTP2,
    verify::{Clients, Identity, Servers},
};

/// Sessions that are kept per kind of connection, each some 2 KiB with the peer's certificate.
const SESSIONS: usize = 64;

/// The certificate, key and roots in force. Clones share them; a handshake reads the newest.
#[derive(Clone)]
pub struct Certs {
    shared: Arc<Shared>,
}

struct Shared {
    provider: Arc<CryptoProvider>,
    current: ArcSwapOption<Current>,
    installed: watch::Sender<u64>,
}

/// What [`Certs::install`] takes. Its `Debug` shows no key.
pub struct Material {
    /// Certificates, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's private key, PKCS#8 DER.
    pub key: Vec<u8>,
    /// Every root that is trusted, DER.
    pub roots: Vec<Vec<u8>>,
}

/// One certificate with everything that handshakes need, built once.
pub(super) struct Current {
    pub(super) identity: Identity,
    pub(super) key: Arc<SingleCertAndKey>,
    pub(super) roots: Arc<Roots>,
    pub(super) server: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; Alpn::ALL.len()],
    root_info: Vec<RootInfo>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum BadCertificate {
    #[error("the certificate that the control plane issued cannot be used: {0}")]
    Identity(#[from] BadIdentity),
    #[error("the certificate that the control plane issued cannot be used: {0}")]
    Key(#[from] rustls::Error),
    #[error("the control plane sent no root that can be used: {0}")]
    Roots(String),
}

/// What the proxy's certificate says, for dumps: no keys.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateInfo {
    /// The identity.
    pub identity: SpiffeId,
    /// `NAMESPACE/POD`.
    pub pod: Option<String>,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// What is trusted.
    pub roots: Vec<RootInfo>,
}

/// A root certificate.
#[derive(Debug, Clone, Serialize)]
pub struct RootInfo {
    /// Distinguished name.
    pub subject: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Certs {
    /// None yet: handshakes fail with [`Error::NoCertificate`](super::Error::NoCertificate).
    pub fn new() -> Self {
        let shared = Shared {
            provider: Arc::new(crypto::aws_lc_rs::default_provider()),
            current: ArcSwapOption::empty(),
            installed: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts a certificate in force: the next handshake uses it, open connections stay.
    ///
    /// # Errors
    /// If it cannot be used; the one before stays.
    pub fn install(&self, material: &Material) -> Result<(), BadCertificate> {
        let current = Current::new(material, &self.shared.provider)?;
        self.shared.current.store(Some(Arc::new(current)));
        self.shared.installed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What is in force, for dumps.
    pub fn info(&self) -> Option<CertificateInfo> {
        self.current().map(|current| CertificateInfo {
            identity: current.identity.peer.id.clone(),
            pod: current.identity.peer.pod.clone(),
            serial: current.identity.serial.clone(),
            not_before: current.identity.not_before,
            not_after: current.identity.not_after,
            roots: current.root_info.clone(),
        })
    }

    /// Resolves once there is a certificate. Cancel safe.
    pub async fn installed(&self) {
        let mut installed = self.shared.installed.subscribe();
        let waited = installed.wait_for(|count| *count > 0).await;
        waited.expect("this handle keeps the sender");
    }

    /// Changes with each certificate that is installed.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.installed.subscribe()
    }

    /// Time from now until the certificate ends; zero if it has, or there is none.
    pub fn remaining(&self) -> Duration {
        let end = self.current().map_or(0, |current| current.identity.not_after);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or(0));
        end.duration_since(SystemTime::now()).unwrap_or_default()
    }

    pub(super) fn current(&self) -> Option<Arc<Current>> {
        self.shared.current.load_full()
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.shared.provider
    }
}

impl Default for Certs {
    fn default() -> Self {
        Self::new()
    }
}

impl Current {
    fn new(material: &Material, provider: &Arc<CryptoProvider>) -> Result<Self, BadCertificate> {
        let leaf = material.chain.first().ok_or(BadIdentity::Missing)?;
        let identity = Identity::read(leaf)?;
        let root_info = material.roots.iter().filter_map(|der| RootInfo::read(der)).collect();
        let roots = Arc::new(Roots::new(&material.roots)?);
        let chain = material.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(material.key.clone()));
        let key = CertifiedKey::from_der(chain, key, provider)?;
        let key = Arc::new(SingleCertAndKey::from(key));
        let servers = Servers::new(Arc::clone(&roots), provider);
        let mut clients = Vec::with_capacity(Alpn::ALL.len());
        for alpn in Alpn::ALL {
            let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
                .with_protocol_versions(&[&TLS13])?
                .dangerous() // What rustls calls any verifier that is not its own.
                .with_custom_certificate_verifier(Arc::clone(&servers) as _)
                .with_client_cert_resolver(Arc::clone(&key) as _);
            config.alpn_protocols = alpn.offers();
            config.enable_sni = false;
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            clients.push(Arc::new(config));
        }
        let clients = clients.try_into().expect("one for each ALPN");
        let server = server_config(&key, &roots, provider)?;
        Ok(Self { identity, key, roots, server, clients, root_info })
    }

    pub(super) fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        Arc::clone(&self.clients[alpn as usize])
    }
}

fn server_config(
    key: &Arc<SingleCertAndKey>,
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, BadCertificate> {
    let clients =
        Clients::new(roots, provider).map_err(|e| BadCertificate::Roots(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(key) as _);
    // Last what no sidecar offers.
    config.alpn_protocols = Alpn::ALL.map(|alpn| alpn.as_str().into()).into();
    config.alpn_protocols.push(HTTP2.to_vec());
    // Sessions live in tickets that the client keeps, sealed with a key of this configuration: they
    // end with it, so that a certificate or root that was replaced is never resumed.
    config.ticketer = crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

impl RootInfo {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let hash = digest(&SHA256, der);
        Some(Self {
            subject: certificate.subject().to_string(),
            sha256: hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

impl fmt::Debug for Certs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certs").field(&self.info()).finish()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("chain", &self.chain.len())
            .field("key", &"redacted")
            .field("roots", &self.roots.len())
            .finish()
    }
}
