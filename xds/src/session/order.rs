//! In which order a client is told, so that no request ever meets a route to something that is not
//! there: make before break.
//!
//! ```text
//! clusters ─► their endpoints ─► listeners, routes ─► removal of clusters
//! ```
//!
//! A client asks for a cluster's endpoints when it has been told of the cluster, and does not use
//! the cluster before they came. So listeners and routes wait until endpoints of all new clusters
//! are answered; and clusters go when nothing about listeners and routes is left to say. Clients
//! that name what they want follow from listener to cluster by themselves, and wait only with what goes:
//! of a route that changed most of them hear no removal at all, because they have let go of its clusters.
//! In the state-of-the-world variant, where what is left out is gone, what waits is sent as it was until then.
//!
//! A cluster may go and come back before the client has said a word about it, and one that comes back
//! may have clusters without endpoints. So the answer that counts is one to endpoints that were told
//! after the cluster was; those of a cluster that changed are told once more, because Envoy makes such
//! a cluster anew and does not use it before they came. In the state-of-the-world variant nobody can
//! know which clusters a returning client has: what went while it was away goes at once. So it does for one
//! that names what it wants, in either variant, if it speaks of clusters before it speaks of routes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Session, conversation::Answered};
use crate::{model::Kind, protocol::Version};

impl Session {
    /// Whether `kind` waits for clusters.
    pub(super) fn held(&self, kind: Kind) -> bool {
        let follows = matches!(kind, Kind::Listener | Kind::Route);
        let clusters = self.kinds.get(&Kind::Cluster).filter(|c| c.wildcard.is_some() && follows);
        clusters.is_some_and(|clusters| clusters.is_busy() || !self.warming.is_empty())
    }

    /// Whether what is gone of `kind` may be told as gone. To one that comes back, not before it has
    /// said what it has of the rest.
    pub(super) fn parting(&self, kind: Kind) -> bool {
        let goes_last = matches!(kind, Kind::Cluster | Kind::Endpoints);
        let mut before = [Kind::Listener, Kind::Route].into_iter();
        !goes_last
            || before.all(|kind| match self.kinds.get(&kind) {
                Some(conversation) => !conversation.is_busy(),
                None => !self.returning,
            })
    }

    /// The client was told of clusters: of `fresh` ones that it did not have, of `changed` ones that it had
    /// otherwise.
    pub(super) fn told_clusters(&mut self, fresh: Vec<String>, changed: Vec<String>) {
        if self.kinds.get(&Kind::Cluster).is_none_or(|clusters| clusters.wildcard.is_none()) {
            return;
        }
        let endpoints = self.kinds.entry(Kind::Endpoints).or_default();
        for name in fresh.iter().chain(&changed) {
            if let Some(sent) = endpoints.names.get_mut(name) {
                sent.again = true;
                endpoints.dirty.insert(name.clone());
            }
        }
        // What was asked for by name is told with all that belongs to it.
        let clusters = self.kinds.get(&Kind::Cluster);
        let named = |name: &String| {
            clusters.and_then(|clusters| clusters.names.get(name)).is_some_and(|sent| sent.named)
        };
        let fresh = fresh.into_iter().filter(|name| !self.is_own(name) && !named(name));
        let fresh: Vec<_> = fresh.map(|name| (name, Warming::Cold)).collect();
        self.warming.extend(fresh);
    }

    /// The client was told of these endpoints.
    pub(super) fn told_endpoints(&mut self, told: &[(String, Option<Version>)]) {
        for (name, _) in told {
            if let Some(state) = self.warming.get_mut(name) {
                *state = Warming::Told;
            }
        }
    }

    /// The client has answered about these names.
    pub(super) fn settled(&mut self, kind: Kind, Answered { told, rejected }: &Answered) {
        match kind {
            Kind::Endpoints => {
                for (name, _) in told {
                    if self.warming.get(name) == Some(&Warming::Told) {
                        self.warming.remove(name);
                    }
                }
            }
            Kind::Cluster => {
                let gone = told.iter().filter(|(_, there)| !there).map(|(name, _)| name);
                for name in gone.chain(rejected.iter().map(|(name, _)| name)) {
                    self.warming.remove(name);
                }
            }
            Kind::Workload | Kind::Listener | Kind::Route | Kind::Host => {}
        }
    }

    /// The client came with these clusters. Until it says that it has their endpoints, it may have none.
    pub(super) fn returned_with_clusters(&mut self, has: &BTreeMap<String, Version>) {
        let theirs: Vec<_> = has.keys().filter(|name| !self.is_own(name)).cloned().collect();
        self.warming.extend(theirs.into_iter().map(|name| (name, Warming::Returned)));
        if self.kinds.get(&Kind::Endpoints).is_some_and(|endpoints| endpoints.begun) {
            self.returned_with_endpoints();
        }
    }

    /// The client has said which endpoints it has: those that it does not even ask for, nobody waits for.
    pub(super) fn returned_with_endpoints(&mut self) {
        let Some(endpoints) = self.kinds.get(&Kind::Endpoints) else {
            return;
        };
        let in_flight = endpoints.in_flight.iter().flat_map(|flight| &flight.contents);
        let in_flight: BTreeSet<_> = in_flight.map(|(name, _)| name).collect();
        self.warming.retain(|name, state| {
            if *state != Warming::Returned {
                return true;
            }
            let told = endpoints.names.get(name).map(|sent| sent.last.is_some());
            *state = if told == Some(false) { Warming::Cold } else { Warming::Told };
            told == Some(false) || in_flight.contains(name)
        });
    }

    /// Whether a cluster is this client's alone. Those have no endpoints to ask for.
    fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|(_, own)| own == name)
    }
}

/// How far a client is with the endpoints of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warming {
    /// It came with the cluster, and has not said yet which endpoints it has.
    Returned,
    /// It was not told them since it was told the cluster.
    Cold,
    /// It was, and has not answered.
    Told,
}
