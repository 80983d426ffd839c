//! The client's side of the protocol, without a network.
//!
//! One [`Subscription`] lives as long as the program and survives its streams. It is told what the
//! program wants ([`subscribe`](Subscription::subscribe)), what the server says
//! ([`receive`](Subscription::receive)) and what the program made of it
//! ([`answer`](Subscription::answer)); it says what to send ([`next_request`](Subscription::next_request)).
//!
//! **Invariants.** A kind with nothing subscribed is never mentioned first on a stream: an empty
//! first request would be the wildcard. A version is remembered only when the program accepted it,
//! so that after a reconnection the server sends again what was rejected. What was not sent yet is
//! a set of names: subscribing and unsubscribing in between costs nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use crate::{
    model::{Invalid, Kind},
    protocol::{Answer, MAX_NACK, Node, Received, Request, Response, Version},
    text::bounded,
};

/// Names in one request at most, so that the request stays far below 4 MiB.
const MAX_NAMES: usize = (1 << 20) / crate::protocol::MAX_NAME;

/// The client's side of a delta ADS conversation; see the [module](self).
#[derive(Debug)]
pub struct Subscription {
    node: Node,
    /// Number of the current stream; answers to responses of an earlier one are not sent.
    stream: u64,
    connected: bool,
    introduced: bool,
    /// Counts subscriptions, so that an answer does not concern a later one of the same name.
    serial: u64,
    kinds: BTreeMap<Kind, Conversation>,
}

/// What the server said, for the program to apply and then to answer.
#[derive(Debug)]
pub struct Update {
    /// Kind of the resources.
    pub kind: Kind,
    /// New or changed; subscribed ones only.
    pub changed: Vec<Received>,
    /// Those that do not exist, or not any more; subscribed ones only.
    pub removed: Vec<String>,
    /// For [`Subscription::answer`].
    pub receipt: Receipt,
}

/// Which response an answer is for, and what was in it.
#[derive(Debug)]
pub struct Receipt {
    kind: Kind,
    stream: u64,
    nonce: String,
    contents: Vec<Delivered>,
}

/// A name in a response.
#[derive(Debug)]
struct Delivered {
    name: String,
    /// Of the subscription that it was delivered to.
    serial: u64,
    /// What we have if it is accepted.
    version: Option<Version>,
}

/// One kind.
#[derive(Debug, Default)]
struct Conversation {
    /// A request was sent on this stream.
    begun: bool,
    names: BTreeMap<String, Held>,
    /// To be sent.
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
    answers: VecDeque<Answer>,
}

/// What we have of a name.
#[derive(Debug)]
struct Held {
    serial: u64,
    accepted: Option<Version>,
}

