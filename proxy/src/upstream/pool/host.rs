//! One worker's connections to one endpoint.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Connection, Exclusive, Sender};
use crate::{request::body::RequestBody, upstream::EndpointState};

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
    streams: Arc<AtomicUsize>,
    used: Instant,
}

/// One of what is counted, until it is dropped: a stream of a connection, or a connection.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Host {
    pub(super) fn new(endpoint: &Arc<EndpointState>) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            idle: Mutex::default(),
            shared: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            open: Arc::default(),
        }
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more connection as open.
    pub(super) fn opened(&self) -> Counted {
        Counted::new(&self.open)
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
                let streams = connection.streams.load(Ordering::Relaxed);
                (connection, streams)
            })
            .filter(|(_, streams)| *streams < most)
            .max_by_key(|(_, streams)| *streams)?;
        connection.used = Instant::now();
        let stream = Counted::new(&connection.streams);
        let sender = Sender::Http2(connection.sender.clone(), stream);
        Some(Connection { sender, reused: true })
    }

    /// The first stream of a new connection, which others share from now on.
    pub(super) fn share(&self, sender: http2::SendRequest<RequestBody>) -> Connection {
        let streams = Arc::default();
        let stream = Counted::new(&streams);
        let mut all = self.shared.lock();
        all.push(Shareable { sender: sender.clone(), streams, used: Instant::now() });
        Connection { sender: Sender::Http2(sender, stream), reused: false }
    }

    /// Closes what was idle for too long; everything that is idle if the endpoint is gone. Whether
    /// anything is left to keep.
    pub(super) fn sweep(&self, now: Instant, idle_for: Duration) -> bool {
        let gone = self.endpoint.strong_count() == 0;
        let old = |since: Instant| gone || now.duration_since(since) >= idle_for;
        self.idle.lock().retain(|idle| !old(idle.since) && !idle.sender.is_closed());
        self.shared.lock().retain(|connection| {
            let unused = connection.streams.load(Ordering::Relaxed) == 0;
            let over = unused && old(connection.used);
            !(over || connection.sender.is_closed())
        });
        !gone || self.open() > 0
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
