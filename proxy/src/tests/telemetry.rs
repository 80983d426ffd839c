//! What a scrape says of traffic that was really carried.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc, time::sleep};
use tulle_xds::model::{Limits, MtlsMode, Origin, Protocol, Retry, Rule, Setter};

use super::{
    ends::{Does, echo, full, http1, http2, plays, post, raw, text},
    harness::{CLUSTER, Pair, Sidecar, Told, forward, nobody},
    resilience::twice,
};
use crate::{context::Settings, upstream::limits::Bound};

/// The Service that is called.
const SERVER: &str = "server_address=\"cart.shop.svc.cluster.local\",server_port=\"80\"";

/// What series are about at the client's end.
const SOURCE: &str =
    "tulle_reporter=\"source\",tulle_peer_namespace=\"shop\",tulle_peer_workload=\"cart\"";

/// At the server's.
const DESTINATION: &str =
    "tulle_reporter=\"destination\",tulle_peer_namespace=\"shop\",tulle_peer_workload=\"web\"";

/// The values of the series of this name that have all of these labels.
pub(super) fn values(of: &Sidecar, name: &str, labels: &[&str]) -> Vec<f64> {
    let metrics = of.metrics();
    let with_labels = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    };
    let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse().unwrap();
    metrics.lines().filter(with_labels).map(value).collect()
}

