//! A new connection to an endpoint: TCP, and mTLS if the endpoint is meshed. There is no way to
//! reach a meshed endpoint in plaintext.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tulle_xds::model::Endpoint;

use super::{
    Cluster, EndpointState,
    limits::{Bound, Permit},
};
use crate::{
    context::Shared,
    error::{Error, Reason, chain},
    net::dial::dial,
    telemetry::{Direction, Handshake},
    tls::{self, Alpn},
};

/// A connection, and its place among the cluster's.
#[derive(Debug)]
pub struct Established {
    /// The connection.
    pub io: Io,
    /// Its place; to be dropped with it.
    pub place: Permit,
}

/// Plaintext or TLS.
#[derive(Debug)]
pub enum Io {
    /// To an endpoint without sidecar.
    Plain(TcpStream),
    /// To an endpoint that proved its identity.
    Tls(tls::Stream<TcpStream>),
}

/// A place for one more connection; `None` if the limit is reached. As in Envoy, a worker that has
/// none open to the endpoint always gets one.
pub fn place(cluster: &Cluster, open: usize) -> Option<Permit> {
    match cluster.limits().take(Bound::Connections) {
        Ok(place) => Some(place),
        Err(_full) if open == 0 => Some(cluster.limits().take_anyway(Bound::Connections)),
        Err(_full) => None,
    }
}

/// Connects to `endpoint` within the cluster's time; `alpn` says to a sidecar what follows.
///
/// # Errors
/// [`Reason::Connect`] or [`Reason::Tls`], of a request that was never sent.
pub async fn establish(
    shared: &Shared,
    cluster: &Cluster,
    endpoint: &Arc<EndpointState>,
    alpn: Alpn,
    place: Permit,
) -> Result<Established, Error> {
    let deadline = Instant::now() + cluster.settings().connect_timeout;
    let told = endpoint.told();
    let mut tries = 1;
    loop {
        match once(shared, cluster, &told, alpn, deadline).await {
            Ok(io) => return Ok(Established { io, place }),
            Err(Failed { again: true, .. }) if tries < TRIES => tries += 1,
            Err(Failed { error, .. }) => return Err(error),
        }
    }
}

/// How often a meshed endpoint is tried whose application speaks before its sidecar has heard us. The
/// sidecar takes us for a stranger who waits for that: when either is slow, and the two never met.
const TRIES: u32 = 3;

/// Why a try failed, and whether the next one may do better.
struct Failed {
    error: Error,
    again: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, again: false }
    }
}

async fn once(
    shared: &Shared,
    cluster: &Cluster,
    told: &Endpoint,
    alpn: Alpn,
    deadline: Instant,
) -> Result<Io, Failed> {
    let within = cluster.settings().connect_timeout;
    let mut dialled = dial(told.address, cluster.source(), within).await;
    if let (Err(error), Some((address, source))) = (&dialled, cluster.other())
        && error.kind() == io::ErrorKind::ConnectionRefused
        && let Ok(stream) = dial(address, source, within).await
    {
        dialled = Ok(stream);
    }
    let tcp = dialled.map_err(|error| {
        let detail = format!("cannot connect to {}: {error}", told.address);
        Error::new(Reason::Connect, detail).never_sent()
    })?;
    let Some(identity) = &told.identity else {
        if !cluster.is_local() {
            shared.metrics.handshake(Direction::Outbound, Handshake::Plaintext);
        }
        return Ok(Io::Plain(tcp));
    };
    let connecting = Box::pin(tls::client::connect(&shared.certs, tcp, identity, alpn));
    let connected = timeout_at(deadline, connecting).await;
    let handshake = match connected {
        Ok(Ok(_)) => Handshake::Established,
        _ => Handshake::Failed,
    };
    shared.metrics.handshake(Direction::Outbound, handshake);
    let closed = |detail: &dyn fmt::Display| {
        let detail = format!("the sidecar at {} has no application: {detail}", told.address);
        Error::new(Reason::Connect, detail).never_sent()
    };
    let failed = |detail: String| {
        let pod = if told.pod.is_empty() { "its pod" } else { &told.pod };
        let detail = format!(
            "no TLS with {} as {identity}: {detail} (if {pod} was replaced, this passes by itself)",
            told.address
        );
        Error::new(Reason::Tls, detail).never_sent()
    };
    match connected {
        Ok(Ok(mut stream)) => {
            if stream.alpn() == Some(Alpn::TcpReady) {
                match timeout_at(deadline, stream.read_u8()).await {
                    Ok(Ok(_ready)) => {}
                    Ok(Err(error)) => return Err(closed(&error).into()),
                    Err(_elapsed) => return Err(closed(&format!("silent for {within:?}")).into()),
                }
            }
            Ok(Io::Tls(stream))
        }
        Ok(Err(error)) => {
            let again = matches!(error, tls::Error::Plaintext);
            Err(Failed { error: failed(chain(&error)), again })
        }
        Err(_elapsed) => Err(failed(format!("no handshake within {within:?}")).into()),
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }
}
