//! Which resources come from which objects.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tulle_xds::cache::Key;

use crate::{compile::Contributors, world::objects::ObjectRef};

/// What a resource comes from, as everybody sees it, and as callers in some namespaces do.
pub(crate) type Views = BTreeMap<Option<Arc<str>>, Arc<Contributors>>;

/// What each wanted resource comes from. `publish` writes it. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Contributions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    views: RwLock<HashMap<Key, Views>>,
    /// Keys with other bytes or other objects than when this was looked at last.
    changed: Mutex<HashSet<Key>>,
    /// Something that comes from an object is on its way to the proxies.
    wake: Notify,
}

impl Contributions {
    /// Notes what a resource comes from now. Nothing is kept of what no route or policy is behind.
    pub fn set(
        &self,
        key: &Key,
        views: impl IntoIterator<Item = (Option<Arc<str>>, Contributors)>,
    ) {
        let views: Views = views.into_iter().map(|(of, found)| (of, Arc::new(found))).collect();
        if views.values().all(|found| found.all.is_empty()) {
            self.remove(key);
        } else if self.0.views.read().get(key) != Some(&views) {
            self.0.views.write().insert(key.clone(), views);
            self.stir(key);
        }
    }

    /// Nobody wants a resource any more.
    pub fn remove(&self, key: &Key) {
        if self.0.views.read().contains_key(key) {
            self.0.views.write().remove(key);
            self.stir(key);
        }
    }

    /// A resource has other bytes than before.
    pub fn published(&self, key: &Key) {
        if self.0.views.read().contains_key(key) {
            self.stir(key);
        }
    }

    fn stir(&self, key: &Key) {
        self.0.changed.lock().insert(key.clone());
        self.0.wake.notify_one();
    }

    /// The keys with other bytes or other objects since this was asked last.
    pub(super) fn take_changed(&self) -> HashSet<Key> {
        std::mem::take(&mut *self.0.changed.lock())
    }

    /// Waits until proxies are told something that comes from an object.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(super) async fn changed(&self) {
        self.0.wake.notified().await;
    }

    /// What a resource comes from, for all who see it.
    pub(crate) fn views(&self, key: &Key) -> Views {
        self.0.views.read().get(key).cloned().unwrap_or_default()
    }

    /// What a resource comes from, as callers in `namespace` see it.
    pub(super) fn of(&self, key: &Key, namespace: &str) -> Option<Arc<Contributors>> {
        let all = self.0.views.read();
        let views = all.get(key)?;
        views.get(&Some(namespace.into())).or_else(|| views.get(&None)).cloned()
    }
}

/// The objects that a proxy's reason is about: the route behind the rule that it names, or all that
/// the resource comes from.
pub(super) fn blamed<'a>(contributors: &'a Contributors, reason: &str) -> Vec<&'a ObjectRef> {
    let number = reason.split_once("routes[").and_then(|(_, rest)| rest.split_once(']'));
    let rule = number.and_then(|(number, _)| number.parse::<usize>().ok());
    match rule.and_then(|rule| contributors.rules.get(rule)) {
        Some(Some(route)) => vec![route],
        _ => contributors.all.iter().collect(),
    }
}
