//! One question to an admin server on a Unix socket.

use std::{fmt, path::Path};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
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
    let unanswered = |reason: &dyn fmt::Display| Unanswered {
        socket: socket.display().to_string(),
        reason: reason.to_string(),
    };
    let io = UnixStream::connect(socket).await.map_err(|e| unanswered(&e))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|e| unanswered(&e))?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "tulle")
        .body(Full::<Bytes>::default())
        .map_err(|e| unanswered(&e))?;
    let response = sender.send_request(request).await.map_err(|e| unanswered(&e))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| unanswered(&e))?.to_bytes();
    connection.abort();
    Ok((status, body))
}
