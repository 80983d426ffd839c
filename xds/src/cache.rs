//! What the control plane publishes, and who wants it.
//!
//! ```text
//!               put(key, bytes)                     marks the name dirty, wakes the session
//!  publisher ───────────────────► [ Cache ] ───────────────────────────────► Subscriber (a session)
//!      ▲                              │                                            │
//!      └──── Wanted / Unwanted ───────┴──────────────◄─── subscribe / unsubscribe ─┘
//! ```
//!
//! Only what somebody wants is here. The publisher compiles a resource when it becomes *wanted* and
//! whenever its sources change, until it becomes *unwanted*: which it does a while after its last
//! subscriber left ([`LINGER`]), so that a reconnecting proxy finds everything compiled. Nothing
//! here is a queue: both directions are sets of names that are looked up when they are dealt with.
//!
//! One name can stand for several things: bytes differ by [`Dialect`], which is part of the [`Key`],
//! and now and then by the client's namespace or place, which is not: the publisher puts all of a key's
//! [`Contents`] at once, and each subscriber reads its own ([`View`]). So who gets a
//! version of its own, or loses it, never sees a moment without any, and is sent nothing if the bytes
//! are the same.
//!
//! A kind can be wanted whole: whoever subscribes to [`WILDCARD`] is told of every *member* of the
//! kind. The publisher lists the members when that becomes wanted ([`Cache::add_member`]), says when
//! the list is complete ([`Cache::complete`]), and keeps it so until the wildcard becomes unwanted.
//! A member is here once, however many watch.

mod key;
mod subscriber;

pub use key::{Contents, Dialect, Key, Variants, View};
pub use subscriber::{Names, Subscriber};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time::Instant};

use crate::{
    cache::subscriber::Reader,
    model::Kind,
    protocol::{Version, WILDCARD},
};

/// How long a resource that nobody subscribes to stays wanted.
pub const LINGER: Duration = Duration::from_secs(60);

/// How many such resources are kept at most.
const MAX_IDLE: usize = 100_000;

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Published {
    /// The publisher has not said yet: there is nothing to tell anyone.
    #[default]
    Unknown,
    /// There is no such resource.
    Absent,
    /// This is it.
    Present {
        /// Hash of `bytes`.
        version: Version,
        /// The message; all streams share them.
        bytes: Bytes,
    },
}

impl Published {
    /// The version, if it is there.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Present { version, .. } => Some(version),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// A change of what the publisher has to keep compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// From now on: answer with [`Cache::put`], also if there is no such resource.
    Wanted(Key),
    /// No more; the cache has dropped it.
    Unwanted(Key),
}

/// The published resources. Clones are handles to the same cache.
#[derive(Debug, Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

/// The publisher's end: what becomes wanted and unwanted. At most one entry for each key waits.
#[derive(Debug)]
pub struct Interest {
    inner: Arc<Inner>,
}

impl Cache {
    /// An empty cache, and the publisher's end of it.
    pub fn new() -> (Self, Interest) {
        let inner = Arc::<Inner>::default();
        (Self { inner: Arc::clone(&inner) }, Interest { inner })
    }

    /// Publishes what a key stands for. Who sees the same bytes as before is not woken; a key that
    /// nobody wants is ignored. Returns whether something changed for somebody, present or to come.
    pub fn put(&self, key: Key, contents: impl Into<Contents>) -> bool {
        let next = contents.into().map(Published::from);
        self.inner.state.lock().put(&key, next)
    }

    /// Publishes a resource that is a member of its kind from now on.
    pub fn add_member(&self, key: Key, contents: impl Into<Contents>) -> bool {
        let next = contents.into().map(Published::from);
        let mut state = self.inner.state.lock();
        state.idle.remove(&key);
        state.slots.entry(key.clone()).or_default().member = true;
        let names = &mut state.groups.entry(key.group()).or_default().names;
        names.insert(Arc::clone(&key.name));
        state.put(&key, next)
    }

    /// What was a member is none any more: there is no such resource.
    pub fn remove_member(&self, key: &Key) -> bool {
        let mut state = self.inner.state.lock();
        let Some(slot) = state.slots.get_mut(key).filter(|slot| slot.member) else {
            return false;
        };
        slot.member = false;
        let subscribed = !slot.subscribers.is_empty();
        if let Some(group) = state.groups.get_mut(&key.group()) {
            group.names.remove(&key.name);
        }
        let changed = state.put(key, Published::Absent.into());
        if !subscribed {
            state.slots.remove(key);
        }
        changed
    }

    /// All members of the kind of `key`, a wildcard, are published.
    pub fn complete(&self, key: Key) {
        self.put(key, None);
    }

    /// Whether `key` is a member of its kind.
    pub fn is_member(&self, key: &Key) -> bool {
        self.inner.state.lock().slots.get(key).is_some_and(|slot| slot.member)
    }

