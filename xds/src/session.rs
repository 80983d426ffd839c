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
//! This is the delta variant; [`state`] puts the state-of-the-world variant on top of it. A client
//! is served in an order in which nothing breaks: [`order`].

mod conversation;
mod order;
pub mod state;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use serde::Serialize;

use self::{
    conversation::{Contents, Conversation, InFlight, Sent, Wildcard},
    order::Warming,
};
use crate::{
    cache::Published,
    model::Kind,
    protocol::{MAX_NAME, MAX_SUBSCRIPTIONS, Request, Response, Version, WILDCARD},
};

/// Kinds of which a client may have all: a first request that names nothing asks for it.
const WILDCARD_KINDS: [Kind; 2] = [Kind::Cluster, Kind::Listener];

/// The server's side of one delta ADS stream; see the [module](self).
#[derive(Debug, Default)]
pub struct Session {
    /// The only pod whose own resources this client may see.
    workload: String,
    next_nonce: u64,
    subscriptions: usize,
    kinds: BTreeMap<Kind, Conversation>,
    /// Kinds whose responses hold all that is subscribed, however little changed.
    whole: &'static [Kind],
    /// Whether there is a wildcard for this client, and what belongs to it beside the members.
    wildcard: bool,
    own: Vec<(Kind, String)>,
    /// The client, one with a wildcard, had clusters when it came.
    returning: bool,
    /// Clusters whose endpoints the client does not have yet.
    warming: BTreeMap<String, Warming>,
    /// Names that stand otherwise than when this was looked at last.
    news: BTreeSet<(Kind, String)>,
}

/// What a request changed: for the caller to subscribe to at the source of what is published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that are subscribed from now on; [`WILDCARD`] for all of the kind.
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

/// A name that stands otherwise than before, and how; `None`: it is not subscribed any more.
pub type NameNews = (Kind, String, Option<NameStatus>);

impl Session {
    /// A fresh stream of the client whose pod is `workload`, `NAMESPACE/POD`. There is no wildcard
    /// for it.
    pub fn new(workload: impl Into<String>) -> Self {
        Self { workload: workload.into(), ..Self::default() }
    }

    /// The same, with a wildcard for listeners and clusters. `own` are resources of this client
    /// alone that belong to it.
    #[must_use]
    pub fn with_wildcard(self, own: Vec<(Kind, String)>) -> Self {
        Self { wildcard: true, own, ..self }
    }

    /// Takes a request of the client.
    ///
    /// # Errors
    /// If the stream has to end.
    pub fn request(&mut self, request: Request) -> Result<Changes, Violation> {
        let mut changes = Changes::default();
        let kind = request.kind;
        let conversation = self.kinds.entry(kind).or_default();
        let first = !mem::replace(&mut conversation.begun, true);
        if let Some(answer) = &request.answer {
            let answered = conversation.answered(answer);
            self.news.extend(answered.told.iter().map(|(name, _)| (kind, name.clone())));
            self.settled(kind, &answered);
            changes.rejected = answered.rejected;
        }
        for name in &request.unsubscribe {
            self.unsubscribe(kind, name, &mut changes);
        }
        let mut versions: BTreeMap<_, _> = request.versions.into_iter().collect();
        let implied = first && request.subscribe.is_empty() && WILDCARD_KINDS.contains(&kind);
        let mut all = implied;
        for name in request.subscribe {
            if name == WILDCARD {
                all = true;
            } else {
                let has = versions.remove(&name);
                self.subscribe(kind, name, has, &mut changes)?;
            }
        }
        if all {
            self.subscribe_all(kind, versions, &mut changes)?;
        }
        if first && kind == Kind::Endpoints {
            self.returned_with_endpoints();
        }
        Ok(changes)
    }

