//! What two parsers could read differently, and what is too much or too slow: refused, told and counted.

use std::{net::SocketAddr, time::Duration};

use http::{Request, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tulle_xds::model::{MtlsMode, Protocol};

use super::{
    ends::{Does, echo, full, http1, http2, plays, post, raw, text},
    frames::{END_HEADERS, END_STREAM, HEADERS, Raw, STATUS_400, Said, block, frame},
    harness::{Pair, Told},
};
use crate::{
    context::Settings,
    net::{
        guard::tests::{BAD_CHUNKS, BAD_REQUESTS, BAD_RESPONSES},
        listen,
    },
    outbound,
};

/// What the guard passes, and the head's own rules refuse.
const BAD_HOSTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\n\r\n",
];

/// An HTTP port in front of an application.
async fn http_pair(application: SocketAddr, tune: fn(&mut Settings)) -> Pair {
    Pair::new(&[application], Told { protocol: Protocol::Http, tune, ..Told::default() }).await
}

/// An application that reads and never answers.
pub(super) async fn silent(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
    }
}

async fn silent_application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    tokio::spawn(silent(listener));
    application
}

#[tokio::test]
async fn bad_requests_are_refused_and_reach_nobody() {
    let (application, saw) = echo().await;
    let mut pair = http_pair(application, |_| {}).await;
    let bad = BAD_REQUESTS.iter().copied().chain(BAD_HOSTS.iter().map(|request| (400, *request)));
    for (status, request) in bad {
        let smuggled = [request, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        for (to, outbound) in [(pair.outbound, true), (pair.inbound[0], false)] {
            let answer = raw(to, &smuggled).await;
            let context = format!("{:?}: {answer:?}", String::from_utf8_lossy(request));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{context}");
            assert!(answer.contains("x-tulle-reason: protocol\r\n"), "{context}");
            assert!(answer.contains("connection: close\r\n"), "{context}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{context}");
            let sidecar = if outbound { &mut pair.client } else { &mut pair.server };
            let record = sidecar.record().await;
            assert_eq!(record["status"], status, "{context} {record}");
            assert_eq!(record["reason"], "protocol", "{context} {record}");
        }
    }
    assert_eq!(saw.lock().len(), 0);
}

#[tokio::test]
async fn what_came_before_a_bad_request_is_answered_first() {
    let (application, saw) = echo().await;
    let pair = http_pair(application, |_| {}).await;
    let good = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
    let bad = "GET /2 HTTP/1.1\nHost: a\r\n\r\n";
    let answer = raw(pair.outbound, [good, good, bad, good].concat().as_bytes()).await;
    let statuses: Vec<_> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| answer.get(at + 9..at + 12)).collect();
    assert_eq!(statuses, [Some("200"), Some("200"), Some("400")], "{answer:?}");
    assert_eq!(saw.lock().len(), 2);
}

#[tokio::test]
async fn bad_chunks_are_refused() {
    let pair = http_pair(silent_application().await, |_| {}).await;
    for chunks in BAD_CHUNKS {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = [head, *chunks].concat();
        let answer = timeout(Duration::from_secs(10), raw(pair.outbound, &request));
        let answer = answer.await.unwrap_or_else(|_| format!("nothing for {chunks:?}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_bad_response_becomes_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).await.unwrap();
            let text = String::from_utf8_lossy(&head[..n]).into_owned();
            let row = text.split(['/', ' ']).nth(2).and_then(|row| row.parse::<usize>().ok());
            if let Some(row) = row {
                stream.write_all(BAD_RESPONSES[row]).await.unwrap();
            }
        }
    });
    let mut meshed = http_pair(application, |_| {}).await;
    let told = Told { protocol: Protocol::Http, plain: vec![application], ..Told::default() };
    let plain = Pair::new(&[], told).await;
    for (row, response) in BAD_RESPONSES.iter().enumerate() {
        let context = String::from_utf8_lossy(response);
        for to in [meshed.outbound, plain.outbound] {
            let request = format!("GET /{row} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = raw(to, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{context:?}: {answer:?}");
            assert!(answer.contains("x-tulle-reason: protocol\r\n"), "{context:?}: {answer:?}");
        }
        let record = meshed.server.record().await;
        assert_eq!((&record["reason"], &record["status"]), (&"protocol".into(), &502.into()));
    }
}

