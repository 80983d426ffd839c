//! AccessPolicy on live connections: who is let in, who is told so and how, and what becomes of what
//! is open when it changes.

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tulle_xds::model::{
    Access, AccessMode, AccessRule, MTLS_MODE, MtlsMode, Origin, Protocol, Setter, mtls_port,
};

use super::{
    draining::{ask, line_echo},
    ends::{echo, full, http1, http2, post, raw, text},
    harness::{Pair, Sidecar, Told, WEB},
    telemetry::values,
};

const BANK: &str = "spiffe://cluster.local/ns/bank/sa/vault";

fn origin(kind: &str, name: &str) -> Origin {
    Origin {
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        ..Origin::default()
    }
}

fn policy(name: &str, mode: AccessMode, from: &[&str]) -> Access {
    let from = from.iter().map(|caller| caller.parse().unwrap()).collect();
    let rules = vec![AccessRule { from, ports: Vec::new() }];
    Access { origin: origin("AccessPolicy", name), mode, rules }
}

impl Sidecar {
    pub(super) fn lets_in(&self, from: &[&str]) {
        let policy = policy("callers", AccessMode::Enforce, from);
        self.told_otherwise(|workload| workload.access = vec![policy]);
    }

    /// The next record must be of a denial by the policy.
    async fn denies(&mut self) {
        let record = self.record().await;
        let said = (&record["reason"], &record["policy"]);
        assert_eq!(said, (&"denied".into(), &"AccessPolicy/shop/callers".into()), "{record}");
    }
}

fn opaque() -> Told {
    Told { protocol: Protocol::Tcp, ..Told::default() }
}

