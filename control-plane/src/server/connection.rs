//! One connection that has shaken hands.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;
use tulle_runtime::room::Place;

/// How long a client without certificate may stay: it comes for one, which is one question.
const STRANGER: Duration = Duration::from_secs(15);

/// Holds its place as long as it is open; a stranger's ends by itself.
#[derive(Debug)]
pub struct Connection<I> {
    io: I,
    end: Option<Pin<Box<Sleep>>>,
    _places: (Place, Option<Place>),
}

impl<I> Connection<I> {
    /// Of a client that proved who it is.
    pub(super) fn proven(io: I, place: Place) -> Self {
        Self { io, end: None, _places: (place, None) }
    }

    /// Of one that showed no certificate: it also holds its place among those.
    pub(super) fn stranger(io: I, place: Place, among_strangers: Place) -> Self {
        let end = Some(Box::pin(sleep(STRANGER)));
        Self { io, end, _places: (place, Some(among_strangers)) }
    }

    /// Pending while its time lasts; then the error with which all ends.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(end) = &mut self.end else {
            return Poll::Pending;
        };
        ready!(end.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "a stranger's time is over"))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(over) = self.poll_end(cx) {
            return Poll::Ready(Err(over));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(over) = self.poll_end(cx) {
            return Poll::Ready(Err(over));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(over) = self.poll_end(cx) {
            return Poll::Ready(Err(over));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(over) = self.poll_end(cx) {
            return Poll::Ready(Err(over));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<I: Connected> Connected for Connection<I> {
    type ConnectInfo = I::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, timeout},
    };
    use tulle_runtime::room::Room;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_strangers_time_ends_whether_it_writes_or_not() {
        let room = Room::new(2, 2);
        let place = || room.enter(None).unwrap();
        let (mut far, near) = duplex(64);
        let mut stranger = Connection::stranger(near, place(), place());
        assert!(room.enter(None).is_none());
        far.write_all(b"hello").await.unwrap();
        let begun = Instant::now();
        let mut said = Vec::new();
        let ended = stranger.read_to_end(&mut said).await.unwrap_err();
        assert_eq!((ended.kind(), said), (io::ErrorKind::TimedOut, b"hello".to_vec()));
        assert_eq!(begun.elapsed(), STRANGER);
        assert!(stranger.write_all(&[0; 1024]).await.is_err());
        drop(stranger);

        let (_far, near) = duplex(64);
        let mut proven = Connection::proven(near, place());
        assert!(timeout(10 * STRANGER, proven.read_u8()).await.is_err(), "it may stay");
        assert!(room.enter(None).is_some(), "both places are free again");
    }
}