impl Subscription {
    /// Nothing subscribed, not connected.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            stream: 0,
            connected: false,
            introduced: false,
            serial: 0,
            kinds: BTreeMap::new(),
        }
    }

    /// Wants a resource from now on. One that is wanted already stays as it is.
    pub fn subscribe(&mut self, kind: Kind, name: &str) {
        self.serial += 1;
        let serial = self.serial;
        let conversation = self.kinds.entry(kind).or_default();
        conversation.names.entry(name.to_owned()).or_insert_with(|| {
            // If it was unsubscribed a moment ago, its state is gone here but not there: naming it
            // again makes the server send it again.
            conversation.unsubscribe.remove(name);
            conversation.subscribe.insert(name.to_owned());
            Held { serial, accepted: None }
        });
    }

    /// Does not want a resource any more, and forgets what it knew of it.
    pub fn unsubscribe(&mut self, kind: Kind, name: &str) {
        let Some(conversation) = self.kinds.get_mut(&kind) else {
            return;
        };
        if conversation.names.remove(name).is_some() {
            // Also when the subscription was not sent yet: an earlier one may have been, and
            // unsubscribing from what was never subscribed is harmless.
            conversation.subscribe.remove(name);
            conversation.unsubscribe.insert(name.to_owned());
        }
    }

    /// Whether a resource is wanted.
    pub fn is_subscribed(&self, kind: Kind, name: &str) -> bool {
        self.kinds.get(&kind).is_some_and(|c| c.names.contains_key(name))
    }

    /// A new stream is open: everything is to be said again, with the versions that we have.
    pub fn connected(&mut self) {
        self.stream += 1;
        self.connected = true;
        self.introduced = false;
        for conversation in self.kinds.values_mut() {
            conversation.begun = false;
            conversation.subscribe = conversation.names.keys().cloned().collect();
            conversation.unsubscribe.clear();
            conversation.answers.clear();
        }
    }

    /// The stream is gone. What was accepted stays.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// Whether [`next_request`](Self::next_request) has something to say.
    pub fn has_request(&self) -> bool {
        self.connected && self.kinds.values().any(Conversation::has_request)
    }

    /// What to send now, if anything. Kinds come in their order, the own workload first.
    pub fn next_request(&mut self) -> Option<Request> {
        if !self.connected {
            return None;
        }
        let (&kind, conversation) = self.kinds.iter_mut().find(|(_, c)| c.has_request())?;
        let node = (!mem::replace(&mut self.introduced, true)).then(|| self.node.clone());
        Some(conversation.request(kind, node))
    }

    /// Takes what the server said. Whatever is not subscribed (any more) is left out; `None` if
    /// that is all, and the answer is given here.
    pub fn receive(&mut self, response: Response) -> Option<Update> {
        let Response { kind, nonce, resources, removed } = response;
        let conversation = self.kinds.entry(kind).or_default();
        let mut contents = Vec::with_capacity(resources.len() + removed.len());
        let mut wanted = |name: &str, version: Option<&Version>| {
            let held = conversation.names.get(name)?;
            let (serial, version) = (held.serial, version.cloned());
            contents.push(Delivered { name: name.to_owned(), serial, version });
            Some(())
        };
        let mut changed = resources;
        changed.retain(|r| wanted(&r.name, Some(&r.version)).is_some());
        let mut gone = removed;
        gone.retain(|name| wanted(name, None).is_some());
        if contents.is_empty() {
            conversation.answers.push_back(Answer { nonce, error: None });
            return None;
        }
        let receipt = Receipt { kind, stream: self.stream, nonce, contents };
        Some(Update { kind, changed, removed: gone, receipt })
    }

    /// Answers an update: what is not in `rejected` is in force now. The answer is sent if the
    /// stream that the update came on is still there.
    pub fn answer(&mut self, receipt: Receipt, rejected: &[Invalid]) {
        let Some(conversation) = self.kinds.get_mut(&receipt.kind) else {
            return;
        };
        for Delivered { name, serial, version } in receipt.contents {
            let refused = rejected.iter().any(|invalid| invalid.resource == name);
            let held = conversation.names.get_mut(&name).filter(|held| held.serial == serial);
            if let (Some(held), false) = (held, refused) {
                held.accepted = version;
            }
        }
        if self.connected && receipt.stream == self.stream {
            let answer = Answer { nonce: receipt.nonce, error: nack_text(rejected) };
            conversation.answers.push_back(answer);
        }
    }

    /// The accepted version of every subscribed resource of a kind; `None` while there is none.
    pub fn accepted(&self, kind: Kind) -> impl Iterator<Item = (&str, Option<&Version>)> {
        let names = self.kinds.get(&kind).map(|c| &c.names);
        names.into_iter().flatten().map(|(name, held)| (name.as_str(), held.accepted.as_ref()))
    }
}

impl Receipt {
    /// The names in the response.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contents.iter().map(|delivered| delivered.name.as_str())
    }
}

impl Conversation {
    fn has_request(&self) -> bool {
        if self.begun {
            !(self.answers.is_empty() && self.subscribe.is_empty() && self.unsubscribe.is_empty())
        } else {
            !self.subscribe.is_empty()
        }
    }

    fn request(&mut self, kind: Kind, node: Option<Node>) -> Request {
        let subscribe = take_names(&mut self.subscribe);
        let unsubscribe = if self.begun {
            take_names(&mut self.unsubscribe)
        } else {
            // Nothing is subscribed on this stream yet.
            self.unsubscribe.clear();
            Vec::new()
        };
        // Versions go along with each name, not only on the first request, because many names are
        // more than one request. Only a reconnection finds versions here: a name that was
        // unsubscribed in between has none.
        let versions = subscribe
            .iter()
            .filter_map(|name| Some((name.clone(), self.names.get(name)?.accepted.clone()?)))
            .collect();
        self.begun = true;
        Request { kind, node, subscribe, unsubscribe, versions, answer: self.answers.pop_front() }
    }
}

fn take_names(names: &mut BTreeSet<String>) -> Vec<String> {
    match names.iter().nth(MAX_NAMES).cloned() {
        None => mem::take(names).into_iter().collect(),
        Some(next) => {
            let rest = names.split_off(&next);
            mem::replace(names, rest).into_iter().collect()
        }
    }
}

/// One line for each rejected resource; if that is more than [`MAX_NACK`] bytes, a text that names
/// none, which rejects all.
fn nack_text(rejected: &[Invalid]) -> Option<String> {
    let first = line(rejected.first()?);
    let mut text = String::new();
    for invalid in rejected {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line(invalid));
        if text.len() > MAX_NACK {
            let count = rejected.len();
            return Some(format!("{count} resources were rejected, the first of them {first}"));
        }
    }
    Some(text)
}

