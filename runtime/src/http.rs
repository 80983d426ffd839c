//! The small admin server: readiness, metrics, dumps. Not for traffic: bodies are read whole, a
//! connection ends with its answer unless its terms say otherwise, and connections (in all and of one source), body sizes and times
//! are bounded: strangers can reach it, and the kubelet must. Over TCP no page in a browser gets an
//! answer ([`Names`]).

mod ask;
mod browser;

use std::{
    convert::Infallible, future::pending, io, net::IpAddr, pin::Pin, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use self::{
    ask::{Unanswered, Unread, ask, exchange, over, within},
    browser::Names,
};
use crate::{drain::Drain, room::Room};

/// Connections at once. Probes of slow applications hold theirs as long as they take.
const CONNECTIONS: usize = 256;
/// Of one address: a node's kubelet asks for all containers of a pod at once.
const OF_ONE: usize = 32;
const BODY: usize = 64 << 10;
/// Bytes of a request's head. (The codec's own bound is 400 KiB, for each stranger.)
const HEAD: usize = 32 << 10;
/// For an answer to be found, unless the handler says otherwise.
pub const TIME: Duration = Duration::from_secs(10);
/// For a request to come, and for its answer to leave: each is some kilobytes.
const WIRE: Duration = Duration::from_secs(5);
/// Long enough for a file descriptor to come free, short enough for a probe not to fail.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection is served under.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Most bytes of a request's body.
    pub body: usize,
    /// For a request to come, and for its answer to leave.
    pub wire: Duration,
    /// Another request may follow on the connection, for as long as one may take to come.
    pub keep_alive: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { body: BODY, wire: WIRE, keep_alive: false }
    }
}

/// What answers a request.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`. Dropped if the client goes away.
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send;

    /// How long an answer to `request` may take.
    fn limit(&self, _request: &Request<Bytes>) -> Duration {
        TIME
    }
}

impl<F, R> Handler for F
where
    F: Fn(Request<Bytes>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Bytes>> + Send,
{
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        self(request)
    }
}

/// Serves whoever asks by an address or one of the `names`, until the drain starts.
pub async fn serve_tcp(listener: TcpListener, handler: impl Handler, names: Names, drain: Drain) {
    let accept = || async { listener.accept().await.map(|(io, peer)| (io, Some(peer.ip()))) };
    serve(handler, Some(names), drain, accept).await;
}

/// Serves until the drain starts. No browser gets here.
pub async fn serve_unix(listener: UnixListener, handler: impl Handler, drain: Drain) {
    let accept = || async { listener.accept().await.map(|(io, _)| (io, None)) };
    serve(handler, None, drain, accept).await;
}

/// A plain text answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    answer(status, "text/plain; charset=utf-8", body)
}

/// An answer of any type.
pub fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

async fn serve<Io, A>(
    handler: impl Handler,
    names: Option<Names>,
    drain: Drain,
    accept: impl Fn() -> A,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Future<Output = io::Result<(Io, Option<IpAddr>)>>,
{
    let handler = Arc::new(handler);
    let room = Room::new(CONNECTIONS, OF_ONE);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => return,
            accepted = accept() => accepted,
        };
        let (io, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin server cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = room.enter(source) else {
            tracing::debug!(?source, "too many admin connections, closing this one");
            continue;
        };
        let (handler, names) = (Arc::clone(&handler), names.clone());
        tokio::spawn(async move {
            let _place = place;
            connection(io, &*handler, names.as_ref(), Terms::default()).await;
        });
    }
}

/// Serves a connection that somebody else has accepted.
pub async fn serve_on<Io>(io: Io, handler: &impl Handler, terms: Terms)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    connection(io, handler, None, terms).await;
}

async fn connection<Io>(io: Io, handler: &impl Handler, names: Option<&Names>, terms: Terms)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (clock, deadline) = watch::channel(Some(Instant::now() + terms.wire));
    let clock = &clock;
    let service = service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(respond(request, handler, names, terms, clock).await)
    });
    // The deadline of the connection is the head's as well.
    let mut http = http1::Builder::new();
    http.keep_alive(terms.keep_alive).header_read_timeout(None).max_buf_size(HEAD);
    let served: Pin<Box<_>> = Box::pin(http.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
        }
        () = overdue(deadline) => tracing::debug!("admin connection too slow, closing it"),
    }
}

/// Resolves once the deadline of the moment has passed.
async fn overdue(mut deadline: watch::Receiver<Option<Instant>>) {
    loop {
        let at = *deadline.borrow_and_update();
        let passed = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = passed => return,
            // The sender lives as long as the connection.
            _moved = deadline.changed() => {}
        }
    }
}

