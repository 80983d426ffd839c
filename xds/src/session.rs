//! The server's side of the protocol, without a network: one [`Session`] for each stream.
//!
//! It is told what the client says ([`request`](Session::request)) and which published names changed
//! ([`changed`](Session::changed)); it says what to send now ([`next_response`](Session::next_response)),
//! looking up what is published at that moment.
//!
//! **Invariants.** For each kind at most one response waits for its answer; meanwhile what changes
//! is only noted as a name, so that a slow client is told the latest state, once. What the client
//! has already is not sent, except to one that subscribes again. An ACK gets no response. A
//! rejected version is not sent again on this stream.
//!
//! This is the delta variant; [`state`] puts the state-of-the-world variant on top of it.

pub mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use serde::Serialize;

use crate::{
    cache::Published,
    model::Kind,
    protocol::{
        Answer, MAX_NACK, MAX_NAME, MAX_PAYLOAD, MAX_SUBSCRIPTIONS, Received, Request, Response,
        Version, bounded,
    },
};

/// What a name costs on the wire beside its text, its version and its bytes: tags, lengths, type URL.
const OVERHEAD: usize = 128;

/// The server's side of one delta ADS stream; see the [module](self).
#[derive(Debug, Default)]
pub struct Session {
    /// The only [`Kind::Workload`] that this client may see.
    workload: String,
    next_nonce: u64,
    subscriptions: usize,
    kinds: BTreeMap<Kind, Conversation>,
    /// Kinds whose responses hold all that is subscribed, however little changed.
    whole: &'static [Kind],
}

/// What a request changed: for the caller to subscribe to at the source of what is published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that are subscribed from now on.
    pub subscribed: Vec<String>,
    /// Names that are not subscribed any more.
    pub unsubscribed: Vec<String>,
    /// Names that this client must not see: answered as if they did not exist.
    pub refused: Vec<String>,
    /// Names that the client rejected, and why.
    pub rejected: Vec<(String, String)>,
}

/// Why a stream has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// See [`MAX_SUBSCRIPTIONS`].
    #[error(
        "more than {MAX_SUBSCRIPTIONS} names are subscribed: unsubscribe from what is not used"
    )]
    TooMany,
    /// See [`MAX_NAME`].
    #[error("a resource name has {0} bytes; {MAX_NAME} are the most")]
    LongName(usize),
    /// `*`, or a first request that names nothing.
    #[error("{0:?}: the wildcard is not served to this client: name the resources")]
    Wildcard(Kind),
}

/// How a session stands with a kind: for dumps and status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindStatus {
    /// The kind.
    pub kind: Kind,
    /// A response waits for its answer.
    pub waiting: bool,
    /// The subscribed names, in order.
    pub names: Vec<NameStatus>,
}

/// How a session stands with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameStatus {
    /// The resource's name.
    pub name: String,
    /// The version that was sent last; `None` before the first, and after a removal.
    pub sent: Option<Version>,
    /// The version that the client accepted last.
    pub accepted: Option<Version>,
    /// Why the client rejected what was sent last.
    pub rejected: Option<String>,
}

/// One kind.
#[derive(Debug, Default)]
struct Conversation {
    begun: bool,
    names: BTreeMap<String, Sent>,
    /// Subscribed names whose published state has to be looked at.
    dirty: BTreeSet<String>,
    in_flight: Option<InFlight>,
}

/// What we told the client of a name.
#[derive(Debug, Default)]
struct Sent {
    /// `None`: nothing yet. `Some(None)`: that there is none.
    last: Option<Option<Version>>,
    accepted: Option<Version>,
    rejected: Option<String>,
    /// To be told even if it knows.
    again: bool,
    refused: bool,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    contents: Vec<(String, Option<Version>)>,
}

impl Session {
    /// A fresh stream of the client whose pod is `workload`, `NAMESPACE/POD`.
    pub fn new(workload: impl Into<String>) -> Self {
        Self { workload: workload.into(), ..Self::default() }
    }

