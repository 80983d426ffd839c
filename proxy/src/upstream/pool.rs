//! Connections to endpoints, kept by one worker.
//!
//! HTTP/1 connections serve one request at a time and wait in a list, the one used last first, so
//! that the others become idle and are closed. HTTP/2 connections are shared by as many requests
//! as they may carry; one handshake at a time per endpoint, whose result all that wait share.

mod exclusive;
mod host;

pub use exclusive::Exclusive;
pub use host::{Connections, Stream};

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::Instant};

use host::{Carrier, Counted, Host};

use super::{
    Cluster, EndpointState,
    connect::{self, Established},
    limits::{Bound, Limits, Permit},
};
use crate::{
    context::{Shared, Tuned},
    error::{Error, Reason, chain},
    net::guard,
    request::body::RequestBody,
    tls::Alpn,
};

/// Requests that share an HTTP/2 connection before another one is opened.
const STREAMS_PER_CONNECTION: usize = 100;

/// The policies' field that bounds connections.
const CONNECTIONS: &[&str] = &["limits.connections"];

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    hosts: Mutex<HashMap<u64, Arc<Host>>>,
    tuned: Arc<Tuned>,
    swept: AtomicBool,
}

/// The HTTP version of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// HTTP/1.1, or HTTP/1.1 inside TLS.
    Http1,
    /// HTTP/2 with prior knowledge, or inside TLS between sidecars.
    Http2,
    /// An HTTP/1.1 connection that may become something else, and is never shared or kept.
    Upgrade,
}

/// A connection on which a request can be sent now.
#[derive(Debug)]
pub struct Connection {
    /// What sends.
    pub sender: Sender,
    /// Whether it has carried a request before: it may be closed by now without our knowing.
    pub reused: bool,
}

/// What sends a request.
#[derive(Debug)]
pub enum Sender {
    /// An HTTP/1 connection, for this request alone until it is given back.
    Http1(Loan),
    /// A stream of an HTTP/2 connection.
    Http2(http2::SendRequest<RequestBody>, Stream),
}

/// An HTTP/1 connection on loan. Dropping it closes the connection; [`give_back`](Self::give_back)
/// keeps it for the next request.
#[derive(Debug)]
pub struct Loan {
    /// What sends.
    pub sender: Exclusive,
    home: Option<Home>,
    _busy: Counted,
}

/// Where a connection waits for its next request.
#[derive(Debug)]
struct Home {
    host: Arc<Host>,
    cluster: Arc<Cluster>,
    /// How many may wait there.
    most: usize,
}

/// Which connections will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Any; one that was used before is best.
    Any,
    /// One that was not used before.
    Fresh,
}

impl Pool {
    /// No connections yet.
    pub fn new(tuned: Arc<Tuned>) -> Self {
        Self { hosts: Mutex::default(), tuned, swept: AtomicBool::new(false) }
    }

    /// A connection to `endpoint` of `cluster`.
    ///
    /// # Errors
    /// [`Reason::Connect`] or [`Reason::Tls`] if none can be opened, [`Reason::Overflow`] if too
    /// many requests wait for one. All of them are of a request that was never sent.
    pub async fn connection(
        &self,
        shared: &Shared,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<EndpointState>,
        hop: Hop,
        want: Want,
    ) -> Result<Connection, Error> {
        let host = self.host(endpoint, cluster);
        match hop {
            Hop::Http2 => self.multiplexed(shared, cluster, endpoint, &host, want).await,
            Hop::Http1 => {
                if want == Want::Any
                    && let Some(sender) = host.idle()
                {
                    return Ok(self.reused(sender, host, cluster));
                }
                self.exclusive(shared, cluster, endpoint, host, hop).await
            }
            Hop::Upgrade => self.exclusive(shared, cluster, endpoint, host, hop).await,
        }
    }

