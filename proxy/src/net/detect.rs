//! What does a connection speak? Bounded bytes, bounded time.
//!
//! [`of`] looks at bytes and is pure. [`first_to_speak`] answers for a port on which nothing is
//! declared, where the server may be the one who speaks first: it waits for either side, so that
//! neither kind of protocol pays for the other.

mod client_hello;

pub use client_hello::ClientHello;

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::AsyncRead,
    time::{sleep, timeout},
};

use super::io::Prefixed;
use crate::tls::Alpn;

/// What a connection speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1: a request line.
    Http1,
    /// HTTP/2: its preface.
    Http2,
    /// TLS.
    Tls(ClientHello),
    /// None of these.
    Opaque,
}

impl Spoken {
    /// Whether it is HTTP of either version.
    pub fn is_http(&self) -> bool {
        matches!(self, Self::Http1 | Self::Http2)
    }

    /// Whether it is a TLS handshake of another proxy of ours.
    pub fn is_sidecar(&self) -> bool {
        matches!(self, Self::Tls(hello) if hello.is_sidecar())
    }

    /// Whether it is a TLS handshake that may lead to HTTP/2: what gRPC's own begins with.
    pub fn offers_http2(&self) -> bool {
        matches!(self, Self::Tls(hello) if hello.alpn.iter().any(|protocol| protocol == b"h2"))
    }

    /// Whether it is a proxy's handshake with opaque bytes inside.
    pub fn is_opaque_sidecar(&self) -> bool {
        let opaque = Alpn::Tcp.as_str().as_bytes();
        matches!(self, Self::Tls(hello) if hello.alpn.iter().any(|protocol| protocol == opaque))
    }
}

/// The start of every HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request line that is longer decides by its beginning.
const MOST: usize = 64 << 10;

/// When the server cannot be reached, the time in which an HTTP client says that it is one.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What `seen` is the beginning of; `None` if more bytes are needed.
pub fn of(seen: &[u8]) -> Option<Spoken> {
    match seen.first()? {
        0x16 => client_hello::parse(seen).map(|tls| tls.map_or(Spoken::Opaque, Spoken::Tls)),
        b'P' if PREFACE.starts_with(seen) && seen.len() < PREFACE.len() => None,
        b'P' if seen.starts_with(PREFACE) => Some(Spoken::Http2),
        _ => request_line(seen).map(|is| if is { Spoken::Http1 } else { Spoken::Opaque }),
    }
}

/// Whether `seen` begins with an HTTP/1 request line. SMTP, Redis and memcached have commands that
/// look like a method, so that the version at the line's end must be there, too.
fn request_line(seen: &[u8]) -> Option<bool> {
    // A server should ignore an empty line before the request (RFC 9112, 2.2).
    if seen == b"\r" {
        return None;
    }
    let seen = seen.strip_prefix(b"\r\n").unwrap_or(seen);
    let line = seen.split(|&b| b == b'\n').next().unwrap_or(seen);
    let complete = line.len() < seen.len();
    let mut parts = line.splitn(3, |&b| b == b' ');
    let method = parts.next().unwrap_or_default();
    if !method.iter().all(|&b| is_token(b)) || method.len() > 32 {
        return Some(false);
    }
    let Some(target) = parts.next() else {
        return complete.then_some(false);
    };
    if method.is_empty() || target.iter().any(|&b| b < 0x20 || b == 0x7f) {
        return Some(false);
    }
    match parts.next() {
        Some(version) if version.starts_with(b"HTTP/1.") => Some(true),
        Some(version) if !complete && b"HTTP/1.".starts_with(version) => None,
        Some(_) => Some(false),
        None if complete => Some(false),
        None if line.len() > MOST => Some(target.starts_with(b"/")),
        None => None,
    }
}

/// `tchar` of RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Waits for the client's first bytes, however long that takes, then `within` for its protocol to
/// show; what has not shown by then is opaque. `None` if the client ended without a byte.
///
/// Cancel safe: what was read stays in `client`.
///
/// # Errors
/// The client's connection's.
pub async fn client<C: AsyncRead + Unpin>(
    client: &mut Prefixed<C>,
    within: Duration,
) -> io::Result<Option<Spoken>> {
    if client.seen().is_empty() && client.fill().await? == 0 {
        return Ok(None);
    }
    let decide = async {
        loop {
            if let Some(spoken) = of(client.seen()) {
                return Ok(Some(spoken));
            }
            if client.fill().await? == 0 {
                return Ok(Some(Spoken::Opaque));
            }
        }
    };
    timeout(within, decide).await.unwrap_or(Ok(Some(Spoken::Opaque)))
}

