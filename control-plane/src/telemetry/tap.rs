//! What ended lately, asked of the proxies themselves: a question goes down their streams, and what they remember comes up.
//!
//! ```text
//! GET ──► [ Question ] ──► [ run ] ──► [ Lines ] ── the pod's stream ──► its proxy's ring
//!                             └─ other replicas' lines, for the pods whose streams they have
//! ```
//!
//! **Invariants.** A question is about pods of one namespace, which it names before anything is asked. What a proxy answers is told
//! of its own pod, by its certificate, and is bounded and printable, whatever it sent. Nothing is kept here.

mod cursor;
mod escape;
mod line;
mod question;
mod run;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::mpsc, time::timeout};
use tulle_proto::telemetry::v1 as proto;

pub(super) use self::line::{Line, Unasked};
pub use self::{
    cursor::Cursors,
    escape::escape,
    question::{MOST, Question, Target},
    run::{MOST_PODS, Refused},
};

use self::line::Asked;
use super::Hub;
use crate::world::objects::Name;

/// How long a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions on their way to one proxy. More are not asked.
const ON_THE_WAY: usize = 8;

/// The streams on which this replica's proxies can be asked. Clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// So many there were.
    count: u64,
    /// The newest of each pod.
    by_pod: HashMap<Name, (u64, mpsc::Sender<Asked>)>,
}

impl Lines {
    /// A stream of this pod, as long as the line is there.
    pub(super) fn open(&self, pod: &Name) -> Line {
        let (asks, asked) = mpsc::channel(ON_THE_WAY);
        let mut open = self.0.lock();
        open.count += 1;
        let number = open.count;
        open.by_pod.insert(pod.clone(), (number, asks));
        Line::new((self.clone(), pod.clone(), number), asked)
    }

    fn close(&self, pod: &Name, number: u64) {
        let mut open = self.0.lock();
        if open.by_pod.get(pod).is_some_and(|(newest, _)| *newest == number) {
            open.by_pod.remove(pod);
        }
    }

    fn of(&self, pod: &Name) -> Option<mpsc::Sender<Asked>> {
        self.0.lock().by_pod.get(pod).map(|(_, asks)| asks.clone())
    }
}

impl Hub {
    /// Whether this pod's proxy has a stream here.
    fn has_line(&self, pod: &Name) -> bool {
        self.0.lines.of(pod).is_some()
    }

    /// What the proxies of these pods answer, of those that have a stream here; `None` says nothing in time.
    pub(crate) async fn tap(
        &self,
        pods: Vec<(Name, proto::Question)>,
    ) -> Vec<(Name, Option<proto::Records>)> {
        let lines = pods.into_iter().filter_map(|(pod, question)| {
            let line = self.0.lines.of(&pod)?;
            Some(async move {
                let most = usize::try_from(question.most).unwrap_or(usize::MAX);
                let answer = timeout(PATIENCE, line::ask(line, question)).await.ok().flatten();
                let bounded = answer.map(|mut records| {
                    records.records.truncate(most);
                    records
                });
                (pod, bounded)
            })
        });
        futures_util::future::join_all(lines).await
    }
}

#[cfg(test)]
mod tests;
