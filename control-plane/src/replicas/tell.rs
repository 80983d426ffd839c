//! The side that tells.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};
use tonic::{Request, Status, transport::Channel};
use tulle_proto::replica::v1::{Force, TellRequest, replica_service_client::ReplicaServiceClient};
use tulle_xds::text;

use super::{Replica, Tellings, wire};
use crate::world::objects::Name;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Tells whoever writes statuses what the proxies of this replica say.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) replica: Replica,
    /// What to tell.
    pub(super) own: watch::Receiver<Arc<Tellings>>,
    /// How many streams there are.
    pub(super) streams: watch::Receiver<usize>,
    /// How many there should be, as it is told; `None`: nobody tells.
    pub(super) share: watch::Sender<Option<usize>>,
    /// The pod that holds the Lease, as far as this replica knows.
    pub(super) leader: watch::Receiver<Option<Name>>,
}

impl Teller {
    /// Tells, for as long as there is something to tell.
    pub(super) async fn run(mut self) {
        let mut said = String::new();
        loop {
            let leader = self.leader.borrow_and_update().clone();
            let told = async {
                match leader {
                    Some(leader) if leader != self.replica.pod => self.tell(&leader).await,
                    // We, or nobody: then nobody asks us.
                    _ => std::future::pending().await,
                }
            };
            let mut changes = self.leader.clone();
            tokio::select! {
                // Until the Lease of one that is gone has ended the reason is the same.
                reason = told => if reason != said {
                    tracing::info!(reason, "the other replicas are told later");
                    said = reason;
                },
                changed = changes.changed() => if changed.is_err() { return },
            }
            self.share.send_replace(None);
            sleep(PAUSE).await;
        }
    }

    /// Tells `leader` until that fails, and why.
    pub(super) async fn tell(&self, leader: &Name) -> String {
        let channel = match self.replica.connect(leader).await {
            Ok(channel) => channel,
            Err(reason) => return reason,
        };
        match self.converse(channel).await {
            Ok(()) => format!("{leader} has ended the stream"),
            Err(status) => text::status(&status),
        }
    }

    async fn converse(&self, channel: Channel) -> Result<(), Status> {
        let state = (self.own.clone(), self.streams.clone(), None::<Arc<Tellings>>);
        let news = stream::unfold(state, |(mut own, mut streams, last)| async move {
            if last.is_some() {
                tokio::select! {
                    changed = own.changed() => changed.ok()?,
                    changed = streams.changed() => changed.ok()?,
                }
            }
            let now = Arc::clone(&own.borrow_and_update());
            let forces = difference(&last.unwrap_or_default(), &now);
            let streams_now = wire::count(*streams.borrow_and_update());
            let message = TellRequest { forces, streams: streams_now };
            Some((message, (own, streams, Some(now))))
        });
        // The transport holds what we say for as long as there may be more of it, also when nobody waits for answers.
        let (_open, closed) = oneshot::channel::<()>();
        let news = news.take_until(closed);
        let answers = ReplicaServiceClient::new(channel).tell(Request::new(news)).await?;
        let mut answers = answers.into_inner();
        while let Some(answer) = answers.message().await? {
            self.share.send_replace(Some(answer.share as usize));
        }
        Ok(())
    }
}

/// What `now` says that `last` did not, and what it says no more.
fn difference(last: &Tellings, now: &Tellings) -> Vec<Force> {
    let news = now.iter().filter(|(object, told)| last.get(object) != Some(told));
    let gone = last.keys().filter(|object| !now.contains_key(object));
    let nothing = Default::default();
    let all = news.chain(gone.map(|object| (object, &nothing)));
    all.map(|(object, told)| wire::encode(object, told)).collect()
}
