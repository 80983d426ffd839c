//! Bodies: streamed, counted, never collected.
//!
//! What a client uploads may be sent a second time as long as little of it went: see [`Upload`].

mod upload;

pub use upload::{BodyError, RequestBody, Upload};

use std::{
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::clock::Clock;
use crate::{
    error::{Error, Reason, chain},
    telemetry::Record,
    upstream::{eject::Verdict, retire, send::Lease},
};

/// A response's body, with which its record closes.
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
enum Content {
    Own(Option<Bytes>),
    Upstream(Incoming),
}

/// What ends with the body.
#[derive(Debug)]
struct Open {
    record: Record,
    lease: Option<Lease>,
    clock: Option<Clock>,
    /// Whether its client can be told of a failure after the head: by gRPC's trailers.
    trailers: bool,
}

impl ResponseBody {
    /// A body that the proxy wrote, or none.
    pub fn own(content: Option<Bytes>, record: Record) -> Self {
        let open = Open { record, lease: None, clock: None, trailers: false };
        Self { content: Content::Own(content), open: Some(Box::new(open)) }
    }

    /// No body, of a response whose record does not close with it.
    pub fn empty() -> Self {
        Self { content: Content::Own(None), open: None }
    }

    /// An endpoint's. When its time is over, it is broken off. `trailers`: its client speaks gRPC.
    pub fn upstream(
        body: Incoming,
        record: Record,
        lease: Lease,
        clock: Clock,
        trailers: bool,
    ) -> Self {
        let open = Open { record, lease: Some(lease), clock: Some(clock), trailers };
        Self { content: Content::Upstream(body), open: Some(Box::new(open)) }
    }

    /// Ends well: the record closes, the connection is kept.
    fn end(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.record.finish();
            if let Some(lease) = open.lease {
                lease.complete();
            }
        }
    }

    /// Whether the endpoint's version was rolled back, and its connection ended for that.
    fn is_retired(&self) -> bool {
        let lease = self.open.as_ref().and_then(|open| open.lease.as_ref());
        lease.is_some_and(Lease::is_retired)
    }

    /// Ends for that: the way of gRPC if the client speaks it.
    fn retire(&mut self) -> Result<Frame<Bytes>, Error> {
        let error = retire::error();
        let Some(open) = self.open.as_mut().filter(|open| open.trailers) else {
            return Err(self.fail(error));
        };
        let status = u16::from(error.reason().grpc_status());
        open.record.grpc_status(status.into());
        self.fail(error);
        self.content = Content::Own(None);
        let trailers = [
            (HeaderName::from_static("grpc-status"), HeaderValue::from(status)),
            (HeaderName::from_static("grpc-message"), HeaderValue::from_static(retire::WHY)),
        ];
        Ok(Frame::trailers(HeaderMap::from_iter(trailers)))
    }

    fn fail(&mut self, error: Error) -> Error {
        if let Some(mut open) = self.open.take() {
            open.record.fail(&error);
        }
        error
    }
}

impl Open {
    /// Says how the endpoint's answer went on.
    fn report(&self, verdict: Verdict) {
        if let Some(lease) = &self.lease {
            lease.report(verdict);
        }
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.sent().fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
            self.record.grpc_status(status);
            self.report(Verdict::of_grpc(status));
        }
    }
}

/// The `grpc-status` among headers or trailers.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(clock) = self.open.as_mut().and_then(|open| open.clock.as_mut())
            && let Poll::Ready(error) = clock.poll(cx)
        {
            return Poll::Ready(Some(Err(self.fail(error))));
        }
        let polled = match &mut self.content {
            Content::Own(content) => content.take().map(|content| Ok(Frame::data(content))),
            Content::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        match polled {
            Some(Ok(frame)) => {
                if let Some(open) = &mut self.open {
                    open.count(&frame);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) if self.is_retired() => Poll::Ready(Some(self.retire())),
            Some(Err(error)) => {
                if let Some(open) = &self.open {
                    open.report(Verdict::LocalFailure);
                }
                let detail = format!("the response broke off: {}", chain(&error));
                Poll::Ready(Some(Err(self.fail(Error::new(Reason::Reset, detail)))))
            }
            None => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(content) => content.is_none(),
            Content::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |c| c.len() as u64))
            }
            Content::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A server need not poll a body whose end it knows.
        if self.is_end_stream() {
            self.end();
        }
    }
}
