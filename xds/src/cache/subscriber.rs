//! A session's end of the cache.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Cache, Key, Published, Slot, View};
use crate::{model::Kind, protocol::WILDCARD};

/// Names, in the order of their kinds.
pub type Names = BTreeSet<(Kind, Arc<str>)>;

/// A session's end: its subscriptions, and which of them changed. Dropping it unsubscribes all.
#[derive(Debug)]
pub struct Subscriber {
    cache: Cache,
    id: u64,
    view: Arc<View>,
    keys: HashSet<Key>,
    inbox: Arc<Inbox>,
}

impl Subscriber {
    pub(super) fn new(cache: Cache, id: u64, view: View) -> Self {
        Self { cache, id, view: Arc::new(view), keys: HashSet::new(), inbox: Arc::default() }
    }

    /// Subscribes: what is known already is in the next [`take_changed`](Self::take_changed).
    pub fn subscribe(&mut self, kind: Kind, name: &str) {
        let key = self.key(kind, name);
        if !self.keys.insert(key.clone()) {
            return;
        }
        let mut state = self.cache.inner.state.lock();
        if !state.slots.contains_key(&key) {
            state.slots.insert(key.clone(), Slot::default());
            state.report(key.clone());
            self.cache.inner.wake.notify_one();
        }
        state.idle.remove(&key);
        let reader = Reader { inbox: Arc::clone(&self.inbox), view: Arc::clone(&self.view) };
        if name == WILDCARD {
            let group = state.groups.entry(key.group()).or_default();
            self.inbox.mark_all(kind, &group.names);
            group.watchers.insert(self.id, reader.clone());
        }
        if let Some(slot) = state.slots.get_mut(&key) {
            slot.subscribers.insert(self.id, reader);
            if *slot.published.of(&self.view) != Published::Unknown {
                self.inbox.mark(kind, &key.name);
            }
        }
    }

    /// Unsubscribes; of what is not subscribed, nothing happens.
    pub fn unsubscribe(&mut self, kind: Kind, name: &str) {
        let key = self.key(kind, name);
        if self.keys.remove(&key) {
            self.cache.inner.leave([key], self.id);
        }
    }

    /// What is published under a name. To one that watches a whole kind, what is neither a member of
    /// it nor subscribed by name is absent as soon as all members are known.
    ///
    /// Published in order is seen in order: what may depend on a change that is still to be
    /// [taken](Self::take_changed) is unknown, and changed once more, until it is. (A route, while
    /// there is news of clusters; that a cluster is gone, while there is news of routes.)
    pub fn get(&self, kind: Kind, name: &str) -> Published {
        let key = self.key(kind, name);
        let wildcard = key.wildcard();
        let watches = self.keys.contains(&wildcard);
        let named = self.keys.contains(&key) || !watches;
        let state = self.cache.inner.state.lock();
        let slot = state.slots.get(&key).filter(|slot| named || slot.member);
        let slot = slot.or_else(|| state.slots.get(&wildcard).filter(|_| watches));
        let published =
            slot.map_or(Published::Unknown, |slot| slot.published.of(&self.view).clone());
        drop(state);
        let first: &[Kind] = match (kind, &published) {
            (Kind::Listener | Kind::Route, _) => &[Kind::Cluster],
            (Kind::Cluster | Kind::Endpoints, Published::Absent) => &[Kind::Listener, Kind::Route],
            _ => &[],
        };
        if self.inbox.has_any(first) {
            self.inbox.mark(kind, &key.name);
            return Published::Unknown;
        }
        published
    }

    /// Waits until a subscribed name changed.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn changed(&self) {
        while self.inbox.names.lock().is_empty() {
            self.inbox.wake.notified().await;
        }
    }

    /// The names that changed since the last call, each once.
    pub fn take_changed(&self) -> Names {
        std::mem::take(&mut *self.inbox.names.lock())
    }

    fn key(&self, kind: Kind, name: &str) -> Key {
        Key { kind, name: name.into(), dialect: self.view.dialect }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.cache.inner.leave(self.keys.drain(), self.id);
    }
}

/// A subscriber, as a slot knows it.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    inbox: Arc<Inbox>,
    pub(super) view: Arc<View>,
}

impl Reader {
    pub(super) fn mark(&self, kind: Kind, name: &Arc<str>) {
        self.inbox.mark(kind, name);
    }
}

/// The names that a subscriber has to look at.
#[derive(Debug, Default)]
struct Inbox {
    names: Mutex<Names>,
    wake: Notify,
}

impl Inbox {
    fn mark(&self, kind: Kind, name: &Arc<str>) {
        self.names.lock().insert((kind, Arc::clone(name)));
        self.wake.notify_one();
    }

    fn has_any(&self, kinds: &[Kind]) -> bool {
        !kinds.is_empty() && self.names.lock().iter().any(|(kind, _)| kinds.contains(kind))
    }

    fn mark_all(&self, kind: Kind, names: &BTreeSet<Arc<str>>) {
        self.names.lock().extend(names.iter().map(|name| (kind, Arc::clone(name))));
        self.wake.notify_one();
    }
}
