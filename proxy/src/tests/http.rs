use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tulle_xds::model::{Action, Filter, HeaderModifier, Limits, MtlsMode, Protocol, Redirect};

use super::{
    ends::{echo, full, http1, http2, post, raw, text},
    harness::{CART, Pair, Told, WEB, forward, nobody},
};

#[tokio::test]
async fn a_request_crosses_two_sidecars_and_both_logs_name_the_other() {
    let (application, saw) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let mut client = http1(pair.outbound).await;
    for _ in 0..2 {
        let mut request = post("hello");
        request.headers_mut().insert("x-tulle-http-version", "2".parse().unwrap());
        request.headers_mut().insert("x-forwarded-client-cert", "forged".parse().unwrap());
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("x-tulle-fake"));
        assert_eq!(text(response).await, "hello");
        let (out, inn) = (pair.client.record().await, pair.server.record().await);
        assert_eq!((&out["peer"], &inn["peer"]), (&CART.into(), &WEB.into()), "{out} {inn}");
        for record in [&out, &inn] {
            assert_eq!(record["status"], 200);
            assert_eq!(record["protocol"], "http/1.1");
            assert_eq!(record["path"], "/p");
            assert_eq!(record["tls"], true);
            assert_eq!((&record["bytes_received"], &record["bytes_sent"]), (&5.into(), &5.into()));
        }
    }
    let saw = saw.lock();
    let head = &saw[0];
    assert_eq!((head.version, head.uri.to_string().as_str()), (Version::HTTP_11, "/p?q=1"));
    assert_eq!(head.headers["host"], "cart:80");
    assert_eq!(head.headers["x-forwarded-client-cert"], format!("By={CART};URI={WEB}"));
    assert!(head.headers.keys().all(|name| !name.as_str().starts_with("x-tulle-")));
}

#[tokio::test]
async fn trailers_and_http2_survive() {
    let (application, saw) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let mut client = http2(pair.outbound).await;
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "5".parse().unwrap())]);
    let frames = [Ok(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    let request = Request::post("http://cart/svc/Do").header("te", "trailers");
    let request = request.header("content-type", "application/grpc").body(body).unwrap();
    let response = client.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "5");
    let out = pair.client.record().await;
    assert_eq!((&out["grpc_status"], &out["protocol"]), (&"NOT_FOUND".into(), &"http/2".into()));
    assert_eq!(saw.lock()[0].version, Version::HTTP_2);
}

#[tokio::test]
async fn a_large_body_is_streamed_both_ways() {
    let (application, _) = echo().await;
    let pair = Pair::new(&[application], Told::default()).await;
    let body = Bytes::from(vec![7; 5 << 20]);
    let response = http1(pair.outbound).await.send_request(post(body.clone())).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
}

#[tokio::test]
async fn what_never_reached_an_application_is_tried_elsewhere_whatever_the_method() {
    let (application, saw) = echo().await;
    let dead = nobody().await;
    let mut pair = Pair::new(&[dead, application], Told::default()).await;
    let mut client = http1(pair.outbound).await;
    for _ in 0..6 {
        let response = client.send_request(post("once")).await.unwrap();
        assert_eq!((response.status(), text(response).await), (StatusCode::OK, "once".into()));
    }
    assert_eq!(saw.lock().len(), 6);
    let mut attempts = 0;
    for _ in 0..6 {
        attempts += pair.client.record().await["attempts"].as_u64().unwrap();
    }
    assert!(attempts > 6);
}

#[tokio::test]
async fn where_nobody_is_the_client_is_told_so() {
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let mut pair = Pair::new(&[], told).await;
    let response = http1(pair.outbound).await.send_request(post("x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-tulle-reason"], "no_endpoint");
    let record = pair.client.record().await;
    assert_eq!(record["reason"], "no_endpoint");
    assert!(record["detail"].as_str().unwrap().contains("no ready endpoint (0 known)"), "{record}");
}