/// Waits until the series have these values.
async fn until(of: &Sidecar, name: &str, labels: &[&str], expected: &[f64]) {
    for _ in 0..1000 {
        if values(of, name, labels) == expected {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("{name} {labels:?} is not {expected:?} in\n{}", of.metrics());
}

/// Calls an application that sends the call's frames back.
pub(super) async fn call(pair: &Pair, frames: Vec<Frame<Bytes>>) {
    let body = StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok)));
    let request = Request::post("http://cart/svc/Do").header("content-type", "application/grpc");
    let request = request.body(BodyExt::boxed(body)).unwrap();
    let response = http2(pair.outbound).await.send_request(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

pub(super) fn trailers(status: &str) -> Frame<Bytes> {
    let status = ("grpc-status".parse().unwrap(), status.parse().unwrap());
    Frame::trailers(HeaderMap::from_iter([status]))
}

#[tokio::test]
async fn a_grpc_call_is_one_series_by_the_status_at_its_end() {
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let message = || Frame::data(Bytes::from("x"));
    for frames in [
        vec![message(), trailers("0")],
        vec![message(), trailers("0")],
        vec![message(), trailers("5")],
        // A server that never says it.
        vec![message()],
        vec![message(), trailers("77")],
    ] {
        call(&pair, frames).await;
        pair.client.record().await;
        pair.server.record().await;
    }
    let calls = [("OK", 2.0), ("NOT_FOUND", 1.0), ("UNKNOWN", 2.0)];
    for (status, times) in calls {
        let status = format!("rpc_system_name=\"grpc\",rpc_status_code=\"{status}\"");
        let client = "rpc_client_call_duration_seconds_count";
        assert_eq!(values(&pair.client, client, &[SOURCE, SERVER, &status]), [times], "{status}");
        let server = "rpc_server_call_duration_seconds_count";
        assert_eq!(values(&pair.server, server, &[DESTINATION, &status]), [times], "{status}");
    }
    let client = values(&pair.client, "rpc_client_call_duration_seconds_count", &[]);
    assert_eq!(client.iter().sum::<f64>(), 5.0, "{}", pair.client.metrics());
    for (of, http) in [(&pair.client, "http_client"), (&pair.server, "http_server")] {
        let http = format!("{http}_request_duration_seconds_count");
        assert!(values(of, &http, &[]).is_empty(), "never both: {}", of.metrics());
    }
}

#[tokio::test]
async fn a_grpc_status_in_the_head_counts_and_so_does_one_that_we_made_up() {
    let (application, _) = plays(|_, _| Does::Grpc(14)).await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    call(&pair, Vec::new()).await;
    let record = pair.client.record().await;
    assert_eq!((&record["grpc_status"], &record["status"]), (&"UNAVAILABLE".into(), &200.into()));
    let client = "rpc_client_call_duration_seconds_count";
    let labels = [SOURCE, "rpc_status_code=\"UNAVAILABLE\",error_type=\"UNAVAILABLE\""];
    assert_eq!(values(&pair.client, client, &labels), [1.0]);

    let told = Told { plain: vec![nobody().await], protocol: Protocol::Grpc, ..Told::default() };
    let mut pair = Pair::new(&[], told).await;
    call(&pair, Vec::new()).await;
    assert_eq!(pair.client.record().await["grpc_status"], "UNAVAILABLE");
    let labels = [SERVER, "rpc_status_code=\"UNAVAILABLE\",error_type=\"connect\""];
    assert_eq!(values(&pair.client, client, &labels), [1.0]);
    assert_eq!(values(&pair.client, "tulle_client_attempts_total", &["\"connect\""]), [1.0]);
}

#[tokio::test]
async fn a_request_is_one_series_at_each_end() {
    let status = |head: &http::request::Parts| if head.method == Method::GET { 200 } else { 503 };
    let (application, _) = plays(move |head, _| Does::Answer(status(head))).await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let mut client = http1(pair.outbound).await;
    for _ in 0..2 {
        let get = Request::get("/secret/path").header("host", "cart").body(full("")).unwrap();
        text(client.send_request(get).await.unwrap()).await;
    }
    text(client.send_request(post("x")).await.unwrap()).await;
    for _ in 0..3 {
        pair.client.record().await;
        pair.server.record().await;
    }
    let (get, posted) = ("http_request_method=\"GET\"", "http_request_method=\"POST\"");
    let bad = "http_response_status_code=\"503\",error_type=\"503\"";
    let name = "http_client_request_duration_seconds_count";
    assert_eq!(values(&pair.client, name, &[SOURCE, get, "code=\"200\""]), [2.0]);
    assert_eq!(values(&pair.client, name, &[SOURCE, posted, bad]), [1.0]);
    let name = "http_server_request_duration_seconds_count";
    assert_eq!(values(&pair.server, name, &[DESTINATION, get, "code=\"200\""]), [2.0]);
    assert_eq!(values(&pair.server, name, &[DESTINATION, posted, bad]), [1.0]);
    for of in [&pair.client, &pair.server] {
        assert!(!of.metrics().contains("secret") && !of.metrics().contains("127.0.0.1"));
    }

    let name = "http_server_active_requests";
    until(&pair.server, name, &[get, "url_scheme=\"http\""], &[0.0]).await;
    let name = "tulle_tls_handshakes_total";
    let labels = ["tls_established=\"true\",tls_protocol_version=\"1.3\",tulle_peer=\"mesh\""];
    assert_eq!(values(&pair.client, name, &labels), [1.0]);
    assert_eq!(values(&pair.server, name, &labels), [1.0]);
    let plaintext = values(&pair.server, name, &["tulle_peer=\"plaintext\""]);
    assert!(plaintext.is_empty(), "its own application is none of the others");
    let name = "tulle_detect_duration_seconds_count";
    assert_eq!(values(&pair.client, name, &["tulle_protocol=\"http/1.1\""]), [1.0]);
    assert_eq!(values(&pair.server, name, &["tulle_protocol=\"tls\""]), [1.0]);
    assert_eq!(values(&pair.client, "tulle_client_attempts_total", &["\"ok\""]), [3.0]);
    assert!(values(&pair.server, "tulle_client_attempts_total", &[]).is_empty());
}

#[tokio::test]
async fn connections_are_busy_while_they_carry_requests() {
    for upstream in [Vec::new(), vec![echo().await.0]] {
        let meshed = if upstream.is_empty() { vec![echo().await.0] } else { Vec::new() };
        let pair = Pair::new(&meshed, Told { plain: upstream, ..Told::default() }).await;
        let mut client = http1(pair.outbound).await;
        let (more, mut pieces) = mpsc::channel::<Bytes>(1);
        let stream = StreamBody::new(futures_util::stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }));
        let request =
            Request::post("/").header("host", "cart").body(BodyExt::boxed(stream)).unwrap();
        more.send(Bytes::from("x")).await.unwrap();
        let response = client.send_request(request).await.unwrap();
        let name = "http_client_open_connections";
        let states = ["http_connection_state=\"active\"", "http_connection_state=\"idle\""];
        until(&pair.client, name, &[SERVER, states[0]], &[1.0]).await;
        until(&pair.client, name, &[SERVER, states[1]], &[0.0]).await;
        drop(more);
        text(response).await;
        until(&pair.client, name, &[SERVER, states[0]], &[0.0]).await;
        until(&pair.client, name, &[SERVER, states[1]], &[1.0]).await;
    }
}