/// Answers, and sets the connection's deadline: none while the handler works, which has its own.
async fn respond(
    request: Request<Incoming>,
    handler: &impl Handler,
    names: Option<&Names>,
    Terms { body: most, wire, .. }: Terms,
    clock: &watch::Sender<Option<Instant>>,
) -> Response<Full<Bytes>> {
    if let Some(refusal) = names.and_then(|names| names.refusal(&request)) {
        return refusal.map(Full::new);
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, most).collect().await else {
        let too_large = format!("at most {most} bytes\n");
        return text(StatusCode::PAYLOAD_TOO_LARGE, too_large).map(Full::new);
    };
    let request = Request::from_parts(head, body.to_bytes());
    let limit = handler.limit(&request);
    clock.send_replace(None);
    let answered = timeout(limit, handler.handle(request)).await;
    clock.send_replace(Some(Instant::now() + wire));
    let late = || text(StatusCode::REQUEST_TIMEOUT, format!("took longer than {limit:?}\n"));
    answered.unwrap_or_else(|_| late()).map(Full::new)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::{TcpSocket, TcpStream},
        task::JoinHandle,
    };

    use super::*;
    use crate::drain;

    async fn echo(request: Request<Bytes>) -> Response<Bytes> {
        text(StatusCode::OK, format!("{} {}", request.method(), request.uri()))
    }

    async fn start() -> (SocketAddr, drain::Trigger, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, drain) = drain::channel();
        (address, trigger, tokio::spawn(serve_tcp(listener, echo, Names::default(), drain)))
    }

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn answers_once_and_stops_at_the_drain() {
        let (address, trigger, server) = start().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // To its end: nobody asked for that.
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("GET /ready"), "{answer}");

        trigger.start();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_stranger_that_holds_connections_keeps_nobody_out() {
        let (address, _trigger, _server) = start().await;
        let mut held = Vec::new();
        for _ in 0..OF_ONE {
            held.push(connect("127.0.0.2:0", address).await);
        }
        // Accepted in the order of their coming: this one is the first too many.
        let mut surplus = connect("127.0.0.2:0", address).await;
        assert!(!matches!(surplus.read(&mut [0]).await, Ok(1..)));
        let mut kubelet = connect("127.0.0.1:0", address).await;
        kubelet.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        kubelet.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_page_in_a_browser_gets_no_answer() {
        let (address, _trigger, _server) = start().await;
        let by_address = format!("GET /metrics HTTP/1.1\r\nhost: {address}");
        for (head, status) in [
            (by_address.clone(), 200),
            // A probe, a scrape, curl with a Service's name; a health check of HTTP/1.0.
            (
                "GET /ready HTTP/1.1\r\nhost: [fd00::7]:15021\r\nuser-agent: kube-probe/1.36"
                    .into(),
                200,
            ),
            ("GET /metrics HTTP/1.1\r\nhost: web.shop.svc.cluster.local:15021".into(), 200),
            ("GET /ready HTTP/1.0".into(), 200),
            ("GET /metrics HTTP/1.1\r\nhost: evil.example:15021".into(), 421),
            ("GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost".into(), 421),
            ("GET /metrics HTTP/1.1\r\nhost:".into(), 421),
            (format!("{by_address}\r\norigin: http://evil.example"), 403),
            (format!("{by_address}\r\norigin: null"), 403),
            (format!("{by_address}\r\norigin: http://{address}"), 403),
        ] {
            let answer = ask(address, &head).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} "))
                    || answer.starts_with(&format!("HTTP/1.0 {status} ")),
                "{head}: {answer}"
            );
            assert!(!answer.contains("access-control"), "{answer}");
        }
        let refused = ask(address, "GET / HTTP/1.1\r\nhost: evil.example").await;
        assert!(refused.contains("\"evil.example\" is no name of this server"), "{refused}");
    }

    /// Takes its time, and says much.
    struct Slow;

    impl Handler for Slow {
        async fn handle(&self, _: Request<Bytes>) -> Response<Bytes> {
            sleep(2 * WIRE).await;
            text(StatusCode::OK, vec![b'x'; 64 << 10])
        }

        fn limit(&self, _: &Request<Bytes>) -> Duration {
            Duration::MAX
        }
    }

    /// How long a connection lives on which the client says `said` and reads nothing.
    async fn life(said: &str, handler: impl Handler) -> Duration {
        let (mut client, server) = duplex(1024);
        client.write_all(said.as_bytes()).await.unwrap();
        let begun = Instant::now();
        connection(server, &handler, None, Terms::default()).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_cut_off() {
        assert_eq!(life("", echo).await, WIRE);
        assert_eq!(life("GET /ready HTTP/1.1\r\nhost:", echo).await, WIRE);
        let body = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx";
        assert_eq!(life(body, echo).await, WIRE);
        // What the handler takes is its own business; the answer has its time again.
        let unread = life("GET / HTTP/1.1\r\nhost: x\r\n\r\n", Slow).await;
        assert_eq!(unread, 3 * WIRE);
    }
}
