//! Both ends of an HTTP conversation: an application, and clients.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::harness::Saw;

/// An application that answers with the body that it got, and notes each head.
pub(super) async fn echo() -> (SocketAddr, Saw<Parts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let saw = Saw::default();
    let noted = Arc::clone(&saw);
    tokio::spawn(serve_echo(listener, noted));
    (address, saw)
}

/// The application itself. Dropping it closes its port and all of its connections at once.
pub(super) async fn serve_echo(listener: TcpListener, noted: Saw<Parts>) {
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let saw = Arc::clone(&noted);
        open.spawn(async move {
            let answer = |request| std::future::ready(answered(&saw, request));
            let mut preface = [0; 4];
            stream.peek(&mut preface).await.unwrap();
            let service = service_fn(answer);
            let io = TokioIo::new(stream);
            let _ended = if &preface == b"PRI " {
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http2.serve_connection(io, service).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
            };
        });
    }
}

fn answered(
    saw: &Saw<Parts>,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Infallible> {
    let (head, body) = request.into_parts();
    saw.lock().push(head);
    let mut response = Response::new(body);
    response.headers_mut().insert("x-tulle-fake", "1".parse().unwrap());
    Ok(response)
}

pub(super) async fn http1(to: SocketAddr) -> http1::SendRequest<BoxBody<Bytes, Infallible>> {
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (sender, connection) = http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn http2(to: SocketAddr) -> http2::SendRequest<BoxBody<Bytes, Infallible>> {
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, Infallible> {
    Full::new(bytes.into()).boxed()
}

pub(super) fn post(body: impl Into<Bytes>) -> Request<BoxBody<Bytes, Infallible>> {
    Request::post("/p?q=1").header("host", "cart:80").body(full(body)).unwrap()
}

pub(super) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Sends bytes and reads until the other end closes.
pub(super) async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _reset_or_end = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
