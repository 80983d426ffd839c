//! A connection to another replica: each proves to be a pod of this control plane.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::ca::{attest::Attested, issue::Authority};

/// For a connection, and for a handshake.
const STEP: Duration = Duration::from_secs(3);

/// Why there is no connection.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Connects to the replica at `address`, which proves to be `name`, as the pod `own`.
///
/// # Errors
/// Whatever went wrong.
pub async fn connect(
    address: SocketAddr,
    name: &str,
    authority: &Authority,
    own: &Attested,
) -> Result<Channel, Failed> {
    let tls = TlsConnector::from(Arc::new(config(authority, own)?));
    let server = ServerName::try_from(name.to_owned())?;
    let tcp = timeout(STEP, TcpStream::connect(address)).await??;
    tcp.set_nodelay(true)?;
    let mut io = Some(TokioIo::new(timeout(STEP, tls.connect(server, tcp)).await??));
    let connector = tower::service_fn(move |_| {
        let io = io.take().ok_or_else(|| io::Error::other("the connection has ended"));
        async move { io }
    });
    // The scheme is tonic's business with TLS of its own; ours is below it.
    let endpoint = Endpoint::from_shared(format!("http://{name}:{}", address.port()))?;
    let endpoint = tulle_xds::client::long_lived(endpoint);
    Ok(Box::pin(endpoint.connect_with_connector(connector)).await?)
}

fn config(authority: &Authority, own: &Attested) -> Result<ClientConfig, Failed> {
    let (issued, key) = authority.own(own)?;
    let mut roots = RootCertStore::empty();
    for root in issued.root.trusted_here() {
        roots.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(issued.chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