    fn host(&self, endpoint: &Arc<EndpointState>, cluster: &Cluster) -> Arc<Host> {
        let mut hosts = self.hosts.lock();
        let new = || Arc::new(Host::new(endpoint, cluster.connections()));
        Arc::clone(hosts.entry(endpoint.id()).or_insert_with(new))
    }

    fn home(&self, host: Arc<Host>, cluster: &Arc<Cluster>) -> Home {
        Home { host, cluster: Arc::clone(cluster), most: self.tuned.now().max_idle }
    }

    fn reused(&self, sender: Exclusive, host: Arc<Host>, cluster: &Arc<Cluster>) -> Connection {
        let _busy = host.busy();
        let home = Some(self.home(host, cluster));
        Connection { sender: Sender::Http1(Loan { sender, home, _busy }), reused: true }
    }

    /// A new HTTP/1 connection.
    async fn exclusive(
        &self,
        shared: &Shared,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<EndpointState>,
        host: Arc<Host>,
        hop: Hop,
    ) -> Result<Connection, Error> {
        loop {
            let freed = cluster.limits().freed();
            let place = connect::place(cluster, host.open());
            let Some(place) = place else {
                // All connections that the limit allows are busy: wait for one, as Envoy does.
                let _pending = pending(shared, cluster.limits())?;
                if tokio::time::timeout(cluster.settings().connect_timeout, freed).await.is_err() {
                    return Err(overflow("no connection became free in time")
                        .never_sent()
                        .set_by(CONNECTIONS));
                }
                if let Some(sender) = host.idle().filter(|_| hop == Hop::Http1) {
                    return Ok(self.reused(sender, host, cluster));
                }
                continue;
            };
            let _pending = pending(shared, cluster.limits())?;
            let established =
                connect::establish(shared, cluster, endpoint, Alpn::Http1, place).await?;
            let sender = self.handshake_http1(established, cluster, &host).await?;
            let _busy = host.busy();
            let home = (hop == Hop::Http1).then(|| self.home(host, cluster));
            let sender = Sender::Http1(Loan { sender, home, _busy });
            return Ok(Connection { sender, reused: false });
        }
    }

