//! A client that follows the wildcard as stock Envoy does, against the server's side of the protocol,
//! without a network: whatever happens, it ends up with what is published; and on the way it never has
//! a route to something that is not there. (Of one exception: a state-of-the-world client that comes
//! back cannot say which clusters it has, so that what went meanwhile is gone before its routes.)

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tulle_xds::{
    cache::{Cache, Dialect, Interest, Key, Published, Subscriber, View, Want},
    model::{Kind, envoy},
    protocol::{Answer, Request, Response, Version},
    session::{
        Changes, Session,
        state::{StateRequest, StateSession},
    },
};

const POD: &str = "shop/cart-1";
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    /// A Service is there, with this content, and its route leads to that Service if it is there.
    Apply(usize, u8, usize),
    Delete(usize),
    ServerTakes,
    ServerSends,
    ClientTakes,
    Reconnect,
    Exchange,
}

fn step() -> impl Strategy<Value = Step> {
    let service = || 0..SERVICES.len();
    prop_oneof![
        3 => (service(), 0..3_u8, service()).prop_map(|(s, c, t)| Step::Apply(s, c, t)),
        2 => service().prop_map(Step::Delete),
        3 => Just(Step::ServerTakes),
        3 => Just(Step::ServerSends),
        3 => Just(Step::ClientTakes),
        1 => Just(Step::Reconnect),
        4 => Just(Step::Exchange),
    ]
}

type Name = (Kind, String);
type Content = (Version, u8);

/// Content and target of each Service's route.
type Truth = BTreeMap<usize, (u8, usize)>;

fn resources(truth: &Truth) -> BTreeMap<(Kind, String), u8> {
    let mut all = BTreeMap::new();
    for (&service, &(content, target)) in truth {
        let name = SERVICES[service].to_owned();
        let target = if truth.contains_key(&target) { target } else { service };
        all.insert((Kind::Cluster, name.clone()), content);
        all.insert((Kind::Endpoints, name.clone()), content);
        all.insert((Kind::Listener, name.clone()), content);
        all.insert((Kind::Route, name), u8::try_from(target).unwrap());
    }
    for (kind, name) in envoy::own(POD) {
        all.insert((kind, name), 0);
    }
    all
}

enum Server {
    Delta(Session),
    State(StateSession),
}

/// The publisher's part, the server, a client, and what is between them.
struct Pair {
    delta: bool,
    truth: Truth,
    cache: Cache,
    interest: Interest,
    watched: BTreeSet<Key>,
    /// What was published last.
    last: BTreeMap<Name, u8>,
    server: (Server, Subscriber),
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
    has: BTreeMap<Name, Content>,
    /// What the client names, by kind.
    named: BTreeMap<Kind, BTreeSet<String>>,
    /// Routes that the client had when it came back, and was not told since.
    stale: BTreeSet<String>,
    sent: usize,
}

impl Pair {
    fn new(delta: bool) -> Self {
        let (cache, interest) = Cache::new();
        let server = Self::server(delta, &cache);
        let mut pair = Self {
            delta,
            truth: Truth::new(),
            cache,
            interest,
            watched: BTreeSet::new(),
            last: BTreeMap::new(),
            server,
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            has: BTreeMap::new(),
            named: BTreeMap::new(),
            stale: BTreeSet::new(),
            sent: 0,
        };
        pair.greet();
        pair
    }

    fn server(delta: bool, cache: &Cache) -> (Server, Subscriber) {
        let own = envoy::own(POD);
        let server = if delta {
            Server::Delta(Session::new(POD).with_wildcard(own))
        } else {
            Server::State(StateSession::new(POD).with_wildcard(own))
        };
        (server, cache.subscriber(View::new(Dialect::Envoy, "shop")))
    }