#[tokio::test]
async fn where_nothing_is_left_the_client_is_told_why() {
    let dead = nobody().await;
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let mut pair = Pair::new(&[dead], told).await;
    let response = http1(pair.outbound).await.send_request(post("x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-tulle-reason"], "connect");
    assert!(!response.headers().contains_key("x-tulle-not-reached"));
    assert_eq!(pair.client.record().await["reason"], "connect");
    assert_eq!(pair.server.record().await["reason"], "connect");

    let request = Request::post("http://cart/svc/Do").header("content-type", "application/grpc");
    let response =
        http2(pair.outbound).await.send_request(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "14");
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The first connection is the probe of a port on which nothing is declared.
        let mut head = [0; 1024];
        let mut n = stream.read(&mut head).await.unwrap();
        if n == 0 {
            stream = listener.accept().await.unwrap().0;
            n = stream.read(&mut head).await.unwrap();
        }
        let text = String::from_utf8_lossy(&head[..n]).to_lowercase();
        assert!(text.contains("upgrade: chat") && text.contains("connection: upgrade"), "{text}");
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhi";
        stream.write_all(answer).await.unwrap();
        let mut got = [0; 4];
        stream.read_exact(&mut got).await.unwrap();
        stream.write_all(&got).await.unwrap();
    });
    let mut pair = Pair::new(&[application], Told::default()).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    let head = b"GET /chat HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhi") {
        answer.push(client.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    client.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    drop(client);
    assert_eq!(pair.client.record().await["status"], 101);
}

#[tokio::test]
async fn strict_refuses_plaintext_and_permissive_serves_it() {
    let (application, _) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let response = http1(pair.inbound[0]).await.send_request(post("x")).await.unwrap();
    assert_eq!(text(response).await, "x");
    let record = pair.server.record().await;
    assert_eq!((&record["tls"], &record["status"]), (&false.into(), &200.into()));

    let told = Told { mtls: MtlsMode::Strict, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    assert_eq!(raw(pair.inbound[0], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    assert_eq!(pair.server.record().await["reason"], "denied");
    let response = http1(pair.outbound).await.send_request(post("x")).await.unwrap();
    assert_eq!(text(response).await, "x");
}

#[tokio::test]
async fn rules_redirect_change_headers_and_fail() {
    let (application, saw) = echo().await;
    let pair = |name: &'static str| (name.parse().unwrap(), "1".parse().unwrap());
    let change = HeaderModifier { set: vec![pair("x-set")], ..HeaderModifier::default() };
    let mut first = forward();
    first.matches.path = tulle_xds::model::PathMatch::Prefix("/to".into());
    first.action = Action::Redirect(Redirect {
        scheme: None,
        host: Some("other".into()),
        port: None,
        path: None,
        status: StatusCode::FOUND,
    });
    let mut second = forward();
    second.matches.method = Some(http::Method::POST);
    second.filters = vec![Filter::RequestHeaders(change.clone()), Filter::ResponseHeaders(change)];
    let told = Told { rules: vec![first, second], ..Told::default() };
    let mesh = Pair::new(&[application], told).await;
    let mut client = http1(mesh.outbound).await;
    let get = |path: &str| Request::get(path).header("host", "cart").body(full("")).unwrap();
    let response = client.send_request(get("/to/x?y")).await.unwrap();
    assert_eq!(response.headers()["location"], "http://other/to/x?y");
    let response = client.send_request(post("x")).await.unwrap();
    assert_eq!(response.headers()["x-set"], "1");
    assert_eq!(saw.lock()[0].headers["x-set"], "1");
    let response = client.send_request(get("/none")).await.unwrap();
    assert_eq!(response.headers()["x-tulle-reason"], "route_not_found");
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_silent_application_runs_into_the_timeout_and_a_full_cluster_overflows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    let mut rule = forward();
    rule.timeouts.request = Some(Duration::from_millis(300));
    let limits = Limits { requests: Some(1), ..Limits::default() };
    let told = Told { rules: vec![rule], limits, protocol: Protocol::Http, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let (mut one, mut two) = (http1(pair.outbound).await, http1(pair.outbound).await);
    let silent = one.send_request(post("x"));
    let overflow = async {
        let (stream, _) = listener.accept().await.unwrap();
        (two.send_request(post("x")).await.unwrap(), stream)
    };
    let (silent, (overflow, _stream)) = tokio::join!(silent, overflow);
    assert_eq!(overflow.headers()["x-tulle-reason"], "overflow");
    let silent = silent.unwrap();
    assert_eq!(silent.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(silent.headers()["x-tulle-reason"], "timeout");
}

#[tokio::test]
async fn an_endpoint_without_sidecar_gets_plaintext_of_the_clients_version() {
    let (application, saw) = echo().await;
    let told = Told { plain: vec![application], ..Told::default() };
    let mut pair = Pair::new(&[], told).await;
    let mut client = http1(pair.outbound).await;
    assert_eq!(text(client.send_request(post("a")).await.unwrap()).await, "a");
    let request = Request::get("http://cart/").body(full("")).unwrap();
    assert_eq!(http2(pair.outbound).await.send_request(request).await.unwrap().status(), 200);
    let versions: Vec<_> = saw.lock().iter().map(|head| head.version).collect();
    assert_eq!(versions, [Version::HTTP_11, Version::HTTP_2]);
    assert_eq!(pair.client.record().await["tls"], false);
}