/// The same of a client that has to begin, for which it has `silence`: whatever listens there never
/// speaks first.
///
/// # Errors
/// The client's connection's; [`io::ErrorKind::TimedOut`] if it has not begun.
pub async fn speaking_client<C: AsyncRead + Unpin>(
    client: &mut Prefixed<C>,
    silence: Duration,
    within: Duration,
) -> io::Result<Option<Spoken>> {
    if client.seen().is_empty() {
        let began = timeout(silence, client.fill()).await;
        let said_nothing = |_elapsed| {
            io::Error::new(io::ErrorKind::TimedOut, format!("not a byte within {silence:?}"))
        };
        if began.map_err(said_nothing)?? == 0 {
            return Ok(None);
        }
    }
    self::client(client, within).await
}

/// Who spoke first on a connection, and what is known by then.
#[derive(Debug)]
pub enum First<S, E> {
    /// The client, with something that is taken. If the server was dialled, that was given up.
    Client(Spoken),
    /// The client with something else, the server, or either one by ending: carry bytes between
    /// the client and this connection to the server, or this failure to have one.
    Opaque(Option<Spoken>, Result<Prefixed<S>, E>),
}

impl<S, E> First<S, E> {
    /// The word for labels.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Client(Spoken::Http1) => "http/1.1",
            Self::Client(Spoken::Http2) => "http/2",
            Self::Client(Spoken::Tls(_)) => "tls",
            Self::Client(Spoken::Opaque) | Self::Opaque(..) => "tcp",
        }
    }
}

/// How long to wait for whom.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The client's silence after which the server is dialled.
    pub grace: Duration,
    /// Once the client has begun to speak, the time in which its protocol must show.
    pub within: Duration,
}

/// Waits for the client or the server to speak. `takes` says what is of use without this
/// connection to the server.
///
/// # Errors
/// The client's connection's.
pub async fn first_to_speak<C, S, E>(
    client: &mut Prefixed<C>,
    dial: impl Future<Output = Result<S, E>>,
    takes: impl Fn(&Spoken) -> bool,
    patience: Patience,
) -> io::Result<First<S, E>>
where
    C: AsyncRead + Unpin,
    S: AsyncRead + Unpin,
{
    let mut dial = std::pin::pin!(dial);
    let decide = |spoken: Option<Spoken>, server| match spoken {
        Some(spoken) if takes(&spoken) => First::Client(spoken),
        spoken => First::Opaque(spoken, server),
    };
    let spoken = {
        let mut hello = std::pin::pin!(self::client(client, patience.within));
        let dialled = async {
            sleep(patience.grace).await;
            dial.as_mut().await
        };
        tokio::select! {
            biased;
            spoken = &mut hello => spoken?,
            server = dialled => return Ok(match server {
                Ok(server) => {
                    let mut server = Prefixed::new(server);
                    let spoken = tokio::select! {
                        biased;
                        spoken = &mut hello => spoken?,
                        // Bytes, the end or an error: whoever copies sees it again.
                        _spoke = server.fill() => None,
                    };
                    decide(spoken, Ok(server))
                }
                // Nothing is there. An HTTP client speaks at once and is owed a response; any
                // other one is owed a prompt end.
                Err(error) => match timeout(LAST_WORDS, hello).await {
                    Ok(spoken) => decide(spoken?, Err(error)),
                    Err(_elapsed) => First::Opaque(None, Err(error)),
                },
            }),
        }
    };
    Ok(match spoken {
        Some(spoken) if takes(&spoken) => First::Client(spoken),
        spoken => First::Opaque(spoken, dial.await.map(Prefixed::new)),
    })
}

/// Addresses at which clients were seen to begin with something that was taken: with HTTP, or with TLS for a server
/// of a known name. It only saves connections: what is
/// learnt wrongly costs a pause, never a wrong decision.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashSet<SocketAddr>>);

impl Seen {
    /// Beyond so many addresses all are forgotten, and learnt again.
    const MOST: usize = 4096;

    /// Whether the client at `address` began so last time.
    pub fn client_at(&self, address: SocketAddr) -> bool {
        self.0.lock().contains(&address)
    }

    /// Remembers whether the client at `address` began so.
    pub fn learn(&self, address: SocketAddr, client: bool) {
        let mut seen = self.0.lock();
        if !client {
            seen.remove(&address);
        } else if seen.len() < Self::MOST || seen.contains(&address) {
            seen.insert(address);
        } else {
            seen.clear();
        }
    }
}

/// Addresses from which sidecars called, and from which others did: a sidecar's first bytes are on their
/// way, and the server, which may speak first, must not answer in their place. What is learnt wrongly
/// costs a pause, or that the sidecar calls again.
#[derive(Debug, Default)]
pub struct Callers(Mutex<HashMap<IpAddr, bool>>);

impl Callers {
    /// Beyond so many addresses all are forgotten, and learnt again.
    const MOST: usize = 4096;