    /// The first request of each kind names nothing of clusters and listeners, and all that the
    /// client has.
    fn greet(&mut self) {
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Route] {
            let versions = self.has.iter().filter(|((of, _), _)| *of == kind);
            let versions =
                versions.map(|((_, name), (version, _))| (name.clone(), version.clone()));
            let subscribe = self.named.get(&kind).into_iter().flatten().cloned().collect();
            let request = Request { subscribe, versions: versions.collect(), ..request(kind) };
            let named = matches!(kind, Kind::Endpoints | Kind::Route);
            if !named || !request.subscribe.is_empty() {
                self.requests.push_back(request);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Apply(service, content, target) => {
                self.truth.insert(service, (content, target));
                self.publish();
            }
            Step::Delete(service) => {
                self.truth.remove(&service);
                self.publish();
            }
            Step::ServerTakes => self.server_takes(),
            Step::ServerSends => self.server_sends(),
            Step::ClientTakes => self.client_takes(),
            Step::Reconnect => {
                self.server = Self::server(self.delta, &self.cache);
                self.requests.clear();
                self.responses.clear();
                if !self.delta {
                    let routes = self.has.keys().filter(|(kind, _)| *kind == Kind::Route);
                    self.stale = routes.map(|(_, name)| name.clone()).collect();
                }
                self.greet();
            }
            Step::Exchange => {
                for step in [Step::ServerTakes, Step::ServerSends, Step::ClientTakes] {
                    self.step(&step);
                }
            }
        }
        while let Some(want) = self.interest.try_recv() {
            let Want::Wanted(key) = want else { continue };
            if &*key.name == "*" {
                self.watched.insert(key.clone());
                self.last.clear();
                self.publish();
                self.cache.complete(key);
            } else {
                let content =
                    resources(&self.truth).get(&(key.kind, key.name.to_string())).copied();
                self.cache.put(key, content.map(|c| Bytes::from(vec![c])));
            }
        }
    }

    /// As the publisher does: what is gone goes last.
    fn publish(&mut self) {
        let all = resources(&self.truth);
        let last = std::mem::replace(&mut self.last, all.clone());
        for ((kind, name), content) in &all {
            if last.get(&(*kind, name.clone())) == Some(content) {
                continue;
            }
            let key = Key { dialect: Dialect::Envoy, ..Key::new(*kind, name.as_str()) };
            let bytes = Some(Bytes::from(vec![*content]));
            let own = envoy::own(POD).iter().any(|(_, own)| own == name);
            if self.watched.contains(&key.wildcard()) && !own {
                self.cache.add_member(key, bytes);
            } else {
                self.cache.put(key, bytes);
            }
        }
        for kind in [Kind::Listener, Kind::Route, Kind::Cluster, Kind::Endpoints] {
            for name in
                SERVICES.iter().filter(|name| !all.contains_key(&(kind, (**name).to_owned())))
            {
                let key = Key { dialect: Dialect::Envoy, ..Key::new(kind, *name) };
                self.cache.remove_member(&key);
                self.cache.put(key, None);
            }
        }
    }

    fn server_takes(&mut self) {
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let kind = request.kind;
        let (server, subscriber) = &mut self.server;
        let Changes { subscribed, unsubscribed, refused, .. } = match server {
            Server::Delta(session) => session.request(request).unwrap(),
            Server::State(session) => {
                let names = request.subscribe.into_iter().collect();
                let request = StateRequest { kind, names, answer: request.answer };
                session.request(request).unwrap()
            }
        };
        assert!(refused.is_empty());
        for name in subscribed {
            subscriber.subscribe(kind, &name);
        }
        for name in unsubscribed {
            subscriber.unsubscribe(kind, &name);
        }
    }

    fn server_sends(&mut self) {
        let (server, subscriber) = &mut self.server;
        let published = |kind: Kind, name: &str| -> Published { subscriber.get(kind, name) };
        let changed = subscriber.take_changed();
        let response = match server {
            Server::Delta(session) => {
                changed.iter().for_each(|(kind, name)| session.changed(*kind, name));
                session.next_response(published)
            }
            Server::State(session) => {
                changed.iter().for_each(|(kind, name)| session.changed(*kind, name));
                session.next_response(published).map(|response| Response {
                    kind: response.kind,
                    nonce: response.nonce,
                    resources: response.resources,
                    removed: Vec::new(),
                })
            }
        };
        self.responses.extend(response);
    }

