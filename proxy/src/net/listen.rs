//! Accepting connections.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tulle_runtime::{drain::Drain, seldom::Seldom};

/// Pause after an accept failed for want of descriptors or memory: the queue is full of
/// connections then, so that the next accept would fail at once, and for ever.
const PAUSE: Duration = Duration::from_millis(50);

static PAUSES: Seldom = Seldom::new();

/// How the kernel finds out that the other side is gone without a word, its node for example: two
/// minutes after the last that came. Without it the connection would take its place for ever.
pub(super) fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6)
}

/// Binds one worker's listener on `address`. Every worker binds its own (`SO_REUSEPORT`): the
/// kernel spreads connections over them. An IPv6 wildcard is dual stack.
///
/// # Errors
/// What the kernel says, for example that the address is taken by another process.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // Dual stack for the wildcard; `[::1]` is IPv6 alone whatever this says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // What is accepted inherits it.
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the drain starts; `serve` gets each connection as a task of its own.
///
/// A connection beyond `limit` is reset at once.
pub async fn accept<F, Fut>(
    listener: TcpListener,
    limit: &ConnectionLimit,
    drain: Drain,
    mut serve: F,
) where
    F: FnMut(TcpStream, SocketAddr, Place) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                limit.paused.fetch_add(1, Ordering::Relaxed);
                if let Some(unsaid) = PAUSES.now() {
                    tracing::warn!(%error, unsaid, "cannot accept connections, pausing: is the limit of open files too low?");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = limit.enter() else {
            limit.refused.fetch_add(1, Ordering::Relaxed);
            reset(stream);
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
            continue;
        }
        let connection = serve(stream, super::capture::canonical(peer), place);
        let drain = drain.clone();
        tokio::spawn(async move {
            connection.await;
            drop(drain);
        });
    }
}

/// Errors of accept(2) that concern only the connection that would have been accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Closes a connection with a reset, so that its client sees a failure and no empty answer.
pub fn reset(stream: TcpStream) {
    if let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot reset a connection, closing it instead");
    }
}

/// A bound on open client connections, of all workers together.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    open: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    paused: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// One open connection; dropping it makes room.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl ConnectionLimit {
    /// At most `most` at once.
    pub fn new(most: usize) -> Self {
        Self {
            open: Arc::default(),
            refused: Arc::default(),
            paused: Arc::default(),
            most: Arc::new(AtomicUsize::new(most)),
        }
    }

    /// At most `most` at once from now on.
    pub fn bound(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many may be open.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many were refused so far.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often accepting paused so far, because the kernel gave no descriptor or memory.
    pub fn paused(&self) -> usize {
        self.paused.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.open));
        // Counted before it is compared, so that two workers cannot both take the last place.
        (self.open.fetch_add(1, Ordering::Relaxed) < self.most()).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::net::dial::dial;

    #[test]
    fn a_refused_connection_leaves_no_trace() {
        let limit = ConnectionLimit::new(1);
        let place = limit.enter();
        assert!(place.is_some() && limit.enter().is_none());
        assert_eq!(limit.open(), 1);
        drop(place);
        assert_eq!(limit.open(), 0);
    }

    #[tokio::test]
    async fn who_vanishes_is_missed_on_either_side() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let dialled = dial(listener.local_addr().unwrap(), None, Duration::from_secs(5)).await;
        let (dialled, (accepted, _)) = (dialled.unwrap(), listener.accept().await.unwrap());
        for stream in [dialled, accepted] {
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 60);
            assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 10);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 6);
        }
    }

    #[tokio::test]
    async fn two_workers_share_a_port_and_the_surplus_is_reset() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let _second = bind(address).unwrap();

        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let limit = ConnectionLimit::new(1);
        let (trigger, drain) = tulle_runtime::drain::channel();
        let (open, mut opened) = tokio::sync::mpsc::channel(1);
        let counted = limit.clone();
        let keep = move |stream, _, place| {
            let kept = open.try_send((stream, place));
            async move { kept.unwrap() }
        };
        let server = tokio::spawn(async move {
            accept(listener, &counted, drain, keep).await;
        });
        let _kept = TcpStream::connect(address).await.unwrap();
        let _accepted = opened.recv().await.unwrap();
        let mut surplus = TcpStream::connect(address).await.unwrap();
        assert!(surplus.read_u8().await.is_err());
        assert_eq!(limit.refused(), 1);
        trigger.start();
        server.await.unwrap();
    }
}
