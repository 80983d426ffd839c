//! Serving a connection that speaks HTTP.

use std::{
    convert::Infallible,
    future::ready,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::Either;

use http::{HeaderValue, header};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tulle_runtime::drain::{Drain, Stage};

use super::{Connection, admit, handle::handle, resets::Resets, respond};
use crate::{
    error::{Error, Reason, chain},
    net::{
        detect::{self, Spoken},
        guard,
        io::Prefixed,
    },
    stream::{self, Abort},
};

/// Streams that a client reset and that are not yet forgotten: more is rapid reset
/// (CVE-2023-44487), and closes the connection.
const MOST_RESETS: usize = 64;

/// Bytes of a request's body, and of all bodies of a connection, that a client may send before the
/// application takes them: what each connection can make us hold. A megabyte each millisecond is a
/// gigabyte each second.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a client whom policy lets in no longer has in flight may take so long to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves HTTP of the version that was `spoken` until the client leaves, or until the drain has
/// started and what is in flight has ended.
pub async fn http<I>(connection: Arc<Connection>, spoken: &Spoken, io: I, drain: &Drain)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match spoken {
        Spoken::Http2 => Box::pin(http2(connection, io, drain)).await,
        _ => Box::pin(http1(connection, io, drain)).await,
    }
}

/// Serves a connection to a port that is declared HTTP: nothing else is carried there.
pub async fn declared<I>(connection: Arc<Connection>, mut client: Prefixed<I>, drain: &Drain)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Prefixed<I>: Abort,
{
    let settings = connection.cx.settings();
    let (silence, within) = (settings.client_idle_timeout, settings.detect_timeout);
    match detect::speaking_client(&mut client, silence, within).await {
        // What may be bad HTTP is told so.
        Ok(Some(spoken)) if spoken.is_http() || spoken == Spoken::Opaque => {
            Box::pin(http(connection, &spoken, client, drain)).await;
        }
        Ok(spoken) => stream::refuse(&connection, client, &not_http(spoken.as_ref())),
        Err(error) => stream::refuse(&connection, client, &said_nothing(&error)),
    }
}

/// Why a connection ends on which no protocol showed.
pub fn said_nothing(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::new(Reason::Timeout, error.to_string()),
        _ => Error::new(Reason::Canceled, format!("the client broke off: {error}")),
    }
}

/// Why bytes on a port that is declared HTTP are refused. `None` are no bytes at all.
pub fn not_http(spoken: Option<&Spoken>) -> Error {
    let (reason, detail) = match spoken {
        None => (Reason::Canceled, "the client left without a word"),
        Some(Spoken::Tls(_)) => (
            Reason::Protocol,
            "the client's own TLS on a port that is declared HTTP: declare it `https` or `tcp`",
        ),
        Some(_) => (Reason::Protocol, "no HTTP on a port that is declared HTTP"),
    };
    Error::new(reason, detail)
}

/// Serves HTTP/1.
pub async fn http1<I>(connection: Arc<Connection>, io: I, drain: &Drain)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = connection.cx.settings();
    let (io, requests) = guard::requests(io, settings.http1_bounds(), settings.head_timeout);
    let number = AtomicU64::new(0);
    let service = service_fn(|request| {
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = match requests.refusal(number) {
            None => Either::Left(handle(Arc::clone(&connection), request)),
            Some(fault) => Either::Right(ready(respond::fault(&connection, fault))),
        };
        let (requests, drain) = (requests.clone(), drain.clone());
        async move {
            let response = answer.await;
            let upgraded = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
            requests.answered(number, upgraded);
            Ok::<_, Infallible>(last(response, &drain))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.client_idle_timeout)
        .half_close(true)
        .auto_date_header(false)
        .preserve_header_case(settings.preserve_header_case)
        .max_headers(settings.max_headers)
        // The guard's bound comes first, with its answer.
        .max_buf_size(settings.max_head_bytes + (8 << 10))
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let drained = async {
        tokio::select! {
            ended = &mut serving => return ended,
            () = drain.started() => {}
        }
        serving.as_mut().graceful_shutdown();
        serving.as_mut().await
    };
    tokio::select! {
        ended = drained => note(&connection, ended),
        error = admit::withdrawn(&connection) => {
            connection.record().fail(&error);
            serving.as_mut().graceful_shutdown();
            drop(timeout(FAREWELL, serving).await);
        }
    }
}

/// Says that the connection closes with this response if the pod is ending. A connection that idles is
/// left open until the end: a request may be on its way.
fn last<B>(mut response: http::Response<B>, drain: &Drain) -> http::Response<B> {
    let ending = drain.stage() >= Stage::Announcing;
    if ending && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Serves HTTP/2. Its client is told by GOAWAY as soon as the pod begins to end; one that came back
/// after that has nobody else to go to, and is told at the end.
pub async fn http2<I>(connection: Arc<Connection>, io: I, drain: &Drain)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = connection.cx.settings();
    let head = u32::try_from(settings.max_head_bytes).unwrap_or(u32::MAX);
    let shared = Arc::clone(&connection);
    let resets = Arc::new(Resets::default());
    let counted = Arc::clone(&resets);
    let service = service_fn(move |request| {
        let (answer, stream) = (handle(Arc::clone(&shared), request), counted.begun());
        async {
            let response = answer.await;
            stream.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(head)
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(MOST_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io), service);
    let mut serving = pin!(serving);
    let farewell = match drain.stage() {
        Stage::Serving => Stage::Announcing,
        _ => Stage::Closing,
    };
    // Requests that are not over go on after either.
    let drained = async {
        tokio::select! {
            ended = &mut serving => return ended,
            () = drain.reached(farewell) => {}
            () = resets.idle(settings.client_idle_timeout) => {}
        }
        serving.as_mut().graceful_shutdown();
        serving.as_mut().await
    };
    tokio::select! {
        ended = drained => note(&connection, ended),
        error = admit::withdrawn(&connection) => {
            connection.record().fail(&error);
            // It says so by GOAWAY.
            serving.as_mut().graceful_shutdown();
            drop(timeout(FAREWELL, serving).await);
        }
        () = resets.too_many() => {
            let detail = "rapid reset: most streams were reset before they could be answered";
            connection.record().fail(&Error::new(Reason::Protocol, detail));
        }
    }
}

/// What hyper refused has no request and so no record: it gets one here.
fn note(connection: &Connection, ended: hyper::Result<()>) {
    match ended {
        Err(error) if error.is_parse() => {
            connection.record().fail(&Error::new(Reason::Protocol, chain(&error)));
        }
        Err(error) => tracing::debug!(error = chain(&error), "a client connection ended"),
        Ok(()) => {}
    }
}