    /// The members of the kind of `key`, in order.
    pub fn members(&self, key: &Key) -> Vec<Arc<str>> {
        let state = self.inner.state.lock();
        let group = state.groups.get(&key.group());
        group.into_iter().flat_map(|group| &group.names).cloned().collect()
    }

    /// What is published under `key` for whoever has this view.
    pub fn get(&self, key: &Key, view: &View) -> Published {
        let state = self.inner.state.lock();
        let slot = state.slots.get(key);
        slot.map_or(Published::Unknown, |slot| slot.published.of(view).clone())
    }

    /// All keys that the publisher has to keep compiled, in order.
    pub fn wanted(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.inner.state.lock().slots.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Whether the publisher has to keep `key` compiled.
    pub fn is_wanted(&self, key: &Key) -> bool {
        self.inner.state.lock().slots.contains_key(key)
    }

    /// Drops what nobody has subscribed to for [`LINGER`], and reports it as
    /// [`Want::Unwanted`]. For the publisher to call now and then.
    pub fn drop_unwanted(&self, now: Instant) {
        let mut state = self.inner.state.lock();
        let mut dropped = Vec::new();
        state.idle.retain(|key, since| {
            let keep = now.saturating_duration_since(*since) < LINGER;
            if !keep {
                dropped.push(key.clone());
            }
            keep
        });
        for key in dropped {
            state.slots.remove(&key);
            state.report(key);
        }
        drop(state);
        self.inner.wake.notify_one();
    }

    /// A new subscriber, with nothing subscribed.
    pub fn subscriber(&self, view: View) -> Subscriber {
        let mut state = self.inner.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        drop(state);
        Subscriber::new(self.clone(), id, view)
    }
}

impl Interest {
    /// The next change, in the order in which they came. Never ends while the cache is in use.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> Want {
        loop {
            if let Some(want) = self.try_recv() {
                return want;
            }
            self.inner.wake.notified().await;
        }
    }

    /// The next change, if there is one now.
    pub fn try_recv(&mut self) -> Option<Want> {
        let mut state = self.inner.state.lock();
        let key = state.reports.pop_front()?;
        state.reported.remove(&key);
        let wanted = state.slots.contains_key(&key);
        Some(if wanted { Want::Wanted(key) } else { Want::Unwanted(key) })
    }
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Something is in `State::reports`.
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Key, Slot>,
    /// Which of them are members, and who watches those.
    groups: HashMap<(Kind, Dialect), Group>,
    /// Slots without subscribers, and since when.
    idle: HashMap<Key, Instant>,
    /// Keys whose wantedness the publisher has to look at; `reported` is the same as a set.
    reports: VecDeque<Key>,
    reported: HashSet<Key>,
    last_id: u64,
}

#[derive(Debug, Default)]
struct Slot {
    published: Variants<Published>,
    subscribers: BTreeMap<u64, Reader>,
    member: bool,
}

/// The members of a kind, and who watches them.
#[derive(Debug, Default)]
struct Group {
    names: BTreeSet<Arc<str>>,
    watchers: BTreeMap<u64, Reader>,
}

impl Inner {
    fn leave(&self, keys: impl IntoIterator<Item = Key>, subscriber: u64) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for key in keys {
            state.leave(key, subscriber, now);
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn put(&mut self, key: &Key, next: Variants<Published>) -> bool {
        let Some(slot) = self.slots.get_mut(key) else {
            return false;
        };
        let last = std::mem::replace(&mut slot.published, next);
        let group = self.groups.get(&key.group()).filter(|_| &*key.name != WILDCARD);
        let watchers = group.into_iter().flat_map(|group| group.watchers.values());
        for subscriber in slot.subscribers.values().chain(watchers) {
            let view = &subscriber.view;
            if last.of(view) != slot.published.of(view) {
                subscriber.mark(key.kind, &key.name);
            }
        }
        last != slot.published
    }

    fn leave(&mut self, key: Key, subscriber: u64, now: Instant) {
        if &*key.name == WILDCARD
            && let Some(group) = self.groups.get_mut(&key.group())
        {
            group.watchers.remove(&subscriber);
        }
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        slot.subscribers.remove(&subscriber);
        if !slot.subscribers.is_empty() || slot.member {
            return;
        }
        if self.idle.len() < MAX_IDLE {
            self.idle.insert(key, now);
        } else {
            self.slots.remove(&key);
            self.report(key);
        }
    }

    fn report(&mut self, key: Key) {
        if self.reported.insert(key.clone()) {
            self.reports.push_back(key);
        }
    }
}

impl From<Option<Bytes>> for Published {
    fn from(bytes: Option<Bytes>) -> Self {
        let present = |bytes: Bytes| Self::Present { version: content_version(&bytes), bytes };
        bytes.map_or(Self::Absent, present)
    }
}

/// The first 64 bits of the content's SHA-256, in hexadecimal digits.
pub(crate) fn content_version(bytes: &[u8]) -> Version {
    let hash = Sha256::digest(bytes);
    let text = hash.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    });
    Version::new(text)
}

#[cfg(test)]
mod tests;