    /// Takes a request of the client.
    ///
    /// # Errors
    /// If the stream has to end.
    pub fn request(&mut self, request: Request) -> Result<Changes, Violation> {
        let mut changes = Changes::default();
        let conversation = self.kinds.entry(request.kind).or_default();
        let first = !mem::replace(&mut conversation.begun, true);
        let names_all = first
            && request.subscribe.is_empty()
            && matches!(request.kind, Kind::Listener | Kind::Cluster);
        if names_all || request.subscribe.iter().any(|name| name == "*") {
            return Err(Violation::Wildcard(request.kind));
        }
        if let Some(answer) = request.answer {
            changes.rejected = conversation.answered(&answer);
        }
        for name in request.unsubscribe {
            if conversation.names.remove(&name).is_some() {
                self.subscriptions -= 1;
                conversation.dirty.remove(&name);
                changes.unsubscribed.push(name);
            }
        }
        let mut versions: BTreeMap<_, _> = request.versions.into_iter().collect();
        for name in request.subscribe {
            if name.len() > MAX_NAME {
                return Err(Violation::LongName(name.len()));
            }
            conversation.dirty.insert(name.clone());
            if let Some(sent) = conversation.names.get_mut(&name) {
                sent.again = true;
                continue;
            }
            self.subscriptions += 1;
            if self.subscriptions > MAX_SUBSCRIPTIONS {
                return Err(Violation::TooMany);
            }
            let has = versions.remove(&name);
            let refused = request.kind == Kind::Workload && name != self.workload;
            let to = if refused { &mut changes.refused } else { &mut changes.subscribed };
            to.push(name.clone());
            let sent =
                Sent { last: has.clone().map(Some), accepted: has, refused, ..Sent::default() };
            conversation.names.insert(name, sent);
        }
        Ok(changes)
    }

    /// What is published under a name may have changed.
    pub fn changed(&mut self, kind: Kind, name: &str) {
        let Some(conversation) = self.kinds.get_mut(&kind) else {
            return;
        };
        if conversation.names.contains_key(name) {
            conversation.dirty.insert(name.to_owned());
        }
    }

    /// What to send now, if anything. To be called until it says `None`, after each of the other
    /// calls.
    pub fn next_response(
        &mut self,
        published: impl Fn(Kind, &str) -> Published,
    ) -> Option<Response> {
        let ready = |c: &Conversation| c.in_flight.is_none() && !c.dirty.is_empty();
        for (&kind, conversation) in self.kinds.iter_mut().filter(|(_, c)| ready(c)) {
            let look = |name: &str| published(kind, name);
            let (resources, removed) = if self.whole.contains(&kind) {
                conversation.collect_all(look)
            } else {
                conversation.collect(look)
            };
            if resources.is_empty() && removed.is_empty() {
                continue;
            }
            self.next_nonce += 1;
            let nonce = self.next_nonce.to_string();
            let contents = resources
                .iter()
                .map(|r| (r.name.clone(), Some(r.version.clone())))
                .chain(removed.iter().map(|name| (name.clone(), None)))
                .collect();
            conversation.in_flight = Some(InFlight { nonce: nonce.clone(), contents });
            return Some(Response { kind, nonce, resources, removed });
        }
        None
    }

    /// How things stand, kind by kind.
    pub fn status(&self) -> Vec<KindStatus> {
        let status = |(&kind, conversation): (&Kind, &Conversation)| KindStatus {
            kind,
            waiting: conversation.in_flight.is_some(),
            names: conversation.names.iter().map(|(name, sent)| sent.status(name)).collect(),
        };
        self.kinds.iter().map(status).collect()
    }
}

