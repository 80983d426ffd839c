//! The publisher's part, the server, a client, and what is between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tulle_xds::{
    cache::{Cache, Dialect, Interest, Key, Published, Subscriber, View, Want},
    model::{Kind, envoy},
    protocol::{Request, Response},
    session::{
        Changes, Session,
        state::{StateRequest, StateSession},
    },
};

use super::{Client, POD, SERVICES, Speech, Step, client::Name};

/// Content and target of each Service's route.
type Truth = BTreeMap<usize, (u8, usize)>;

fn resources(truth: &Truth) -> BTreeMap<Name, u8> {
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

#[derive(Debug)]
enum Server {
    Delta(Session),
    State(StateSession),
}

#[derive(Debug)]
pub(super) struct Pair {
    speech: Speech,
    truth: Truth,
    cache: Cache,
    interest: Interest,
    watched: BTreeSet<Key>,
    /// What was published last.
    last: BTreeMap<Name, u8>,
    server: (Server, Subscriber),
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
    pub(super) client: Client,
}

impl Pair {
    pub(super) fn new(speech: Speech) -> Self {
        let (cache, interest) = Cache::new();
        let server = Self::server(speech, &cache);
        let client = Client::new(speech);
        Self {
            speech,
            truth: Truth::new(),
            cache,
            interest,
            watched: BTreeSet::new(),
            last: BTreeMap::new(),
            server,
            requests: client.greet().into(),
            responses: VecDeque::new(),
            client,
        }
    }

    fn server(speech: Speech, cache: &Cache) -> (Server, Subscriber) {
        let own = || envoy::own(POD);
        let server = match (speech.delta, speech.names) {
            (true, false) => Server::Delta(Session::new(POD).with_wildcard(own())),
            (true, true) => Server::Delta(Session::new(POD)),
            (false, false) => Server::State(StateSession::new(POD).with_wildcard(own())),
            (false, true) => Server::State(StateSession::new(POD)),
        };
        (server, cache.subscriber(View::new(Dialect::Envoy, "shop")))
    }

    pub(super) fn step(&mut self, step: &Step) {
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
            Step::ClientTakes => {
                if let Some(response) = self.responses.pop_front() {
                    self.requests.extend(self.client.take(response));
                }
            }
            Step::Reconnect => {
                self.server = Self::server(self.speech, &self.cache);
                self.responses.clear();
                self.client.comes_back();
                self.requests = self.client.greet().into();
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

    /// Until nobody has anything to say.
    pub(super) fn settle(&mut self) {
        for _round in 0..500 {
            let before = self.requests.len() + self.responses.len();
            self.step(&Step::Exchange);
            if before == 0 && self.requests.len() + self.responses.len() == 0 {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// The client has what is published, as far as it wants it.
    pub(super) fn check(&self) {
        let has: BTreeMap<_, _> =
            self.client.has.iter().map(|(key, (_, c))| (key.clone(), *c)).collect();
        let mut all = resources(&self.truth);
        if self.speech.names {
            let routes = all.iter().filter(|((kind, _), _)| *kind == Kind::Route);
            let targets: BTreeSet<_> =
                routes.map(|(_, target)| SERVICES[usize::from(*target)]).collect();
            all.retain(|(kind, name), _| match kind {
                Kind::Cluster | Kind::Endpoints => targets.contains(name.as_str()),
                _ => SERVICES.contains(&name.as_str()),
            });
        }
        assert_eq!(has, all);
    }
}
