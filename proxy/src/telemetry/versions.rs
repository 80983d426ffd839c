//! What comes of attempts at pods of versions that are being released: for the control plane, which judges them by it each second.
//!
//! Each attempt counts by itself, so that a retry hides nothing. As long as nothing is released nobody comes here.

use std::{sync::Arc, time::Duration};

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;
use tulle_proto::telemetry::v1 as proto;
use tulle_runtime::histogram::Histogram;

use super::{Direction, series::Took, words};

/// Versions and callers that are told apart at once: far more than are ever released together.
const MOST: usize = 256;

/// See the [module](self). Clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Versions(Arc<Mutex<HashMap<Version, Counted>>>);

/// Whose pods; or, inbound, who called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Version {
    direction: Direction,
    namespace: String,
    workload: String,
    revision: String,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Of<'a> {
    pub(super) direction: Direction,
    pub(super) namespace: &'a str,
    pub(super) workload: &'a str,
    pub(super) revision: &'a str,
}

#[derive(Debug, Default)]
struct Counted {
    all: u64,
    bad: u64,
    took: Took,
}

impl Equivalent<Version> for Of<'_> {
    fn equivalent(&self, key: &Version) -> bool {
        let Version { direction, namespace, workload, revision } = key;
        *self == Of { direction: *direction, namespace, workload, revision }
    }
}

impl Of<'_> {
    fn owned(self) -> Version {
        let Self { direction, namespace, workload, revision } = self;
        let [namespace, workload, revision] = [namespace, workload, revision].map(str::to_owned);
        Version { direction, namespace, workload, revision }
    }
}

impl Versions {
    /// An attempt has ended.
    pub(super) fn count(&self, of: Of<'_>, bad: bool, took: Option<Duration>) {
        let mut all = self.0.lock();
        if !all.contains_key(&of) {
            // More than that nobody asked for: what is missing shows as requests that were not seen.
            if all.len() >= MOST {
                return;
            }
            all.insert(of.owned(), Counted::default());
        }
        let Some(known) = all.get_mut(&of) else { return };
        known.all += 1;
        known.bad += u64::from(bad);
        if let Some(took) = took {
            known.took.histogram.observe(took.as_secs_f64());
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            known.took.nanoseconds = known.took.nanoseconds.saturating_add(nanoseconds);
        }
    }

    /// What was counted since this was asked last.
    pub(super) fn take(&self) -> Vec<proto::Attempts> {
        let counted = std::mem::take(&mut *self.0.lock());
        let attempts = counted.into_iter().map(|(version, counted)| proto::Attempts {
            direction: words::direction(version.direction),
            peer_namespace: version.namespace,
            peer: version.workload,
            revision: version.revision,
            all: counted.all,
            bad: counted.bad,
            took: (counted.took.histogram != Histogram::default()).then(|| counted.took.message()),
        });
        attempts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(direction: Direction, revision: &str) -> Of<'_> {
        Of { direction, namespace: "shop", workload: "web", revision }
    }

    #[test]
    fn versions_are_told_apart_up_to_a_bound_and_counted_once() {
        let versions = Versions::default();
        let second = Some(Duration::from_secs(1));
        versions.count(of(Direction::Outbound, "a"), false, second);
        versions.count(of(Direction::Outbound, "a"), true, None);
        versions.count(of(Direction::Outbound, "b"), false, second);
        versions.count(of(Direction::Inbound, ""), false, second);
        let mut told = versions.take();
        told.sort_by(|a, b| (a.direction, &a.revision).cmp(&(b.direction, &b.revision)));
        let counts: Vec<_> =
            told.iter().map(|one| (one.direction, &*one.revision, one.all, one.bad)).collect();
        assert_eq!(counts, [(1, "", 1, 0), (2, "a", 2, 1), (2, "b", 1, 0)]);
        assert_eq!(told[1].took.as_ref().unwrap().counts, [1]);
        assert_eq!(versions.take(), []);
        for revision in 0..2 * MOST {
            let revision = revision.to_string();
            versions.count(of(Direction::Outbound, &revision), false, None);
        }
        assert_eq!(versions.take().len(), MOST);
    }
}