    /// The silence after which a caller is no sidecar.
    pub fn grace(&self, caller: IpAddr) -> Duration {
        Duration::from_millis(match self.0.lock().get(&caller) {
            Some(true) => 1000,
            None => 20,
            Some(false) => 2,
        })
    }

    /// Remembers whether it was one.
    pub fn learn(&self, caller: IpAddr, sidecar: bool) {
        let mut known = self.0.lock();
        if known.len() >= Self::MOST && !known.contains_key(&caller) {
            known.clear();
        }
        known.insert(caller, sidecar);
    }
}

#[cfg(test)]
pub(crate) use client_hello::tests::hello;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn a_sidecar_is_waited_for_and_a_stranger_is_not() {
        let callers = Callers::default();
        let ip = |n: u16| {
            let [high, low] = n.to_be_bytes();
            IpAddr::from([10, 244, high, low])
        };
        callers.learn(ip(1), true);
        callers.learn(ip(2), false);
        let [met, stranger, unknown] = [1, 2, 3].map(|n| callers.grace(ip(n)));
        assert!(stranger < unknown && unknown < met, "{stranger:?} {unknown:?} {met:?}");
        callers.learn(ip(1), false);
        assert_eq!(callers.grace(ip(1)), stranger, "another pod has its address now");
        (0..10_000).for_each(|n| callers.learn(ip(n), true));
        assert!(callers.0.lock().len() <= Callers::MOST);
    }

    #[test]
    fn protocols_are_told_apart() {
        for (bytes, spoken) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Spoken::Http1)),
            (b"M-SEARCH * HTTP/1.0", Some(Spoken::Http1)),
            (b"\r\nGET http://a/ HTTP/1.1", Some(Spoken::Http1)),
            (b"PROPFIND /x HTTP/1.1", Some(Spoken::Http1)),
            (b"POST /", None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"EHLO mail.example\r\n", Some(Spoken::Opaque)),
            (b"GET key\r\n", Some(Spoken::Opaque)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Spoken::Opaque)),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Some(Spoken::Opaque)),
            (b"\x16\x03", None),
            (b"\x16\x04\x01", Some(Spoken::Opaque)),
            (b"", None),
        ] {
            assert_eq!(of(bytes), spoken, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    proptest! {
        /// More bytes never change an answer.
        #[test]
        fn an_answer_stands(start in "(GET|P|PRI \\*|EHLO|x)?[ -~\r\n]{0,40}", more in "[ -~\r\n]{0,40}") {
            if let Some(spoken) = of(start.as_bytes()) {
                prop_assert_eq!(of(format!("{start}{more}").as_bytes()), Some(spoken));
            }
        }

        #[test]
        fn any_bytes_are_bounded(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _answer = of(&bytes);
        }
    }

    const WITHIN: Duration = Duration::from_millis(20);
    const PATIENCE: Patience = Patience { grace: Duration::from_millis(2), within: WITHIN };

    #[tokio::test]
    async fn a_server_that_speaks_first_is_heard() {
        let (_client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        server.write_all(b"220 hello\r\n").await.unwrap();
        let dial = async { Ok::<_, ()>(far) };
        let first = first_to_speak(&mut Prefixed::new(near), dial, Spoken::is_http, PATIENCE)
            .await
            .unwrap();
        let First::Opaque(None, Ok(mut far)) = first else { panic!("{first:?}") };
        let mut greeting = [0; 11];
        far.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 hello\r\n");
    }

    #[tokio::test]
    async fn a_client_that_speaks_http_drops_the_dialled_connection() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let (dialled, connected) = tokio::sync::oneshot::channel();
        let talk = async {
            connected.await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        };
        let mut near = Prefixed::new(near);
        let dial = async {
            dialled.send(()).unwrap();
            Ok::<_, ()>(far)
        };
        let speak = first_to_speak(&mut near, dial, Spoken::is_http, PATIENCE);
        let (first, ()) = tokio::join!(speak, talk);
        assert!(matches!(first.unwrap(), First::Client(Spoken::Http1)));
        assert_eq!(near.seen(), b"GET / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_client_that_stops_within_its_first_line_is_opaque() {
        let (mut client, near) = duplex(64);
        client.write_all(b"GET /").await.unwrap();
        let spoken = self::client(&mut Prefixed::new(near), WITHIN).await.unwrap();
        assert_eq!(spoken, Some(Spoken::Opaque));
    }

    #[tokio::test]
    async fn nothing_there_ends_a_silent_client_promptly() {
        let (_client, near) = duplex(64);
        let dial = async { Err::<tokio::io::DuplexStream, _>("refused") };
        let first = first_to_speak(&mut Prefixed::new(near), dial, Spoken::is_http, PATIENCE)
            .await
            .unwrap();
        assert!(matches!(first, First::Opaque(None, Err("refused"))));
    }
}
