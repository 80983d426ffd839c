//! What is open to a version that was rolled back ends soon, and says why.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};
use tulle_xds::model::{Protocol, Released};

use super::{
    draining::line_echo,
    ends::{Does, echo, full, http1, http2, plays, post, text},
    harness::{CLUSTER, Pair, Sidecar, Told},
};
use crate::context::Settings;

const GRACE: Duration = Duration::from_millis(400);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

fn told() -> Told {
    let tune: fn(&mut Settings) = |settings| settings.retired_within = GRACE;
    Told { protocol: Protocol::Http, released: Released::Counted, tune, ..Told::default() }
}

impl Sidecar {
    /// The control plane says this of the cluster's endpoints from now on.
    fn release(&self, released: Released) -> Instant {
        let mesh = self.shared.store.current();
        let cluster = mesh.clusters()[CLUSTER];
        let mut settings = (*cluster.settings()).clone();
        settings.released = released;
        cluster.update(settings);
        Instant::now()
    }
}

/// A body of pieces that are sent one by one.
fn pieces() -> (mpsc::Sender<&'static str>, BoxBody<Bytes, Infallible>) {
    let (more, mut pieces) = mpsc::channel::<&'static str>(1);
    let frame = |piece: &'static str| Ok(Frame::data(Bytes::from(piece)));
    let body = stream::poll_fn(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(frame)));
    (more, BodyExt::boxed(StreamBody::new(body)))
}

fn call(body: BoxBody<Bytes, Infallible>) -> Request<BoxBody<Bytes, Infallible>> {
    let call = Request::post("http://cart/svc/Do").header("te", "trailers");
    call.header("content-type", "application/grpc").body(body).unwrap()
}

/// The next piece of an answer.
async fn next(response: &mut Response<Incoming>) -> Result<Frame<Bytes>, hyper::Error> {
    let next = timeout(Duration::from_secs(10), response.frame());
    next.await.expect("it goes on").expect("it ended as if all were well")
}

/// A mesh of one echo, behind a sidecar or not.
async fn mesh(meshed: bool) -> Pair {
    let (application, _) = echo().await;
    if meshed {
        return Pair::new(&[application], told()).await;
    }
    Pair::new(&[], Told { plain: vec![application], ..told() }).await
}

#[tokio::test]
async fn a_grpc_stream_ends_with_unavailable() {
    for meshed in [true, false] {
        let mut pair = mesh(meshed).await;
        let mut client = http2(pair.outbound).await;
        let (more, body) = pieces();
        more.send("one").await.unwrap();
        let mut response = client.send_request(call(body)).await.unwrap();
        assert_eq!(next(&mut response).await.unwrap().into_data().unwrap(), "one");

        let begun = pair.client.release(Released::Retired);
        // Until then it goes on.
        more.send("two").await.unwrap();
        assert_eq!(next(&mut response).await.unwrap().into_data().unwrap(), "two");
        let trailers = next(&mut response).await.unwrap().into_trailers().unwrap();
        assert!(begun.elapsed() >= GRACE, "{:?}", begun.elapsed());
        assert_eq!(trailers["grpc-status"], "14");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("rolled back"));
        assert!(response.frame().await.is_none());
        let record = pair.client.record().await;
        assert_eq!((&record["reason"], &record["status"]), (&"retired".into(), &200.into()));
        assert_eq!(record["grpc_status"], "UNAVAILABLE", "{record}");
        if meshed {
            // The application is rid of it, too.
            pair.server.record().await;
        }
    }
}

#[tokio::test]
async fn any_other_answer_is_broken_off() {
    for meshed in [true, false] {
        let mut pair = mesh(meshed).await;
        let (mut one, mut two) = (http1(pair.outbound).await, http2(pair.outbound).await);
        let (first, body) = pieces();
        first.send("one").await.unwrap();
        let request = Request::post("/").header("host", "cart").body(body).unwrap();
        let mut by_http1 = one.send_request(request).await.unwrap();
        let (second, body) = pieces();
        second.send("two").await.unwrap();
        let request = Request::post("http://cart/").body(body).unwrap();
        let mut by_http2 = two.send_request(request).await.unwrap();
        for response in [&mut by_http1, &mut by_http2] {
            assert!(next(response).await.unwrap().is_data());
        }
        let begun = pair.client.release(Released::Retired);
        for response in [&mut by_http1, &mut by_http2] {
            next(response).await.unwrap_err();
            assert!(begun.elapsed() >= GRACE, "{:?}", begun.elapsed());
            let record = pair.client.record().await;
            assert_eq!(
                (&record["reason"], &record["fault"]),
                (&"retired".into(), &"policy".into())
            );
        }
    }
}

