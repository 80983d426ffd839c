//! Handshakes towards another sidecar.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, TlsStream};
use tulle_xds::model::SpiffeId;

use super::{
    Alpn, Certs, Error, Stream,
    verify::{self, Identity, Unexpected},
};

/// Makes `io` a connection to `expect` and nobody else, for what `alpn` says.
///
/// Not bounded in time. Dropping the future closes the connection.
///
/// # Errors
/// [`Error::WrongIdentity`] if another workload answers (its address was recycled): try another
/// endpoint. Else what went wrong in the handshake.
pub async fn connect<I>(
    certs: &Certs,
    io: I,
    expect: &SpiffeId,
    alpn: Alpn,
) -> Result<Stream<I>, Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let current = certs.current().ok_or(Error::NoCertificate)?;
    let connector = TlsConnector::from(current.client(alpn));
    let wrong = |found| Error::WrongIdentity { expected: expect.clone(), found };
    let connecting = connector.connect(verify::server_name(expect), io);
    let stream = connecting.await.map_err(|error| match verify::cause::<Unexpected>(&error) {
        Some(Unexpected(found)) => wrong(found.clone()),
        None if is_plaintext(&error) => Error::Plaintext,
        None => Error::Handshake(error),
    })?;
    let connection = stream.get_ref().1;
    // A resumed session skips the verifier: what it remembers is looked at again.
    let identity = Identity::of_peer(connection.peer_certificates())?;
    if identity.peer.id != *expect {
        return Err(wrong(identity.peer.id));
    }
    if identity.has_expired() {
        return Err(Error::Expired);
    }
    let chosen = connection.alpn_protocol();
    if !alpn.offers().iter().any(|offered| chosen == Some(offered)) {
        return Err(Error::NoAlpn);
    }
    Ok(Stream(Box::new(TlsStream::Client(stream))))
}

/// Whether what came was no TLS record at all.
fn is_plaintext(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}