impl Conversation {
    /// Takes dirty names until they fill a message; returns what the client does not know yet.
    fn collect(&mut self, published: impl Fn(&str) -> Published) -> (Vec<Received>, Vec<String>) {
        let (mut resources, mut removed, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some(name) = self.dirty.pop_first() {
            let Some(sent) = self.names.get_mut(&name) else {
                continue;
            };
            let now = if sent.refused { Published::Absent } else { published(&name) };
            let (version, bytes) = match now {
                // It becomes dirty again as soon as it is known.
                Published::Unknown => continue,
                Published::Absent => (None, None),
                Published::Present { version, bytes } => (Some(version), Some(bytes)),
            };
            if !sent.again && sent.last.as_ref() == Some(&version) {
                continue;
            }
            let adds = name.len() + bytes.as_ref().map_or(0, |b| b.len()) + OVERHEAD;
            if size > 0 && size + adds > MAX_PAYLOAD {
                self.dirty.insert(name);
                break;
            }
            size += adds;
            sent.again = false;
            sent.last = Some(version.clone());
            match (version, bytes) {
                (Some(version), Some(bytes)) => resources.push(Received { name, version, bytes }),
                _ => removed.push(name),
            }
        }
        (resources, removed)
    }

    /// All that there is of the subscribed names, if any of it is news. Nothing while the publisher
    /// has not said what one of them stands for: what a whole state leaves out is gone.
    fn collect_all(
        &mut self,
        published: impl Fn(&str) -> Published,
    ) -> (Vec<Received>, Vec<String>) {
        let now: Vec<_> = self.names.keys().map(|name| published(name)).collect();
        if now.contains(&Published::Unknown) {
            return (Vec::new(), Vec::new());
        }
        let dirty = mem::take(&mut self.dirty);
        let (mut resources, mut removed, mut news) = (Vec::new(), Vec::new(), false);
        for ((name, sent), now) in self.names.iter_mut().zip(now) {
            let version = now.version().cloned();
            let changed = sent.last.as_ref() != Some(&version);
            news |= dirty.contains(name) && (changed || mem::take(&mut sent.again));
            sent.last = Some(version);
            match now {
                Published::Present { version, bytes } => {
                    resources.push(Received { name: name.clone(), version, bytes });
                }
                _ if changed => removed.push(name.clone()),
                _ => {}
            }
        }
        if news { (resources, removed) } else { (Vec::new(), Vec::new()) }
    }

    /// Notes the answer to the response in flight; one to another response says nothing. Returns
    /// what was rejected.
    fn answered(&mut self, answer: &Answer) -> Vec<(String, String)> {
        let Some(flight) = self.in_flight.take_if(|flight| flight.nonce == answer.nonce) else {
            return Vec::new();
        };
        let verdict = Verdict::of(answer.error.as_deref(), &flight);
        let mut rejected = Vec::new();
        for (name, version) in &flight.contents {
            let reason = verdict.reason(name);
            // Unsubscribed and subscribed again in between: the answer is not about this one.
            let sent = self.names.get_mut(name).filter(|s| s.last.as_ref() == Some(version));
            if let Some(sent) = sent {
                sent.rejected = reason.map(ToOwned::to_owned);
                if reason.is_none() {
                    sent.accepted.clone_from(version);
                }
            }
            rejected.extend(reason.map(|reason| (name.clone(), reason.to_owned())));
        }
        rejected
    }
}

/// What an answer says about each resource.
enum Verdict<'a> {
    Accepted,
    /// The client did not say which.
    Rejected(&'a str),
    /// These, for these reasons.
    Some(BTreeMap<&'a str, &'a str>),
}

impl<'a> Verdict<'a> {
    fn of(error: Option<&'a str>, flight: &'a InFlight) -> Self {
        let Some(error) = error else {
            return Self::Accepted;
        };
        let error = bounded(error, MAX_NACK);
        let names: BTreeSet<&str> = flight.contents.iter().map(|(name, _)| name.as_str()).collect();
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

    fn reason(&self, name: &str) -> Option<&'a str> {
        match self {
            Self::Accepted => None,
            Self::Rejected(reason) => Some(reason),
            Self::Some(reasons) => reasons.get(name).copied(),
        }
    }
}

/// Whether `text` has `name` in it, not as a part of a longer name.
fn mentions(text: &str, name: &str) -> bool {
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

impl Sent {
    fn status(&self, name: &str) -> NameStatus {
        NameStatus {
            name: name.to_owned(),
            sent: self.last.clone().flatten(),
            accepted: self.accepted.clone(),
            rejected: self.rejected.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
