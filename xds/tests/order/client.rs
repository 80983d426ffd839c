//! The client: what it has, what it wants next.

use std::collections::{BTreeMap, BTreeSet};

use tulle_xds::{
    model::Kind,
    protocol::{Answer, Request, Response, Version},
};

use super::{SERVICES, Speech};

pub(super) type Name = (Kind, String);

#[derive(Debug)]
pub(super) struct Client {
    speech: Speech,
    /// Version and content.
    pub(super) has: BTreeMap<Name, (Version, u8)>,
    /// What it names, by kind.
    named: BTreeMap<Kind, BTreeSet<String>>,
    /// Routes that it had when it came back, and was not told since.
    stale: BTreeSet<String>,
    /// How many resources it was sent.
    pub(super) received: usize,
}

impl Client {
    pub(super) fn new(speech: Speech) -> Self {
        let mut named = BTreeMap::new();
        if speech.names {
            named.insert(Kind::Listener, SERVICES.map(ToOwned::to_owned).into());
        }
        Self { speech, has: BTreeMap::new(), named, stale: BTreeSet::new(), received: 0 }
    }

    /// The first request of each kind names all that it wants, which may be the wildcard, and what it has.
    pub(super) fn greet(&self) -> Vec<Request> {
        let kinds = [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Route].into_iter();
        let requests = kinds.map(|kind| {
            let versions = self.has.iter().filter(|((of, _), _)| *of == kind);
            let versions =
                versions.map(|((_, name), (version, _))| (name.clone(), version.clone()));
            Request { subscribe: self.names(kind), versions: versions.collect(), ..request(kind) }
        });
        let named = |kind| self.speech.names || matches!(kind, Kind::Endpoints | Kind::Route);
        requests.filter(|first| !named(first.kind) || !first.subscribe.is_empty()).collect()
    }

    pub(super) fn comes_back(&mut self) {
        // Of these two the server hears too late, or never, which clusters they have.
        if !self.speech.delta || self.speech.names {
            let routes = self.has.keys().filter(|(kind, _)| *kind == Kind::Route);
            self.stale = routes.map(|(_, name)| name.clone()).collect();
        }
    }

    /// Takes a response, and says what there is to say then.
    pub(super) fn take(&mut self, mut response: Response) -> Vec<Request> {
        let kind = response.kind;
        self.received += response.resources.len();
        if !self.speech.delta && matches!(kind, Kind::Cluster | Kind::Listener) {
            let there: BTreeSet<_> = response.resources.iter().map(|r| r.name.clone()).collect();
            let names = self.has.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name);
            response.removed = names.filter(|name| !there.contains(*name)).cloned().collect();
        }
        if self.speech.names || matches!(kind, Kind::Endpoints | Kind::Route) {
            // What was let go of meanwhile.
            let named = self.named.get(&kind);
            response.resources.retain(|r| named.is_some_and(|named| named.contains(&r.name)));
        }
        for resource in response.resources {
            if kind == Kind::Route {
                self.stale.remove(&resource.name);
            }
            self.has.insert((kind, resource.name), (resource.version, resource.bytes[0]));
        }
        for name in response.removed {
            let had = self.has.remove(&(kind, name.clone())).is_some();
            if had && self.speech.names && matches!(kind, Kind::Cluster | Kind::Endpoints) {
                let leads = self.routes().find(|(_, target)| *target == name);
                assert_eq!(leads, None, "{kind:?} {name} is gone");
            }
        }
        let mut requests = vec![Request {
            answer: Some(Answer { nonce: response.nonce, error: None }),
            subscribe: if self.speech.delta { Vec::new() } else { self.names(kind) },
            ..request(kind)
        }];
        requests.extend(self.follow());
        if !self.speech.names {
            self.check_routes();
        }
        requests
    }

    /// It wants the routes of its listeners, what its routes lead to, and the endpoints of its clusters.
    fn follow(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        for kind in [Kind::Route, Kind::Cluster, Kind::Endpoints] {
            let wants: BTreeSet<String> = match kind {
                Kind::Cluster if !self.speech.names => continue,
                Kind::Cluster => self.all_routes().map(|(_, target)| target.to_owned()).collect(),
                Kind::Route => self.names_of(Kind::Listener),
                _ => self.names_of(Kind::Cluster),
            };
            let named = self.named.entry(kind).or_default();
            let had = std::mem::replace(named, wants.clone());
            let new: Vec<_> = wants.difference(&had).cloned().collect();
            let gone: Vec<_> = had.difference(&wants).cloned().collect();
            if new.is_empty() && gone.is_empty() {
                continue;
            }
            for name in &gone {
                self.has.remove(&(kind, name.clone()));
            }
            let (subscribe, unsubscribe) = match self.speech.delta {
                true => (new, gone),
                false => (wants.into_iter().collect(), Vec::new()),
            };
            requests.push(Request { subscribe, unsubscribe, ..request(kind) });
        }
        requests
    }

    /// Whatever a route leads to is there.
    fn check_routes(&self) {
        for (name, target) in self.routes() {
            for kind in [Kind::Cluster, Kind::Endpoints] {
                assert!(
                    self.has.contains_key(&(kind, target.to_owned())),
                    "{name} -> {kind:?} {target}"
                );
            }
        }
    }

    /// The routes that the server is responsible for, and where they lead to.
    fn routes(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.all_routes().filter(|(name, _)| !self.stale.contains(*name))
    }

    fn all_routes(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let routes = self.has.iter().filter(|((kind, _), _)| *kind == Kind::Route);
        routes.map(|((_, name), (_, target))| (name.as_str(), SERVICES[usize::from(*target)]))
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.named.get(&kind).into_iter().flatten().cloned().collect()
    }

    fn names_of(&self, kind: Kind) -> BTreeSet<String> {
        let names = self.has.keys().filter(|(of, _)| *of == kind);
        names.map(|(_, name)| name.clone()).collect()
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