/// At most 512 bytes.
fn line(invalid: &Invalid) -> String {
    let line = invalid.to_string().replace(|c: char| c.is_control(), " ");
    bounded(&line, 512).to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn connected() -> Subscription {
        let mut client = Subscription::new(Node {
            id: "shop/cart-1".to_owned(),
            version: "1".to_owned(),
            features: crate::model::Features::default(),
        });
        client.connected();
        client
    }

    fn response(nonce: &str, names: &[&str], removed: &[&str]) -> Response {
        let resource = |name: &&str| Received {
            name: (*name).to_owned(),
            version: Version::new("v1"),
            bytes: Bytes::from_static(b"x"),
        };
        Response {
            kind: Kind::Cluster,
            nonce: nonce.to_owned(),
            resources: names.iter().map(resource).collect(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn invalid(name: &str, reason: &str) -> Invalid {
        Invalid { resource: name.to_owned(), field: "f".to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn a_kind_without_names_is_never_mentioned_first() {
        let mut client = connected();
        assert_eq!(client.next_request(), None);
        client.subscribe(Kind::Cluster, "a");
        client.unsubscribe(Kind::Cluster, "a");
        assert_eq!(client.next_request(), None, "an empty first request is the wildcard");

        client.subscribe(Kind::Listener, "b");
        client.subscribe(Kind::Workload, "shop/cart-1");
        let first = client.next_request().unwrap();
        assert_eq!((first.kind, first.node.is_some()), (Kind::Workload, true));
        let second = client.next_request().unwrap();
        assert_eq!((second.kind, second.node), (Kind::Listener, None));
        assert_eq!(client.next_request(), None);

        client.unsubscribe(Kind::Listener, "b");
        assert_eq!(client.next_request().unwrap().unsubscribe, ["b"]);
        client.connected();
        assert_eq!(client.next_request().unwrap().kind, Kind::Workload);
        assert_eq!(client.next_request(), None, "nothing is left of the listeners");
    }

    #[test]
    fn only_accepted_versions_are_named_after_a_reconnection() {
        let mut client = connected();
        for name in ["bad", "good", "gone", "late"] {
            client.subscribe(Kind::Cluster, name);
        }
        assert!(client.next_request().unwrap().versions.is_empty());
        let update = client.receive(response("1", &["bad", "good", "other"], &["gone"])).unwrap();
        assert_eq!(update.changed.len(), 2, "nobody asked for the other");
        client.answer(update.receipt, &[invalid("bad", "no")]);
        let nack = client.next_request().unwrap().answer.unwrap();
        assert_eq!(nack.error.as_deref(), Some("bad: f: no"));

        client.disconnected();
        assert_eq!(client.next_request(), None);
        client.connected();
        let again = client.next_request().unwrap();
        assert_eq!(again.subscribe, ["bad", "gone", "good", "late"]);
        assert_eq!(again.versions, [("good".to_owned(), Version::new("v1"))]);
    }

    #[test]
    fn an_answer_to_an_earlier_stream_is_remembered_and_not_sent() {
        let mut client = connected();
        client.subscribe(Kind::Cluster, "a");
        client.next_request().unwrap();
        let update = client.receive(response("1", &["a"], &[])).unwrap();
        client.connected();
        client.next_request().unwrap();
        client.answer(update.receipt, &[]);
        assert_eq!(client.next_request(), None);
        let accepted: Vec<_> = client.accepted(Kind::Cluster).collect();
        assert_eq!(accepted, [("a", Some(&Version::new("v1")))]);
    }

    #[test]
    fn an_answer_does_not_concern_a_later_subscription() {
        let mut client = connected();
        client.subscribe(Kind::Cluster, "a");
        client.next_request().unwrap();
        let update = client.receive(response("1", &["a"], &[])).unwrap();
        client.unsubscribe(Kind::Cluster, "a");
        client.subscribe(Kind::Cluster, "a");
        client.answer(update.receipt, &[]);
        assert_eq!(client.accepted(Kind::Cluster).collect::<Vec<_>>(), [("a", None)]);
        let request = client.next_request().unwrap();
        assert_eq!((request.subscribe, request.versions), (vec!["a".to_owned()], Vec::new()));
        assert_eq!(request.answer.unwrap().nonce, "1");
    }

    #[test]
    fn what_nobody_wants_is_acknowledged_here() {
        let mut client = connected();
        client.subscribe(Kind::Cluster, "a");
        client.next_request().unwrap();
        assert!(client.receive(response("7", &["other"], &["another"])).is_none());
        let answer = client.next_request().unwrap().answer.unwrap();
        assert_eq!(answer, Answer { nonce: "7".to_owned(), error: None });
    }

    #[test]
    fn many_names_are_several_requests() {
        let mut client = connected();
        for n in 0..=MAX_NAMES {
            client.subscribe(Kind::Cluster, &format!("{n:06}"));
        }
        assert_eq!(client.next_request().unwrap().subscribe.len(), MAX_NAMES);
        assert_eq!(client.next_request().unwrap().subscribe.len(), 1);
        assert_eq!(client.next_request(), None);
    }

    #[test]
    fn the_text_of_a_rejection_is_bounded_and_has_a_line_for_each() {
        let text = nack_text(&[invalid("a", "x\ny"), invalid("b", &"é".repeat(4000))]).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "a: f: x y");
        assert!(lines[1].starts_with("b: f: éé") && lines[1].len() <= 512);
        let many: Vec<_> = (0..10_000).map(|n| invalid(&n.to_string(), "z")).collect();
        let text = nack_text(&many).unwrap();
        assert_eq!(text, "10000 resources were rejected, the first of them 0: f: z");
        assert_eq!(nack_text(&[]), None);
    }
}
