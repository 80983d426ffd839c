//! The guard in front of the HTTP/1 codec: its verdict does not depend on how the bytes are cut, and
//! whatever it passes, hyper reads as the same messages.

#![cfg(not(test))]
#![no_main]

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tulle_proxy::net::guard::{
    self,
    scan::{Asked, Bounds, Messages, Scanned, Scanner},
};

const BOUNDS: Bounds = Bounds { head_bytes: 1024, uri_bytes: 256, fields: 8 };

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, bytes)) = bytes.split_first() else {
        return;
    };
    let step = usize::from(step % 64) + 1;
    for messages in [Messages::Requests, Messages::Responses] {
        let whole = scanned(messages, bytes, bytes.len().max(1));
        assert_eq!(whole.passed, scanned(messages, bytes, 1).passed);
        assert_eq!(whole.passed, scanned(messages, bytes, step).passed);
    }
    let expected = scanned(Messages::Requests, bytes, 1).bodies;
    let seen = hyper(bytes, step);
    assert!(seen.len() <= expected.len(), "{seen:?} {expected:?}");
    assert!(expected.starts_with(&seen), "{seen:?} {expected:?}");
});

/// What became of a stream.
struct Seen {
    passed: (usize, Option<&'static str>, u64, u64),
    /// The length of each message's body.
    bodies: Vec<u64>,
}

fn scanned(messages: Messages, bytes: &[u8], step: usize) -> Seen {
    let mut scanner = Scanner::new(messages, BOUNDS);
    scanner.asked(Asked::Response);
    let (mut passed, mut bodies, mut before, mut what) = (0, Vec::new(), 0, None);
    for end in (0..bytes.len()).step_by(step).skip(1).chain([bytes.len()]) {
        loop {
            let Scanned { pass, fault } = scanner.scan(bytes.get(passed..end).unwrap_or_default());
            passed += pass;
            what = fault.map(|fault| fault.what);
            if !scanner.is_held() {
                break;
            }
            scanner.release(false);
        }
        if bodies.len() as u64 + 1 < scanner.heads() {
            bodies.push(scanner.payload() - before);
            before = scanner.payload();
        }
        if what.is_some() {
            break;
        }
    }
    if scanner.heads() > bodies.len() as u64 {
        bodies.push(scanner.payload() - before);
    }
    Seen { passed: (passed, what, scanner.heads(), scanner.payload()), bodies }
}

/// The bodies that hyper reads to their ends behind the guard.
fn hyper(bytes: &[u8], step: usize) -> Vec<u64> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let script = Script { bytes: bytes.to_vec(), at: 0, step };
    let (io, requests) = guard::requests(script, BOUNDS, Duration::from_secs(1));
    let number = AtomicU64::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let (seen, requests) = (Rc::clone(&seen), requests.clone());
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if requests.refusal(number).is_none()
                && let Ok(body) = request.into_body().collect().await
            {
                seen.borrow_mut().push(body.to_bytes().len() as u64);
            }
            requests.answered(number, false);
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let serving = http1::Builder::new()
        .half_close(true)
        .max_headers(BOUNDS.fields)
        .serve_connection(TokioIo::new(io), service);
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() {
        let _ended = runtime.block_on(serving);
    }
    seen.take()
}

/// A client that says its bytes piece by piece and does not listen.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let piece = rest.get(..self.step.min(buf.remaining())).unwrap_or(rest);
        let piece = piece.get(..buf.remaining()).unwrap_or(piece);
        buf.put_slice(piece);
        let n = piece.len();
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
