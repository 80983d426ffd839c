//! What was said about one kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use bytes::Bytes;

use super::{NameStatus, verdict::Verdict};
use crate::{
    cache::Published,
    protocol::{Answer, MAX_PAYLOAD, Received, Version},
    text::printable,
};

/// What a name costs on the wire beside its text, its version and its bytes: tags, lengths, type URL.
const OVERHEAD: usize = 128;

/// One kind.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) begun: bool,
    pub(super) names: BTreeMap<String, Sent>,
    /// Names whose published state has to be looked at.
    pub(super) dirty: BTreeSet<String>,
    /// Names that are gone, which the client is not to be told yet.
    leaving: BTreeSet<String>,
    pub(super) in_flight: Option<InFlight>,
    /// The client wants all there is.
    pub(super) wildcard: Option<Wildcard>,
}

/// How far a client is with a wildcard.
#[derive(Debug, Default)]
pub(super) struct Wildcard {
    /// All members are known.
    pub(super) complete: bool,
    /// The first response was sent: it is waited for, even if there is nothing to say.
    greeted: bool,
}

/// What we told the client of a name.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// `None`: nothing yet. `Some(None)`: that there is none.
    pub(super) last: Option<Option<Version>>,
    accepted: Option<Version>,
    rejected: Option<String>,
    /// To be told even if it knows.
    pub(super) again: bool,
    pub(super) refused: bool,
    /// The client named it.
    pub(super) named: bool,
    /// What was sent last, where a whole state may have to hold it longer than the cache does.
    kept: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) contents: Vec<(String, Option<Version>)>,
}

/// What goes into a response.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) resources: Vec<Received>,
    pub(super) removed: Vec<String>,
    /// Those of `resources` that the client did not have.
    pub(super) fresh: Vec<String>,
    /// Those of them that it had otherwise, or asked for once more.
    pub(super) changed: Vec<String>,
}

/// What an answer was about.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Names, and whether there is such a resource.
    pub(super) told: Vec<(String, bool)>,
    /// Names that the client rejected, and why.
    pub(super) rejected: Vec<(String, String)>,
}

impl Conversation {
    /// Whether something is still to be said or answered.
    pub(super) fn is_busy(&self) -> bool {
        let silent = self.wildcard.as_ref().is_some_and(|wildcard| !wildcard.greeted);
        self.in_flight.is_some() || !self.dirty.is_empty() || silent
    }

