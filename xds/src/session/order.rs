//! In which order a client with a wildcard is told, so that no request ever meets a route to
//! something that is not there: make before break.
//!
//! ```text
//! clusters ─► their endpoints ─► listeners, routes ─► removal of clusters
//! ```
//!
//! A client asks for a cluster's endpoints when it has been told of the cluster, and does not use
//! the cluster before they came. So listeners and routes wait until endpoints of all new clusters
//! are answered; and clusters go when nothing about listeners and routes is left to say. Clients
//! that name what they want follow from listener to cluster by themselves, and are not held up.
//!
//! In the state-of-the-world variant this has a gap: which endpoints a client has let go of with a
//! cluster shows only in its next request, so one whose cluster comes back at once, or that
//! reconnects, may be told the route before the endpoints.

use super::{Session, conversation::Answered};
use crate::{model::Kind, protocol::Received};

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
        let wildcard = self.kinds.get(&Kind::Cluster).is_some_and(|c| c.wildcard.is_some());
        if !wildcard || !matches!(kind, Kind::Cluster | Kind::Endpoints) {
            return true;
        }
        [Kind::Listener, Kind::Route].into_iter().all(|kind| match self.kinds.get(&kind) {
            Some(conversation) => !conversation.is_busy(),
            None => !self.returning,
        })
    }

    /// The client was told of clusters, of `fresh` ones for the first time.
    pub(super) fn told_clusters(&mut self, fresh: Vec<String>, told: &[Received], whole: bool) {
        let endpoints = self.kinds.entry(Kind::Endpoints).or_default();
        if whole {
            // A cluster that changed wants its endpoints again, and a request of this variant
            // cannot say so: it names what it named before.
            for name in told.iter().map(|told| &told.name) {
                if let Some(sent) = endpoints.names.get_mut(name) {
                    sent.again = true;
                    endpoints.dirty.insert(name.clone());
                }
            }
        }
        // Its own have no endpoints to ask for.
        let own = |name: &String| self.own.iter().any(|(_, own)| own == name);
        let fresh = fresh.into_iter().filter(|name| !own(name));
        let has = |name: &String| {
            endpoints.names.get(name).is_some_and(|sent| matches!(sent.last, Some(Some(_))))
        };
        self.warming.extend(fresh.filter(|name| !has(name)));
    }

    /// The client has answered about these names.
    pub(super) fn settled(&mut self, kind: Kind, Answered { told, rejected }: &Answered) {
        match kind {
            Kind::Endpoints => told.iter().for_each(|(name, _)| {
                self.warming.remove(name);
            }),
            Kind::Cluster => {
                let gone = told.iter().filter(|(_, there)| !there).map(|(name, _)| name);
                for name in gone.chain(rejected.iter().map(|(name, _)| name)) {
                    self.warming.remove(name);
                }
            }
            Kind::Workload | Kind::Listener | Kind::Route | Kind::Host => {}
        }
    }
}
