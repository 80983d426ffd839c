//! What is counted of attempts at versions that are being released. Each endpoint here is of a revision of its own: its port.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tulle_proto::telemetry::v1::{Attempts, Direction};
use tulle_xds::model::{Limits, Protocol, Released, Retry, Rule};

use tulle_runtime::drain::Stage;

use super::{
    ends::{Does, echo, full, http1, http2, plays, raw},
    harness::{Pair, Sidecar, Told, forward, nobody},
    resilience::twice,
    telemetry::{call, trailers},
};

fn told(retry: Option<Retry>) -> Told {
    Told {
        rules: vec![Rule { retry, ..forward() }],
        protocol: Protocol::Http,
        released: Released::Counted,
        ..Told::default()
    }
}

async fn ask(pair: &mut Pair, method: Method) -> StatusCode {
    let request = Request::builder().method(method).uri("/").header("host", "cart");
    let sent = http1(pair.outbound).await.send_request(request.body(full("")).unwrap()).await;
    let status = sent.unwrap().status();
    pair.client.record().await;
    status
}

/// All and bad ones, of this revision as callers see it; and how many durations were measured.
fn counted(told: &[Attempts], revision: SocketAddr) -> (u64, u64, u64) {
    let revision = revision.port().to_string();
    let those = || told.iter().filter(|one| one.revision == revision);
    let measured = those().filter_map(|one| one.took.as_ref());
    let measured = measured.map(|took| took.zero + took.counts.iter().sum::<u64>()).sum();
    (those().map(|one| one.all).sum(), those().map(|one| one.bad).sum(), measured)
}

fn taken(sidecar: &Sidecar) -> Vec<Attempts> {
    sidecar.shared.metrics.attempts()
}

#[tokio::test]
async fn a_retry_hides_nothing() {
    let (bad, _) = plays(|_, _| Does::Answer(503)).await;
    let (good, _) = plays(|_, _| Does::Answer(200)).await;
    let none = nobody().await;
    // Endpoints without sidecar, one after the other.
    let told = Told { plain: vec![none, bad, good], ..told(Some(twice())) };
    let mut pair = Pair::new(&[], told).await;
    for _ in 0..6 {
        assert_eq!(ask(&mut pair, Method::GET).await, StatusCode::OK);
    }
    let told = taken(&pair.client);
    assert!(told.iter().all(|one| one.direction() == Direction::Outbound));
    assert!(told.iter().all(|one| (&*one.peer_namespace, &*one.peer) == ("shop", "cart")));
    assert_eq!(counted(&told, good), (6, 0, 6), "{told:?}");
    for at in [none, bad] {
        let (all, wrong, measured) = counted(&told, at);
        assert!(all > 0 && wrong == all && measured == all, "{told:?}");
    }
    assert_eq!(taken(&pair.client), [], "once");
}

#[tokio::test]
async fn both_ends_count_and_only_the_servers_faults_are_bad() {
    let script = |_: &http::request::Parts, nth| Does::Answer([200, 404, 500, 403][nth % 4]);
    let (application, _) = plays(script).await;
    let mut pair = Pair::new(&[application], told(None)).await;
    for _ in 0..4 {
        ask(&mut pair, Method::GET).await;
        pair.server.record().await;
    }
    assert_eq!(counted(&taken(&pair.client), pair.inbound[0]), (4, 1, 4));
    let [own] = &taken(&pair.server)[..] else { panic!("one caller") };
    assert_eq!(
        (own.direction(), &*own.peer_namespace, &*own.revision),
        (Direction::Inbound, "shop", "")
    );
    assert_eq!((own.all, own.bad), (4, 1));
}

