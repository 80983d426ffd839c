use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tulle_proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use super::*;

const HERE: Application =
    Application { address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), source: None };

/// Makes the one probe of this action, as the kubelet would ask for it.
async fn probe(action: &str, timeout: u32) -> (StatusCode, String) {
    let json = format!(
        r#"[{{"path":"/probe/s/app/readiness","timeoutSeconds":{timeout},"action":{action}}}]"#
    );
    let probes: Probes = json.parse().unwrap();
    let probe = probes.find("/probe/s/app/readiness").unwrap();
    let request = Request::get("/").header(USER_AGENT, "kube-probe/1.36");
    let answer = probe.answer(&HERE, &request.body(Bytes::new()).unwrap()).await;
    (answer.status(), String::from_utf8(answer.into_body().to_vec()).unwrap())
}

/// An application that answers everything with these bytes; the heads of what it was asked.
async fn application(answer: &'static str) -> (u16, mpsc::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, asked) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                match line.trim_end() {
                    "" => break,
                    line => head.push(line.to_owned()),
                }
            }
            heads.send(head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked)
}

fn get(port: u16, path: &str, headers: &str) -> String {
    format!(
        r#"{{"httpGet":{{"port":{port},"path":"{path}","scheme":"HTTP","httpHeaders":[{headers}]}}}}"#
    )
}

