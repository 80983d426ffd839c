//! Copying opaque bytes both ways.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::error::{Error, Reason};

/// A TLS record holds at most 16 KiB: a larger buffer would only be cut again.
const BUFFER: usize = 16 << 10;

/// Counters of bytes that went each way.
#[derive(Debug, Default)]
pub struct Copied {
    /// From the client to the server.
    pub sent: Arc<AtomicU64>,
    /// From the server to the client.
    pub received: Arc<AtomicU64>,
}

/// Which side a copy failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that opened the connection.
    Client,
    /// The one that was dialled.
    Server,
}

impl Side {
    /// The error that a record tells.
    pub fn failure(&self, error: &io::Error) -> Error {
        match self {
            Self::Client => Error::new(Reason::Canceled, format!("the client broke off: {error}")),
            Self::Server => Error::new(Reason::Reset, format!("the server broke off: {error}")),
        }
    }
}

/// Copies until both directions have ended. The end of one direction is passed on and leaves the
/// other one open (half-close).
///
/// Cancelling loses what is in the buffers.
///
/// # Errors
/// The first failure, and at whose connection it was.
pub async fn both_ways<C, S>(
    client: &mut C,
    server: &mut S,
    copied: &Copied,
) -> Result<(), (Side, io::Error)>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = OneWay::default();
    let mut down = OneWay::default();
    std::future::poll_fn(|cx| {
        let sent = up.poll(cx, client, server, &copied.sent).map_err(|(end, error)| {
            (if end == End::Reader { Side::Client } else { Side::Server }, error)
        })?;
        let received =
            down.poll(cx, server, client, &copied.received).map_err(|(end, error)| {
                (if end == End::Reader { Side::Server } else { Side::Client }, error)
            })?;
        if sent.is_ready() && received.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Where a direction broke.
type Broken = (End, io::Error);

#[derive(PartialEq)]
enum End {
    Reader,
    Writer,
}

/// One direction. The buffer exists only while bytes wait in it: an idle connection costs none.
#[derive(Default)]
struct OneWay {
    buffer: BytesMut,
    written: usize,
    state: State,
}

#[derive(Default, PartialEq, Clone, Copy)]
enum State {
    #[default]
    Open,
    Flushing,
    Closing,
    Closed,
}

impl OneWay {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let at_writer = |error| (End::Writer, error);
        let mut flush = false;
        loop {
            if self.written < self.buffer.len() {
                let rest = &self.buffer[self.written..];
                let n = ready!(Pin::new(&mut *writer).poll_write(cx, rest)).map_err(at_writer)?;
                if n == 0 {
                    return Poll::Ready(Err(at_writer(io::ErrorKind::WriteZero.into())));
                }
                self.written += n;
                count.fetch_add(n as u64, Ordering::Relaxed);
                flush = true;
                continue;
            }
            match self.state {
                State::Open => match self.fill(cx, reader) {
                    Poll::Ready(Ok(0)) => self.state = State::Flushing,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err((End::Reader, error))),
                    // What was written must not stay in a TLS buffer while we wait.
                    Poll::Pending if flush => {
                        let _flushed = Pin::new(&mut *writer).poll_flush(cx).map_err(at_writer)?;
                        return Poll::Pending;
                    }
                    Poll::Pending => return Poll::Pending,
                },
                State::Flushing => {
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(at_writer)?;
                    self.state = State::Closing;
                }
                State::Closing => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(at_writer)?;
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads into an empty buffer; frees it if there is nothing to read.
    fn fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.written = 0;
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        let polled = std::pin::pin!(reader.read_buf(&mut self.buffer)).poll(cx);
        if !matches!(polled, Poll::Ready(Ok(_))) {
            self.buffer = BytesMut::new();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn one_direction_may_end_before_the_other() {
        let (mut client, mut near) = duplex(1 << 10);
        let (mut far, mut server) = duplex(1 << 10);
        let copied = Copied::default();
        let ask = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = async {
            let mut question = Vec::new();
            server.read_to_end(&mut question).await.unwrap();
            server.write_all(&vec![7; 100_000]).await.unwrap();
            server.shutdown().await.unwrap();
            question
        };
        let (done, got, asked) = tokio::join!(both_ways(&mut near, &mut far, &copied), ask, answer);
        done.unwrap();
        assert_eq!((got.len(), asked), (100_000, b"question".to_vec()));
        assert_eq!(copied.sent.load(Ordering::Relaxed), 8);
        assert_eq!(copied.received.load(Ordering::Relaxed), 100_000);
    }

    #[tokio::test]
    async fn a_failure_names_its_side() {
        let (_client, mut near) = duplex(64);
        let mut far = broken_connection();
        let error = both_ways(&mut near, &mut far, &Copied::default()).await.unwrap_err();
        assert!(matches!(error.0, Side::Server));
    }

    /// A server whose connection is reset.
    fn broken_connection() -> impl AsyncRead + AsyncWrite + Unpin {
        struct Reset;
        impl AsyncRead for Reset {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        tokio::io::join(Reset, tokio::io::sink())
    }
}
