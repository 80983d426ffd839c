//! What the other replicas say.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Tellings;
use crate::{
    roster::Roster,
    status::Told,
    world::objects::{Name, ObjectRef},
};

/// What the other replicas say. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Others(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Who they are: where replicas are found, and which of them is this one.
    replicas: Option<(Roster, Name)>,
    said: Mutex<BTreeMap<Name, Said>>,
    /// For the status.
    changed: Notify,
    /// For those who wait for everybody.
    joined: Notify,
    /// Streams of each replica, if all had the same number.
    share: watch::Sender<Option<usize>>,
}

/// What a replica has said on its last stream.
#[derive(Debug)]
struct Said {
    stream: u64,
    /// `None`: nothing yet.
    streams: Option<usize>,
    tellings: Tellings,
}

impl Others {
    /// What the others than `own` say.
    pub fn than(own: Name, roster: Roster) -> Self {
        Self(Arc::new(Inner { replicas: Some((roster, own)), ..Inner::default() }))
    }

    /// A replica begins anew on a stream.
    pub(super) fn begin(&self, replica: &Name, stream: u64) {
        let said = Said { stream, streams: None, tellings: Tellings::new() };
        self.0.said.lock().insert(replica.clone(), said);
        self.0.changed.notify_one();
    }

    /// A replica has so many streams of proxies, and says this of some objects.
    pub(super) fn hear(
        &self,
        (replica, stream): (&Name, u64),
        streams: usize,
        news: impl Iterator<Item = (ObjectRef, Told)>,
    ) {
        let mut all = self.0.said.lock();
        let Some(said) = all.get_mut(replica).filter(|said| said.stream == stream) else {
            return;
        };
        said.streams = Some(streams);
        for (object, told) in news {
            match told.edition {
                None => drop(said.tellings.remove(&object)),
                Some(_) => drop(said.tellings.insert(object, told)),
            }
        }
        drop(all);
        self.0.changed.notify_one();
        self.0.joined.notify_waiters();
    }

    /// A stream has ended. What was said on a later one stays.
    pub(super) fn end(&self, replica: &Name, stream: u64) {
        if let Entry::Occupied(entry) = self.0.said.lock().entry(replica.clone())
            && entry.get().stream == stream
        {
            entry.remove();
        }
        self.0.changed.notify_one();
    }

    /// Resolves once something has changed since this was asked last.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Adds what the others say to `own`. Of an object as it is now, a replica that has or may have proxies must have said
    /// something: there could be some that do not have it. One that is not there any more, or is not ready and has no stream
    /// to us (it never came up, or its node is lost), has none.
    pub fn totals(&self, own: &Tellings) -> Tellings {
        let siblings = self.siblings();
        let all = self.0.said.lock();
        let total = |(object, own): (&ObjectRef, &Told)| {
            let mut total = own.clone();
            for (replica, ready) in &siblings {
                let said = all.get(replica);
                let told = said.and_then(|said| said.tellings.get(object));
                if let Some(told) = told {
                    total.add(told);
                }
                let streams = said.and_then(|said| said.streams).unwrap_or_default();
                let knows = told.is_some_and(|told| told.knows(own.edition.as_ref()));
                if !knows && (*ready || streams > 0) {
                    total.force.unheard.push(replica.to_string());
                }
            }
            (object.clone(), total)
        };
        own.iter().map(total).collect()
    }

    /// This replica has not heard its own proxies yet either. Where there are no replicas nobody asks.
    pub fn own_is_unheard(&self, totals: &mut Tellings) {
        let Some((_, own)) = &self.0.replicas else { return };
        for total in totals.values_mut() {
            total.force.unheard.push(own.to_string());
        }
    }

    /// Streams of all replicas, where this one has `own`.
    pub fn streams(&self, own: usize) -> usize {
        let all = self.0.said.lock();
        own + all.values().filter_map(|said| said.streams).sum::<usize>()
    }

    fn siblings(&self) -> Vec<(Name, bool)> {
        let replicas = self.0.replicas.as_ref();
        replicas.map(|(roster, own)| roster.siblings(own)).unwrap_or_default()
    }

    /// Streams of each replica if all had the same number, where we have `own`; those who tell us are told.
    pub(super) fn share(&self, own: usize) -> usize {
        let replicas =
            1 + self.0.said.lock().values().filter(|said| said.streams.is_some()).count();
        let share = self.streams(own).div_ceil(replicas);
        self.0.share.send_if_modified(|last| last.replace(share) != Some(share));
        share
    }

    pub(super) fn shares(&self) -> watch::Receiver<Option<usize>> {
        self.0.share.subscribe()
    }

    /// Resolves once each of those that are ready has said something.
    pub(super) async fn have_said(&self) {
        loop {
            let joined = self.0.joined.notified();
            if self.siblings().iter().all(|(replica, ready)| !ready || self.has_said(replica)) {
                return;
            }
            joined.await;
        }
    }

    fn has_said(&self, replica: &Name) -> bool {
        self.0.said.lock().get(replica).is_some_and(|said| said.streams.is_some())
    }
}
