//! Connections to the control plane: gRPC over TLS, the server proven by its name and our roots.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::Resolver;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::{Certs, roots::Roots};
use crate::net::dial::dial;

/// Longest time for the name, for a TCP connection, and for a TLS handshake, each.
const STEP: Duration = Duration::from_secs(5);

/// Where the control plane is and how it is known.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// Host name or IP address.
    pub host: String,
    /// Port of its gRPC over TLS.
    pub port: u16,
    /// The name in its certificate.
    pub name: String,
    /// PEM file of the roots that it is known by; read anew for each connection.
    pub roots_file: PathBuf,
}

/// The connection of the moment, if there is one. All that is said to the control plane, and comes from it, goes by it.
pub type Connection = watch::Receiver<Option<Channel>>;

/// Whether the control plane learns who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// No: there is no certificate yet.
    Nobody,
    /// By our certificate.
    Workload,
}

/// No connection to the control plane, and what to do next.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum ConnectError {
    #[error("cannot read the roots in {}: {reason}; is the ConfigMap `tulle-roots` mounted there?", .file.display())]
    Roots { file: PathBuf, reason: String },
    #[error("{0:?} is no name that a certificate can have: check TULLE_CONTROL_PLANE_NAME")]
    Name(String),
    #[error(
        "cannot resolve {host}: {reason}; does /etc/resolv.conf name a DNS server that answers?"
    )]
    Resolve { host: String, reason: String },
    #[error(
        "cannot connect to {address}: {error}; is the control plane running, and does a NetworkPolicy let us through?"
    )]
    Tcp {
        address: SocketAddr,
        #[source]
        error: io::Error,
    },
    #[error("{address} is not trusted as {name}: {error}; the roots in {} may be of another installation", .file.display())]
    Untrusted { address: SocketAddr, name: String, file: PathBuf, error: io::Error },
    #[error("TLS with {address}: {error}; is this the control plane's gRPC port?")]
    Tls { address: SocketAddr, error: io::Error },
    #[error("gRPC: {0}")]
    Channel(#[from] tonic::transport::Error),
    #[error("this proxy has no certificate yet")]
    NoCertificate,
}

impl ControlPlane {
    /// A fresh connection. Its channel ends with it: it does not connect again by itself, so that
    /// the next one reads the current certificate and roots.
    ///
    /// # Errors
    /// The step that failed and what to do next.
    pub async fn connect(&self, certs: &Certs, who: As) -> Result<Channel, ConnectError> {
        let mut io = Some(TokioIo::new(self.open(certs, who).await?));
        let connector = tower::service_fn(move |_| {
            let io = io.take().ok_or_else(|| io::Error::other("the connection has ended"));
            async move { io }
        });
        // The scheme is tonic's business with TLS of its own; ours is below it.
        let endpoint = Endpoint::from_shared(format!("http://{}:{}", self.name, self.port))?;
        let endpoint = tulle_xds::client::long_lived(endpoint);
        Ok(Box::pin(endpoint.connect_with_connector(connector)).await?)
    }

    /// The connection underneath, for whoever speaks gRPC on it itself.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn open(
        &self,
        certs: &Certs,
        who: As,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, ConnectError> {
        Box::pin(self.handshake(certs, who)).await
    }

    async fn handshake(
        &self,
        certs: &Certs,
        who: As,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let connector = TlsConnector::from(Arc::new(self.tls(certs, who)?));
        let name = ServerName::try_from(self.name.clone())
            .map_err(|_invalid| ConnectError::Name(self.name.clone()))?;
        let (address, tcp) = self.reach().await?;
        let connecting = Box::pin(timeout(STEP, connector.connect(name, tcp)));
        let late = |_elapsed| Err(io::ErrorKind::TimedOut.into());
        connecting.await.unwrap_or_else(late).map_err(|error| {
            let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
                let (name, file) = (self.name.clone(), self.roots_file.clone());
                return ConnectError::Untrusted { address, name, file, error };
            }
            ConnectError::Tls { address, error }
        })
    }

    /// The first of its addresses that answers.
    async fn reach(&self) -> Result<(SocketAddr, TcpStream), ConnectError> {
        let mut failed = None;
        for ip in resolve(&self.host).await? {
            let address = SocketAddr::new(ip, self.port);
            match dial(address, None, STEP).await {
                Ok(stream) => return Ok((address, stream)),
                Err(error) => failed = Some(ConnectError::Tcp { address, error }),
            }
        }
        Err(failed.unwrap_or_else(|| unresolved(&self.host, &"it has no addresses")))
    }

    fn tls(&self, certs: &Certs, who: As) -> Result<ClientConfig, ConnectError> {
        let bad_roots =
            |reason: String| ConnectError::Roots { file: self.roots_file.clone(), reason };
        let file = self.read_roots().map_err(|e| bad_roots(e.to_string()))?;
        let current = certs.current();
        let file = Roots::new(&file).map_err(|e| bad_roots(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        match &current {
            Some(current) => {
                let domain = current.identity.peer.id.trust_domain();
                // A root may be newer in memory or in the file.
                for known in [&file, &*current.roots] {
                    roots.extend(known.of(domain).roots.iter().cloned());
                }
            }
            // Which is our trust domain is not known yet.
            None => file.each().for_each(|(_, of)| roots.extend(of.roots.iter().cloned())),
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(certs.provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| bad_roots(e.to_string()))?
            .with_root_certificates(roots);
        let mut config = match who {
            As::Nobody => builder.with_no_client_auth(),
            As::Workload => {
                let current = current.ok_or(ConnectError::NoCertificate)?;
                builder.with_client_cert_resolver(Arc::clone(&current.key) as _)
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// The roots' file now: certificates, DER.
    pub(super) fn read_roots(&self) -> io::Result<Vec<Vec<u8>>> {
        let pem = std::fs::read(&self.roots_file)?;
        let certificates = CertificateDer::pem_slice_iter(&pem);
        let read = certificates.map(|certificate| match certificate {
            Ok(certificate) => Ok(certificate.to_vec()),
            Err(error) => Err(io::Error::other(format!("not PEM: {error}"))),
        });
        let read: Vec<_> = read.collect::<io::Result<_>>()?;
        if read.is_empty() {
            return Err(io::Error::other("there is no certificate in it"));
        }
        Ok(read)
    }
}

/// The addresses of `host`, by the system's `resolv.conf` and `hosts` as they are now. Not by the
/// C library: a static binary has no use for its resolver.
pub(super) async fn resolve(host: &str) -> Result<Vec<IpAddr>, ConnectError> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let resolver = Resolver::builder_tokio()
        .and_then(hickory_resolver::ResolverBuilder::build)
        .map_err(|e| unresolved(host, &e))?;
    let found = timeout(STEP, resolver.lookup_ip(host))
        .await
        .map_err(|_elapsed| unresolved(host, &format!("no answer within {STEP:?}")))?
        .map_err(|e| unresolved(host, &e))?;
    Ok(found.iter().collect())
}

fn unresolved(host: &str, reason: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::Resolve { host: host.to_owned(), reason: reason.to_string() }
}
