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
#[derive(Debug)]
pub struct Session {
    /// The only [`Kind::Workload`] that this client may see.
    workload: String,
    next_nonce: u64,
    subscriptions: usize,
    kinds: BTreeMap<Kind, Conversation>,
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
        Self { workload: workload.into(), next_nonce: 0, subscriptions: 0, kinds: BTreeMap::new() }
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
            let (resources, removed) = conversation.collect(|name| published(kind, name));
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

    /// Notes the answer to the response in flight; one to another response says nothing. Returns
    /// what was rejected.
    fn answered(&mut self, answer: &Answer) -> Vec<(String, String)> {
        let Some(flight) = self.in_flight.take_if(|flight| flight.nonce == answer.nonce) else {
            return Vec::new();
        };
        let verdict = Verdict::of(answer.error.as_deref(), &flight);
        let mut rejected = Vec::new();
        for (name, version) in flight.contents {
            let reason = verdict.reason(&name);
            // Unsubscribed and subscribed again in between: the answer is not about this one.
            let sent = self.names.get_mut(&name).filter(|s| s.last.as_ref() == Some(&version));
            if let Some(sent) = sent {
                sent.rejected = reason.map(ToOwned::to_owned);
                if reason.is_none() {
                    sent.accepted = version;
                }
            }
            rejected.extend(reason.map(|reason| (name, reason.to_owned())));
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
    fn of(error: Option<&'a str>, flight: &InFlight) -> Self {
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
        if named.is_empty() { Self::Rejected(error) } else { Self::Some(named) }
    }

    fn reason(&self, name: &str) -> Option<&'a str> {
        match self {
            Self::Accepted => None,
            Self::Rejected(reason) => Some(reason),
            Self::Some(reasons) => reasons.get(name).copied(),
        }
    }
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
mod tests {
    use super::*;

    fn request(names: &[&str]) -> Request {
        Request {
            kind: Kind::Cluster,
            node: None,
            subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            unsubscribe: Vec::new(),
            versions: Vec::new(),
            answer: None,
        }
    }

    fn answer(nonce: &str, error: Option<&str>) -> Request {
        let error = error.map(ToOwned::to_owned);
        Request { answer: Some(Answer { nonce: nonce.to_owned(), error }), ..request(&[]) }
    }

    fn present(size: usize) -> Published {
        Published::Present { version: Version::new("v1"), bytes: vec![0; size].into() }
    }

    fn names(response: &Response) -> Vec<&str> {
        response.resources.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn an_acknowledgement_gets_no_response() {
        let mut session = Session::new("shop/cart-1");
        session.request(request(&["a", "b"])).unwrap();
        let first = session.next_response(|_, _| present(1)).unwrap();
        assert_eq!(names(&first), ["a", "b"]);
        session.request(answer(&first.nonce, None)).unwrap();
        assert_eq!(session.next_response(|_, _| present(1)), None);
        assert!(session.status()[0].names.iter().all(|name| name.accepted == name.sent));
    }

    #[test]
    fn a_second_subscription_is_answered_even_if_nothing_changed() {
        let mut session = Session::new("shop/cart-1");
        session.request(request(&["a", "none"])).unwrap();
        let look = |_, name: &str| {
            if name == "a" { present(1) } else { Published::Absent }
        };
        let first = session.next_response(look).unwrap();
        session.request(answer(&first.nonce, None)).unwrap();
        let changes = session.request(request(&["a", "none"])).unwrap();
        assert_eq!(changes, Changes::default(), "nothing new to look at");
        let again = session.next_response(look).unwrap();
        assert_eq!(names(&again), ["a"]);
        assert_eq!(again.removed, ["none"]);
    }

    #[test]
    fn what_the_publisher_has_not_said_waits() {
        let mut session = Session::new("shop/cart-1");
        session.request(request(&["a"])).unwrap();
        assert_eq!(session.next_response(|_, _| Published::Unknown), None);
        session.changed(Kind::Cluster, "a");
        assert_eq!(session.next_response(|_, _| Published::Absent).unwrap().removed, ["a"]);
    }

    #[test]
    fn versions_of_the_client_spare_it_what_it_has() {
        let mut session = Session::new("shop/cart-1");
        let version = |name: &str, text: &str| (name.to_owned(), Version::new(text));
        let versions = vec![version("same", "v1"), version("old", "v0"), version("gone", "v1")];
        session.request(Request { versions, ..request(&["same", "old", "gone", "new"]) }).unwrap();
        let look = |_, name: &str| {
            if name == "gone" { Published::Absent } else { present(1) }
        };
        let response = session.next_response(look).unwrap();
        assert_eq!(names(&response), ["new", "old"]);
        assert_eq!(response.removed, ["gone"]);
    }

    #[test]
    fn a_message_stays_below_the_limit_and_the_rest_follows_the_answer() {
        let mut session = Session::new("shop/cart-1");
        session.request(request(&["a", "b", "c", "d"])).unwrap();
        // Even one that is too large for any message is sent, alone.
        let look = |_, name: &str| present(if name == "d" { MAX_PAYLOAD + 1 } else { 2 << 20 });
        for expected in ["a", "b", "c", "d"] {
            let response = session.next_response(look).unwrap();
            assert_eq!(names(&response), [expected]);
            assert_eq!(session.next_response(look), None, "one at a time");
            session.request(answer(&response.nonce, None)).unwrap();
        }
        assert_eq!(session.next_response(look), None);
    }

    #[test]
    fn kinds_come_in_their_order() {
        let mut session = Session::new("shop/cart-1");
        for kind in Kind::ALL.into_iter().rev() {
            session.request(Request { kind, ..request(&["shop/cart-1"]) }).unwrap();
        }
        let next = || session.next_response(|_, _| present(1)).map(|r| r.kind);
        let order: Vec<_> = std::iter::from_fn(next).collect();
        assert_eq!(order, Kind::ALL);
    }

    #[test]
    fn an_answer_without_names_rejects_all_and_a_stale_one_nothing() {
        let mut session = Session::new("shop/cart-1");
        session.request(request(&["a", "b"])).unwrap();
        let response = session.next_response(|_, _| present(1)).unwrap();
        let stale = session.request(answer("99", Some("no"))).unwrap();
        assert_eq!(stale.rejected, []);
        let text = "x".repeat(2 * MAX_NACK);
        let all = session.request(answer(&response.nonce, Some(&text))).unwrap();
        assert_eq!(all.rejected.len(), 2);
        assert!(all.rejected.iter().all(|(_, reason)| reason.len() == MAX_NACK));
        assert_eq!(session.next_response(|_, _| present(1)), None, "not again on this stream");
    }

    #[test]
    fn unsubscribing_from_what_was_never_subscribed_is_harmless() {
        let mut session = Session::new("shop/cart-1");
        session.request(request(&["a"])).unwrap();
        let unsubscribe = vec!["never".to_owned(), "a".to_owned(), "a".to_owned()];
        let changes = session.request(Request { unsubscribe, ..request(&[]) }).unwrap();
        assert_eq!(changes.unsubscribed, ["a"]);
        assert_eq!(session.subscriptions, 0);
        assert_eq!(session.next_response(|_, _| present(1)), None);
    }

    #[test]
    fn violations_end_the_stream() {
        let mut session = Session::new("shop/cart-1");
        assert_eq!(session.request(request(&[])), Err(Violation::Wildcard(Kind::Cluster)));
        assert_eq!(session.request(request(&["*"])), Err(Violation::Wildcard(Kind::Cluster)));
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(session.request(request(&[&long])), Err(Violation::LongName(MAX_NAME + 1)));
        let many = (0..=MAX_SUBSCRIPTIONS).map(|n| n.to_string()).collect();
        let too_many = Request { subscribe: many, ..request(&[]) };
        assert_eq!(session.request(too_many), Err(Violation::TooMany));
    }

    #[test]
    fn the_workload_of_another_pod_does_not_exist() {
        let mut session = Session::new("shop/cart-1");
        let both = Request { kind: Kind::Workload, ..request(&["shop/cart-1", "bank/vault-0"]) };
        let changes = session.request(both).unwrap();
        assert_eq!(changes.subscribed, ["shop/cart-1"]);
        assert_eq!(changes.refused, ["bank/vault-0"]);
        let response = session.next_response(|_, _| present(1)).unwrap();
        assert_eq!(names(&response), ["shop/cart-1"]);
        assert_eq!(response.removed, ["bank/vault-0"]);
    }
}
