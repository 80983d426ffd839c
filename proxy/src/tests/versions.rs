//! What is counted of attempts at versions that are being released. Each endpoint here is of a revision of its own: its port.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode};
use tulle_proto::telemetry::v1::{Attempts, Direction};
use tulle_xds::model::{Limits, Protocol, Released, Retry, Rule};

use super::{
    ends::{Does, full, http1, http2, plays, raw},
    harness::{Pair, Sidecar, Told, forward, nobody},
    resilience::twice,
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
