//! Who we are, and who the other side is: certificates, handshakes, identities.
//!
//! ```text
//!  [ enroll ] ── key, CSR, token ══► control plane ══► chain, roots
//!       └──────► [ certs ]  swapped in place
//!                 │      └─► [ server ] accept ─┐
//!                 └────────► [ client ] connect ┴─► [ verify ]  chain, then the SPIFFE id
//! ```
//!
//! Between sidecars TLS 1.3 only, both sides with a certificate, hybrid post-quantum key exchange
//! preferred, no 0-RTT (its bytes could be replayed). Our own ALPN values say what is inside.
//!
//! **Invariants.** Only this room names rustls. Private keys are born here, are never written
//! anywhere, and no `Debug` shows them. A peer is who its certificate says, and that is checked on
//! resumed sessions as well.

mod certs;
pub mod client;
pub mod control_plane;
pub mod enroll;
pub mod expiry;
mod roots;
pub mod server;
pub mod system;
pub mod unverified;
mod verify;

pub use certs::{BadCertificate, CertificateInfo, Certs, Material, RootInfo};
pub use verify::BadIdentity;

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tulle_xds::model::SpiffeId;

/// What is inside of a connection between two sidecars, as ALPN (RFC 7301) says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP requests, multiplexed on HTTP/2.
    H2,
    /// One HTTP/1.1 connection of its own, for upgrades.
    Http1,
    /// Opaque bytes, after one byte of the server's that says that it has its application: without
    /// it nothing has reached that, and the client may try another endpoint.
    TcpReady,
    /// Opaque bytes, and nothing else: for clients that are not ours.
    Tcp,
}

impl Alpn {
    /// All of them; of two that a client offers, the first is taken.
    pub const ALL: [Self; 4] = [Self::H2, Self::Http1, Self::TcpReady, Self::Tcp];

    /// The protocol's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H2 => "tulle-h2",
            Self::Http1 => "tulle-http/1.1",
            Self::TcpReady => "tulle-tcp-ready",
            Self::Tcp => "tulle-tcp",
        }
    }

    /// What a client offers that wants this.
    fn offers(self) -> Vec<Vec<u8>> {
        let offered: &[Self] = match self {
            Self::H2 => &[Self::H2],
            Self::Http1 => &[Self::Http1],
            Self::TcpReady => &[Self::TcpReady, Self::Tcp],
            Self::Tcp => &[Self::Tcp],
        };
        offered.iter().map(|alpn| alpn.as_str().into()).collect()
    }

    /// The protocol with this name on the wire; `None` for everybody else's.
    pub fn from_wire(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.as_str().as_bytes() == name)
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The identity that its certificate proves.
    pub id: SpiffeId,
    /// `NAMESPACE/POD` from its certificate, if that says so.
    pub pod: Option<String>,
    /// Name of the workload that the pod is of, if the certificate says so.
    pub workload: Option<String>,
    /// Whether it is a proxy of ours, which may say things about the connection that it carries.
    pub sidecar: bool,
}

impl Peer {
    /// What metrics call it: its workload; its ServiceAccount where that is not known.
    pub fn workload(&self) -> &str {
        self.workload.as_deref().unwrap_or_else(|| self.id.account())
    }
}

/// A handshake that failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum Error {
    #[error("this proxy has no certificate yet: see the readiness blocker `certificate`")]
    NoCertificate,
    #[error("TLS handshake: {0}")]
    Handshake(#[source] io::Error),
    #[error("its first bytes are no TLS: its application spoke before its sidecar heard us")]
    Plaintext,
    #[error("the peer proved no identity: {0}")]
    NoIdentity(#[from] BadIdentity),
    #[error(
        "the peer is {found}, expected {expected}: its address now belongs to another workload"
    )]
    WrongIdentity { expected: SpiffeId, found: SpiffeId },
    #[error("the peer is {found}, whose trust domain is not accepted")]
    WrongTrustDomain { found: SpiffeId },
    #[error("the certificate of a resumed session has expired")]
    Expired,
    #[error("the peer chose no application protocol of ours")]
    NoAlpn,
}

/// An encrypted connection to another sidecar.
pub struct Stream<I>(Box<tokio_rustls::TlsStream<I>>);

impl<I> Stream<I> {
    /// The connection underneath.
    pub fn get_ref(&self) -> &I {
        self.0.get_ref().0
    }

    /// What is inside.
    pub fn alpn(&self) -> Option<Alpn> {
        self.0.get_ref().1.alpn_protocol().and_then(Alpn::from_wire)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

impl<I> fmt::Debug for Stream<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tls::Stream")
    }
}

#[cfg(test)]
mod tests;
