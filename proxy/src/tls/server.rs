//! Handshakes from another sidecar.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{Alpn, Certs, Error, Peer, Stream, verify::Identity};

/// What gRPC without a proxy offers as ALPN (RFC 9113, 3.2).
pub(super) const HTTP2: &[u8] = b"h2";

/// Makes `io` a connection from a workload of one of `trust_domains`, and says who it is and what
/// is inside. A workload that is no sidecar can have HTTP/2 inside, and proves who it is all the
/// same.
///
/// Not bounded in time. Dropping the future closes the connection.
///
/// # Errors
/// If the handshake fails or the peer is not of these trust domains.
pub async fn accept<I>(
    certs: &Certs,
    io: I,
    trust_domains: &[String],
) -> Result<(Stream<I>, Peer, Alpn), Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let current = certs.current().ok_or(Error::NoCertificate)?;
    let acceptor = TlsAcceptor::from(std::sync::Arc::clone(&current.server));
    let stream = acceptor.accept(io).await.map_err(Error::Handshake)?;
    let connection = stream.get_ref().1;
    // Also for a resumed session, which skips the verifier.
    let identity = Identity::of_peer(connection.peer_certificates())?;
    if identity.has_expired() {
        return Err(Error::Expired);
    }
    let mut peer = identity.peer;
    if !trust_domains.iter().any(|domain| domain == peer.id.trust_domain()) {
        return Err(Error::WrongTrustDomain { found: peer.id });
    }
    let alpn = match connection.alpn_protocol() {
        Some(HTTP2) => {
            peer.sidecar = false;
            Alpn::H2
        }
        other => other.and_then(Alpn::from_wire).ok_or(Error::NoAlpn)?,
    };
    Ok((Stream(Box::new(TlsStream::Server(stream))), peer, alpn))
}
