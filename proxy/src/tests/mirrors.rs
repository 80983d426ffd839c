//! Copies of requests: what mirrors get, and that nobody waits for them.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tulle_xds::model::{Action, Filter, HeaderModifier, Limits, Mirror, Protocol, Retry, Rule};

use super::{
    ends::{Does, echo, full, http1, http2, plays, post, text},
    harness::{CLUSTER, Pair, Sidecar, Told, backend, forward, nobody},
};
use crate::upstream::limits::Bound;

const ONE: &str = "service/shop/one/80";
const TWO: &str = "service/shop/two/80";

/// A rule with a mirror of each share, in percent.
fn mirrored(shares: &[(&str, u32)]) -> Rule {
    let mirror = |(cluster, percent): &(&str, u32)| Mirror {
        cluster: (*cluster).to_owned(),
        millionths: percent * 10_000,
    };
    Rule { mirrors: shares.iter().map(mirror).collect(), ..forward() }
}

fn told(rule: Rule) -> Told {
    Told { rules: vec![rule], protocol: Protocol::Http, ..Told::default() }
}

/// The next records of copies; those of other requests are left out.
async fn copies(of: &mut Sidecar, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    while found.len() < count {
        let record = of.record().await;
        if record["mirror"] == true {
            found.push(record);
        }
    }
    found
}

/// Waits until no copy is under way to `cluster`.
async fn at_rest(of: &Sidecar, cluster: &str) {
    let begun = Instant::now();
    let mesh = of.shared.store.current();
    while mesh.clusters()[cluster].limits().taken(Bound::Requests) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "copies are still under way");
        sleep(Duration::from_millis(5)).await;
    }
}

fn count(of: &Sidecar, service: &str, error: &str) -> u64 {
    let metrics = of.metrics();
    let name = service.split('/').nth(2).unwrap();
    let series = format!(
        "tulle_mirrored_requests_total{{server_address=\"{name}.shop.svc.cluster.local\",server_port=\"80\",error_type=\"{error}\"}} "
    );
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}