    fn client_takes(&mut self) {
        let Some(mut response) = self.responses.pop_front() else {
            return;
        };
        let kind = response.kind;
        self.sent += response.resources.len();
        if !self.delta && matches!(kind, Kind::Cluster | Kind::Listener) {
            let there: BTreeSet<_> = response.resources.iter().map(|r| r.name.clone()).collect();
            let names = self.has.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name);
            response.removed = names.filter(|name| !there.contains(*name)).cloned().collect();
        }
        let mut follow = (Vec::new(), Vec::new());
        if matches!(kind, Kind::Endpoints | Kind::Route) {
            // What was let go of meanwhile.
            let named = self.named.get(&kind);
            response.resources.retain(|r| named.is_some_and(|named| named.contains(&r.name)));
        }
        for resource in response.resources {
            if kind == Kind::Route {
                self.stale.remove(&resource.name);
            }
            let value = (resource.version, resource.bytes[0]);
            if self.has.insert((kind, resource.name.clone()), value).is_none() {
                follow.0.push(resource.name);
            }
        }
        for name in response.removed {
            if self.has.remove(&(kind, name.clone())).is_some() {
                follow.1.push(name);
            }
        }
        let names = self.named.get(&kind).into_iter().flatten().cloned();
        self.requests.push_back(Request {
            answer: Some(Answer { nonce: response.nonce, error: None }),
            subscribe: if self.delta { Vec::new() } else { names.collect() },
            ..request(kind)
        });
        let follower = match kind {
            Kind::Cluster => Some(Kind::Endpoints),
            Kind::Listener => Some(Kind::Route),
            _ => None,
        };
        if let Some(follower) = follower.filter(|_| follow != (Vec::new(), Vec::new())) {
            self.follow(follower, follow.0, follow.1);
        }
        self.check_routes();
    }

    /// The client wants other endpoints or routes, because it has other clusters or listeners.
    fn follow(&mut self, kind: Kind, new: Vec<String>, gone: Vec<String>) {
        let named = self.named.entry(kind).or_default();
        named.extend(new.iter().cloned());
        for name in &gone {
            named.remove(name);
            self.has.remove(&(kind, name.clone()));
        }
        let subscribe = if self.delta { new } else { named.iter().cloned().collect() };
        let unsubscribe = if self.delta { gone } else { Vec::new() };
        self.requests.push_back(Request { subscribe, unsubscribe, ..request(kind) });
    }

    fn check_routes(&self) {
        let routes = self.has.iter().filter(|((kind, _), _)| *kind == Kind::Route);
        let told = routes.filter(|((_, name), _)| !self.stale.contains(name));
        for ((_, name), (_, target)) in told {
            let target = SERVICES[usize::from(*target)].to_owned();
            for kind in [Kind::Cluster, Kind::Endpoints] {
                assert!(
                    self.has.contains_key(&(kind, target.clone())),
                    "{name} -> {kind:?} {target}"
                );
            }
        }
    }

    fn settle(&mut self) {
        for _round in 0..500 {
            let before = self.requests.len() + self.responses.len();
            self.step(&Step::Exchange);
            if before == 0 && self.requests.len() + self.responses.len() == 0 {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn check(&self) {
        let has: BTreeMap<_, _> = self.has.iter().map(|(key, (_, c))| (key.clone(), *c)).collect();
        assert_eq!(has, resources(&self.truth));
    }
}

fn request(kind: Kind) -> Request {
    Request {
        kind,
        node: None,
        subscribe: Vec::new(),
        unsubscribe: Vec::new(),
        versions: Vec::new(),
        answer: None,
    }
}

fn run(delta: bool, steps: &[Step]) -> Pair {
    let mut pair = Pair::new(delta);
    for step in steps {
        pair.step(step);
    }
    pair.settle();
    pair.check();
    pair
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2500))]

    #[test]
    fn a_delta_client_ends_up_with_all_and_comes_back_for_free(steps in vec(step(), 0..40)) {
        let mut pair = run(true, &steps);
        pair.sent = 0;
        pair.step(&Step::Reconnect);
        pair.settle();
        pair.check();
        prop_assert_eq!(pair.sent, 0);
    }

    #[test]
    fn a_state_of_the_world_client_ends_up_with_all(steps in vec(step(), 0..40)) {
        run(false, &steps);
    }
}

#[test]
fn an_empty_mesh_is_told_so_at_once() {
    for delta in [true, false] {
        let pair = run(delta, &[]);
        assert_eq!(pair.has.len(), envoy::own(POD).len());
    }
}
