//! What carries nothing for too long ends; what carries a little, however slowly, goes on.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tulle_xds::model::{Protocol, Rule, Timeouts};

use super::harness::{Pair, Told, forward};

/// Long enough that a busy machine does not stretch a pause of [`STEP`] to it.
const IDLE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(200);
/// Steps that take longer than [`IDLE`] and all that it may be late.
const STEPS: usize = 8;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n";

/// An application that reads once and then writes each of these after a pause; then it is silent.
async fn writes(pieces: Vec<&'static [u8]>, pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let pieces = pieces.clone();
            tokio::spawn(async move {
                let _request = stream.read(&mut [0; 4096]).await.unwrap();
                for piece in pieces {
                    sleep(pause).await;
                    stream.write_all(piece).await.unwrap();
                }
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

async fn mesh(application: SocketAddr, protocol: Protocol) -> Pair {
    let timeouts = Timeouts { idle: Some(IDLE), ..Timeouts::default() };
    let rule = Rule { timeouts, ..forward() };
    let told = Told {
        rules: vec![rule],
        idle: (protocol == Protocol::Tcp).then_some(IDLE),
        protocol,
        plain: vec![application],
        ..Told::default()
    };
    Pair::new(&[], told).await
}

/// Sends this and reads until the other end closes, which must not come before the idle time.
async fn ask(pair: &mut Pair, request: &[u8]) -> (String, Value) {
    let begun = Instant::now();
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let ended = client.read_to_end(&mut answer);
    let _reset_or_end = timeout(10 * IDLE, ended).await.expect("it stays open");
    assert!(begun.elapsed() >= IDLE, "{:?}", begun.elapsed());
    (String::from_utf8_lossy(&answer).into_owned(), pair.client.record().await)
}

fn is_idle(record: &Value) {
    assert_eq!(record["reason"], "timeout", "{record}");
    assert!(record["detail"].as_str().unwrap().contains("timeouts.idle"), "{record}");
}

#[tokio::test]
async fn a_silent_server_is_504_and_a_silent_client_408() {
    let mut pair = mesh(writes(Vec::new(), STEP).await, Protocol::Http).await;
    let get = b"GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
    let half = b"POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 8\r\n\r\nhalf";
    for (request, status) in [(&get[..], 504), (half, 408)] {
        let (answer, record) = ask(&mut pair, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("x-tulle-reason: timeout"), "{answer}");
        assert_eq!(record["status"], status);
        is_idle(&record);
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_broken_off() {
    let mut pair = mesh(writes(vec![HEAD, b"half"], STEP).await, Protocol::Http).await;
    let (answer, record) = ask(&mut pair, b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("half"), "{answer}");
    assert_eq!(record["status"], 200);
    is_idle(&record);
}

#[tokio::test]
async fn what_carries_a_byte_now_and_then_goes_on() {
    let mut pieces: Vec<&[u8]> = vec![b"x"; STEPS];
    pieces.insert(0, HEAD);
    let mut pair = mesh(writes(pieces, STEP).await, Protocol::Http).await;
    let get = b"GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
    let (answer, record) = ask(&mut pair, get).await;
    assert!(answer.ends_with("xxxxxxxx"), "{answer}");
    assert_eq!((&record["status"], record.get("reason")), (&200.into(), None));
}

#[tokio::test]
async fn a_connection_that_speaks_something_else_is_closed_too() {
    let changed =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let wants = b"GET / HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    for (protocol, first, request) in
        [(Protocol::Http, &changed[..], &wants[..]), (Protocol::Tcp, b"hello", b"hi")]
    {
        let mut pieces: Vec<&[u8]> = vec![b"x"; STEPS];
        pieces.insert(0, first);
        let mut pair = mesh(writes(pieces, STEP).await, protocol).await;
        let (answer, record) = ask(&mut pair, request).await;
        assert!(answer.ends_with("xxxxxxxx"), "{answer}");
        is_idle(&record);
    }
}
