//! From who waits for an answer to the writer, and back.
//!
//! The queue is bounded: when a thousand new questions wait at once, the next is refused.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::{mpsc, oneshot};

/// Questions that may wait for the writer. It takes them within microseconds; a full queue means
/// that it is overrun.
const QUEUE: usize = 1024;

/// Asks the writer.
#[derive(Debug, Clone)]
pub(super) struct Asker(mpsc::Sender<Question>);

/// The writer's end.
pub(crate) type Questions = mpsc::Receiver<Question>;

/// Somebody waits for what the control plane says.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) about: About,
    /// Answered once the snapshot holds the answer; dropped if there is no room for it.
    pub(super) answered: oneshot::Sender<()>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum About {
    /// What stands behind this address?
    Address(SocketAddr),
    /// Which addresses has this name?
    Host(Arc<str>),
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
    pub(super) async fn ask(&self, about: About) -> Result<(), Refused> {
        let (answered, answer) = oneshot::channel();
        self.0.try_send(Question { about, answered }).map_err(|_full| Refused)?;
        answer.await.map_err(|_dropped| Refused)
    }
}
