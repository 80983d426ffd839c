//! Connections to what is outside of the mesh and has a certificate of the usual authorities: those that the system
//! trusts.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::control_plane::resolve;
use crate::net::dial::dial;

/// Longest time for a TCP connection to one address, and for a TLS handshake.
const STEP: Duration = Duration::from_secs(5);

/// A connection, with TLS or without.
pub type Io = Box<dyn Stream>;

/// What a connection is.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to the first address of `host` that answers; with TLS if `server` is the name that its certificate must have.
///
/// # Errors
/// What failed, and what to look at.
pub async fn connect(
    host: &str,
    port: u16,
    server: Option<&str>,
    alpn: &'static [u8],
) -> io::Result<Io> {
    let addresses = resolve(host).await.map_err(io::Error::other)?;
    let mut failed = None;
    for ip in addresses {
        match dial((ip, port).into(), None, STEP).await {
            Ok(tcp) => {
                return match server {
                    None => Ok(Box::new(tcp)),
                    Some(server) => {
                        Ok(Box::new(handshake(roots(Instant::now())?, server, alpn, tcp).await?))
                    }
                };
            }
            Err(error) => failed = Some(error),
        }
    }
    let nothing = || io::Error::new(io::ErrorKind::NotFound, "it has no addresses");
    let error = failed.unwrap_or_else(nothing);
    Err(io::Error::new(error.kind(), format!("cannot connect to {host}:{port}: {error}")))
}

/// How long what the system trusts is taken as read.
const READ_FOR: Duration = Duration::from_secs(3600);

/// What was read last, and when: files of a hundred certificates and more, which a destination that is away would have read
/// with each try.
static READ: Mutex<Option<Read>> = Mutex::new(None);

type Read = (Instant, Arc<RootCertStore>);

/// What the system trusts.
fn roots(now: Instant) -> io::Result<Arc<RootCertStore>> {
    let mut known = READ.lock();
    if let Some((at, roots)) = &*known
        && now.saturating_duration_since(*at) < READ_FOR
    {
        return Ok(Arc::clone(roots));
    }
    let roots = Arc::new(read()?);
    *known = Some((now, Arc::clone(&roots)));
    Ok(roots)
}

/// Reads `SSL_CERT_FILE`, or what is where distributions have it.
fn read() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = "this system has no roots of certificates: is ca-certificates installed, or SSL_CERT_FILE set?";
        return Err(io::Error::other(why));
    }
    Ok(roots)
}

async fn handshake<S: Stream>(
    roots: Arc<RootCertStore>,
    server: &str,
    alpn: &[u8],
    tcp: S,
) -> io::Result<tokio_rustls::client::TlsStream<S>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = server.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let late = |_elapsed| Err(io::ErrorKind::TimedOut.into());
    let connected = timeout(STEP, connecting).await.unwrap_or_else(late);
    connected.map_err(|error| io::Error::new(error.kind(), format!("TLS with {server}: {error}")))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn a_server_is_who_its_certificate_says_or_nobody() {
        let names = vec!["collector.example".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let mut server = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        for (name, trusts, good) in [
            ("collector.example", true, true),
            ("collector.example", false, false),
            ("other.example", true, false),
        ] {
            let mut roots = RootCertStore::empty();
            if trusts {
                roots.add(cert.der().clone()).unwrap();
            }
            let (ours, theirs) = duplex(1 << 16);
            let accepted = tokio::spawn(acceptor.accept(theirs));
            let connected = handshake(Arc::new(roots), name, b"h2", ours).await;
            assert_eq!(connected.is_ok(), good, "{name} {trusts} {:?}", connected.as_ref().err());
            if let Ok(mut stream) = connected {
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                let mut server = accepted.await.unwrap().unwrap();
                stream.write_all(b"x").await.unwrap();
                assert_eq!(server.read_u8().await.unwrap(), b'x');
            }
        }
    }

    #[test]
    fn what_the_system_trusts_is_read_once_and_again_after_a_while() {
        let now = Instant::now();
        let first = roots(now).unwrap();
        assert!(Arc::ptr_eq(&first, &roots(now + READ_FOR / 2).unwrap()));
        let later = roots(now + READ_FOR).unwrap();
        assert!(
            !Arc::ptr_eq(&first, &later) && Arc::ptr_eq(&later, &roots(now + READ_FOR).unwrap())
        );
    }
}
