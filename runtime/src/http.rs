//! The small admin server: readiness, metrics, dumps. Not for traffic: bodies are read whole, and
//! connections, body sizes and times are bounded.

use std::{convert::Infallible, io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::drain::Drain;

const CONNECTIONS: usize = 16;
const BODY: usize = 64 << 10;
/// For a request's head, its body, and the answer, each, unless the handler says otherwise.
pub const TIME: Duration = Duration::from_secs(10);
/// Long enough for a file descriptor to come free, short enough for a probe not to fail.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers a request.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`. Dropped if the client goes away.
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send;

    /// How long an answer to `request` may take.
    fn limit(&self, _request: &Request<Bytes>) -> Duration {
        TIME
    }
}

impl<F, R> Handler for F
where
    F: Fn(Request<Bytes>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Bytes>> + Send,
{
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        self(request)
    }
}

/// Serves until the drain starts.
pub async fn serve_tcp(listener: TcpListener, handler: impl Handler, drain: Drain) {
    serve(handler, drain, || async { listener.accept().await.map(|(io, _)| io) }).await;
}

/// Serves until the drain starts.
pub async fn serve_unix(listener: UnixListener, handler: impl Handler, drain: Drain) {
    serve(handler, drain, || async { listener.accept().await.map(|(io, _)| io) }).await;
}

/// A plain text answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    answer(status, "text/plain; charset=utf-8", body)
}

/// An answer of any type.
pub fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

async fn serve<Io, A>(handler: impl Handler, drain: Drain, accept: impl Fn() -> A)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Future<Output = io::Result<Io>>,
{
    let handler = Arc::new(handler);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, accept().await)
        };
        let (permit, io) = tokio::select! {
            biased;
            () = drain.started() => return,
            accepted = accepted => accepted,
        };
        let io = match io {
            Ok(io) => io,
            Err(error) => {
                tracing::warn!(%error, "admin server cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let _permit = permit;
            connection(io, handler).await;
        });
    }
}

async fn connection<Io>(io: Io, handler: Arc<impl Handler>)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(respond(request, &*handler).await) }
    });
    let served: Pin<Box<_>> = Box::pin(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(TIME)
            .serve_connection(TokioIo::new(io), service),
    );
    if let Err(error) = served.await {
        tracing::debug!(%error, "admin connection ended");
    }
}

async fn respond(request: Request<Incoming>, handler: &impl Handler) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = timeout(TIME, Limited::new(body, BODY).collect()).await else {
        return text(StatusCode::REQUEST_TIMEOUT, "the body took longer than 10 s\n")
            .map(Full::new);
    };
    let Ok(body) = body else {
        let too_large = format!("at most {BODY} bytes\n");
        return text(StatusCode::PAYLOAD_TOO_LARGE, too_large).map(Full::new);
    };
    let request = Request::from_parts(head, body.to_bytes());
    let limit = handler.limit(&request);
    let answered = timeout(limit, handler.handle(request));
    let late = || text(StatusCode::REQUEST_TIMEOUT, format!("took longer than {limit:?}\n"));
    answered.await.unwrap_or_else(|_| late()).map(Full::new)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::drain;

    #[tokio::test]
    async fn answers_and_stops_at_the_drain() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, drain) = drain::channel();
        let echo = |request: Request<Bytes>| async move {
            text(StatusCode::OK, format!("{} {}", request.method(), request.uri()))
        };
        let server = tokio::spawn(serve_tcp(listener, echo, drain));

        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("GET /ready"), "{answer}");

        trigger.start();
        server.await.unwrap();
    }
}
