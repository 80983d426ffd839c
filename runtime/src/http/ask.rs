//! One question to an admin server on a Unix socket.

use std::{fmt, path::Path};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

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
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|e| unanswered(socket, &e))?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await;
    let (head, body) = response.map_err(|e| unanswered(socket, &e))?.into_parts();
    let body = body.collect().await.map_err(|e| unanswered(socket, &e))?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

fn unanswered(socket: &Path, reason: &dyn fmt::Display) -> Unanswered {
    Unanswered { socket: socket.display().to_string(), reason: reason.to_string() }
}
