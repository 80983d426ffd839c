//! What came of attempts at versions that are being released, as callers' proxies tell each second, and the versions' own: sums
//! since this replica's program began, of which whoever judges takes the [`Differences`]. Time is an argument: how long ago the
//! store began.
//!
//! ```text
//!  reports ──► [ Attempts ] ──► [ Versions ]: [ Version ] × [ Teller ] ──► [ Arm ]
//!                                    └─ one of each replica ──► [ Tolds ] ──► [ Differences ]
//! ```
//!
//! **Invariants.** An arm does nothing but grow, until it is forgotten whole. What proxies make up takes bounded room, and
//! no more than a tenth of it for one workload.

mod differences;
mod wire;

use std::{collections::HashMap, time::Duration};

use tulle_proto::telemetry::v1 as proto;
use tulle_runtime::histogram::{Histogram, SCALE};

pub(crate) use self::wire::{answer, question};
use super::{
    edge::{Peer, Workload, text},
    took::Took,
};
use crate::world::objects::Name;
pub use differences::Differences;

/// Versions that are told apart; callers of one; both together, with some kilobytes each; versions of which one caller tells.
const MOST_VERSIONS: usize = 1000;
const MOST_TELLERS: usize = 200;
const MOST_ARMS: usize = 10_000;
const MOST_OF_A_TELLER: usize = 100;
/// Attempts of one report: a proxy of ours tells of as many.
const MOST_OF_A_REPORT: usize = 256;
/// An arm of which nothing was told for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A workload whose proxies have told within this time of what they call is not told of by those whom it calls, too.
const LATELY: Duration = Duration::from_secs(60);
/// No duration is told apart that is shorter than 2^-20 seconds or longer than 2^20: a microsecond, twelve days.
const SHORTEST: i16 = -20 << SCALE;
const LONGEST: i16 = (20 << SCALE) - 1;

/// Namespace and name of a workload whose versions are asked for.
pub type Target = (String, String);

/// Of one version, as one caller sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arm {
    /// Attempts.
    pub all: u64,
    /// Of these, those that failed by the server's fault.
    pub bad: u64,
    /// In seconds, of those whose duration says something.
    pub took: Histogram,
}

/// Pods of one template.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Its namespace.
    pub namespace: String,
    /// The workload that it is of.
    pub workload: String,
    /// The template.
    pub revision: String,
}

/// Who counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Teller {
    /// The calling workload's namespace; empty: it is none of the mesh's.
    pub namespace: String,
    /// Its name, or what class of callers it is.
    pub name: String,
    /// The version's own proxies tell what came from there. Else the caller's do what they sent.
    pub inbound: bool,
}

/// What somebody counted of a version.
pub type Told = (Version, Teller, Arm);

/// What one replica was told of the versions of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tolds {
    /// Another number: the replica's program began anew, and all was counted from then on.
    pub process: u64,
    /// Sums since it began; in no order.
    pub arms: Vec<Told>,
    /// Workloads whose own proxies have told something of this workload's versions within the last minute.
    pub callers: Vec<Peer>,
    /// Pods, whosever they are, that report by the second and have within the last five.
    pub fresh: Vec<Name>,
}

/// What one report says, as far as it makes sense here. Reading it needs nothing of the store.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    arms: Vec<Told>,
    /// Histograms that make no sense here.
    unread: u64,
}

/// What all reports have said.
#[derive(Debug, Default)]
pub(super) struct Versions {
    of: HashMap<Version, HashMap<Teller, Kept>>,
    /// Of how many versions each tells.
    tells: HashMap<Teller, usize>,
    lost: u64,
    unread: u64,
}

#[derive(Debug, Default)]
struct Kept {
    arm: Arm,
    /// When something was told last.
    last: Duration,
}

impl Arm {
    pub(crate) fn merge(&mut self, more: &Self) {
        self.all = self.all.saturating_add(more.all);
        self.bad = self.bad.saturating_add(more.bad);
        self.took.merge(&more.took);
    }

    /// What came since it was `earlier`; `None` if that is no part of it.
    fn since(&self, earlier: &Self) -> Option<Self> {
        Some(Self {
            all: self.all.checked_sub(earlier.all)?,
            bad: self.bad.checked_sub(earlier.bad)?,
            took: self.took.difference(&earlier.took)?,
        })
    }
}

impl Version {
    fn is_of(&self, (namespace, workload): (&str, &str)) -> bool {
        self.namespace == namespace && self.workload == workload
    }
}