    fn unsubscribe(&mut self, kind: Kind, name: &str, changes: &mut Changes) {
        let Some(conversation) = self.kinds.get_mut(&kind) else {
            return;
        };
        if name == WILDCARD {
            if conversation.wildcard.take().is_some() {
                self.news.extend(conversation.names.keys().map(|name| (kind, name.clone())));
                conversation.names.retain(|_, sent| sent.named);
                let own = self.own.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name);
                let own = own.filter(|name| !conversation.names.contains_key(*name));
                changes.unsubscribed.extend(own.cloned());
                changes.unsubscribed.push(WILDCARD.to_owned());
            }
            return;
        }
        let Some(sent) = conversation.names.get_mut(name).filter(|sent| sent.named) else {
            return;
        };
        self.subscriptions -= 1;
        if conversation.wildcard.is_some() {
            // What it is as one of all is told anew: the client cannot know.
            (sent.named, sent.again) = (false, true);
            conversation.dirty.insert(name.to_owned());
        } else {
            conversation.names.remove(name);
            conversation.dirty.remove(name);
            self.news.insert((kind, name.to_owned()));
        }
        if conversation.wildcard.is_none() || !self.own.iter().any(|own| own.1 == name) {
            changes.unsubscribed.push(name.to_owned());
        }
    }

    fn subscribe(
        &mut self,
        kind: Kind,
        name: String,
        has: Option<Version>,
        changes: &mut Changes,
    ) -> Result<(), Violation> {
        if name.len() > MAX_NAME {
            return Err(Violation::LongName(name.len()));
        }
        let conversation = self.kinds.entry(kind).or_default();
        conversation.dirty.insert(name.clone());
        let known = conversation.names.get_mut(&name);
        let named = known.is_some_and(|sent| {
            sent.again = true;
            mem::replace(&mut sent.named, true)
        });
        if named {
            return Ok(());
        }
        self.subscriptions += 1;
        if self.subscriptions > MAX_SUBSCRIPTIONS {
            return Err(Violation::TooMany);
        }
        let refused = kind.owner(&name).is_some_and(|pod| pod != self.workload);
        let to = if refused { &mut changes.refused } else { &mut changes.subscribed };
        to.push(name.clone());
        self.news.insert((kind, name.clone()));
        let sent = conversation.names.entry(name).or_insert_with(|| Sent::of(has));
        (sent.named, sent.refused) = (true, refused);
        Ok(())
    }

    /// From now on all of a kind; the client has `versions` of it.
    fn subscribe_all(
        &mut self,
        kind: Kind,
        versions: BTreeMap<String, Version>,
        changes: &mut Changes,
    ) -> Result<(), Violation> {
        if !self.wildcard || !WILDCARD_KINDS.contains(&kind) {
            return Err(Violation::Wildcard(kind));
        }
        if versions.len() > MAX_SUBSCRIPTIONS {
            return Err(Violation::TooMany);
        }
        self.returning |= kind == Kind::Cluster && !versions.is_empty();
        if kind == Kind::Cluster {
            self.returned_with_clusters(&versions);
        }
        let conversation = self.kinds.entry(kind).or_default();
        if conversation.wildcard.is_none() {
            conversation.wildcard = Some(Wildcard::default());
            changes.subscribed.push(WILDCARD.to_owned());
            let own = self.own.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name);
            changes.subscribed.extend(own.cloned());
        }
        // What it has and is not there any more must be told, too.
        for (name, version) in versions {
            self.news.insert((kind, name.clone()));
            conversation.dirty.insert(name.clone());
            conversation.names.entry(name).or_insert_with(|| Sent::of(Some(version)));
        }
        Ok(())
    }

    /// How many names are subscribed, all kinds together.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// How many responses the client has not answered.
    pub fn unanswered(&self) -> usize {
        self.kinds.values().filter(|conversation| conversation.in_flight.is_some()).count()
    }

    /// The nonce of the response of a kind that the client has not answered.
    fn in_flight(&self, kind: Kind) -> Option<&String> {
        Some(&self.kinds.get(&kind)?.in_flight.as_ref()?.nonce)
    }

    /// What is published under a name may have changed; under the wildcard's: all of it is known.
    pub fn changed(&mut self, kind: Kind, name: &str) {
        let Some(conversation) = self.kinds.get_mut(&kind) else {
            return;
        };
        if name == WILDCARD {
            if let Some(wildcard) = &mut conversation.wildcard {
                wildcard.complete = true;
            }
        } else if conversation.wildcard.is_some() || conversation.names.contains_key(name) {
            conversation.dirty.insert(name.to_owned());
        }
    }

    /// What to send now, if anything. To be called until it says `None`, after each of the other
    /// calls.
    pub fn next_response(
        &mut self,
        published: impl Fn(Kind, &str) -> Published,
    ) -> Option<Response> {
        // Once more: that nothing is left to say about listeners and routes may let clusters go.
        self.look_for_news(&published).or_else(|| self.look_for_news(&published))
    }

    fn look_for_news(&mut self, published: &impl Fn(Kind, &str) -> Published) -> Option<Response> {
        for kind in Kind::ALL {
            let (held, parting) = (self.held(kind), self.parting(kind));
            let Some(conversation) = self.kinds.get_mut(&kind).filter(|_| !held) else {
                continue;
            };
            let look = |name: &str| published(kind, name);
            let mut own = self.own.iter().filter(|(of, _)| *of == kind);
            let own_known = own.all(|(_, name)| look(name) != Published::Unknown);
            if parting {
                conversation.part();
            }
            if !conversation.is_ready(own_known) {
                continue;
            }
            let whole = self.whole.contains(&kind);
            let contents = if whole {
                conversation.collect_all(look, parting)
            } else {
                conversation.collect(look, parting)
            };
            let greets = conversation.greets();
            if contents.resources.is_empty() && contents.removed.is_empty() && !greets {
                continue;
            }
            self.next_nonce += 1;
            let nonce = self.next_nonce.to_string();
            let Contents { resources, removed, fresh, changed } = contents;
            let contents: Vec<_> = resources
                .iter()
                .map(|r| (r.name.clone(), Some(r.version.clone())))
                .chain(removed.iter().map(|name| (name.clone(), None)))
                .collect();
            match kind {
                Kind::Cluster => self.told_clusters(fresh, changed),
                Kind::Endpoints => self.told_endpoints(&contents),
                Kind::Workload | Kind::Listener | Kind::Route | Kind::Host => {}
            }
            self.news.extend(contents.iter().map(|(name, _)| (kind, name.clone())));
            let conversation = self.kinds.entry(kind).or_default();
            conversation.in_flight = Some(InFlight { nonce: nonce.clone(), contents });
            return Some(Response { kind, nonce, resources, removed });
        }
        None
    }

    /// The names that stand otherwise than when this was asked last.
    pub fn take_news(&mut self) -> Vec<NameNews> {
        let news = mem::take(&mut self.news).into_iter();
        news.map(|(kind, name)| {
            let status = self.name_status(kind, &name);
            (kind, name, status)
        })
        .collect()
    }

    /// How a name stands, if it is subscribed.
    pub fn name_status(&self, kind: Kind, name: &str) -> Option<NameStatus> {
        Some(self.kinds.get(&kind)?.names.get(name)?.status(name))
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

#[cfg(test)]
mod tests;
