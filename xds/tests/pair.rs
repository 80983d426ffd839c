//! The two ends of the protocol driven by one another, without a network: whatever happens in
//! whatever order, in the end the client has what is published.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tulle_xds::{
    cache::{Cache, Dialect, Interest, Key, Subscriber, View, Want},
    model::{Features, Invalid, Kind},
    protocol::{Node, Request, Response},
    session::Session,
    subscription::{Subscription, Update},
};

const POD: &str = "shop/cart-1";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const KINDS: [Kind; 3] = [Kind::Cluster, Kind::Endpoints, Kind::Route];
/// The client rejects resources with this content.
const BAD: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    Subscribe(Kind, usize),
    Unsubscribe(Kind, usize),
    Publish(Kind, usize, Option<u8>),
    ClientSends,
    ServerTakes,
    ServerSends,
    ClientTakes,
    ClientAnswers,
    Disconnect,
    Connect,
    /// Everybody once.
    Exchange,
    Resubscribe(Kind, usize),
}

const EXCHANGE: [Step; 5] = [
    Step::ClientSends,
    Step::ServerTakes,
    Step::ServerSends,
    Step::ClientTakes,
    Step::ClientAnswers,
];

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(KINDS.to_vec());
    let name = || 0..NAMES.len();
    prop_oneof![
        2 => (kind(), name()).prop_map(|(k, n)| Step::Subscribe(k, n)),
        1 => (kind(), name()).prop_map(|(k, n)| Step::Unsubscribe(k, n)),
        2 => (kind(), name(), prop::option::of(0..4_u8)).prop_map(|(k, n, v)| Step::Publish(k, n, v)),
        3 => Just(Step::ClientSends),
        3 => Just(Step::ServerTakes),
        3 => Just(Step::ServerSends),
        3 => Just(Step::ClientTakes),
        3 => Just(Step::ClientAnswers),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Connect),
        4 => Just(Step::Exchange),
        1 => (kind(), name()).prop_map(|(k, n)| Step::Resubscribe(k, n)),
    ]
}

type Name = (Kind, String);

/// Both ends, what is between them, what is true and what the client believes.
struct Pair {
    truth: BTreeMap<Name, u8>,
    cache: Cache,
    interest: Interest,
    server: Option<(Session, Subscriber)>,
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
    client: Subscription,
    updates: VecDeque<Update>,
    /// `None`: it does not exist.
    believed: BTreeMap<Name, Option<u8>>,
    /// Resources that the server sent, removals not counted.
    sent: Vec<String>,
}

impl Pair {
    fn new() -> Self {
        let (cache, interest) = Cache::new();
        let node =
            Node { id: POD.to_owned(), version: "0".to_owned(), features: Features::default() };
        let mut client = Subscription::new(node);
        client.subscribe(Kind::Workload, POD);
        Self {
            truth: BTreeMap::from([((Kind::Workload, POD.to_owned()), 0)]),
            cache,
            interest,
            server: None,
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            client,
            updates: VecDeque::new(),
            believed: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Subscribe(kind, n) => self.client.subscribe(kind, NAMES[n]),
            Step::Unsubscribe(kind, n) => {
                self.client.unsubscribe(kind, NAMES[n]);
                self.believed.remove(&(kind, NAMES[n].to_owned()));
            }
            Step::Publish(kind, n, content) => self.publish(kind, NAMES[n], content),
            Step::ClientSends => self.requests.extend(self.client.next_request()),
            Step::ServerTakes => self.server_takes(),
            Step::ServerSends => self.server_sends(),
            Step::ClientTakes => {
                let response = self.responses.pop_front();
                self.updates.extend(response.and_then(|r| self.client.receive(r)));
            }
            Step::ClientAnswers => self.client_answers(),
            Step::Disconnect => self.disconnect(),
            Step::Connect => self.connect(),
            Step::Exchange => EXCHANGE.iter().for_each(|step| self.step(step)),
            Step::Resubscribe(kind, n) => {
                self.step(&Step::Unsubscribe(kind, n));
                self.step(&Step::Subscribe(kind, n));
            }
        }
        while let Some(want) = self.interest.try_recv() {
            let Want::Wanted(key) = want else { continue };
            let content = self.truth.get(&(key.kind, key.name.to_string())).copied();
            self.cache.put(key, content.map(|c| Bytes::from(vec![c])));
        }
    }

    fn publish(&mut self, kind: Kind, name: &str, content: Option<u8>) {
        let key = (kind, name.to_owned());
        match content {
            Some(content) => self.truth.insert(key, content),
            None => self.truth.remove(&key),
        };
        self.cache.put(Key::new(kind, name), content.map(|c| Bytes::from(vec![c])));
    }

    fn connect(&mut self) {
        if self.server.is_none() {
            self.server =
                Some((Session::new(POD), self.cache.subscriber(View::new(Dialect::Tulle, "shop"))));
            self.client.connected();
        }
    }

