//! A pod ends: what its sidecar does meanwhile, and what its callers notice of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, StatusCode, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tulle_runtime::{drain::Stage, ready::Readiness};
use tulle_xds::model::{MtlsMode, Protocol};

use super::{
    ends::{echo, full, http1, http2, post, serve_echo, text},
    harness::{Pair, Saw, Told},
};
use crate::run::Draining;

/// An application of our own that can be told to end: it closes its port and its idle connections at
/// once, and says nothing.
struct Rude {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Rude {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, accepting: tokio::spawn(serve_echo(listener, Saw::default())) }
    }

    async fn sigterm(self) {
        self.accepting.abort();
        assert!(self.accepting.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn callers_outside_are_served_and_told_to_go() {
    let (application, _) = echo().await;
    let pair = Pair::new(&[application], Told::default()).await;
    let mut idle = http1(pair.inbound[0]).await;
    assert_eq!(text(idle.send_request(post("a")).await.unwrap()).await, "a");
    let mut multiplexed = http2(pair.inbound[0]).await;
    let get = || Request::get("http://cart/").body(full("")).unwrap();
    assert_eq!(multiplexed.send_request(get()).await.unwrap().status(), 200);

    pair.server.triggers[0].advance(Stage::Announcing);
    // GOAWAY: this connection takes nothing more.
    while multiplexed.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    // A request may have been on its way on a connection that idled.
    let response = idle.send_request(post("b")).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(text(response).await, "b");
    assert!(idle.ready().await.is_err());
    // Who does not know yet is served, whatever he speaks.
    for stage in [Stage::Announcing, Stage::Refusing] {
        pair.server.triggers[0].advance(stage);
        let response = http1(pair.inbound[0]).await.send_request(post("c")).await.unwrap();
        assert_eq!(response.headers()["connection"], "close");
        let mut multiplexed = http2(pair.inbound[0]).await;
        for _ in 0..3 {
            assert_eq!(multiplexed.send_request(get()).await.unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn other_sidecars_are_sent_elsewhere_before_the_end() {
    for protocol in [Protocol::Http, Protocol::Detect] {
        let ((ending, saw_ending), (staying, saw_staying)) = (echo().await, echo().await);
        let told = Told { protocol, ..Told::default() };
        let pair = Pair::new(&[ending, staying], told).await;
        let (mut one, mut two) = (http1(pair.outbound).await, http2(pair.outbound).await);
        assert_eq!(text(one.send_request(post("x")).await.unwrap()).await, "x");
        pair.server.triggers[0].advance(Stage::Refusing);
        let before = saw_ending.lock().len();
        for _ in 0..10 {
            let response = one.send_request(post("once")).await.unwrap();
            assert_eq!((response.status(), text(response).await), (StatusCode::OK, "once".into()));
            let call = Request::post("http://cart/svc/Do").header("te", "trailers");
            let response = two.send_request(call.body(full("m")).unwrap()).await.unwrap();
            assert_eq!((response.status(), text(response).await), (StatusCode::OK, "m".into()));
        }
        assert_eq!(saw_ending.lock().len(), before);
        assert!(saw_staying.lock().len() >= 20);
    }
}

#[tokio::test]
async fn opaque_connections_are_sent_elsewhere_too_and_open_ones_stay() {
    let (ending, staying) = (line_echo(b'e').await, line_echo(b's').await);
    let told = Told { protocol: Protocol::Tcp, ..Told::default() };
    let pair = Pair::new(&[ending, staying], told).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(pair.outbound).await.unwrap();
        open.push((ask(&mut stream).await, stream));
    }
    pair.server.triggers[0].advance(Stage::Refusing);
    for _ in 0..6 {
        let mut stream = TcpStream::connect(pair.outbound).await.unwrap();
        assert_eq!(ask(&mut stream).await, b's');
    }
    assert!(open.iter().any(|(name, _)| *name == b'e'));
    for (name, stream) in &mut open {
        assert_eq!(ask(stream).await, *name);
    }
}

/// Answers each line with its name.
pub(super) async fn line_echo(name: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(b'\n') = stream.read_u8().await {
                    stream.write_all(&[name]).await.unwrap();
                }
            });
        }
    });
    address
}

pub(super) async fn ask(stream: &mut TcpStream) -> u8 {
    stream.write_all(b"\n").await.unwrap();
    stream.read_u8().await.unwrap()
}

/// The whole of it, again and again: callers keep posting, do not learn of new endpoints, and see
/// nothing.
#[tokio::test]
async fn an_application_that_closes_its_port_at_once_fails_nobody() {
    for _ in 0..3 {
        let (rude, staying) = (Rude::start().await, Rude::start().await);
        let told = Told { protocol: Protocol::Http, ..Told::default() };
        let mut pair = Pair::new(&[rude.address, staying.address], told).await;
        let (stop, stopped) = watch::channel(false);
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let version = if caller % 2 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
            callers.spawn(keep_calling(pair.outbound, version, stopped.clone()));
        }
        let draining = Draining::new(Readiness::new(), Duration::from_millis(400));
        draining.start();
        let shared = Arc::clone(&pair.server.shared);
        draining.run(&pair.server.triggers[0], || shared.locals.load()).await;
        rude.sigterm().await;
        pair.server.triggers[0].start();
        pair.server.triggers[0].finished().await;
        // And once more while nobody listens there at all.
        for _ in 0..20 {
            assert_eq!(call(pair.outbound, Version::HTTP_11).await, StatusCode::OK);
        }
        stop.send_replace(true);
        let mut sent = 0;
        while let Some(done) = callers.join_next().await {
            sent += done.unwrap();
        }
        assert!(sent > 100, "{sent}");
        drop(staying);
    }
}

/// How many times it went well; it never does otherwise.
async fn keep_calling(to: SocketAddr, version: Version, stopped: watch::Receiver<bool>) -> u64 {
    let mut sent = 0;
    while !*stopped.borrow() {
        assert_eq!(call(to, version).await, StatusCode::OK);
        sent += 1;
    }
    sent
}

/// Some requests on one connection, so that connections come and go as well.
async fn call(to: SocketAddr, version: Version) -> StatusCode {
    let mut worst = StatusCode::OK;
    if version == Version::HTTP_2 {
        let mut client = http2(to).await;
        for _ in 0..5 {
            let request = Request::post("http://cart/svc/Do").body(full("once")).unwrap();
            worst = worst.max(client.send_request(request).await.unwrap().status());
        }
    } else {
        let mut client = http1(to).await;
        for _ in 0..5 {
            let response = client.send_request(post("once")).await.unwrap();
            worst = worst.max(response.status());
            text(response).await;
        }
    }
    worst
}

#[tokio::test]
async fn an_open_connection_ends_when_policy_no_longer_allows_it() {
    let application = line_echo(b'a').await;
    let told = Told { protocol: Protocol::Tcp, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    let mut meshed = TcpStream::connect(pair.outbound).await.unwrap();
    let mut stranger = TcpStream::connect(pair.inbound[0]).await.unwrap();
    assert_eq!((ask(&mut meshed).await, ask(&mut stranger).await), (b'a', b'a'));
    pair.server.told(MtlsMode::Permissive);
    assert_eq!(ask(&mut stranger).await, b'a');
    pair.server.told(MtlsMode::Strict);
    assert!(stranger.read_u8().await.is_err());
    assert_eq!(pair.server.record().await["reason"], "denied");
    assert_eq!(ask(&mut meshed).await, b'a');
}
