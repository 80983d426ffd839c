//! The two shapes of index that the world needs.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use super::objects::{Labels, Name};

/// From a key to names, in a fixed order. A key without names takes no memory, and one with a
/// single name little: most have just one.
#[derive(Debug)]
pub(super) struct Multimap<K, V>(HashMap<K, Values<V>>);

#[derive(Debug)]
enum Values<V> {
    One(V),
    Many(BTreeSet<V>),
}

impl<K, V> Default for Multimap<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Ord + Clone> Multimap<K, V> {
    /// Adds or removes a value.
    pub(super) fn set(&mut self, key: K, value: &V, present: bool) {
        let Some(values) = self.0.get_mut(&key) else {
            if present {
                self.0.insert(key, Values::One(value.clone()));
            }
            return;
        };
        let empty = match values {
            Values::One(one) if present => {
                if one != value {
                    *values = Values::Many([one.clone(), value.clone()].into());
                }
                false
            }
            Values::One(one) => one == value,
            Values::Many(many) if present => {
                many.insert(value.clone());
                false
            }
            Values::Many(many) => {
                many.remove(value);
                many.is_empty()
            }
        };
        if empty {
            self.0.remove(&key);
        }
    }

    /// The values of `key`.
    pub(super) fn get<'a, Q: Eq + Hash + ?Sized>(
        &'a self,
        key: &Q,
    ) -> impl Iterator<Item = &'a V> + use<'a, K, V, Q>
    where
        K: Borrow<Q>,
    {
        let (one, many) = match self.0.get(key) {
            Some(Values::One(one)) => (Some(one), None),
            Some(Values::Many(many)) => (None, Some(many)),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// From namespace, label and value to names.
#[derive(Debug, Default)]
pub(super) struct LabelIndex(Multimap<String, Name>);

impl LabelIndex {
    /// Adds or removes `name` under a label.
    pub(super) fn set(
        &mut self,
        (namespace, key, value): (&str, &str, &str),
        name: &Name,
        present: bool,
    ) {
        self.0.set(joined(namespace, key, value), name, present);
    }

    /// What is under this label.
    pub(super) fn with(
        &self,
        namespace: &str,
        key: &str,
        value: &str,
    ) -> impl Iterator<Item = &Name> + use<'_> {
        self.0.get(joined(namespace, key, value).as_str())
    }

    /// Whether anything is under this label.
    pub(super) fn has(&self, namespace: &str, key: &str, value: &str) -> bool {
        self.with(namespace, key, value).next().is_some()
    }

    /// What is under any of these labels, each once, by name.
    pub(super) fn candidates(&self, namespace: &str, labels: &Labels) -> BTreeSet<&Name> {
        labels.iter().flat_map(|(key, value)| self.with(namespace, key, value)).collect()
    }
}

/// One text as key can be looked up without owning three. Candidates are checked against the whole
/// selector anyway, so labels that contain the separator do no harm.
fn joined(namespace: &str, key: &str, value: &str) -> String {
    [namespace, key, value].join("\n")
}