    fn disconnect(&mut self) {
        self.server = None;
        self.client.disconnected();
        self.requests.clear();
        self.responses.clear();
    }

    fn server_takes(&mut self) {
        let Some((session, subscriber)) = &mut self.server else {
            return;
        };
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let kind = request.kind;
        let changes = session.request(request).expect("the client breaks no rule");
        for name in changes.subscribed {
            subscriber.subscribe(kind, &name);
        }
        for name in changes.unsubscribed {
            subscriber.unsubscribe(kind, &name);
        }
    }

    fn server_sends(&mut self) {
        let Some((session, subscriber)) = &mut self.server else {
            return;
        };
        for (kind, name) in subscriber.take_changed() {
            session.changed(kind, &name);
        }
        let response = session.next_response(|kind, name| subscriber.get(kind, name));
        if let Some(response) = response {
            let same_kind = self.responses.iter().filter(|r| r.kind == response.kind).count();
            assert_eq!(same_kind, 0, "one in flight for each kind");
            self.sent.extend(response.resources.iter().map(|r| r.name.clone()));
            self.responses.push_back(response);
        }
    }

    fn client_answers(&mut self) {
        let Some(update) = self.updates.pop_front() else {
            return;
        };
        let mut rejected = Vec::new();
        for resource in update.changed {
            let content = resource.bytes[0];
            if content == BAD {
                rejected.push(Invalid {
                    resource: resource.name,
                    field: "content".to_owned(),
                    reason: "is bad".to_owned(),
                });
            } else if self.client.is_subscribed(update.kind, &resource.name) {
                self.believed.insert((update.kind, resource.name), Some(content));
            }
        }
        for name in update.removed {
            if self.client.is_subscribed(update.kind, &name) {
                self.believed.insert((update.kind, name), None);
            }
        }
        self.client.answer(update.receipt, &rejected);
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        self.step(&Step::Connect);
        for _round in 0..200 {
            let before = self.requests.len() + self.responses.len() + self.updates.len();
            let quiet = before == 0 && !self.client.has_request();
            self.step(&Step::Exchange);
            let after = self.requests.len() + self.responses.len() + self.updates.len();
            if quiet && after == 0 && !self.client.has_request() {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn check(&self) {
        let kinds = KINDS.into_iter().chain([Kind::Workload]);
        for kind in kinds {
            for (name, accepted) in self.client.accepted(kind) {
                let key = (kind, name.to_owned());
                let truth = self.truth.get(&key).copied();
                if truth == Some(BAD) {
                    continue;
                }
                assert_eq!(self.believed.get(&key), Some(&truth), "{key:?}");
                assert_eq!(accepted.is_some(), truth.is_some(), "{key:?}");
            }
        }
        let (session, _) = self.server.as_ref().unwrap();
        for status in session.status() {
            assert!(!status.waiting, "{status:?}");
            for name in status.names {
                assert!(self.client.is_subscribed(status.kind, &name.name), "{name:?}");
                let key = (status.kind, name.name.clone());
                let bad = self.truth.get(&key) == Some(&BAD);
                assert_eq!(name.rejected.is_some(), bad, "{name:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_client_ends_up_with_what_is_published(steps in vec(step(), 0..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
        pair.settle();
        pair.check();

        // Coming back costs nothing: what was accepted is not sent again.
        pair.sent.clear();
        pair.step(&Step::Disconnect);
        pair.settle();
        pair.check();
        let good = |name: &String| {
            KINDS.iter().all(|&kind| pair.truth.get(&(kind, name.clone())) != Some(&BAD))
        };
        prop_assert!(!pair.sent.iter().any(good), "{:?}", pair.sent);
    }
}

#[test]
fn a_slow_client_gets_the_latest_state_once() {
    let mut pair = Pair::new();
    pair.step(&Step::Subscribe(Kind::Cluster, 0));
    pair.publish(Kind::Cluster, "a", Some(0));
    pair.settle();
    pair.sent.clear();

    pair.publish(Kind::Cluster, "a", Some(1));
    pair.step(&Step::ServerSends);
    for content in [2, 0, 2, 1, 2] {
        pair.publish(Kind::Cluster, "a", Some(content));
        pair.step(&Step::ServerSends);
    }
    assert_eq!(pair.sent, ["a"], "the rest waits for the answer");
    pair.settle();
    assert_eq!(pair.sent, ["a", "a"]);
    pair.check();
}

#[test]
fn a_name_that_is_subscribed_again_at_once_is_sent_again() {
    let mut pair = Pair::new();
    pair.publish(Kind::Cluster, "a", Some(0));
    pair.step(&Step::Subscribe(Kind::Cluster, 0));
    pair.settle();
    pair.step(&Step::Unsubscribe(Kind::Cluster, 0));
    pair.step(&Step::Subscribe(Kind::Cluster, 0));
    pair.settle();
    assert_eq!(pair.sent.iter().filter(|name| *name == "a").count(), 2);
    pair.check();
}
