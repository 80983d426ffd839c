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

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time::Instant};

use crate::{model::Kind, protocol::Version};

/// How long a resource that nobody subscribes to stays wanted.
pub const LINGER: Duration = Duration::from_secs(60);

/// How many such resources are kept at most.
const MAX_IDLE: usize = 100_000;

/// Which clients a resource is made for. The same name may need other bytes for another dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Dialect {
    /// Our own proxy.
    Tulle,
}

/// What is published: a resource for a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// Kind of the resource.
    pub kind: Kind,
    /// Its name.
    #[serde(serialize_with = "as_str")]
    pub name: Arc<str>,
    /// For whom.
    pub dialect: Dialect,
}

impl Key {
    /// The key of a resource for our own proxy.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into(), dialect: Dialect::Tulle }
    }
}

/// Names, in the order of their kinds.
pub type Names = BTreeSet<(Kind, Arc<str>)>;

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The publisher has not said yet: there is nothing to tell anyone.
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

/// A session's end: its subscriptions, and which of them changed. Dropping it unsubscribes all.
#[derive(Debug)]
pub struct Subscriber {
    cache: Cache,
    id: u64,
    dialect: Dialect,
    keys: HashSet<Key>,
    inbox: Arc<Inbox>,
}

impl Cache {
    /// An empty cache, and the publisher's end of it.
    pub fn new() -> (Self, Interest) {
        let inner = Arc::<Inner>::default();
        (Self { inner: Arc::clone(&inner) }, Interest { inner })
    }

    /// Publishes a resource, or with `None` that there is none of this name. Bytes that are
    /// published already change nothing and wake nobody; a key that nobody wants is ignored.
    /// Returns whether something changed.
    pub fn put(&self, key: Key, bytes: Option<Bytes>) -> bool {
        let next = bytes.map_or(Published::Absent, |bytes| Published::Present {
            version: content_version(&bytes),
            bytes,
        });
        let mut state = self.inner.state.lock();
        let Some(slot) = state.slots.get_mut(&key) else {
            return false;
        };
        if slot.published == next {
            return false;
        }
        slot.published = next;
        for inbox in slot.subscribers.values() {
            inbox.mark(key.kind, &key.name);
        }
        true
    }

    /// What is published under `key`.
    pub fn get(&self, key: &Key) -> Published {
        let state = self.inner.state.lock();
        state.slots.get(key).map_or(Published::Unknown, |slot| slot.published.clone())
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
    pub fn subscriber(&self, dialect: Dialect) -> Subscriber {
        let mut state = self.inner.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        drop(state);
        Subscriber { cache: self.clone(), id, dialect, keys: HashSet::new(), inbox: Arc::default() }
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

impl Subscriber {
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
        if let Some(slot) = state.slots.get_mut(&key) {
            slot.subscribers.insert(self.id, Arc::clone(&self.inbox));
            if slot.published != Published::Unknown {
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

    /// What is published under a name.
    pub fn get(&self, kind: Kind, name: &str) -> Published {
        self.cache.get(&self.key(kind, name))
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
        Key { kind, name: name.into(), dialect: self.dialect }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.cache.inner.leave(self.keys.drain(), self.id);
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
    /// Slots without subscribers, and since when.
    idle: HashMap<Key, Instant>,
    /// Keys whose wantedness the publisher has to look at; `reported` is the same as a set.
    reports: VecDeque<Key>,
    reported: HashSet<Key>,
    last_id: u64,
}

#[derive(Debug)]
struct Slot {
    published: Published,
    subscribers: BTreeMap<u64, Arc<Inbox>>,
}

/// The names that a subscriber has to look at.
#[derive(Debug, Default)]
struct Inbox {
    names: Mutex<Names>,
    wake: Notify,
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
    fn leave(&mut self, key: Key, subscriber: u64, now: Instant) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        slot.subscribers.remove(&subscriber);
        if !slot.subscribers.is_empty() {
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

impl Default for Slot {
    fn default() -> Self {
        Self { published: Published::Unknown, subscribers: BTreeMap::new() }
    }
}

impl Inbox {
    fn mark(&self, kind: Kind, name: &Arc<str>) {
        self.names.lock().insert((kind, Arc::clone(name)));
        self.wake.notify_one();
    }
}

/// The first 64 bits of the content's SHA-256, in hexadecimal digits.
fn content_version(bytes: &[u8]) -> Version {
    let hash = Sha256::digest(bytes);
    let text = hash.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    });
    Version::new(text)
}

fn as_str<S: serde::Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Kind::Cluster, name)
    }

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_change_reaches_only_those_who_subscribed_and_equal_bytes_nobody() {
        let (cache, _interest) = Cache::new();
        let (mut one, mut two) =
            (cache.subscriber(Dialect::Tulle), cache.subscriber(Dialect::Tulle));
        one.subscribe(Kind::Cluster, "a");
        two.subscribe(Kind::Cluster, "b");
        assert!(one.take_changed().is_empty(), "nothing is known yet");

        assert!(cache.put(key("a"), bytes("1")));
        assert_eq!(one.take_changed(), BTreeSet::from([(Kind::Cluster, "a".into())]));
        assert!(!cache.put(key("a"), bytes("1")));
        assert!(one.take_changed().is_empty());
        assert!(two.take_changed().is_empty());
        assert!(cache.put(key("a"), None));
        assert_eq!(one.get(Kind::Cluster, "a"), Published::Absent);
    }

    #[test]
    fn what_is_known_is_told_to_a_late_subscriber() {
        let (cache, _interest) = Cache::new();
        let mut one = cache.subscriber(Dialect::Tulle);
        one.subscribe(Kind::Cluster, "a");
        cache.put(key("a"), bytes("1"));
        let mut two = cache.subscriber(Dialect::Tulle);
        two.subscribe(Kind::Cluster, "a");
        assert_eq!(two.take_changed().len(), 1);
    }

    #[tokio::test]
    async fn the_publisher_hears_once_what_is_wanted_and_later_what_is_not() {
        let (cache, mut interest) = Cache::new();
        let mut one = cache.subscriber(Dialect::Tulle);
        one.subscribe(Kind::Cluster, "a");
        one.subscribe(Kind::Cluster, "a");
        assert_eq!(interest.recv().await, Want::Wanted(key("a")));
        assert_eq!(interest.try_recv(), None);

        cache.put(key("a"), bytes("1"));
        drop(one);
        cache.drop_unwanted(Instant::now());
        assert!(cache.is_wanted(&key("a")), "it lingers");
        assert_ne!(cache.get(&key("a")), Published::Unknown);

        // A reconnection within the linger time costs nothing.
        let mut two = cache.subscriber(Dialect::Tulle);
        two.subscribe(Kind::Cluster, "a");
        cache.drop_unwanted(Instant::now() + LINGER);
        assert_eq!(interest.try_recv(), None);

        two.unsubscribe(Kind::Cluster, "a");
        cache.drop_unwanted(Instant::now() + LINGER);
        assert_eq!(interest.try_recv(), Some(Want::Unwanted(key("a"))));
        assert!(cache.wanted().is_empty());
        assert!(!cache.put(key("a"), bytes("2")), "nobody wants it");
    }

    #[test]
    fn versions_are_sixteen_digits_of_the_content() {
        let version = content_version(b"a");
        assert_eq!(version.as_str(), "ca978112ca1bbdca");
        assert_ne!(version, content_version(b"b"));
    }
}
