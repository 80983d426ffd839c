//! What a client uploads: read once, sent by several attempts if it must be, and passed on to copies.
//!
//! The first [`REPLAYED`] bytes are kept (shared, not copied) until the response begins.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::{
    error::{Error, Reason},
    net::guard::{self, scan::Fault},
    request::mirror::tail::{self, Broken, Fate, Tail, Tap, Waiting},
};

/// Bytes of an upload that are kept for another attempt.
const REPLAYED: usize = 64 << 10;

const TOO_LONG: Fault =
    Fault { status: StatusCode::PAYLOAD_TOO_LARGE, what: "the body is longer than allowed" };

/// What a client uploads: held while attempts are made, of which each gets a [`RequestBody`].
#[derive(Debug)]
pub struct Upload(Option<Arc<Mutex<Source>>>);

#[derive(Debug)]
struct Source {
    origin: Origin,
    /// The bytes that there are in all, if that is known.
    length: Option<u64>,
    /// What gets all of it as well.
    taps: Vec<Tap>,
    /// The frames that the attempts so far consumed, while another attempt is possible; then those
    /// that the last attempt has yet to consume again.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// How many of `kept` the current attempt has consumed.
    position: usize,
    replayable: bool,
    attempt: u32,
    /// All of it was read.
    whole: bool,
    received: Arc<AtomicU64>,
    most: Option<u64>,
    /// What was wrong with it.
    fault: Option<Fault>,
}

/// Where a body comes from.
#[derive(Debug)]
enum Origin {
    Client(Incoming),
    /// It is a copy's.
    Original(Tail),
}

#[derive(Debug, Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body of one attempt.
#[derive(Debug)]
pub struct RequestBody(Option<Attempt>);

#[derive(Debug)]
struct Attempt {
    source: Arc<Mutex<Source>>,
    number: u32,
}

/// A request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's connection or message is at fault.
    #[error("the client's body broke off")]
    Client(#[source] hyper::Error),
    /// It is a copy's.
    #[error(transparent)]
    Original(Broken),
    /// It is longer than allowed.
    #[error("the client's body is too long")]
    TooLong,
    /// Another attempt took over.
    #[error("another attempt took over")]
    Superseded,
}

impl Upload {
    /// The body of a request; `received` counts its bytes, of which there may be at `most` so many.
    ///
    /// # Errors
    /// It says that it is longer.
    pub fn new(body: Incoming, received: Arc<AtomicU64>, most: Option<u64>) -> Result<Self, Error> {
        if body.is_end_stream() {
            return Ok(Self(None));
        }
        if most.is_some_and(|most| body.size_hint().lower() > most) {
            return Err(Error::new(Reason::Protocol, TOO_LONG.what).with_status(TOO_LONG.status));
        }
        let length = body.size_hint().exact();
        Ok(Self::from(Origin::Client(body), length, received, most))
    }

    fn from(
        origin: Origin,
        length: Option<u64>,
        received: Arc<AtomicU64>,
        most: Option<u64>,
    ) -> Self {
        Self(Some(Arc::new(Mutex::new(Source {
            origin,
            length,
            taps: Vec::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            position: 0,
            replayable: true,
            attempt: 0,
            whole: false,
            received,
            most,
            fault: None,
        }))))
    }

    /// The body of a copy, and what becomes of it. To be called before anything of the original is
    /// read; `received` counts the copy's bytes.
    pub fn tail(&self, waiting: &Waiting, received: Arc<AtomicU64>) -> (Self, Fate) {
        let Some(source) = &self.0 else {
            return (Self(None), Fate::ended());
        };
        let mut source = source.lock();
        let (tap, tail, fate) = tail::new(waiting);
        source.taps.push(tap);
        (Self::from(Origin::Original(tail), source.length, received, None), fate)
    }

    /// What was wrong with it, for which the client is to blame.
    pub fn fault(&self) -> Option<Fault> {
        self.0.as_ref().and_then(|source| source.lock().fault)
    }