#[tokio::test]
async fn a_slow_head_gets_408_and_an_idle_connection_lives() {
    let (application, _) = echo().await;
    let mut pair = http_pair(application, |settings| {
        settings.head_timeout = Duration::from_millis(300);
        settings.detect_timeout = Duration::from_millis(300);
    })
    .await;
    let mut idle = http1(pair.outbound).await;
    assert_eq!(text(idle.send_request(post("1")).await.unwrap()).await, "1");
    pair.client.record().await;
    for beginning in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: 1"] {
        let mut slow = TcpStream::connect(pair.outbound).await.unwrap();
        let mut answer = Vec::new();
        let begun = tokio::time::Instant::now();
        let (mut read, mut write) = slow.split();
        // A byte now and then gains no time.
        let trickle = async {
            write.write_all(beginning.as_bytes()).await.unwrap();
            while write.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = trickle => { let _rest = read.read_to_end(&mut answer).await; }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(answer.starts_with("HTTP/1.1 408 "), "{beginning:?}: {answer:?}");
        let record = pair.client.record().await;
        assert_eq!((&record["status"], &record["reason"]), (&408.into(), &"timeout".into()));
    }
    assert_eq!(text(idle.send_request(post("2")).await.unwrap()).await, "2");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let (application, _) = echo().await;
    let pair = http_pair(application, |settings| {
        settings.client_idle_timeout = Duration::from_millis(300);
    })
    .await;
    let request = raw(pair.outbound, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = timeout(Duration::from_secs(10), request).await.expect("it is closed");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_in_the_end() {
    fn impatient(settings: &mut Settings) {
        settings.client_idle_timeout = Duration::from_millis(300);
        // Of the Strict port below. Here it would be too late.
        settings.head_timeout = Duration::from_secs(60);
    }
    fn strict(settings: &mut Settings) {
        settings.head_timeout = Duration::from_millis(300);
    }
    let (application, _) = echo().await;
    let mut http = http_pair(application, impatient).await;
    let told = Told { mtls: MtlsMode::Strict, tune: strict, ..Told::default() };
    let mut opaque = Pair::new(&[application], told).await;
    let silent = [
        (http.outbound, &mut http.client),
        (http.inbound[0], &mut http.server),
        (opaque.inbound[0], &mut opaque.server),
    ];
    for (to, sidecar) in silent {
        let closed = timeout(Duration::from_secs(10), raw(to, b"")).await;
        assert_eq!(closed.expect("it is closed"), "");
        assert_eq!(sidecar.record().await["reason"], "timeout");
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_and_a_slow_answer_is_not_idle() {
    let slow = Duration::from_millis(1500);
    let (application, _) = plays(move |head, _| match head.uri.path() {
        "/slow" => Does::Late(slow, 200),
        _ => Does::Answer(200),
    })
    .await;
    let pair = http_pair(application, |settings| {
        settings.client_idle_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = http2(pair.outbound).await;
    let get = |path: &str| Request::get(format!("http://cart{path}")).body(full("")).unwrap();
    let (quick, slow) =
        tokio::join!(client.clone().send_request(get("/")), client.send_request(get("/slow")));
    assert_eq!((quick.unwrap().status(), slow.unwrap().status()), (StatusCode::OK, StatusCode::OK));
    let look = async {
        while !client.is_closed() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), look).await.expect("it is closed");
}

#[tokio::test]
async fn strangers_who_take_all_places_leave_the_application_its_own() {
    let (application, _) = echo().await;
    let mut pair = http_pair(application, |settings| settings.max_connections = 2).await;
    let listener = listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let from_application = listener.local_addr().unwrap();
    let (context, drain) = pair.server.listens();
    tokio::spawn(outbound::serve(context, listener, drain));
    let inbound = pair.inbound[0];
    let _held =
        [TcpStream::connect(inbound).await.unwrap(), TcpStream::connect(inbound).await.unwrap()];
    assert_eq!(raw(inbound, b"").await, "", "there is no third place");
    // This one is refused as well, as nobody redirected it; but it was let in.
    assert_eq!(raw(from_application, b"").await, "");
    let limits = &pair.server.shared.connections;
    assert_eq!((limits.inbound.refused(), limits.outbound.refused()), (1, 0));
}

#[tokio::test]
async fn what_is_too_large_is_refused_in_either_version() {
    let pair = http_pair(silent_application().await, |settings| {
        settings.max_body_bytes = Some(10);
    })
    .await;
    let get = |path: &str| Request::get(format!("http://cart{path}")).header("host", "cart");
    let empty = String::new;
    let mut fields = get("/");
    for number in 0..128 {
        fields = fields.header(format!("x-{number}"), "1");
    }
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\n";
    assert!(
        raw(pair.outbound, format!("{chunked}abcdef").as_bytes())
            .await
            .starts_with("HTTP/1.1 413 ")
    );
    for (status, request) in [
        (414, get(&format!("/{}", "a".repeat(33 << 10))).body(empty()).unwrap()),
        (431, get("/").header("x-long", "a".repeat(70 << 10)).body(empty()).unwrap()),
        (431, fields.body(empty()).unwrap()),
        (413, get("/").body("12345678901".to_owned()).unwrap()),
    ] {
        let (first, second) = (request.clone().map(full), request.map(full));
        let response = http1(pair.outbound).await.send_request(first).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let response = http2(pair.outbound).await.send_request(second).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
    }
}

#[tokio::test]
async fn http2_heads_that_mean_two_things_are_refused() {
    let (application, saw) = echo().await;
    let told = Told { protocol: Protocol::Http2, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let (authority, path) = ((":authority", "cart"), (":path", "/"));
    let with =
        |more: &[(&'static str, &'static str)]| [&[method, scheme, authority, path], more].concat();
    for fields in [
        vec![scheme, authority, path],
        vec![method, authority, path],
        vec![method, scheme, authority],
        vec![method, scheme, path],
        vec![method, scheme, authority, (":path", "")],
        vec![method, scheme, authority, (":path", "a")],
        vec![method, scheme, authority, (":path", "/a b")],
        vec![method, scheme, (":authority", "u@cart"), path],
        vec![method, scheme, (":authority", "a b"), path],
        vec![(":method", "G T"), scheme, authority, path],
        vec![method, method, scheme, authority, path],
        vec![method, scheme, authority, path, path],
        vec![method, scheme, ("x-a", "1"), authority, path],
        with(&[(":status", "200")]),
        with(&[(":unknown", "1")]),
        with(&[("host", "other")]),
        with(&[("X-Upper", "1")]),
        with(&[("x a", "1")]),
        with(&[("", "1")]),
        with(&[("x-a", "a\r\nx-b: 1")]),
        with(&[("x-a", "a\0b")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "chat")]),
        with(&[("te", "gzip")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "+0")]),
    ] {
        let mut raw = Raw::connect(pair.outbound).await;
        raw.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))).await;
        let said = timeout(Duration::from_secs(10), raw.hear()).await.expect("an answer");
        let refused = [STATUS_400, Said::Reset(1), Said::GoAway(1)].contains(&said);
        assert!(refused, "{fields:?}: {said:?}");
    }
    assert_eq!(saw.lock().len(), 0);
}

#[tokio::test]
async fn a_bad_upgrade_cannot_smuggle() {
    let (application, saw) = echo().await;
    let pair = http_pair(application, |_| {}).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n";
    let answer =
        raw(pair.outbound, format!("{request}GET /2 HTTP/1.1\nHost: a\n\n").as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(saw.lock().len(), 1);
}
