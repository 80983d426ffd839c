//! From a connection that waits to the writer, and back.
//!
//! The queue is bounded: when a thousand new addresses wait at once, the next is refused.

use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot};

/// Questions that may wait for the writer. It takes them within microseconds; a full queue means
/// that it is overrun.
const QUEUE: usize = 1024;

/// Asks the writer for an address.
#[derive(Debug, Clone)]
pub(super) struct Asker(mpsc::Sender<Question>);

/// The writer's end.
pub(crate) type Questions = mpsc::Receiver<Question>;

/// A connection waits for what stands behind an address.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) address: SocketAddr,
    /// Answered once the snapshot holds the answer; dropped if there is no room for the address.
    pub(super) answered: oneshot::Sender<()>,
}

/// The writer will not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

impl Asker {
    pub(super) fn new() -> (Self, Questions) {
        let (asker, questions) = mpsc::channel(QUEUE);
        (Self(asker), questions)
    }

    /// Resolves when the snapshot holds the answer, however long that takes.
    pub(super) async fn ask(&self, address: SocketAddr) -> Result<(), Refused> {
        let (answered, answer) = oneshot::channel();
        self.0.try_send(Question { address, answered }).map_err(|_full| Refused)?;
        answer.await.map_err(|_dropped| Refused)
    }
}