#[tokio::test]
async fn who_waits_for_an_answer_is_told_why_there_is_none() {
    let (application, saw) = plays(|_, _| Does::Nothing).await;
    let mut pair = Pair::new(&[application], told()).await;
    let (mut one, mut two) = (http1(pair.outbound).await, http2(pair.outbound).await);
    let retire = async {
        while saw.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        pair.client.release(Released::Retired)
    };
    let (by_http1, by_grpc, _) =
        tokio::join!(one.send_request(post("x")), two.send_request(call(full("x"))), retire);
    let by_http1 = by_http1.unwrap();
    assert_eq!(by_http1.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(by_http1.headers()["x-tulle-reason"], "retired");
    assert_eq!(by_grpc.unwrap().headers()["grpc-status"], "14");
    assert_eq!(pair.client.record().await["reason"], "retired");
}

#[tokio::test]
async fn websockets_and_opaque_connections_are_closed() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upgrades = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let _request = stream.read(&mut [0; 1024]).await.unwrap();
        let changed =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
        stream.write_all(changed.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let wants = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    for (protocol, application, first) in
        [(Protocol::Http, upgrades, wants), (Protocol::Tcp, line_echo(b'H').await, "\n")]
    {
        let told = Told { protocol, plain: vec![application], ..told() };
        let mut pair = Pair::new(&[], told).await;
        let mut client = TcpStream::connect(pair.outbound).await.unwrap();
        client.write_all(first.as_bytes()).await.unwrap();
        // An answer: it is open all the way.
        assert_eq!(client.read_u8().await.unwrap(), b'H');
        let begun = pair.client.release(Released::Retired);
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await;
        let _reset_or_end = ended.expect("it stays open");
        assert!(begun.elapsed() >= GRACE, "{:?}", begun.elapsed());
        let record = pair.client.record().await;
        assert_eq!(record["reason"], "retired", "{record}");
    }
}

/// An HTTP/1 application, by hand: reads a request.
async fn asked(stream: &mut TcpStream) {
    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_ends_in_time_is_not_touched_and_idle_connections_close_at_once() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    let tune: fn(&mut Settings) = |settings| settings.retired_within = LONG;
    let mut pair = Pair::new(&[], Told { plain: vec![application], tune, ..told() }).await;
    let (mut one, mut two) = (http1(pair.outbound).await, http1(pair.outbound).await);

    let slow = tokio::spawn(one.send_request(post("a")));
    let (mut carrying, _) = listener.accept().await.unwrap();
    asked(&mut carrying).await;
    let fast = tokio::spawn(two.send_request(post("b")));
    let (mut idle, _) = listener.accept().await.unwrap();
    asked(&mut idle).await;
    idle.write_all(OK).await.unwrap();
    assert_eq!(text(fast.await.unwrap().unwrap()).await, "ok");
    pair.client.record().await;

    pair.client.release(Released::Retired);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    carrying.write_all(OK).await.unwrap();
    assert_eq!(text(slow.await.unwrap().unwrap()).await, "ok");
    assert_eq!(pair.client.record().await["reason"], serde_json::Value::Null);
    // Nor is that connection kept.
    assert_eq!(carrying.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_shared_connection_takes_nothing_new_and_closes_after_its_last_stream() {
    let tune: fn(&mut Settings) = |settings| settings.retired_within = LONG;
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[], Told { plain: vec![application], tune, ..told() }).await;
    let mut client = http2(pair.outbound).await;
    let (more, body) = pieces();
    more.send("one").await.unwrap();
    let mut response = client.send_request(call(body)).await.unwrap();
    assert!(next(&mut response).await.unwrap().is_data());
    let open = |pair: &Pair| {
        let mesh = pair.client.shared.store.current();
        let (busy, idle) = mesh.clusters()[CLUSTER].connections().count();
        busy + idle
    };
    assert_eq!(open(&pair), 1);
    pair.client.release(Released::Retired);
    tokio::task::yield_now().await;
    // Who had chosen before the route changed gets another one.
    let late = client.send_request(call(full("late"))).await.unwrap();
    assert_eq!(text(late).await, "late");
    assert_eq!(open(&pair), 2);
    drop(more);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    while open(&pair) > 1 {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        assert_eq!(pair.client.record().await["reason"], serde_json::Value::Null);
    }
}

#[tokio::test]
async fn taken_back_in_time_nothing_ends() {
    let pair = mesh(true).await;
    let mut client = http2(pair.outbound).await;
    let (more, body) = pieces();
    more.send("one").await.unwrap();
    let mut response = client.send_request(call(body)).await.unwrap();
    assert!(next(&mut response).await.unwrap().is_data());
    pair.client.release(Released::Retired);
    tokio::task::yield_now().await;
    pair.client.release(Released::Counted);
    tokio::time::sleep(2 * GRACE).await;
    more.send("two").await.unwrap();
    assert_eq!(next(&mut response).await.unwrap().into_data().unwrap(), "two");
}

#[tokio::test]
async fn it_ends_although_the_cluster_is_gone_by_then() {
    for protocol in [Protocol::Http, Protocol::Tcp] {
        let plain = vec![line_echo(b'H').await];
        let mut pair = match protocol {
            Protocol::Tcp => Pair::new(&[], Told { protocol, plain, ..told() }).await,
            _ => mesh(true).await,
        };
        let (more, body) = pieces();
        let mut opaque = TcpStream::connect(pair.outbound).await.unwrap();
        let mut response = None;
        if protocol == Protocol::Tcp {
            opaque.write_all(b"\n").await.unwrap();
            assert_eq!(opaque.read_u8().await.unwrap(), b'H');
        } else {
            more.send("one").await.unwrap();
            let sent = http2(pair.outbound).await.send_request(call(body)).await;
            assert!(next(response.insert(sent.unwrap())).await.unwrap().is_data());
        }
        pair.client.release(Released::Retired);
        pair.client.forgets();
        assert!(pair.client.shared.store.current().clusters().is_empty());
        match &mut response {
            None => drop(timeout(Duration::from_secs(10), opaque.read_u8()).await.unwrap()),
            Some(response) => assert!(next(response).await.unwrap().is_trailers()),
        }
        assert_eq!(pair.client.record().await["reason"], "retired");
    }
}