#[tokio::test]
async fn what_is_not_released_is_not_counted_and_neither_is_what_we_refuse() {
    let (application, _) = plays(|_, _| Does::Answer(500)).await;
    let not = Told { released: Released::No, ..told(None) };
    let mut pair = Pair::new(&[application], not).await;
    ask(&mut pair, Method::GET).await;
    pair.server.record().await;
    assert_eq!((taken(&pair.client), taken(&pair.server)), (Vec::new(), Vec::new()));

    let limits = Limits { requests: Some(0), ..Limits::default() };
    let mut pair = Pair::new(&[application], Told { limits, ..told(None) }).await;
    assert_eq!(ask(&mut pair, Method::GET).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(taken(&pair.client), []);
}

#[tokio::test]
async fn a_client_that_goes_away_is_no_servers_fault() {
    let (application, saw) = plays(|_, _| Does::Nothing).await;
    let mut pair = Pair::new(&[application], told(None)).await;
    let request = Request::get("http://cart/").body(full("")).unwrap();
    let mut client = http2(pair.outbound).await;
    let asked = tokio::spawn(client.send_request(request));
    while saw.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    asked.abort();
    assert_eq!(pair.client.record().await["reason"], "canceled");
    assert_eq!(counted(&taken(&pair.client), pair.inbound[0]), (1, 0, 1), "slow, but not bad");
}

#[tokio::test]
async fn of_opaque_connections_their_beginning_counts() {
    let (application, _) = plays(|_, _| Does::Answer(200)).await;
    let none = nobody().await;
    let told = Told { protocol: Protocol::Tcp, plain: vec![none, application], ..told(None) };
    let pair = Pair::new(&[], told).await;
    for _ in 0..4 {
        let answer =
            raw(pair.outbound, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let told = taken(&pair.client);
    assert_eq!(counted(&told, application), (4, 0, 0), "{told:?}");
    let (all, bad, _) = counted(&told, none);
    assert!(all > 0 && all == bad, "{told:?}");
}

#[tokio::test]
async fn a_call_is_bad_by_the_status_at_its_end() {
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[application], told(None)).await;
    let message = || Frame::data(Bytes::from("x"));
    let ends = ["0", "5", "12", "13", "14"].map(|status| vec![message(), trailers(status)]);
    // The last one never says it, which is UNKNOWN.
    for frames in ends.into_iter().chain([vec![message()]]) {
        call(&pair, frames).await;
        pair.client.record().await;
        pair.server.record().await;
    }
    assert_eq!(counted(&taken(&pair.client), pair.inbound[0]), (6, 3, 6));
    let [own] = &taken(&pair.server)[..] else { panic!("one caller") };
    assert_eq!((own.all, own.bad), (6, 3));
}

/// A server that answers each connection's first bytes with these, and closes it.
async fn says(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn no_whole_and_proper_answer_is_the_servers_fault() {
    for answer in
        ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "HTTP/1.1 200 no\0\r\n\r\n"]
    {
        let server = says(answer.as_bytes()).await;
        let mut pair = Pair::new(&[], Told { plain: vec![server], ..told(None) }).await;
        ask(&mut pair, Method::GET).await;
        assert_eq!(counted(&taken(&pair.client), server), (1, 1, 1), "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_attempt_unless_nothing_follows() {
    for (method, expected, seen) in [(Method::GET, (2, 0, 2), 3), (Method::POST, (2, 1, 2), 2)] {
        // The second request comes on the first one's connection.
        let script =
            |_: &http::request::Parts, nth| if nth == 1 { Does::Reset } else { Does::Answer(200) };
        let (server, saw) = plays(script).await;
        let mut pair = Pair::new(&[], Told { plain: vec![server], ..told(None) }).await;
        assert_eq!(ask(&mut pair, Method::GET).await, StatusCode::OK);
        ask(&mut pair, method).await;
        assert_eq!((counted(&taken(&pair.client), server), saw.lock().len()), (expected, seen));
    }
}

#[tokio::test]
async fn a_pod_that_is_about_to_end_has_not_failed() {
    let (ending, staying) = (echo().await.0, echo().await.0);
    let mut pair = Pair::new(&[ending, staying], told(None)).await;
    pair.server.triggers[0].advance(Stage::Refusing);
    for _ in 0..4 {
        assert_eq!(ask(&mut pair, Method::POST).await, StatusCode::OK);
    }
    let told = taken(&pair.client);
    assert_eq!(counted(&told, pair.inbound[0]), (0, 0, 0), "{told:?}");
    assert_eq!(counted(&told, pair.inbound[1]), (4, 0, 4), "{told:?}");
    let own = taken(&pair.server);
    assert_eq!(own.iter().map(|one| one.bad).sum::<u64>(), 0, "{own:?}");
}

#[tokio::test]
async fn strangers_nonsense_is_not_the_applications() {
    let (application, saw) = plays(|_, _| Does::Answer(200)).await;
    let mut pair = Pair::new(&[application], told(None)).await;
    for nonsense in ["GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "what is this?\r\n\r\n"] {
        raw(pair.inbound[0], nonsense.as_bytes()).await;
        assert_eq!(pair.server.record().await["reason"], "protocol");
    }
    assert_eq!((taken(&pair.server), saw.lock().len()), (Vec::new(), 0));
}
