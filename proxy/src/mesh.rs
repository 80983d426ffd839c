//! What this proxy was told: one immutable [`Mesh`], swapped whole.
//!
//! ```text
//!  request ──► Store::resolve ──► Mesh (snapshot)              data path, any thread
//!                    │ unknown        ▲ swap
//!                    ▼                │
//!               [ demand ] ──────► [ sync ] ◄── xDS updates    one task, the only writer
//!                                     │
//!                                  [ build ]                   pure: events in, subscriptions out
//! ```
//!
//! The proxy subscribes to what is dialled and to nothing else: the listener that is named after the
//! address, then its route, their clusters and endpoints; and the names of the cluster that the
//! application asks DNS for. A [`Destination`] is published once all of
//! it is there, and an update that names something new keeps the old one in force until then.
//! Endpoints and cluster settings are swapped inside their [`Cluster`], so that the common update
//! copies one list.
//!
//! **Invariants.** One writer. Nothing is let go while the control plane is away. An address inside
//! of the mesh's ranges that is not known is refused, never passed on in plaintext; an address
//! outside never costs a lookup.

mod build;
mod demand;
mod dump;
mod names;
mod store;
mod sync;

pub use dump::dump;
#[cfg(test)]
pub(crate) use store::Publisher;
pub use store::Store;
pub use sync::Sync;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tulle_xds::model::{Host, Listener, RouteConfiguration, Workload};

pub(crate) use self::names::Names;
use crate::{error::Reason, upstream::Cluster};

/// A snapshot: all of it was in force at one moment.
#[derive(Debug, Default)]
pub struct Mesh {
    /// Counts the snapshots, from 0 for the empty one.
    pub generation: u64,
    /// What this proxy is; `None` until the control plane has said so.
    pub workload: Option<Arc<Workload>>,
    /// What was asked for and answered.
    pub listeners: HashMap<SocketAddr, Lookup>,
    /// The same for names. Shared between snapshots that differ in other things.
    pub hosts: Arc<HashMap<Arc<str>, Named>>,
}

impl Mesh {
    /// Whether something that this proxy calls, or what it serves, is of a version that is being released.
    pub fn is_being_released(&self) -> bool {
        self.workload.as_ref().is_some_and(|workload| workload.counted)
            || self.all_clusters().any(|(_, cluster)| cluster.is_being_released())
    }

    /// Every cluster that requests can go to, by name.
    pub fn clusters(&self) -> BTreeMap<&str, &Arc<Cluster>> {
        self.all_clusters().collect()
    }

    /// The same, some of them several times.
    fn all_clusters(&self) -> impl Iterator<Item = (&str, &Arc<Cluster>)> {
        let destinations = self.listeners.values().filter_map(|lookup| match lookup {
            Lookup::Known(destination) => Some(destination),
            Lookup::Absent(_) => None,
        });
        let clusters = destinations.flat_map(|destination| &destination.clusters);
        clusters.map(|(name, cluster)| (name.as_str(), cluster))
    }
}

/// The answer to the question for an address.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// It is this.
    Known(Arc<Destination>),
    /// The control plane knows no such address; it says so if that changes.
    Absent(Arc<LastUsed>),
}

/// The answer to the question for a name.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its addresses; `None`: the control plane knows no such name, and says so if that changes.
    pub host: Option<Arc<Host>>,
    pub(crate) used: Arc<LastUsed>,
}

/// What an outbound address stands for, complete: whatever its rules name is in `clusters`.
#[derive(Debug)]
pub struct Destination {
    /// The address, its protocol, and where opaque bytes go.
    pub listener: Listener,
    /// Rules for HTTP; `None` exactly if the listener names none.
    pub route: Option<Arc<RouteConfiguration>>,
    /// Every cluster that listener and route name, by name. One that is missing does not exist:
    /// the control plane answered so, and what would go there is refused.
    pub clusters: HashMap<String, Arc<Cluster>>,
    /// Which of the listener's groups of server names a TLS client means.
    pub(crate) names: Names,
    pub(crate) used: Arc<LastUsed>,
}

/// What to do with a connection.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// Its destination is in the mesh.
    Mesh(Arc<Destination>),
    /// It goes where it was going, untouched: outside of the mesh, or the pod itself.
    External,
    /// It is refused.
    Refused(Reason),
}

/// When something was used last, in seconds since the proxy started. Shared by all versions of a
/// destination.
#[derive(Debug, Default)]
pub struct LastUsed(AtomicU64);

impl LastUsed {
    pub(crate) fn new(now: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now)))
    }

    pub(crate) fn touch(&self, now: u64) {
        // Most touches come within the same second: a read does not take the cache line away from
        // the other workers.
        if self.0.load(Ordering::Relaxed) != now {
            self.0.store(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
