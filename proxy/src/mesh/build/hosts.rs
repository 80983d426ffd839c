//! Names that the application asked for, and what was said about them.

use std::{collections::HashMap, mem, sync::Arc};

use tulle_xds::model::Host;

use super::{Full, IDLE, Told};
use crate::mesh::{LastUsed, Named};

/// Names that are held at once, known and unknown. Beyond, the least recently used one makes room:
/// it can be asked for again.
pub(in crate::mesh) const MAX_HOSTS: usize = 1024;

/// All names that are asked for.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: HashMap<Arc<str>, Entry>,
    published: Arc<HashMap<Arc<str>, Named>>,
    /// What is published differs from what is here.
    changed: bool,
}

#[derive(Debug)]
struct Entry {
    told: Told<Arc<Host>>,
    used: Arc<LastUsed>,
}

impl Hosts {
    pub(super) fn want(&mut self, name: &Arc<str>, now: u64, may_evict: bool) -> Result<(), Full> {
        if let Some(entry) = self.names.get(name) {
            entry.used.touch(now);
            return Ok(());
        }
        if self.names.len() >= MAX_HOSTS && !(may_evict && self.evict_one()) {
            return Err(Full);
        }
        let entry = Entry { told: Told::Nothing, used: LastUsed::new(now) };
        self.names.insert(Arc::clone(name), entry);
        Ok(())
    }

    pub(super) fn take(&mut self, host: Host) {
        self.told(&host.name.clone(), Told::Is(Arc::new(host)));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.told(name, Told::Absent);
    }

    fn told(&mut self, name: &str, told: Told<Arc<Host>>) {
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        if entry.told != told {
            entry.told = told;
            self.changed = true;
        }
    }

    pub(super) fn let_go(&mut self, now: u64) {
        let before = self.names.len();
        self.names.retain(|_, entry| now.saturating_sub(entry.used.seconds()) < IDLE);
        self.changed |= self.names.len() != before;
    }

    fn evict_one(&mut self) -> bool {
        let oldest = self.names.iter().min_by_key(|(_, entry)| entry.used.seconds());
        let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else {
            return false;
        };
        self.names.remove(&oldest);
        self.changed = true;
        true
    }

    /// All names that are asked for.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    pub(super) fn have_changed(&self) -> bool {
        self.changed
    }

    /// What a snapshot holds: every name that was answered.
    pub(super) fn published(&mut self) -> Arc<HashMap<Arc<str>, Named>> {
        if mem::take(&mut self.changed) {
            let answered = self.names.iter().filter_map(|(name, entry)| {
                let host = match &entry.told {
                    Told::Nothing => return None,
                    Told::Is(host) => Some(Arc::clone(host)),
                    Told::Absent => None,
                };
                Some((Arc::clone(name), Named { host, used: Arc::clone(&entry.used) }))
            });
            self.published = Arc::new(answered.collect());
        }
        Arc::clone(&self.published)
    }
}

#[cfg(test)]
mod tests {
    use tulle_xds::model::Origin;

    use super::*;

    fn host(name: &str) -> Host {
        let addresses = vec![[10, 96, 0, 7].into()];
        Host { name: name.to_owned(), addresses, origin: Origin::default() }
    }

    fn wanted(hosts: &mut Hosts, name: &str, now: u64) -> Result<(), Full> {
        hosts.want(&name.into(), now, true)
    }

    #[test]
    fn a_name_is_published_once_it_was_answered() {
        let mut hosts = Hosts::default();
        wanted(&mut hosts, "a", 0).unwrap();
        wanted(&mut hosts, "b", 0).unwrap();
        assert!(!hosts.have_changed());
        hosts.take(host("a"));
        hosts.remove("b");
        hosts.take(host("nobody asked for it"));
        assert!(hosts.have_changed());
        let published = hosts.published();
        assert!(published["a"].host.is_some() && published["b"].host.is_none());
        assert_eq!(published.len(), 2);
        hosts.take(host("a"));
        assert!(!hosts.have_changed(), "the same again");
        hosts.take(host("b"));
        assert!(hosts.published()["b"].host.is_some(), "it was created after all");
    }

    #[test]
    fn names_are_bounded_in_number_and_time() {
        let mut hosts = Hosts::default();
        for n in 0..MAX_HOSTS {
            wanted(&mut hosts, &n.to_string(), n as u64).unwrap();
        }
        assert_eq!(hosts.want(&"new".into(), 0, false), Err(Full), "the control plane is away");
        wanted(&mut hosts, "new", IDLE).unwrap();
        assert_eq!(hosts.names().count(), MAX_HOSTS);
        assert!(!hosts.names().any(|name| name == "0"), "the least recently used one made room");
        hosts.let_go(IDLE + 10);
        assert!(!hosts.names().any(|name| name == "10") && hosts.names().any(|name| name == "11"));
    }
}
