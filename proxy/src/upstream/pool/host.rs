//! One worker's connections to one endpoint.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Connection, Exclusive, Sender};
use crate::{
    request::body::RequestBody,
    upstream::{EndpointState, retire::Watch},
};

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct Host {
    endpoint: Weak<EndpointState>,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shareable>>,
    /// Held by whoever opens an HTTP/2 connection.
    pub(super) dialing: tokio::sync::Mutex<()>,
    /// Open connections of either kind.
    open: Arc<AtomicUsize>,
    /// The cluster's connections, of which these are a part.
    all: Connections,
}

/// Connections for HTTP to a cluster's endpoints, of all workers. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    open: Arc<AtomicUsize>,
    /// Those that carry requests.
    busy: Arc<AtomicUsize>,
}

/// An HTTP/1 connection without a request.
#[derive(Debug)]
struct Idle {
    sender: Exclusive,
    since: Instant,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shareable {
    sender: http2::SendRequest<RequestBody>,
    carrier: Arc<Carrier>,
    used: Instant,
}

/// A connection, as whoever is carried by it knows it.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    /// The streams of an HTTP/2 connection.
    streams: AtomicUsize,
    retired: AtomicBool,
}

/// One of what is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

/// A stream of a connection, which is busy as long as it has any.
#[derive(Debug)]
pub struct Stream {
    carrier: Arc<Carrier>,
    busy: Arc<AtomicUsize>,
}

impl Host {
    pub(super) fn new(endpoint: &Arc<EndpointState>, all: &Connections) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            idle: Mutex::default(),
            shared: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            open: Arc::default(),
            all: all.clone(),
        }
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more connection as open.
    pub(super) fn opened(&self) -> [Counted; 2] {
        [Counted::new(&self.open), Counted::new(&self.all.open)]
    }

    /// Counts one more connection as carrying a request.
    pub(super) fn busy(&self) -> Counted {
        Counted::new(&self.all.busy)
    }

    /// The idle connection that was used last.
    pub(super) fn idle(&self) -> Option<Exclusive> {
        let mut idle = self.idle.lock();
        idle.retain(|idle| !idle.sender.is_closed());
        let index = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.remove(index).sender)
    }

    /// Keeps a connection for the next request; beyond `most` the one that waited longest goes.
    pub(super) fn keep(&self, sender: Exclusive, most: usize) {
        let mut idle = self.idle.lock();
        idle.push(Idle { sender, since: Instant::now() });
        if idle.len() > most {
            idle.remove(0);
        }
    }

    /// A stream of the fullest connection that carries fewer than `most`, so that the others
    /// become idle.
    pub(super) fn stream(&self, most: usize) -> Option<Connection> {
        let mut all = self.shared.lock();
        all.retain(|connection| !connection.sender.is_closed());
        let (connection, _) = all
            .iter_mut()
            .map(|connection| {
                let streams = connection.carrier.streams.load(Ordering::Relaxed);
                (connection, streams)
            })
            .filter(|(_, streams)| *streams < most)
            .max_by_key(|(_, streams)| *streams)?;
        connection.used = Instant::now();
        let stream = Stream::new(&connection.carrier, &self.all);
        let sender = Sender::Http2(connection.sender.clone(), stream);
        Some(Connection { sender, reused: true })
    }

    /// The first stream of a new connection, which others share from now on.
    pub(super) fn share(
        &self,
        sender: http2::SendRequest<RequestBody>,
        carrier: Arc<Carrier>,
    ) -> Connection {
        let stream = Stream::new(&carrier, &self.all);
        let mut all = self.shared.lock();
        all.push(Shareable { sender: sender.clone(), carrier, used: Instant::now() });
        Connection { sender: Sender::Http2(sender, stream), reused: false }
    }

    /// Closes what was idle for too long; everything that is idle if the endpoint is gone. Whether
    /// anything is left to keep.
    pub(super) fn sweep(&self, now: Instant, idle_for: Duration) -> bool {
        let gone = self.endpoint.strong_count() == 0;
        let old = |since: Instant| gone || now.duration_since(since) >= idle_for;
        self.idle.lock().retain(|idle| !old(idle.since) && !idle.sender.is_closed());
        self.shared.lock().retain(|connection| {
            let unused = connection.carrier.streams.load(Ordering::Relaxed) == 0;
            let over = unused && old(connection.used);
            !(over || connection.sender.is_closed())
        });
        !gone || self.open() > 0
    }
}

/// Resolves when a connection to `host` must end because the cluster is retired. As soon as it is, none
/// that is there carries anything new; one that is opened later is for those who had chosen before.
pub(super) async fn retired(host: Weak<Host>, mut watch: Watch, within: Duration) {
    let let_go = || {
        if let Some(host) = host.upgrade() {
            host.idle.lock().clear();
            host.shared.lock().clear();
        }
    };
    watch.over(within, let_go).await;
}

impl Carrier {
    /// It ends because the cluster is retired. To be said before that.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

impl Connections {
    /// How many carry requests, and how many do not.
    pub fn count(&self) -> (usize, usize) {
        let busy = self.busy.load(Ordering::Relaxed);
        // One that was closed under its request is no longer open.
        (busy, self.open.load(Ordering::Relaxed).saturating_sub(busy))
    }
}

impl Stream {
    fn new(carrier: &Arc<Carrier>, all: &Connections) -> Self {
        if carrier.streams.fetch_add(1, Ordering::Relaxed) == 0 {
            all.busy.fetch_add(1, Ordering::Relaxed);
        }
        Self { carrier: Arc::clone(carrier), busy: Arc::clone(&all.busy) }
    }

    /// Whether its connection was ended because the cluster is retired.
    pub fn is_retired(&self) -> bool {
        self.carrier.is_retired()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.carrier.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