async fn is_reset(mut stream: TcpStream) {
    // Whoever waits for a word gets none.
    drop(stream.write_all(b"\n").await);
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn access_is_for_whom_a_rule_lets_in() {
    let mut pair = Pair::new(&[line_echo(b'a').await], opaque()).await;
    pair.server.lets_in(&[WEB]);
    let mut meshed = TcpStream::connect(pair.outbound).await.unwrap();
    assert_eq!(ask(&mut meshed).await, b'a');
    drop(meshed);
    assert_eq!(pair.server.record().await["policy"], serde_json::Value::Null);
    // Who proves nothing is nobody.
    is_reset(TcpStream::connect(pair.inbound[0]).await.unwrap()).await;
    pair.server.denies().await;
    // Another one is somebody else.
    pair.server.lets_in(&[BANK]);
    is_reset(TcpStream::connect(pair.outbound).await.unwrap()).await;
    pair.server.denies().await;
    // Everybody means strangers, too.
    pair.server.lets_in(&["*"]);
    let mut stranger = TcpStream::connect(pair.inbound[0]).await.unwrap();
    assert_eq!(ask(&mut stranger).await, b'a');
}

#[tokio::test]
async fn access_that_is_withdrawn_ends_open_connections_of_whom_it_was_for() {
    let mut pair = Pair::new(&[line_echo(b'a').await], opaque()).await;
    let mut meshed = TcpStream::connect(pair.outbound).await.unwrap();
    let mut stranger = TcpStream::connect(pair.inbound[0]).await.unwrap();
    assert_eq!((ask(&mut meshed).await, ask(&mut stranger).await), (b'a', b'a'));
    pair.server.lets_in(&[WEB]);
    assert!(stranger.read_u8().await.is_err());
    pair.server.denies().await;
    assert_eq!(ask(&mut meshed).await, b'a');
    pair.server.lets_in(&[BANK]);
    assert!(meshed.read_u8().await.is_err());
    pair.server.denies().await;
}

#[tokio::test]
async fn access_is_denied_in_http_where_http_is_spoken() {
    let (application, saw) = echo().await;
    for protocol in [Protocol::Detect, Protocol::Http] {
        let mut pair = Pair::new(&[application], Told { protocol, ..Told::default() }).await;
        pair.server.lets_in(&[BANK]);
        // By a sidecar, and from outside: the connection stays, and each request is told.
        for to in [pair.outbound, pair.inbound[0]] {
            let mut client = http1(to).await;
            for _ in 0..2 {
                let response = client.send_request(post("a")).await.unwrap();
                assert_eq!(response.status(), StatusCode::FORBIDDEN);
                assert_eq!(response.headers()["x-tulle-reason"], "denied");
                text(response).await;
                pair.server.denies().await;
            }
        }
        let labels = ["tulle_policy=\"AccessPolicy/shop/callers\"", "tulle_mode=\"enforce\""];
        let counted = values(&pair.server, "tulle_denials_total", &labels);
        assert_eq!(counted.iter().sum::<f64>(), 4.0);
    }
    assert!(saw.lock().is_empty(), "the application hears nothing of it");
}

#[tokio::test]
async fn access_that_is_withdrawn_ends_http2_and_what_is_in_flight() {
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let mut client = http2(pair.inbound[0]).await;
    // A stream that goes on for ever: its answer comes as its body does.
    let (more, mut pieces) = mpsc::channel(1);
    let body = StreamBody::new(stream::poll_fn(move |cx| pieces.poll_recv(cx)));
    let request = Request::post("http://cart/").body(BodyExt::boxed(body)).unwrap();
    more.send(Ok(Frame::data(Bytes::from("a")))).await.unwrap();
    let mut response = client.send_request(request).await.unwrap().into_body();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    let get = || Request::get("http://cart/").body(full("")).unwrap();
    assert_eq!(client.send_request(get()).await.unwrap().status(), 200);
    assert_eq!(pair.server.record().await["status"], 200);

    pair.server.lets_in(&[WEB]);
    pair.server.denies().await;
    // GOAWAY: this connection takes nothing more; then the stream ends, too, and not well.
    while client.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(response.frame().await.is_none_or(|frame| frame.is_err()));
    assert_ne!(pair.server.record().await["reason"], serde_json::Value::Null);
}

#[tokio::test]
async fn access_that_is_audited_refuses_nobody_and_tells() {
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let audit = policy("trial", AccessMode::Audit, &[BANK]);
    pair.server.told_otherwise(|workload| workload.access = vec![audit]);
    let answer =
        raw(pair.inbound[0], b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let record = pair.server.record().await;
    let said = (&record["status"], &record["audit"], &record["policy"]);
    let expected = (&200.into(), &"AccessPolicy/shop/trial".into(), &serde_json::Value::Null);
    assert_eq!(said, expected, "{record}");
    let labels = ["tulle_policy=\"AccessPolicy/shop/trial\"", "tulle_mode=\"audit\""];
    assert_eq!(values(&pair.server, "tulle_denials_total", &labels), [1.0]);

    let mut pair = Pair::new(&[line_echo(b'a').await], opaque()).await;
    let audit = policy("trial", AccessMode::Audit, &[BANK]);
    pair.server.told_otherwise(|workload| workload.access = vec![audit]);
    let mut meshed = TcpStream::connect(pair.outbound).await.unwrap();
    assert_eq!(ask(&mut meshed).await, b'a');
    drop(meshed);
    let record = pair.server.record().await;
    assert_eq!(record["audit"], "AccessPolicy/shop/trial", "{record}");
}

#[tokio::test]
async fn access_that_mesh_tls_denies_names_that_object() {
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let set = |field: String, name: &str| Setter { field, origin: origin("MeshTLS", name) };
    let port = mtls_port(application.port());
    let all = [set(MTLS_MODE.to_owned(), "all"), set(port, "one")];
    for (setters, expected) in [(&all[..1], "MeshTLS/shop/all"), (&all[..], "MeshTLS/shop/one")] {
        pair.server.told_otherwise(|workload| {
            workload.setters = setters.to_vec();
            workload.ports.iter_mut().for_each(|port| port.mtls = MtlsMode::Strict);
        });
        raw(pair.inbound[0], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let record = pair.server.record().await;
        assert_eq!((&record["reason"], &record["policy"]), (&"denied".into(), &expected.into()));
    }
}
