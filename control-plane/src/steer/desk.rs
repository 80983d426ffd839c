//! Where people's wishes come in: at any replica, which passes them on to the one that steers.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    keep::NotKept,
    view::{ReleaseView, ReleasesView},
};
use crate::{
    release::{Refusal, Verb},
    replicas::{Replica, Silence},
    world::objects::Name,
};

/// What people want that may wait.
const WAITING: usize = 64;

/// Something that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Of the Release.
    pub namespace: String,
    /// Of the Release.
    pub name: String,
    /// The canary's version that it is said of; empty: whichever there is.
    pub revision: String,
    /// Who wants it.
    pub who: String,
    /// What.
    pub verb: Verb,
}

/// What whoever steers is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// How releases are.
    Look {
        /// Those of this namespace; empty: of all.
        namespace: String,
        /// Those of this name, with their last minutes; empty: all, without.
        name: String,
    },
    /// To do something.
    Do(Wish),
}

/// What came of it.
pub type Answer = Result<ReleasesView, Unfulfilled>;

/// Why it is not done. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Unfulfilled {
    /// There is no such release.
    #[error("there is no Release {0}")]
    Unknown(String),
    /// It makes no sense as it stands.
    #[error("{0}")]
    Refused(String),
    /// It could not be written down.
    #[error("{0}; nothing has changed, try again")]
    NotKept(String),
    /// Nobody steers.
    #[error(
        "no replica of the control plane steers releases right now ({0}); try again in some seconds"
    )]
    NoLeader(String),
}

impl From<Refusal> for Unfulfilled {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

impl From<NotKept> for Unfulfilled {
    fn from(why: NotKept) -> Self {
        Self::NotKept(why.to_string())
    }
}

/// What is asked of this replica.
pub(super) type Request = (Call, oneshot::Sender<Answer>);

/// What is asked of this replica, for whoever steers.
#[derive(Debug)]
pub struct Requests(pub(super) mpsc::Receiver<Request>);

/// Asks this replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Releases(mpsc::Sender<Request>);

impl Releases {
    /// A handle, and what is asked by it.
    pub fn new() -> (Self, Requests) {
        let (requests, asked) = mpsc::channel(WAITING);
        (Self(requests), Requests(asked))
    }

    /// Asks, if this replica steers.
    pub async fn ask(&self, call: Call) -> Answer {
        let ended = || Unfulfilled::NoLeader("this one is ending".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send((call, reply)).await.map_err(|_ended| ended())?;
        answer.await.unwrap_or_else(|_ended| Err(ended()))
    }
}

/// This replica among others, and which of all steers.
#[derive(Debug, Clone)]
pub struct Others {
    /// This one.
    pub replica: Replica,
    /// The one that steers.
    pub leader: watch::Receiver<Option<Name>>,
}

/// Asks whichever replica steers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    /// This one.
    pub releases: Releases,
    /// None where there can be no others.
    pub others: Option<Others>,
}

impl Desk {
    /// Asks.
    pub async fn ask(&self, call: Call) -> Answer {
        let Some(Others { replica, leader }) = &self.others else {
            return self.releases.ask(call).await;
        };
        let leader = leader.borrow().clone();
        match leader {
            Some(leader) if leader != replica.pod => {
                let silent =
                    |why: Silence| Unfulfilled::NoLeader(format!("{leader}: {}", why.reason));
                replica.steer(&leader, &call).await.map_err(silent)?
            }
            Some(_) => self.releases.ask(call).await,
            None => Err(Unfulfilled::NoLeader("none holds the Lease".to_owned())),
        }
    }

    /// What became of a release.
    ///
    /// # Errors
    /// Why nothing did.
    pub async fn wish(&self, wish: Wish) -> Result<ReleaseView, Unfulfilled> {
        let name = Name::new(&wish.namespace, &wish.name);
        let mut all = self.ask(Call::Do(wish)).await?;
        all.items.pop().ok_or_else(|| Unfulfilled::Unknown(name.to_string()))
    }
}