    /// Whether there may be something to say now. The first response to a wildcard waits until all
    /// is known, also what is the client's own.
    pub(super) fn is_ready(&self, own_known: bool) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        match &self.wildcard {
            None => !self.dirty.is_empty(),
            Some(wildcard) if wildcard.greeted => !self.dirty.is_empty(),
            Some(wildcard) => wildcard.complete && own_known,
        }
    }

    /// From now on the client may be told what is gone.
    pub(super) fn part(&mut self) {
        self.dirty.append(&mut self.leaving);
    }

    /// Whether the response to come is the first to a wildcard.
    pub(super) fn greets(&mut self) -> bool {
        self.wildcard.as_mut().is_some_and(|wildcard| !mem::replace(&mut wildcard.greeted, true))
    }

    /// Takes dirty names until they fill a message; returns what the client does not know yet.
    pub(super) fn collect(
        &mut self,
        published: impl Fn(&str) -> Published,
        parting: bool,
    ) -> Contents {
        let (mut contents, mut size) = (Contents::default(), 0);
        while let Some(name) = self.dirty.pop_first() {
            if !self.names.contains_key(&name) && self.wildcard.is_none() {
                continue;
            }
            let sent = self.names.entry(name.clone()).or_default();
            let now = if sent.refused { Published::Absent } else { published(&name) };
            let (version, bytes) = match now {
                // It becomes dirty again as soon as it is known.
                Published::Unknown => {
                    self.forget(&name);
                    continue;
                }
                Published::Absent => (None, None),
                Published::Present { version, bytes } => (Some(version), Some(bytes)),
            };
            if !sent.tells(version.as_ref()) {
                self.forget(&name);
                continue;
            }
            let had = matches!(sent.last, Some(Some(_)));
            if version.is_none() && had && !parting {
                self.leaving.insert(name);
                continue;
            }
            let adds = name.len() + bytes.as_ref().map_or(0, |b| b.len()) + OVERHEAD;
            if size > 0 && size + adds > MAX_PAYLOAD {
                self.dirty.insert(name);
                break;
            }
            size += adds;
            if version.is_some() {
                let list = if had { &mut contents.changed } else { &mut contents.fresh };
                list.push(name.clone());
            }
            sent.tell(version.clone());
            match (version, bytes) {
                (Some(version), Some(bytes)) => {
                    contents.resources.push(Received { name, version, bytes });
                }
                _ => {
                    self.forget(&name);
                    contents.removed.push(name);
                }
            }
        }
        contents
    }

    /// All that there is, if any of it is news. Nothing while the publisher has not said what one of
    /// the names stands for: what a whole state leaves out is gone.
    pub(super) fn collect_all(
        &mut self,
        published: impl Fn(&str) -> Published,
        parting: bool,
    ) -> Contents {
        if self.wildcard.is_some() {
            for name in self.dirty.iter().filter(|name| published(name) != Published::Absent) {
                self.names.entry(name.clone()).or_default();
            }
        }
        let look = |(name, sent): (&String, &Sent)| match sent.refused {
            true => Published::Absent,
            false => published(name),
        };
        let now: Vec<_> = self.names.iter().map(look).collect();
        if now.contains(&Published::Unknown) {
            return Contents::default();
        }
        self.dirty.clear();
        let greets = self.wildcard.as_ref().is_some_and(|wildcard| !wildcard.greeted);
        let (mut contents, mut news) = (Contents::default(), greets);
        for ((name, sent), mut now) in self.names.iter_mut().zip(now) {
            let kept = sent.last.clone().flatten().zip(sent.kept.take());
            if let (Published::Absent, false, Some((version, bytes))) = (&now, parting, kept) {
                self.leaving.insert(name.clone());
                now = Published::Present { version, bytes };
            }
            let version = now.version().cloned();
            let changed = sent.last.as_ref() != Some(&version);
            // Also of a name that is not dirty: it may have been published a moment ago.
            news |= changed || sent.again;
            if version.is_some() && (changed || sent.again) {
                let had = matches!(sent.last, Some(Some(_)));
                let list = if had { &mut contents.changed } else { &mut contents.fresh };
                list.push(name.clone());
            }
            sent.tell(version);
            match now {
                Published::Present { version, bytes } => {
                    sent.kept = Some(bytes.clone());
                    contents.resources.push(Received { name: name.clone(), version, bytes });
                }
                _ if changed => contents.removed.push(name.clone()),
                _ => {}
            }
        }
        for name in &contents.removed {
            self.forget(name);
        }
        if news { contents } else { Contents::default() }
    }

    /// Drops what is known of a name of which there is nothing to know.
    fn forget(&mut self, name: &str) {
        let nothing = |sent: &Sent| !sent.named && !matches!(sent.last, Some(Some(_)));
        if self.names.get(name).is_some_and(nothing) {
            self.names.remove(name);
        }
    }

    /// Notes the answer to the response in flight; one to another response says nothing.
    pub(super) fn answered(&mut self, answer: &Answer) -> Answered {
        let Some(flight) = self.in_flight.take_if(|flight| flight.nonce == answer.nonce) else {
            return Answered::default();
        };
        let names = flight.contents.iter().map(|(name, _)| name.as_str());
        let verdict = Verdict::of(answer.error.as_deref(), names);
        let mut rejected = Vec::new();
        for (name, version) in &flight.contents {
            let reason = verdict.reason(name).map(printable);
            // Unsubscribed and subscribed again in between: the answer is not about this one.
            let sent = self.names.get_mut(name).filter(|s| s.last.as_ref() == Some(version));
            if let Some(sent) = sent {
                sent.rejected.clone_from(&reason);
                if reason.is_none() {
                    sent.accepted.clone_from(version);
                }
            }
            rejected.extend(reason.map(|reason| (name.clone(), reason)));
        }
        let told = flight.contents.into_iter().map(|(name, version)| (name, version.is_some()));
        Answered { told: told.collect(), rejected }
    }
}

impl Sent {
    /// Of a name of which the client has this version already.
    pub(super) fn of(has: Option<Version>) -> Self {
        Self { last: has.clone().map(Some), accepted: has, ..Self::default() }
    }

    /// Whether `now` is news to the client. That there is nothing is none to one that did not ask
    /// for it.
    fn tells(&self, now: Option<&Version>) -> bool {
        let unasked = !self.named && self.last.is_none() && now.is_none();
        (self.again || self.last.as_ref().map(Option::as_ref) != Some(now)) && !unasked
    }

    /// The client is told.
    fn tell(&mut self, version: Option<Version>) {
        self.again = false;
        self.last = Some(version);
    }

    pub(super) fn status(&self, name: &str) -> NameStatus {
        NameStatus {
            name: name.to_owned(),
            sent: self.last.clone().flatten(),
            accepted: self.accepted.clone(),
            rejected: self.rejected.clone(),
        }
    }
}
