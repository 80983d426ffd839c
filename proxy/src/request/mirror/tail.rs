//! A body that follows another one: whatever is read of the original's body, its tail gets as well,
//! in its own time.
//!
//! What a tail's reader has not taken waits here. More than a bound of it, for one or for all tails
//! together, and the tail is cut off: its reader sees a body that broke off, the original sees
//! nothing.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Bytes that wait for one reader. A body that is no longer arrives whole, however slow it is.
const MOST: usize = 1 << 20;

/// Bytes that wait for all readers of a process.
const MOST_TOGETHER: usize = 16 << 20;

/// What a frame costs beside its bytes, so that empty ones are bounded, too.
const OVERHEAD: usize = 64;

/// The bytes that wait in all tails of a process.
#[derive(Debug, Clone)]
pub struct Waiting(Arc<Semaphore>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_TOGETHER)))
    }
}

/// The original's end of a tail.
#[derive(Debug)]
pub struct Tap {
    pieces: mpsc::Sender<Piece>,
    room: [Arc<Semaphore>; 2],
    fate: oneshot::Sender<FellBehind>,
}

/// The reader's end of a tail.
#[derive(Debug)]
pub struct Tail {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

/// What becomes of a tail: whether it is cut off, or follows its original to the end.
#[derive(Debug)]
pub struct Fate(oneshot::Receiver<FellBehind>);

#[derive(Debug)]
struct FellBehind;

#[derive(Debug)]
enum Piece {
    Data(Bytes, Room),
    Trailers(HeaderMap, Room),
    /// The original has ended well.
    End,
}

/// Given back when the piece is taken, or dropped with its tail.
type Room = [OwnedSemaphorePermit; 2];

/// The next frame of a body.
pub type Next<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

/// The body did not end: the original's broke off, or the tail was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the original's body broke off")]
pub struct Broken;

/// A tail's two ends, and its fate.
pub fn new(waiting: &Waiting) -> (Tap, Tail, Fate) {
    // As many as there is room for, and the end.
    let (sender, pieces) = mpsc::channel(MOST / OVERHEAD + 1);
    let (fate, told) = oneshot::channel();
    let room = [Arc::new(Semaphore::new(MOST)), Arc::clone(&waiting.0)];
    (Tap { pieces: sender, room, fate }, Tail { pieces, ended: false }, Fate(told))
}

impl Tap {
    /// Passes a frame on. `None` if there is no room for it, or nobody who would read it.
    #[must_use]
    pub fn push(self, frame: &Frame<Bytes>) -> Option<Self> {
        let length = frame.data_ref().map_or(0, Bytes::len) + OVERHEAD;
        let Some(room) = self.take(length) else {
            // A reader that is gone need not be told.
            let _gone = self.fate.send(FellBehind);
            return None;
        };
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone(), room),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone(), room),
            (None, None) => return Some(self),
        };
        self.pieces.try_send(piece).is_ok().then_some(self)
    }

    /// The original has ended well. Dropped without this, it has not.
    pub fn end(self) {
        let _gone = self.pieces.try_send(Piece::End);
    }

    fn take(&self, length: usize) -> Option<Room> {
        let length = u32::try_from(length).ok()?;
        let [own, all] =
            self.room.each_ref().map(|room| Arc::clone(room).try_acquire_many_owned(length));
        Some([own.ok()?, all.ok()?])
    }
}

impl Tail {
    /// The next frame, as [`http_body::Body`] has it.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Next<Broken> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(data, _room)) => Some(Ok(Frame::data(data))),
            Some(Piece::Trailers(trailers, _room)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => Some(Err(Broken)),
        })
    }

    /// Whether all of it was read.
    pub fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Fate {
    /// Of a body that is there already.
    pub fn ended() -> Self {
        Self(oneshot::channel().1)
    }

    /// Resolves when the original's body is over, however it ended, or the tail was cut off, which is
    /// what it says.
    pub async fn fell_behind(self) -> bool {
        self.0.await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::poll_fn};

    use super::*;

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(vec![7; length].into())
    }

    /// All that the tail has; whether it ended well.
    async fn read(mut tail: Tail) -> (usize, bool) {
        let mut total = 0;
        loop {
            match poll_fn(|cx| tail.poll_frame(cx)).await {
                Some(Ok(frame)) => total += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(Broken)) => return (total, false),
                None => return (total, true),
            }
        }
    }

    #[tokio::test]
    async fn it_ends_as_its_original_does() {
        let waiting = Waiting::default();
        let (tap, tail, fate) = new(&waiting);
        tap.push(&data(5)).unwrap().push(&data(6)).unwrap().end();
        assert_eq!(read(tail).await, (11, true));
        assert!(!fate.fell_behind().await);

        let (tap, tail, fate) = new(&waiting);
        drop(tap.push(&data(5)).unwrap());
        assert_eq!(read(tail).await, (5, false));
        assert!(!fate.fell_behind().await);
    }

    #[tokio::test]
    async fn one_that_is_not_read_is_cut_off_and_its_room_is_given_back() {
        let waiting = Waiting::default();
        let (tap, tail, fate) = new(&waiting);
        let tap = tap.push(&data(MOST - OVERHEAD)).unwrap();
        assert!(tap.push(&data(0)).is_none(), "even an empty frame is one too many");
        assert!(fate.fell_behind().await);
        drop(tail);
        assert_eq!(waiting.0.available_permits(), MOST_TOGETHER);
    }

    #[tokio::test]
    async fn all_together_are_bounded() {
        let waiting = Waiting::default();
        let mut kept = Vec::new();
        for _ in 0..MOST_TOGETHER / MOST {
            let (tap, tail, _) = new(&waiting);
            kept.push((tap.push(&data(MOST - OVERHEAD)).unwrap(), tail));
        }
        let (tap, _tail, fate) = new(&waiting);
        assert!(tap.push(&data(1)).is_none());
        assert!(fate.fell_behind().await);
        // One that is read makes room for another.
        let (tap, tail) = kept.swap_remove(0);
        tap.end();
        assert_eq!(read(tail).await, (MOST - OVERHEAD, true));
        assert!(new(&waiting).0.push(&data(1)).is_some_and(|tap| !tap.pieces.is_closed()));
    }

    #[tokio::test]
    async fn as_long_as_the_original_goes_on_nothing_is_decided() {
        let (tap, _tail, fate) = new(&Waiting::default());
        let tap = tap.push(&data(1)).unwrap();
        let mut fate = Box::pin(fate.fell_behind());
        assert_eq!(fate.as_mut().now_or_never(), None);
        drop(tap);
        assert!(!fate.await);
    }
}