    /// Whether all of it was read.
    pub fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = source.lock();
            source.whole || source.origin.is_end_stream()
        })
    }

    /// Whether another attempt can send all of it.
    pub fn is_replayable(&self) -> bool {
        self.0.as_ref().is_none_or(|source| source.lock().replayable)
    }

    /// The body of the next attempt; that of the one before ends with an error.
    pub fn attempt(&self) -> RequestBody {
        RequestBody(self.0.as_ref().map(|shared| {
            let mut source = shared.lock();
            source.attempt += 1;
            source.position = 0;
            Attempt { source: Arc::clone(shared), number: source.attempt }
        }))
    }

    /// No other attempt will follow.
    pub fn settle(&self) {
        if let Some(source) = &self.0 {
            source.lock().stop_keeping();
        }
    }
}

impl Source {
    fn stop_keeping(&mut self) {
        self.replayable = false;
        self.kept.drain(..self.position);
        self.position = 0;
    }

    fn replay(&mut self) -> Option<Kept> {
        if !self.replayable {
            return self.kept.pop_front();
        }
        let frame = self.kept.get(self.position)?.clone();
        self.position += 1;
        Some(frame)
    }

    /// Counts a frame. Whether it is within the bound.
    fn count(&self, frame: &Frame<Bytes>) -> bool {
        let new = frame.data_ref().map_or(0, |data| data.len() as u64);
        let received = self.received.fetch_add(new, Ordering::Relaxed) + new;
        self.most.is_none_or(|most| received <= most)
    }

    /// Passes a frame on to the copies.
    fn copy(&mut self, frame: &Frame<Bytes>) {
        if self.taps.is_empty() {
            return;
        }
        let taps = mem::take(&mut self.taps);
        self.taps = taps.into_iter().filter_map(|tap| tap.push(frame)).collect();
        // Who reads the original need not ask for an end that it knows of.
        if self.origin.is_end_stream() {
            self.end_copies();
        }
    }

    fn end_copies(&mut self) {
        self.taps.drain(..).for_each(Tap::end);
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.replayable {
            return;
        }
        let kept = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.kept_bytes += data.len();
                Kept::Data(data.clone())
            }
            (None, Some(trailers)) => Kept::Trailers(trailers.clone()),
            (None, None) => return,
        };
        if self.kept_bytes > REPLAYED {
            self.stop_keeping();
        } else {
            self.kept.push_back(kept);
            self.position += 1;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(Attempt { source, number }) = &self.0 else {
            return Poll::Ready(None);
        };
        let mut source = source.lock();
        if source.attempt != *number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(kept) = source.replay() {
            return Poll::Ready(Some(Ok(match kept {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        match ready!(source.origin.poll_frame(cx)) {
            Some(Ok(frame)) if source.count(&frame) => {
                source.copy(&frame);
                source.keep(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Ok(_too_long)) => {
                source.fault = Some(TOO_LONG);
                Poll::Ready(Some(Err(BodyError::TooLong)))
            }
            Some(Err(error)) => {
                if let BodyError::Client(error) = &error {
                    source.fault = guard::fault(error);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                source.whole = true;
                source.end_copies();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|attempt| {
            let source = attempt.source.lock();
            source.position == source.kept.len() && source.origin.is_end_stream()
        })
    }
}

impl Origin {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> tail::Next<BodyError> {
        match self {
            Self::Client(body) => {
                Pin::new(body).poll_frame(cx).map(|next| next.map(|f| f.map_err(BodyError::Client)))
            }
            Self::Original(tail) => {
                tail.poll_frame(cx).map(|next| next.map(|f| f.map_err(BodyError::Original)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Original(tail) => tail.is_end_stream(),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // A server may have answered after the last byte, before the message's end.
        if self.length == Some(self.received.load(Ordering::Relaxed)) {
            self.end_copies();
        }
    }
}
