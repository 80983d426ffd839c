//! Why a release does nothing.

use std::fmt;

use crate::world::{
    World,
    objects::{Name, Release},
};

/// Why a release does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// This one is about the same workload, and older.
    Before(Name),
    /// No pod of the version that is wanted has a sidecar that could hold it back.
    NoSidecar,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(name) => write!(
                f,
                "Release {name} is older, and about the same workload: this one does nothing"
            ),
            Self::NoSidecar => f.write_str(
                "no pod of the version that is wanted has a sidecar: none can be held back, so that this does nothing; have them injected, and restart them",
            ),
        }
    }
}

impl World {
    /// Why a release does nothing, though it could be read; `None`: nothing is in its way.
    pub fn idle_because(&self, release: &Release) -> Option<Hindrance> {
        if let Some(before) = self.release_before(release) {
            return Some(Hindrance::Before(before.name.clone()));
        }
        self.is_bare(release).then_some(Hindrance::NoSidecar)
    }

    /// Whether nothing holds the pods of the version that is wanted, or of all, as long as that has none.
    fn is_bare(&self, release: &Release) -> bool {
        let Some(newest) = self.newest_set(release) else { return false };
        let pods = || self.released_pods(release).filter(|pod| !pod.ended);
        let mut wanted = pods().filter(|pod| pod.revision() == newest.hash).peekable();
        match wanted.peek() {
            Some(_) => wanted.all(|pod| !pod.meshed),
            None => pods().next().is_some() && pods().all(|pod| !pod.meshed),
        }
    }
}