#[tokio::test]
async fn an_opaque_connection_is_opened_and_closed_and_has_carried_bytes() {
    let (application, _) = echo().await;
    let told = Told { protocol: Protocol::Tcp, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let name = "tulle_tcp_connections_total";
    until(&pair.client, name, &[SOURCE, "state=\"opened\""], &[1.0]).await;
    assert!(values(&pair.client, name, &["state=\"closed\""]).is_empty());
    client.shutdown().await.unwrap();
    pair.client.record().await;
    pair.server.record().await;
    for (of, end) in [(&pair.client, SOURCE), (&pair.server, DESTINATION)] {
        for state in ["state=\"opened\"", "state=\"closed\""] {
            assert_eq!(values(of, name, &[end, state]), [1.0], "{}", of.metrics());
        }
        let io = values(of, "tulle_tcp_io_bytes_total", &[end, "direction=\"received\""]);
        assert_eq!(io, [27.0]);
        let duration = "tulle_tcp_connection_duration_seconds_count";
        assert_eq!(values(of, duration, &[end]), [1.0]);
    }
}

#[tokio::test]
async fn what_failed_is_logged_and_of_the_rest_what_is_drawn() {
    let bad = |head: &http::request::Parts| head.method == Method::POST;
    let (application, _) =
        plays(move |head, _| Does::Answer(if bad(head) { 500 } else { 200 })).await;
    let tune = |settings: &mut Settings| settings.access_log_sample = 0;
    let mut pair = Pair::new(&[application], Told { tune, ..Told::default() }).await;
    let mut client = http1(pair.outbound).await;
    for _ in 0..20 {
        let get = Request::get("/").header("host", "cart").body(full("")).unwrap();
        text(client.send_request(get).await.unwrap()).await;
    }
    text(client.send_request(post("x")).await.unwrap()).await;
    assert_eq!(pair.client.record().await["status"], 500);
    assert_eq!(pair.server.record().await["status"], 500);
    let ok = "http_response_status_code=\"200\"";
    let counted = values(&pair.client, "http_client_request_duration_seconds_count", &[ok]);
    assert_eq!(counted, [20.0], "metrics count all");
}

#[tokio::test]
async fn what_policy_forbids_is_counted_with_the_policy() {
    let (application, _) = echo().await;
    let told = Told { mtls: MtlsMode::Strict, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    raw(pair.inbound[0], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let record = pair.server.record().await;
    assert_eq!((&record["reason"], &record["policy"]), (&"denied".into(), &"MeshTLS".into()));
    let labels = [
        "tulle_peer_workload=\"internet\"",
        "tulle_policy=\"MeshTLS\",tulle_reason=\"denied\",tulle_mode=\"enforce\"",
    ];
    assert_eq!(values(&pair.server, "tulle_denials_total", &labels), [1.0]);
}

#[tokio::test]
async fn a_record_names_the_policy_behind_a_retry_a_timeout_and_a_limit() {
    let set = |field: &str, name: &str| Setter {
        field: field.to_owned(),
        origin: Origin {
            kind: "TrafficPolicy".into(),
            namespace: "shop".into(),
            name: name.into(),
            rule: String::new(),
        },
    };
    let once = Retry { attempts: 1, ..twice() };
    let mut rule = Rule { retry: Some(once), ..forward() };
    rule.timeouts.request = Some(Duration::from_millis(200));
    rule.setters = vec![
        set("spec.retries", "patient"),
        set("spec.retries.when", "patient"),
        set("spec.timeouts.request", "hurried"),
    ];
    let script = |head: &http::request::Parts, nth| match (head.uri.path(), nth) {
        ("/slow", _) => Does::Nothing,
        (_, 1) => Does::Answer(503),
        _ => Does::Answer(200),
    };
    let (application, _) = plays(script).await;
    let limits = Limits { requests: Some(1), ..Limits::default() };
    let setters = vec![set("spec.limits.requests", "strict")];
    let told = Told { rules: vec![rule], limits, setters, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    let get = |path: &str| Request::get(path).header("host", "cart").body(full("")).unwrap();
    let mut client = http1(pair.outbound).await;
    for expected in [Value::Null, "TrafficPolicy/shop/patient".into()] {
        text(client.send_request(get("/")).await.unwrap()).await;
        let record = pair.client.record().await;
        assert_eq!((&record["status"], &record["policy"]), (&200.into(), &expected), "{record}");
        assert!(record["first_byte_ms"].as_f64() <= record["duration_ms"].as_f64(), "{record}");
    }
    let (mut slow, mut other) = (http1(pair.outbound).await, http1(pair.outbound).await);
    let slow = tokio::spawn(async move { slow.send_request(get("/slow")).await.unwrap().status() });
    let mesh = pair.client.shared.store.current();
    let full = &mesh.clusters()[CLUSTER];
    while full.limits().taken(Bound::Requests) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    other.send_request(get("/")).await.unwrap();
    for (reason, policy) in [("overflow", "strict"), ("timeout", "hurried")] {
        let record = pair.client.record().await;
        let policy = format!("TrafficPolicy/shop/{policy}");
        assert_eq!((&record["reason"], &record["policy"]), (&reason.into(), &policy.into()));
    }
    assert_eq!(slow.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
}