impl Attempts {
    /// What a proxy of this workload and template says, up to a bound.
    pub(super) fn read(of: (&Workload, &str), report: &proto::ReportRequest) -> Self {
        let mut read = Self::default();
        for message in report.attempts.iter().take(MOST_OF_A_REPORT) {
            let Some((version, teller)) = whose(of, message) else { continue };
            let took = Took::read(message.took.as_ref()).unwrap_or_else(|_none| {
                read.unread += 1;
                Took::default()
            });
            let (all, bad) = (message.all, message.bad.min(message.all));
            read.arms.push((version, teller, Arm { all, bad, took: bounded(&took.histogram) }));
        }
        read
    }
}

/// `None`: it makes no sense.
fn whose(
    (own, revision): (&Workload, &str),
    message: &proto::Attempts,
) -> Option<(Version, Teller)> {
    let Workload { namespace, name, .. } = own.clone();
    let (peer_namespace, peer) = (text(&message.peer_namespace), text(&message.peer));
    match message.direction() {
        proto::Direction::Outbound => {
            let revision = text(&message.revision);
            let version = Version { namespace: peer_namespace, workload: peer, revision };
            Some((version, Teller { namespace, name, inbound: false }))
        }
        proto::Direction::Inbound => {
            let version = Version { namespace, workload: name, revision: revision.to_owned() };
            Some((version, Teller { namespace: peer_namespace, name: peer, inbound: true }))
        }
        proto::Direction::Unspecified => None,
    }
}

/// The same with a bounded number of buckets, whatever it is added to.
fn bounded(histogram: &Histogram) -> Histogram {
    let halvings = SCALE - histogram.scale();
    let mut buckets: Vec<(i16, u64)> = Vec::with_capacity(histogram.buckets().len());
    for (bucket, times) in histogram.buckets() {
        let bucket = (*bucket).clamp(SHORTEST >> halvings, LONGEST >> halvings);
        match buckets.last_mut().filter(|(last, _)| *last == bucket) {
            Some((_, sum)) => *sum = sum.saturating_add(*times),
            None => buckets.push((bucket, *times)),
        }
    }
    Histogram::from_parts(histogram.scale(), histogram.zero(), buckets).unwrap_or_default()
}

impl Versions {
    /// Takes what a report says that was not taken before.
    pub(super) fn add(&mut self, attempts: Attempts, now: Duration) {
        self.unread = self.unread.saturating_add(attempts.unread);
        for (version, teller, arm) in attempts.arms.into_iter().filter(|(.., arm)| arm.all > 0) {
            let all = arm.all;
            match self.room_for(version, teller) {
                Some(kept) => {
                    kept.arm.merge(&arm);
                    kept.last = now;
                }
                None => self.lost = self.lost.saturating_add(all),
            }
        }
    }

    /// Where it is counted, if there is room.
    fn room_for(&mut self, version: Version, teller: Teller) -> Option<&mut Kept> {
        let tellers = self.of.get(&version);
        if tellers.is_none_or(|tellers| !tellers.contains_key(&teller)) {
            let full = self.len() >= MOST_ARMS
                || tellers.map_or(self.of.len() >= MOST_VERSIONS, |all| all.len() >= MOST_TELLERS)
                || self.tells.get(&teller).is_some_and(|versions| *versions >= MOST_OF_A_TELLER);
            if full {
                return None;
            }
            *self.tells.entry(teller.clone()).or_default() += 1;
        }
        Some(self.of.entry(version).or_default().entry(teller).or_default())
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.tells.clear();
        self.of.retain(|_, tellers| {
            tellers.retain(|_, kept| now < kept.last + FORGOTTEN);
            for teller in tellers.keys() {
                *self.tells.entry(teller.clone()).or_default() += 1;
            }
            !tellers.is_empty()
        });
    }

    /// What was told of the versions of a workload, and who has lately told of what he himself called of it.
    pub(super) fn of(&self, target: (&str, &str), now: Duration) -> (Vec<Told>, Vec<Peer>) {
        let (mut arms, mut callers) = (Vec::new(), Vec::new());
        for (version, tellers) in self.of.iter().filter(|(version, _)| version.is_of(target)) {
            for (teller, kept) in tellers {
                if !teller.inbound && now < kept.last + LATELY {
                    callers.push(teller.peer());
                }
                arms.push((version.clone(), teller.clone(), kept.arm.clone()));
            }
        }
        callers.sort();
        callers.dedup();
        (arms, callers)
    }

    /// Versions, each once for each of its callers.
    pub(super) fn len(&self) -> usize {
        self.tells.values().sum()
    }

    /// Attempts for which there was no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Histograms of durations that made no sense here.
    pub(super) fn unread(&self) -> u64 {
        self.unread
    }
}

impl Teller {
    fn peer(&self) -> Peer {
        Peer { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

#[cfg(test)]
mod tests;