async fn bytes(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn two_mirrors_get_the_whole_request_as_its_rule_changed_it() {
    let (application, _) = echo().await;
    let ((one, saw_one), (two, saw_two)) = (echo().await, echo().await);
    let set = |name: &str| {
        let set = vec![(name.parse().unwrap(), "1".parse().unwrap())];
        vec![Filter::RequestHeaders(HeaderModifier { set, ..HeaderModifier::default() })]
    };
    let mut rule = Rule { filters: set("x-rule"), ..mirrored(&[(ONE, 100), (TWO, 100)]) };
    let mut backend = backend();
    backend.filters = set("x-backend");
    rule.action = Action::Forward(vec![backend]);
    let told = Told { others: vec![(ONE, one), (TWO, two)], ..told(rule) };
    let mut pair = Pair::new(&[application], told).await;
    let body = Bytes::from(vec![7; 600 << 10]);
    let response = http1(pair.outbound).await.send_request(post(body.clone())).await.unwrap();
    assert_eq!(bytes(response).await, body);

    let records = copies(&mut pair.client, 2).await;
    for record in &records {
        // They answered with what they got.
        let got = (&record["status"], &record["bytes_received"], &record["bytes_sent"]);
        let length = Value::from(body.len());
        assert_eq!(got, (&200.into(), &length, &length), "{record}");
        assert_eq!(record.get("reason"), None);
    }
    let mut services: Vec<_> = records.iter().map(|r| r["service"].as_str().unwrap()).collect();
    services.sort_unstable();
    assert_eq!(services, ["one.shop.svc.cluster.local:80", "two.shop.svc.cluster.local:80"]);
    for saw in [saw_one, saw_two] {
        let [head] = &saw.lock()[..] else { panic!("one copy each") };
        assert_eq!(
            (head.uri.to_string().as_str(), &head.headers["host"]),
            ("/p?q=1", &"cart:80".parse().unwrap())
        );
        assert_eq!(head.headers["x-rule"], "1");
        assert!(!head.headers.contains_key("x-backend"), "that is for the backend");
    }
    for (service, error, times) in [(ONE, "", 1), (TWO, "", 1), (ONE, "overflow", 0)] {
        assert_eq!(count(&pair.client, service, error), times, "{}", pair.client.metrics());
    }
    let requests = "http_client_request_duration_seconds_count";
    let metrics = pair.client.metrics();
    let requests: Vec<_> = metrics.lines().filter(|line| line.starts_with(requests)).collect();
    assert_eq!(requests.len(), 1, "a copy is nobody's request: {requests:?}");
}

#[tokio::test]
async fn a_mirror_that_never_reads_costs_the_original_nothing() {
    let (application, _) = echo().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let others = vec![(ONE, listener.local_addr().unwrap()), (TWO, nobody().await)];
    let told = Told { others, ..told(mirrored(&[(ONE, 100), (TWO, 100)])) };
    let mut pair = Pair::new(&[application], told).await;
    // Far more than is kept for a mirror and fits into sockets.
    let body = Bytes::from(vec![7; 24 << 20]);
    let (response, _never_read) = tokio::join!(
        async {
            let mut client = http1(pair.outbound).await;
            client.send_request(post(body.clone())).await.unwrap()
        },
        listener.accept(),
    );
    assert_eq!(bytes(response).await, body);
    let mut reasons: Vec<_> = copies(&mut pair.client, 2).await;
    reasons.sort_by_key(|record| record["service"].to_string());
    assert_eq!(
        (&reasons[0]["reason"], &reasons[1]["reason"]),
        (&"overflow".into(), &"connect".into())
    );
    assert_eq!((count(&pair.client, ONE, "overflow"), count(&pair.client, TWO, "connect")), (1, 1));
}

#[tokio::test]
async fn a_share_of_requests_is_copied() {
    const REQUESTS: u32 = 2000;
    let (application, _) = echo().await;
    let (mirror, saw) = echo().await;
    let told = Told {
        others: vec![(ONE, mirror)],
        plain: vec![application],
        ..told(mirrored(&[(ONE, 25)]))
    };
    let pair = Pair::new(&[], told).await;
    let mut client = http1(pair.outbound).await;
    for _ in 0..REQUESTS {
        assert_eq!(text(client.send_request(post("x")).await.unwrap()).await, "x");
    }
    at_rest(&pair.client, ONE).await;
    let copied = u32::try_from(saw.lock().len()).unwrap();
    let (n, share) = (f64::from(REQUESTS), 0.25);
    let error = (n * share * (1.0 - share)).sqrt();
    let off = (f64::from(copied) - n * share).abs();
    assert!(off < 4.5 * error, "{copied} of {REQUESTS}");
    assert_eq!(count(&pair.client, ONE, ""), u64::from(copied));
}

#[tokio::test]
async fn what_a_cluster_has_no_room_for_is_counted_and_not_sent() {
    let (application, _) = echo().await;
    let (mirror, saw) = plays(|_, _| Does::Nothing).await;
    let limits = Limits { requests: Some(1), ..Limits::default() };
    let told = Told { others: vec![(ONE, mirror)], limits, ..told(mirrored(&[(ONE, 100)])) };
    let pair = Pair::new(&[application], told).await;
    let mut client = http1(pair.outbound).await;
    for _ in 0..3 {
        assert_eq!(text(client.send_request(post("x")).await.unwrap()).await, "x");
    }
    assert_eq!(count(&pair.client, ONE, "overflow"), 2);
    let begun = Instant::now();
    while saw.lock().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the first was not sent");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(saw.lock().len(), 1);
}

#[tokio::test]
async fn a_copy_is_not_retried_and_a_sidecar_says_that_it_is_one() {
    // Fails the copies, which come to the same application as their originals.
    let (application, saw) = plays(|head: &Parts, _| {
        Does::Answer(if head.headers.contains_key("x-original") { 200 } else { 503 })
    })
    .await;
    let retry = Retry {
        attempts: 3,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: Vec::new(),
        on_connect: true,
        on_reset: true,
        base_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
    };
    let mut rule = Rule { retry: Some(retry), ..mirrored(&[(CLUSTER, 100)]) };
    let mut backend = backend();
    let set = vec![("x-original".parse().unwrap(), "1".parse().unwrap())];
    let change = HeaderModifier { set, ..HeaderModifier::default() };
    backend.filters = vec![Filter::RequestHeaders(change)];
    rule.action = Action::Forward(vec![backend]);
    let mut pair = Pair::new(&[application], told(rule)).await;
    let get = Request::get("/").header("host", "cart").body(full("")).unwrap();
    assert_eq!(http1(pair.outbound).await.send_request(get).await.unwrap().status(), 200);
    let sent = copies(&mut pair.client, 1).await;
    assert_eq!((&sent[0]["status"], &sent[0]["attempts"]), (&503.into(), &1.into()));
    let (mut originals, mut marked) = (0, 0);
    for _ in 0..2 {
        let record = pair.server.record().await;
        match record["mirror"] == true {
            true => marked += u32::from(record["status"] == 503),
            false => originals += u32::from(record["status"] == 200),
        }
    }
    assert_eq!((originals, marked), (1, 1));
    let saw = saw.lock();
    assert_eq!(saw.len(), 2);
    assert!(saw.iter().all(|head| !head.headers.contains_key("x-tulle-mirror")));
}

#[tokio::test]
async fn a_copy_breaks_off_with_its_original() {
    let (application, _) = echo().await;
    let (mirror, _) = echo().await;
    let told = Told { others: vec![(ONE, mirror)], ..told(mirrored(&[(ONE, 100)])) };
    let mut pair = Pair::new(&[application], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        .await
        .unwrap();
    drop(client);
    let record = &copies(&mut pair.client, 1).await[0];
    assert_ne!(record.get("reason"), None, "{record}");
    assert_eq!(count(&pair.client, ONE, ""), 0);
}

#[tokio::test]
async fn a_copy_of_a_grpc_call_ends_with_its_own_status() {
    let ((application, _), (mirror, _)) =
        (plays(|_, _| Does::Grpc(0)).await, plays(|_, _| Does::Grpc(5)).await);
    let told = Told { others: vec![(ONE, mirror)], ..told(mirrored(&[(ONE, 100)])) };
    let mut pair = Pair::new(&[application], told).await;
    let request = Request::post("http://cart/svc/Do").header("content-type", "application/grpc");
    let request = request.body(full("x")).unwrap();
    http2(pair.outbound).await.send_request(request).await.unwrap();
    assert_eq!(copies(&mut pair.client, 1).await[0]["grpc_status"], "NOT_FOUND");
}
