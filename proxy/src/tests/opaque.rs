use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tulle_xds::model::{Backend, ByName, Protocol};

use super::harness::{CART, Pair, Told, WEB, backend, nobody};
use crate::{
    context::Settings,
    net::detect,
    tls::{self, Alpn},
};

/// A server that greets first, then sends back what it gets until the client has ended.
pub(super) async fn greeter() -> SocketAddr {
    late_greeter(Duration::ZERO).await
}

/// The same, after some thought.
async fn late_greeter(after: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                sleep(after).await;
                stream.write_all(b"220 ready\r\n").await.unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                stream.write_all(&got).await.unwrap();
            });
        }
    });
    address
}

pub(super) async fn talk(to: SocketAddr) {
    let mut client = TcpStream::connect(to).await.unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    client.write_all(b"EHLO a\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut echo = Vec::new();
    client.read_to_end(&mut echo).await.unwrap();
    assert_eq!(echo, b"EHLO a\r\n");
}

#[tokio::test]
async fn a_server_speaks_first_on_a_port_that_declares_nothing() {
    let application = greeter().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    for _ in 0..2 {
        talk(pair.outbound).await;
        let (out, inn) = (pair.client.record().await, pair.server.record().await);
        assert_eq!((&out["peer"], &inn["peer"]), (&CART.into(), &WEB.into()), "{out} {inn}");
        assert_eq!((&out["protocol"], &out["reason"]), (&"tcp".into(), &serde_json::Value::Null));
        assert_eq!((&out["bytes_received"], &out["bytes_sent"]), (&8.into(), &19.into()));
    }
    // And for a client outside of the mesh.
    talk(pair.inbound[0]).await;
    assert_eq!(pair.server.record().await["tls"], false);
}

#[tokio::test]
async fn a_client_that_waits_for_its_server_may_wait_long() {
    let application = late_greeter(Duration::from_millis(500)).await;
    let short: fn(&mut Settings) = |settings| {
        settings.client_idle_timeout = Duration::from_millis(50);
        settings.detect_timeout = Duration::from_millis(50);
    };
    for protocol in [Protocol::Detect, Protocol::Tcp] {
        let told = Told { protocol, tune: short, ..Told::default() };
        let pair = Pair::new(&[application], told).await;
        talk(pair.outbound).await;
        talk(pair.inbound[0]).await;
    }
}

#[tokio::test]
async fn a_declared_opaque_port_carries_what_looks_like_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    let told = Told { protocol: Protocol::Tcp, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client.write_all(b"GET / HTTP/9.9\r\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut got = [0; 16];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"GET / HTTP/9.9\r\n");
}

#[tokio::test]
async fn where_nobody_listens_the_connection_is_reset() {
    let told = Told { protocol: Protocol::Tcp, plain: vec![nobody().await], ..Told::default() };
    let mut pair = Pair::new(&[], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    assert!(client.read_u8().await.is_err());
    assert_eq!(pair.client.record().await["reason"], "connect");
}

#[tokio::test]
async fn the_applications_own_tls_passes_untouched() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    let pair = Pair::new(&[application], Told::default()).await;
    // The head of a ClientHello is enough: it never becomes complete.
    let hello = [0x16, 3, 1, 0, 5, 2, 0, 0, 1, 0];
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client.write_all(&hello).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut got = [0; 10];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got, hello);
}

#[tokio::test]
async fn another_endpoint_is_tried_where_the_application_has_closed() {
    let applications = [nobody().await, greeter().await];
    let mut pair = Pair::new(&applications, Told::default()).await;
    let mut attempts = Vec::new();
    for _ in 0..4 {
        talk(pair.outbound).await;
        attempts.push(pair.client.record().await["attempts"].as_u64().unwrap_or(1));
    }
    assert!(attempts.contains(&2), "{attempts:?}: the closed one was never tried");
    // Nobody else is left: then it is a failure, and says what is missing.
    let told = Told { protocol: Protocol::Tcp, ..Told::default() };
    let mut pair = Pair::new(&[nobody().await], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    assert!(client.read_u8().await.is_err());
    let record = pair.client.record().await;
    assert_eq!(record["reason"], "connect", "{record}");
    assert!(record.to_string().contains("has no application"), "{record}");
}

#[tokio::test]
async fn a_caller_that_is_not_ours_gets_the_bytes_and_nothing_else() {
    let pair = Pair::new(&[greeter().await], Told::default()).await;
    let tcp = TcpStream::connect(pair.inbound[0]).await.unwrap();
    let certs = &pair.client.shared.certs;
    let id = CART.parse().unwrap();
    let mut stream = tls::client::connect(certs, tcp, &id, Alpn::Tcp).await.unwrap();
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
}

#[tokio::test]
async fn tls_goes_where_the_name_of_its_server_leads() {
    let [application, other] = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
    let (application, other) = (application.await.unwrap(), other.await.unwrap());
    const OTHER: &str = "service/shop/other/80";
    let hello = detect::hello(&[b"h2"], 0, 4000);
    for (name, only_named) in [("*.example", true), ("other.example", false)] {
        let backend = Backend { cluster: OTHER.to_owned(), ..backend() };
        let told = Told {
            protocol: Protocol::Tcp,
            by_name: vec![ByName { names: vec![name.to_owned()], backends: vec![backend] }],
            only_named,
            others: vec![(OTHER, other.local_addr().unwrap())],
            ..Told::default()
        };
        let pair = Pair::new(&[application.local_addr().unwrap()], told).await;
        let mut client = TcpStream::connect(pair.outbound).await.unwrap();
        client.write_all(&hello).await.unwrap();
        let server = if only_named { &other } else { &application };
        let (mut server, _) = server.accept().await.unwrap();
        let mut got = vec![0; hello.len()];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, hello, "{name}");
    }
}

#[tokio::test]
async fn what_names_no_server_is_refused_where_all_must() {
    let application = greeter().await;
    let group = ByName { names: vec!["a.example".to_owned()], backends: vec![backend()] };
    for (protocol, bytes) in
        [(Protocol::Tcp, &b"EHLO a\r\n"[..]), (Protocol::Detect, &detect::hello(&[], 0, 4000))]
    {
        let told =
            Told { protocol, by_name: vec![group.clone()], only_named: true, ..Told::default() };
        let mut pair = Pair::new(&[application], told).await;
        let mut client = TcpStream::connect(pair.outbound).await.unwrap();
        client.write_all(bytes).await.unwrap();
        assert!(client.read_u8().await.is_err());
        assert_eq!(pair.client.record().await["reason"], "route_not_found");
    }
    // Where that is not asked for, a server may speak first.
    let told = Told { protocol: Protocol::Tcp, by_name: vec![group], ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    talk(pair.outbound).await;
}
