//! What has to be kept compiled, by what it is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tulle_xds::cache::Key;

use crate::{compile, world::Subject};

/// The keys that somebody wants.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    by_subject: HashMap<Subject, BTreeMap<Key, Why>>,
    wildcards: BTreeSet<Key>,
}

/// Why a key is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Why {
    /// Somebody names it.
    named: bool,
    /// It is a member of a kind that somebody wants whole.
    member: bool,
}

impl Wanted {
    /// Somebody names `key`, or nobody does any more.
    pub(super) fn name(&mut self, key: &Key, named: bool) {
        if let Some(subject) = compile::subject(key.kind, &key.name) {
            self.set(subject, key, |why| why.named = named);
        }
    }

    /// Somebody wants all of a kind.
    pub(super) fn want_all(&mut self, wildcard: Key) {
        self.wildcards.insert(wildcard);
    }

    /// Nobody wants all of a kind any more; returns what its members were.
    pub(super) fn unwant_all(&mut self, wildcard: &Key) -> Vec<Key> {
        self.wildcards.remove(wildcard);
        let subjects: Vec<_> = self.by_subject.keys().cloned().collect();
        let leave = |subject: Subject| self.set_members(&subject, wildcard, &BTreeSet::new());
        subjects.into_iter().flat_map(leave).collect()
    }

    /// The kinds that somebody wants whole.
    pub(super) fn wildcards(&self) -> Vec<Key> {
        self.wildcards.iter().cloned().collect()
    }

    /// What is about `subject`, and whether it is a member of its kind.
    pub(super) fn about(&self, subject: &Subject) -> impl Iterator<Item = (&Key, bool)> {
        let keys = self.by_subject.get(subject).into_iter().flatten();
        keys.map(|(key, why)| (key, why.member))
    }

    /// The members of the wildcard that are about `subject` are these; returns those that are none
    /// any more.
    pub(super) fn set_members(
        &mut self,
        subject: &Subject,
        wildcard: &Key,
        now: &BTreeSet<Key>,
    ) -> Vec<Key> {
        let gone = |(key, member): (&Key, bool)| {
            (member && key.wildcard() == *wildcard && !now.contains(key)).then(|| key.clone())
        };
        let gone: Vec<_> = self.about(subject).filter_map(gone).collect();
        for key in &gone {
            self.set(subject.clone(), key, |why| why.member = false);
        }
        for key in now {
            self.set(subject.clone(), key, |why| why.member = true);
        }
        gone
    }

    fn set(&mut self, subject: Subject, key: &Key, change: impl FnOnce(&mut Why)) {
        let keys = self.by_subject.entry(subject.clone()).or_default();
        let why = keys.entry(key.clone()).or_default();
        change(why);
        if *why == Why::default() {
            keys.remove(key);
        }
        if keys.is_empty() {
            self.by_subject.remove(&subject);
        }
    }
}
