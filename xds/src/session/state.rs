//! The state-of-the-world variant, for clients that speak no other (gRPC's C++ and Node).
//!
//! Each request of it says all names that the client wants; what is new and what is gone against
//! the request before makes the request of a delta [`Session`], which does the rest. The responses
//! differ: those of listeners and clusters hold all that is subscribed (what is left out is gone),
//! those of other kinds only what changed (there is no way to say that such a resource is gone: its
//! clients drop it with the listener or cluster that names it). Reference:
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>, "Basic Protocol Overview".
//!
//! A request that answers no response in flight is there for its names, and all that it names is
//! sent again: a client that drops a resource and wants it again before it has got round to writing
//! says both with one request, which names what the one before did (gRPC's C++ gives a resource up
//! for missing that it asked for and is not sent within 15 s). On a new stream all is sent again,
//! whatever version the client names: there is one version for a whole kind, which says nothing of
//! a name that does not exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    cache::{Published, content_version},
    model::Kind,
    protocol::{Answer, Received, Request, Version, WILDCARD},
    session::{Changes, KindStatus, NameNews, NameStatus, Session, Violation, WILDCARD_KINDS},
};

/// Kinds whose responses are whole.
const WHOLE: &[Kind] = &[Kind::Cluster, Kind::Listener];

/// From client to server: `DiscoveryRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRequest {
    /// Which conversation.
    pub kind: Kind,
    /// All names that the client wants.
    pub names: BTreeSet<String>,
    /// The answer to a response.
    pub answer: Option<Answer>,
}

/// From server to client: `DiscoveryResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateResponse {
    /// Which conversation.
    pub kind: Kind,
    /// Of all that the client has of this kind after it: a hash of its names and their versions.
    pub version: Version,
    /// To be repeated in the answer.
    pub nonce: String,
    /// All resources of the kind, or those that changed; see the [module](self).
    pub resources: Vec<Received>,
}

/// The server's side of one state-of-the-world ADS stream; see the [module](self).
#[derive(Debug)]
pub struct StateSession {
    session: Session,
    kinds: BTreeMap<Kind, Asked>,
}

/// What the last request of a kind said.
#[derive(Debug, Default)]
struct Asked {
    begun: bool,
    /// It has only ever named nothing.
    all: bool,
    names: BTreeSet<String>,
}

impl StateSession {
    /// A fresh stream of the client whose pod is `workload`, `NAMESPACE/POD`.
    pub fn new(workload: impl Into<String>) -> Self {
        let session = Session { whole: WHOLE, ..Session::new(workload) };
        Self { session, kinds: BTreeMap::new() }
    }

    /// See [`Session::with_wildcard`].
    #[must_use]
    pub fn with_wildcard(self, own: Vec<(Kind, String)>) -> Self {
        Self { session: self.session.with_wildcard(own), ..self }
    }

    /// Takes a request of the client.
    ///
    /// # Errors
    /// If the stream has to end.
    pub fn request(&mut self, request: StateRequest) -> Result<Changes, Violation> {
        let asked = self.kinds.entry(request.kind).or_default();
        let mut names = request.names;
        // To name nothing is to want all, as long as nothing was ever named.
        let first = !std::mem::replace(&mut asked.begun, true);
        asked.all = (first || asked.all) && names.is_empty();
        if asked.all && WILDCARD_KINDS.contains(&request.kind) {
            names.insert(WILDCARD.to_owned());
        }
        let in_flight = self.session.in_flight(request.kind);
        let answers = |answer: &Answer| in_flight == Some(&answer.nonce) || answer.error.is_some();
        let subscribe = match request.answer.as_ref().is_some_and(answers) {
            true => names.difference(&asked.names).cloned().collect(),
            false => names.iter().cloned().collect(),
        };
        let delta = Request {
            subscribe,
            unsubscribe: asked.names.difference(&names).cloned().collect(),
            ..answer(request.kind, request.answer)
        };
        asked.names = names;
        self.session.request(delta)
    }

    /// How many names are subscribed, all kinds together.
    pub fn subscriptions(&self) -> usize {
        self.session.subscriptions()
    }

    /// How many responses the client has not answered.
    pub fn unanswered(&self) -> usize {
        self.session.unanswered()
    }

    /// What is published under a name may have changed.
    pub fn changed(&mut self, kind: Kind, name: &str) {
        self.session.changed(kind, name);
    }

    /// What to send now, if anything. To be called until it says `None`, after each of the other
    /// calls.
    pub fn next_response(
        &mut self,
        published: impl Fn(Kind, &str) -> Published,
    ) -> Option<StateResponse> {
        loop {
            let response = self.session.next_response(&published)?;
            let (kind, nonce) = (response.kind, response.nonce);
            if response.resources.is_empty() && !WHOLE.contains(&kind) {
                // Only removals, which cannot be said: as good as taken note of.
                let taken = Answer { nonce, error: None };
                let changes = self.session.request(answer(kind, Some(taken)));
                debug_assert!(changes.is_ok(), "an acknowledgement breaks no rule: {changes:?}");
                continue;
            }
            let version = self.version(kind);
            return Some(StateResponse { kind, version, nonce, resources: response.resources });
        }
    }

    /// See [`Session::take_news`].
    pub fn take_news(&mut self) -> Vec<NameNews> {
        self.session.take_news()
    }

    /// See [`Session::name_status`].
    pub fn name_status(&self, kind: Kind, name: &str) -> Option<NameStatus> {
        self.session.name_status(kind, name)
    }

    /// How things stand, kind by kind.
    pub fn status(&self) -> Vec<KindStatus> {
        self.session.status()
    }

    fn version(&self, kind: Kind) -> Version {
        let conversation = self.session.kinds.get(&kind);
        let names = conversation.into_iter().flat_map(|conversation| &conversation.names);
        let mut text = String::new();
        for (name, sent) in names {
            if let Some(Some(version)) = &sent.last {
                writeln!(text, "{name} {version}").expect("a String takes all text");
            }
        }
        content_version(text.as_bytes())
    }
}

/// A delta request that changes no subscription.
fn answer(kind: Kind, answer: Option<Answer>) -> Request {
    Request {
        kind,
        node: None,
        subscribe: Vec::new(),
        unsubscribe: Vec::new(),
        versions: Vec::new(),
        answer,
    }
}

#[cfg(test)]
mod tests;
