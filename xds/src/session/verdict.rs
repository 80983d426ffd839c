//! What an answer says of each resource of a response.

use std::collections::{BTreeMap, BTreeSet};

use crate::{protocol::MAX_NACK, text::bounded};

/// What an answer says about each resource.
pub(super) enum Verdict<'a> {
    Accepted,
    /// The client did not say which.
    Rejected(&'a str),
    /// These, for these reasons.
    Some(BTreeMap<&'a str, &'a str>),
}

impl<'a> Verdict<'a> {
    /// `sent` are the names of the response.
    pub(super) fn of(error: Option<&'a str>, sent: impl Iterator<Item = &'a str>) -> Self {
        let Some(error) = error else {
            return Self::Accepted;
        };
        let error = bounded(error, MAX_NACK);
        let names: BTreeSet<&str> = sent.collect();
        let named: BTreeMap<_, _> = error
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| names.contains(name))
            .collect();
        if !named.is_empty() {
            return Self::Some(named);
        }
        // Envoy and gRPC write prose, with the names somewhere in it.
        let mentioned = names.iter().filter(|name| mentions(error, name));
        let mentioned: BTreeMap<_, _> = mentioned.map(|&name| (name, error)).collect();
        if mentioned.is_empty() { Self::Rejected(error) } else { Self::Some(mentioned) }
    }

    /// Why the client rejected this one, if it did.
    pub(super) fn reason(&self, name: &str) -> Option<&'a str> {
        match self {
            Self::Accepted => None,
            Self::Rejected(reason) => Some(reason),
            Self::Some(reasons) => reasons.get(name).copied(),
        }
    }
}

/// Whether `text` has `name` in it, not as a part of a longer name.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    let of_name = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'/' | b'_');
    let text = text.as_bytes();
    let at = |start: usize| {
        let before = start.checked_sub(1).and_then(|i| text.get(i));
        let after = text.get(start + name.len());
        !before.is_some_and(of_name) && !after.is_some_and(of_name)
    };
    !name.is_empty()
        && text
            .windows(name.len())
            .enumerate()
            .any(|(start, window)| window == name.as_bytes() && at(start))
}
