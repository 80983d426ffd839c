//! One opaque connection in flight.

use std::{
    future::pending,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rand::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    error::{Error, Reason},
    mesh::Destination,
    net::{
        copy::{self, Copied},
        detect::Spoken,
        dial::dial,
        idle::{self, Idle},
        io::Prefixed,
        listen,
    },
    request::{Connection, admit, route::Draw, target},
    telemetry::Record,
    tls::Alpn,
    upstream::{
        Active, Cluster, EndpointState,
        connect::{self, Established, Io},
        eject::{self, Verdict},
        limits::Permit,
    },
};

/// Endpoints that are tried before a client is told that there is none.
const MOST_TRIES: usize = 5;

/// How long a destination outside of the mesh may take: about as long as Linux itself tries.
const EXTERNAL: Duration = Duration::from_secs(130);

/// A connection to a server, and what is held as long as it is open.
#[derive(Debug)]
pub struct Server {
    io: Io,
    cluster: Arc<Cluster>,
    endpoint: Arc<EndpointState>,
    attempts: u32,
    idle: Option<Duration>,
    _active: Active,
    _place: Permit,
}

/// Connects to one of the destination's backends for a client that began with `spoken`, or without regard to
/// that; by weight.
///
/// # Errors
/// The last endpoint's, or that there is none.
pub async fn dial_backend(
    connection: &Connection,
    destination: &Destination,
    spoken: Option<&Spoken>,
) -> Result<Server, Error> {
    let named = spoken.and_then(|spoken| destination.named(spoken));
    if named.is_none() && destination.listener.only_named {
        let detail = "the client names no server (SNI) that a route of this address is about";
        return Err(Error::new(Reason::RouteNotFound, detail));
    }
    let backends = named.unwrap_or(&destination.listener.backends);
    let (_, cluster) = target::backend(destination, backends, Draw::Chance(rand::rng().random()))?;
    let server = dial_cluster(connection, cluster).await?;
    Ok(Server { idle: destination.listener.idle, ..server })
}

/// Connects to an endpoint of `cluster`; to another one if that fails.
///
/// # Errors
/// The last endpoint's, or that there is none.
pub async fn dial_cluster(connection: &Connection, cluster: Arc<Cluster>) -> Result<Server, Error> {
    let shared = &connection.cx.shared;
    let mut tried = Vec::new();
    loop {
        let Some(endpoint) = cluster.pick(&tried) else {
            let detail = format!("{} has no ready endpoint", cluster.label());
            return Err(Error::new(Reason::NoEndpoint, detail));
        };
        let Some(place) = connect::place(&cluster, usize::MAX) else {
            shared.metrics.rejected("connections");
            return Err(Error::new(Reason::Overflow, "the limit of connections is reached"));
        };
        tried.push(endpoint.id());
        let active = endpoint.enter();
        let connecting = connect::establish(shared, &cluster, &endpoint, Alpn::TcpReady, place);
        let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        let error = match Box::pin(connecting).await {
            Ok(Established { io, place }) => {
                eject::report(shared, &cluster, &endpoint, Verdict::Answers);
                count(connection, &cluster, &endpoint, false);
                let (_active, _place) = (active, place);
                return Ok(Server { io, cluster, endpoint, attempts, idle: None, _active, _place });
            }
            Err(error) => error,
        };
        eject::report(shared, &cluster, &endpoint, Verdict::LocalFailure);
        count(connection, &cluster, &endpoint, true);
        let left = cluster.endpoints().eligible().iter().any(|e| !tried.contains(&e.id()));
        if !left || tried.len() >= MOST_TRIES {
            return Err(error);
        }
    }
}

/// Counts an attempt, if its endpoint is of a version that is being released.
fn count(connection: &Connection, cluster: &Cluster, endpoint: &EndpointState, bad: bool) {
    if cluster.is_being_released() {
        connection.cx.counts.dialled(&endpoint.told(), bad);
    }
}

/// Carries bytes between a client and `server` until both have ended.
pub async fn carry<C>(connection: &Connection, client: C, server: Prefixed<Server>)
where
    C: AsyncRead + AsyncWrite + Unpin + Abort,
{
    let mut record = connection.record();
    let mut server = server;
    server.get_ref().describe(&mut record);
    record.opened();
    if let Ok(Some(policy)) = admit::open(connection) {
        record.audited(policy);
    }
    let idle = server.get_ref().idle;
    let within = connection.cx.settings().retired_within;
    let retired = server.get_ref().cluster.retirement().watch().ended(within);
    between(connection, client, &mut server, idle, retired, record).await;
}

/// Carries bytes until both ends have ended, one has failed, nothing was carried for too long, the
/// server is `retired`, or policy no longer allows it.
async fn between<C, S>(
    connection: &Connection,
    mut client: C,
    server: &mut S,
    idle: Option<Duration>,
    retired: impl Future<Output = Error>,
    mut record: Record,
) where
    C: AsyncRead + AsyncWrite + Unpin + Abort,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let copied = Copied { sent: record.received(), received: record.sent() };
    let counters = || [record.received(), record.sent()];
    let mut idle = idle.map(|within| Idle::new(within, counters()));
    let ended = tokio::select! {
        biased;
        error = admit::revoked(connection) => Err(error),
        error = idle::expired(idle.as_mut()) => Err(error),
        error = retired => Err(error),
        ended = copy::both_ways(&mut client, server, &copied) => {
            ended.map_err(|(side, error)| side.failure(&error))
        }
    };
    match ended {
        Ok(()) => record.finish(),
        Err(error) => {
            record.fail(&error);
            client.abort();
        }
    }
}

/// Tells a client that there is no server, the way TCP does.
pub fn refuse<C: Abort>(connection: &Connection, client: C, error: &Error) {
    connection.record().fail(error);
    client.abort();
}

/// Carries bytes to where the client wanted, outside of the mesh.
pub async fn external(connection: &Connection, client: TcpStream) {
    let mut record = connection.record();
    record.external();
    let mut server = match dial(connection.destination, None, EXTERNAL).await {
        Ok(server) => server,
        Err(error) => {
            let detail = format!("cannot connect to {}: {error}", connection.destination);
            record.fail(&Error::new(Reason::Connect, detail));
            return client.abort();
        }
    };
    record.opened();
    between(connection, client, &mut server, None, pending(), record).await;
}

/// A connection that can be ended so that its other end sees a failure.
pub trait Abort {
    /// Ends it.
    fn abort(self);
}

impl Abort for TcpStream {
    fn abort(self) {
        listen::reset(self);
    }
}

impl<S: Abort> Abort for Prefixed<S> {
    fn abort(self) {
        self.into_inner().abort();
    }
}

/// Without a `close_notify` alert, TLS's other end sees a truncated stream.
impl<S> Abort for crate::tls::Stream<S> {
    fn abort(self) {}
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Server {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Server {
    fn describe(&self, record: &mut Record) {
        record.attempt(&self.cluster, &self.endpoint);
        record.attempts(self.attempts);
    }
}
