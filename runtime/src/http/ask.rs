//! One question to an admin server on a Unix socket.

use std::{fmt, path::Path};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    task::JoinSet,
};

/// Most bytes of an answer.
const LARGEST: usize = 64 << 20;

/// Why there is no answer.
pub type Unread = Box<dyn std::error::Error + Send + Sync>;

/// Nobody has answered.
#[derive(Debug, thiserror::Error)]
#[error("no answer on the admin socket {socket}: {reason}; does the program that has it run here?")]
pub struct Unanswered {
    socket: String,
    reason: String,
}

/// Asks whoever listens on `socket`.
///
/// # Errors
/// If nothing listens there, or it does not answer in HTTP.
pub async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Unanswered> {
    let request = Request::builder().method(method).uri(path).body(Bytes::new());
    let answer = exchange(socket, request.map_err(|e| unanswered(socket, &e))?).await?;
    Ok((answer.status(), answer.into_body()))
}

/// Sends a request to whoever listens on `socket`.
///
/// # Errors
/// If nothing listens there, or it does not answer in HTTP.
pub async fn exchange(
    socket: &Path,
    mut request: Request<Bytes>,
) -> Result<Response<Bytes>, Unanswered> {
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("tulle"));
    let io = UnixStream::connect(socket).await.map_err(|e| unanswered(socket, &e))?;
    over(io, request).await.map_err(|e| unanswered(socket, &e))
}

/// Sends a request on a connection, which ends with the answer.
///
/// # Errors
/// If whoever is there does not answer in HTTP/1.1, or says more than 64 MiB.
pub async fn over<Io>(io: Io, request: Request<Bytes>) -> Result<Response<Bytes>, Unread>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Box::pin(within(io, request, LARGEST)).await
}

/// The same, of whoever is not to be trusted with that much. The connection ends with the answer, and when the future is dropped.
///
/// # Errors
/// If whoever is there does not answer in HTTP/1.1, or says more than `most` bytes.
pub async fn within<Io>(
    io: Io,
    request: Request<Bytes>,
    most: usize,
) -> Result<Response<Bytes>, Unread>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    let body = Limited::new(body, most).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

fn unanswered(socket: &Path, reason: &dyn fmt::Display) -> Unanswered {
    Unanswered { socket: socket.display().to_string(), reason: reason.to_string() }
}
