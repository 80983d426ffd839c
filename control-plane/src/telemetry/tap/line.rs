//! One proxy's stream, as far as it is asked on it.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};
use tulle_proto::telemetry::v1 as proto;

use super::Lines;
use crate::world::objects::Name;

/// Questions that a proxy may owe answers to: one of an older version never says anything.
const MOST: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(in super::super) struct Line {
    of: (Lines, Name, u64),
    asked: mpsc::Receiver<Asked>,
    /// Those that the proxy has not answered yet.
    owed: VecDeque<(u64, oneshot::Sender<proto::Records>)>,
    number: u64,
}

/// A question, and who wants the answer.
#[derive(Debug)]
pub(super) struct Asked {
    question: proto::Question,
    answer: oneshot::Sender<proto::Records>,
}

/// A proxy says what nobody wanted to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody asked for these records")]
pub(in super::super) struct Unasked;

/// The answer on this line; `None` if none will come.
pub(super) async fn ask(
    line: mpsc::Sender<Asked>,
    question: proto::Question,
) -> Option<proto::Records> {
    let (answer, answered) = oneshot::channel();
    line.try_send(Asked { question, answer }).ok()?;
    answered.await.ok()
}

impl Line {
    pub(super) fn new(of: (Lines, Name, u64), asked: mpsc::Receiver<Asked>) -> Self {
        Self { of, asked, owed: VecDeque::new(), number: 0 }
    }

    /// The next question for the proxy; `None` once another stream is the pod's. Cancel safe.
    pub(in super::super) async fn question(&mut self) -> Option<proto::Question> {
        loop {
            let Asked { mut question, answer } = self.asked.recv().await?;
            // Dropped, whoever asks hears at once that there is no answer.
            if self.owed.len() < MOST {
                self.number += 1;
                question.number = self.number;
                self.owed.push_back((self.number, answer));
                return Some(question);
            }
        }
    }

    /// The proxy has answered.
    ///
    /// # Errors
    /// Nothing that it owes.
    pub(in super::super) fn heard(&mut self, records: proto::Records) -> Result<(), Unasked> {
        let at = self.owed.iter().position(|(number, _)| *number == records.number);
        let at = at.ok_or(Unasked)?;
        // It answers in order: those before it will never be answered.
        self.owed.drain(..at);
        if let Some((_, answer)) = self.owed.pop_front() {
            // Whoever asked may not wait any more.
            let _late = answer.send(records);
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (lines, pod, number) = &self.of;
        lines.close(pod, *number);
    }
}