#[tokio::test]
async fn the_application_sees_the_kubelet() {
    let (port, mut asked) = application("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(probe(&get(port, "/ready?a=b", ""), 5).await, (StatusCode::OK, "ok\n".to_owned()));
    let mut head = asked.recv().await.unwrap();
    assert_eq!(head.remove(0), "GET /ready?a=b HTTP/1.1");
    head.sort();
    let host = format!("Host: 127.0.0.1:{port}");
    assert_eq!(head, ["Accept: */*", "Connection: close", &host, "User-Agent: kube-probe/1.36"]);

    let own = r#"["Host","shop.example"],["user-agent","us"],["X-A","1"],["X-A","2"]"#;
    assert_eq!(probe(&get(port, "a path", own), 5).await.0, StatusCode::OK);
    let mut head = asked.recv().await.unwrap();
    assert_eq!(head.remove(0), "GET /a%20path HTTP/1.1");
    for line in ["Host: shop.example", "User-Agent: us", "X-A: 1", "X-A: 2"] {
        assert!(head.contains(&line.to_owned()), "{line} in {head:?}");
    }
}

#[tokio::test]
async fn what_is_well() {
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", None),
        ("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", None),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Some("HTTP status 404\n")),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", Some("HTTP status 503\n")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Some("HTTP: ")),
        ("SSH-2.0-OpenSSH\r\n", Some("HTTP: ")),
    ] {
        let (port, _asked) = application(answer).await;
        let (status, body) = probe(&get(port, "/", ""), 5).await;
        match expected {
            None => assert_eq!((status, &*body), (StatusCode::OK, "ok\n"), "{answer:?}"),
            Some(reason) => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
                assert!(body.starts_with(reason), "{answer:?}: {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_port_is_open_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let action = format!(r#"{{"tcpSocket":{{"port":{port}}}}}"#);
    assert_eq!(probe(&action, 5).await.0, StatusCode::OK);
    // Nobody answers what was accepted by the kernel alone.
    let late = probe(&get(port, "/", ""), 1).await;
    assert_eq!(late, (StatusCode::SERVICE_UNAVAILABLE, "no answer within 1s\n".to_owned()));
    drop(listener);
    let (status, reason) = probe(&action, 5).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reason.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{reason}");
}

struct Shop;

#[tonic::async_trait]
impl Health for Shop {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let status = match &*request.get_ref().service {
            "" => ServingStatus::Serving,
            "cart" => ServingStatus::NotServing,
            other => return Err(tonic::Status::not_found(other)),
        };
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }
}

#[tokio::test]
async fn grpc_health() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder().add_service(HealthServer::new(Shop));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    for (service, expected) in [
        ("", "ok\n"),
        ("cart", "gRPC health check: NOT_SERVING\n"),
        ("x", "gRPC health check: Some requested entity was not found: x\n"),
    ] {
        let action = format!(r#"{{"grpc":{{"port":{port},"service":"{service}"}}}}"#);
        assert_eq!(probe(&action, 5).await.1, expected, "{service:?}");
    }
}

#[tokio::test]
async fn a_probe_is_made_twice_at_once_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (count, peak) = (Arc::clone(&open), Arc::clone(&most));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            peak.fetch_max(count.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                answer(&mut stream).await;
                count.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    let json = format!(r#"[{{"path":"/probe/s/a/b","action":{}}}]"#, get(port, "/", ""));
    let probes: Probes = json.parse().unwrap();
    let probe = probes.find("/probe/s/a/b").unwrap();
    let request = Request::new(Bytes::new());
    let asked = (0..8).map(|_| probe.answer(&HERE, &request));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert!((1..=AT_ONCE).contains(&most.load(Ordering::Relaxed)));
}

async fn answer(stream: &mut TcpStream) {
    let mut lines = BufReader::new(&mut *stream).lines();
    while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
}

/// Injection writes the very same file.
#[test]
fn golden_variable() {
    let json = include_str!("../../../control-plane/src/inject/probes/golden.json");
    let probes: Probes = json.parse().unwrap();
    let part = json.split('/').nth(2).unwrap();
    let path = |tail: &str| format!("/probe/{part}/{tail}");
    let mut names: Vec<_> = probes.0.values().map(|probe| format!("{probe:?}")).collect();
    names.sort();
    let app = ["app/liveness", "app/pre-stop", "app/readiness", "app/startup"];
    assert_eq!(names, [&app[..], &["helper/pre-stop"]].concat());
    assert_eq!(probes.find(&path("helper/pre-stop")).unwrap().hold(), probes.hold());
    assert_eq!(probes.hold(), Some(Duration::from_secs(10)));
    assert_eq!(probes.find(&path("app/pre-stop")).unwrap().hold(), None);
    assert_eq!(probes.find(&path("app/pre-stop")).unwrap().limit, None);
    let readiness = probes.find(&path("app/readiness")).unwrap();
    assert_eq!(readiness.limit, Some(Duration::from_secs(3)));
    let Action::HttpGet { path, scheme: Scheme::Https, http_headers, .. } = &readiness.action
    else {
        panic!("an HTTPS probe");
    };
    assert_eq!(path.as_str(), "/healthz");
    assert_eq!(http_headers["x-key"], "$1");
    assert!(probes.find("/probe/0/app/readiness").is_none());
}

#[test]
fn what_injection_would_not_write() {
    let entry = |path: &str, action: &str| format!(r#"{{"path":"{path}","action":{action}}}"#);
    let tcp = r#"{"tcpSocket":{"port":1}}"#;
    let twice = [entry("/probe/s/a/b", tcp), entry("/probe/s/a/b", tcp)].join(",");
    for (entries, problem) in [
        (entry("/ready", tcp), "a path is not /probe/SECRET/CONTAINER/KIND"),
        (entry("/probe//a/b", tcp), "a path is not /probe/SECRET/CONTAINER/KIND"),
        (twice, "a/b is there twice"),
        (entry("/probe/s/a/b", r#"{"exec":{}}"#), "unknown variant `exec`"),
        (entry("/probe/s/a/b", r#"{"tcpSocket":{"port":0}}"#), "invalid value: integer `0`"),
        (entry("/probe/s/a/b", &get(1, "/", r#"["a b","c"]"#)), "header \"a b\": invalid"),
    ] {
        let error = format!("[{entries}]").parse::<Probes>().unwrap_err();
        assert!(error.contains(problem), "{error}");
        assert!(error.ends_with("; injection writes this variable: inject the pod again"));
    }
}

proptest! {
    #[test]
    fn any_path_can_be_asked_for(path in ".{0,40}") {
        let action = serde_json::json!({"httpGet": {
            "port": 1, "path": path, "scheme": "HTTP", "httpHeaders": [],
        }});
        let json = serde_json::json!([{"path": "/probe/s/a/b", "action": action}]);
        prop_assert!(json.to_string().parse::<Probes>().is_ok(), "{}", path);
    }
}
