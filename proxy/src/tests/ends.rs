//! Both ends of an HTTP conversation: an application, and clients.

use std::{convert::Infallible, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
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
            serve(stream, service_fn(|request| std::future::ready(answered(&saw, request)))).await;
        });
    }
}

/// Serves the HTTP that the client speaks, as most applications do.
pub(super) async fn serve<S, B>(stream: TcpStream, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    B::Data: Send,
{
    let http = auto::Builder::new(TokioExecutor::new());
    // Who closes first does not matter here.
    let _ended = http.serve_connection(TokioIo::new(stream), service).await;
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

/// What an application does with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    /// Answers with this status, and the body that it got.
    Answer(u16),
    /// Does so later.
    Late(Duration, u16),
    /// Answers with this `grpc-status` and nothing else.
    Grpc(u16),
    /// Closes the connection.
    Reset,
    /// Keeps the client waiting.
    Nothing,
}

/// An application that follows a script: the request's head and its number decide.
pub(super) async fn plays(
    script: impl Fn(&Parts, usize) -> Does + Send + Sync + 'static,
) -> (SocketAddr, Saw<Parts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let saw: Saw<Parts> = Saw::default();
    let (noted, script) = (Arc::clone(&saw), Arc::new(script));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
            let service = service_fn(move |request: Request<Incoming>| {
                let (head, body) = request.into_parts();
                let mut noted = noted.lock();
                let does = script(&head, noted.len());
                noted.push(head);
                done(does, body)
            });
            tokio::spawn(serve(stream, service));
        }
    });
    (address, saw)
}

async fn done(
    does: Does,
    body: Incoming,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Broken> {
    let body = body.collect().await.unwrap().to_bytes();
    let body = BodyExt::boxed(Full::new(body).map_err(|never| match never {}));
    let answer = Response::builder();
    let answer = match does {
        Does::Answer(status) => answer.status(status),
        Does::Late(after, status) => {
            tokio::time::sleep(after).await;
            answer.status(status)
        }
        Does::Grpc(status) => {
            answer.header("content-type", "application/grpc").header("grpc-status", status)
        }
        Does::Reset => return Err(Broken),
        Does::Nothing => std::future::pending().await,
    };
    Ok(answer.body(body).unwrap())
}

/// Why an application closes a connection.
#[derive(Debug, thiserror::Error)]
#[error("broken")]
pub(super) struct Broken;

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