    async fn handshake_http1(
        &self,
        established: Established,
        cluster: &Cluster,
        host: &Arc<Host>,
    ) -> Result<Exclusive, Error> {
        let Established { io, place } = established;
        let settings = self.tuned.now();
        let (io, responses) = guard::responses(io, settings.http1_bounds());
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(settings.preserve_header_case)
            .max_headers(settings.max_headers)
            .max_buf_size(settings.max_head_bytes + (8 << 10))
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Error::new(Reason::Connect, chain(&error)).never_sent())?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = chain(&error), "an upstream connection ended");
            }
        });
        let carrier = self.watch(cluster, host, place, [Some(connection), None]);
        Ok(Exclusive::new(sender, responses, carrier))
    }

    /// A stream of an HTTP/2 connection, which is opened if there is none with room.
    async fn multiplexed(
        &self,
        shared: &Shared,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<EndpointState>,
        host: &Arc<Host>,
        want: Want,
    ) -> Result<Connection, Error> {
        if let Some(connection) = host.stream(STREAMS_PER_CONNECTION).filter(|_| want == Want::Any)
        {
            return Ok(connection);
        }
        let _pending = pending(shared, cluster.limits())?;
        let _dialing = host.dialing.lock().await;
        if let Some(connection) = host.stream(STREAMS_PER_CONNECTION) {
            return Ok(connection);
        }
        let Some(place) = connect::place(cluster, host.open()) else {
            // The connections that there are carry more, and queue what their peer does not allow.
            return host.stream(usize::MAX).ok_or_else(|| {
                overflow("the limit of connections is reached").never_sent().set_by(CONNECTIONS)
            });
        };
        let established = connect::establish(shared, cluster, endpoint, Alpn::H2, place).await?;
        let (sender, carrier) = self.handshake_http2(established, cluster, host).await?;
        Ok(host.share(sender, carrier))
    }

    async fn handshake_http2(
        &self,
        established: Established,
        cluster: &Cluster,
        host: &Arc<Host>,
    ) -> Result<(http2::SendRequest<RequestBody>, Arc<Carrier>), Error> {
        let Established { io, place } = established;
        let head = u32::try_from(self.tuned.now().max_head_bytes).unwrap_or(u32::MAX);
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(512 << 10)
            .initial_connection_window_size(2 << 20)
            .max_header_list_size(head)
            // A peer that vanished without a word is noticed within 40 s.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Error::new(Reason::Connect, chain(&error)).never_sent())?;
        let dispatch = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "an upstream connection ended");
            }
        });
        // With nobody left to send on it, it goes on for the streams that it has.
        let carrier = self.watch(cluster, host, place, [Some(dispatch), tasks.connection()]);
        Ok((sender, carrier))
    }

    /// Counts a connection, of which these are the tasks, until it has ended; ends it once the cluster is
    /// retired. That has a task of its own, which sleeps while the connection works.
    fn watch(
        &self,
        cluster: &Cluster,
        host: &Arc<Host>,
        place: Permit,
        mut tasks: [Option<JoinHandle<()>>; 2],
    ) -> Arc<Carrier> {
        let (open, carrier) = (host.opened(), Arc::<Carrier>::default());
        let (watch, within) = (cluster.retirement().watch(), self.tuned.now().retired_within);
        let (host, carried) = (Arc::downgrade(host), Arc::clone(&carrier));
        tokio::spawn(async move {
            let ended = async {
                for task in tasks.iter_mut().flatten() {
                    // An error means that it panicked: it has ended anyway.
                    let _failed = task.await.is_err();
                }
            };
            tokio::select! {
                biased;
                () = ended => {}
                () = host::retired(host, watch, within) => {
                    carried.retire();
                    tasks.iter().flatten().for_each(JoinHandle::abort);
                }
            }
            drop((open, place));
        });
        carrier
    }

    /// Closes what was idle for too long, for as long as the worker lives. Only the first call of
    /// a pool does something.
    pub async fn sweep(self: Arc<Self>) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let every = (self.tuned.now().idle_timeout / 4).max(Duration::from_secs(1));
        loop {
            tokio::time::sleep(every).await;
            self.sweep_once(Instant::now());
        }
    }

    fn sweep_once(&self, now: Instant) {
        let idle_for = self.tuned.now().idle_timeout;
        self.hosts.lock().retain(|_, host| host.sweep(now, idle_for));
    }
}

impl Loan {
    /// Keeps the connection for the next request. Call it when the response has ended.
    pub fn give_back(self) {
        if let Some(home) = self.home
            && !self.sender.is_closed()
            && !home.cluster.is_retired()
        {
            home.host.keep(self.sender, home.most);
            home.cluster.limits().notify_freed();
        }
    }
}

/// Spawns what an HTTP/2 connection consists of, and keeps the first: the connection itself. The
/// others send bodies on it.
#[derive(Debug, Clone, Default)]
struct Tasks(Arc<OnceLock<First>>);

type First = Mutex<Option<JoinHandle<()>>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let task = tokio::spawn(future);
        self.0.get_or_init(|| Mutex::new(Some(task)));
    }
}

impl Tasks {
    /// The connection itself, which ends after the last of its streams. None before the handshake.
    fn connection(&self) -> Option<JoinHandle<()>> {
        self.0.get()?.lock().take()
    }
}

fn pending(shared: &Shared, limits: &Limits) -> Result<Permit, Error> {
    limits.take(Bound::Pending).map_err(|full| {
        shared.metrics.rejected(full.what.as_str());
        overflow(full.to_string()).never_sent().set_by(&["limits.pending"])
    })
}

fn overflow(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Reason::Overflow, detail)
}
