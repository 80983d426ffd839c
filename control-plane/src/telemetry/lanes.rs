//! Requests of lanes, as proxies tell of them: who got and sent how many, and what says that they are of a lane. Time is an
//! argument: how long ago the store began.
//!
//! ```text
//!  reports ──► [ Requests ] ──► [ Lanes ]: [ Kind ] ──► slots of ten seconds × a quarter of an hour
//!                                   └─ those of each replica ──► [ Count ]s, added up
//! ```
//!
//! **Invariants.** What proxies make up takes bounded room, and no more than a fortieth of it for one workload.

mod wire;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tulle_proto::telemetry::v1 as proto;

pub(crate) use self::wire::{answer, question};
use super::{
    edge::{Direction, Peer, Workload, text},
    query::Query,
};
use crate::replicas::Replica;

/// What is told apart: in all, and of what one workload tells.
const MOST: usize = 20_000;
const MOST_OF_A_WORKLOAD: usize = 500;
/// As many a proxy of ours tells apart.
const MOST_OF_A_REPORT: usize = 512;
/// Seconds of a slot, and how many are kept.
const SLOT: u64 = 10;
const SLOTS: u64 = 90;
/// So far back counts reach.
pub const LONGEST: Duration = Duration::from_secs(SLOT * SLOTS);
/// When the last one came is known for so long.
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);

/// What says that a request is in a lane; or, of one that was sent in none while some of the lane were answered, why it may be of
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// Its baggage.
    Baggage,
    /// The state of its trace.
    Tracestate,
    /// It is one of those that enter.
    Entry,
    /// Its trace is in the lane, while that is answered.
    Traceparent,
    /// It has no trace.
    Nothing,
    /// Its trace is that of nothing that is answered.
    UnknownTrace,
    /// Its trace is answered in the lane and otherwise, or there are too many.
    Unclear,
}

impl By {
    /// Whether it is in the lane.
    pub fn is_in(self) -> bool {
        matches!(self, Self::Baggage | Self::Tracestate | Self::Entry | Self::Traceparent)
    }
}

/// What is counted by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// The lane, which is of the workload's namespace.
    pub lane: String,
    /// Whose proxies tell.
    pub workload: Workload,
    /// Which way the requests go.
    pub direction: Direction,
    /// Who is on the other side; without namespace a class.
    pub peer: Peer,
    /// Host name of the Service that was called; empty: none was, or it came from there.
    pub host: String,
    /// What says that they are of the lane, or may be.
    pub by: By,
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Of those sent in no lane, the ones that were sent while nothing but requests of the lane was answered.
    pub alone: u64,
    /// How long ago the last one was told of.
    pub last: Duration,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Lanes of this namespace; empty: of all.
    pub namespace: String,
    /// Of this name; empty: of all.
    pub name: String,
    /// How far back, at most [`LONGEST`].
    pub window: Duration,
}

/// What replicas know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What there was in the window, and what there was before with no requests.
    pub counts: BTreeMap<Kind, Count>,
    /// For how long the replica has been taking reports that has for the longest.
    pub since: Duration,
    /// Replicas that did not answer.
    pub unheard: Vec<String>,
}

/// What one report says, as far as it makes sense here.
#[derive(Debug, Default)]
pub(super) struct Requests(Vec<(Kind, u64, u64)>);

/// What all reports have said.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    of: HashMap<Kind, Kept>,
    /// How many each tells of.
    tells: HashMap<Workload, usize>,
}

#[derive(Debug, Default)]
struct Kept {
    slots: VecDeque<Slot>,
    /// When something was told last.
    last: Duration,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    requests: u64,
    alone: u64,
}

impl Requests {
    /// What a proxy of this workload says, up to a bound.
    pub(super) fn read(workload: &Workload, report: &proto::ReportRequest) -> Self {
        let messages = report.lanes.iter().take(MOST_OF_A_REPORT);
        let read = messages.filter_map(|message| {
            let kind = wire::kind(workload, message)?;
            Some((kind, message.requests, message.alone.min(message.requests)))
        });
        Self(read.filter(|(_, requests, _)| *requests > 0).collect())
    }
}

impl Lanes {
    /// Takes what a report says that was not taken before.
    pub(super) fn add(&mut self, requests: Requests, now: Duration) {
        let number = slot(now);
        for (kind, requests, alone) in requests.0 {
            let Some(kept) = self.room_for(kind) else { continue };
            kept.last = now;
            match kept.slots.back_mut().filter(|slot| slot.number == number) {
                Some(slot) => {
                    slot.requests = slot.requests.saturating_add(requests);
                    slot.alone = slot.alone.saturating_add(alone);
                }
                None => kept.slots.push_back(Slot { number, requests, alone }),
            }
        }
    }

    fn room_for(&mut self, kind: Kind) -> Option<&mut Kept> {
        if !self.of.contains_key(&kind) {
            let tells = self.tells.get(&kind.workload).copied().unwrap_or(0);
            if self.of.len() >= MOST || tells >= MOST_OF_A_WORKLOAD {
                return None;
            }
            *self.tells.entry(kind.workload.clone()).or_default() += 1;
        }
        Some(self.of.entry(kind).or_default())
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Duration) {
        let oldest = slot(now).saturating_sub(SLOTS - 1);
        self.tells.clear();
        self.of.retain(|kind, kept| {
            while kept.slots.front().is_some_and(|slot| slot.number < oldest) {
                kept.slots.pop_front();
            }
            let stays = now < kept.last + FORGOTTEN;
            if stays {
                *self.tells.entry(kind.workload.clone()).or_default() += 1;
            }
            stays
        });
    }

    /// What there was.
    pub(super) fn of(&self, ask: &Ask, now: Duration) -> BTreeMap<Kind, Count> {
        let seconds = ask.window.min(LONGEST).as_secs();
        let first = (slot(now) + 1).saturating_sub(seconds.div_ceil(SLOT));
        let asked = |kind: &Kind| {
            (ask.namespace.is_empty() || kind.workload.namespace == ask.namespace)
                && (ask.name.is_empty() || kind.lane == ask.name)
        };
        let those = self.of.iter().filter(|(kind, _)| asked(kind));
        let counted = those.map(|(kind, kept)| {
            let mut count = Count { last: now.saturating_sub(kept.last), ..Count::default() };
            for slot in kept.slots.iter().filter(|slot| slot.number >= first) {
                count.requests = count.requests.saturating_add(slot.requests);
                count.alone = count.alone.saturating_add(slot.alone);
            }
            (kind.clone(), count)
        });
        counted.collect()
    }
}

fn slot(now: Duration) -> u64 {
    now.as_secs() / SLOT
}

impl Told {
    /// Adds what another replica knows.
    fn add(&mut self, other: Self) {
        for (kind, more) in other.counts {
            let sum = self
                .counts
                .entry(kind)
                .or_insert_with(|| Count { last: more.last, ..Count::default() });
            sum.requests = sum.requests.saturating_add(more.requests);
            sum.alone = sum.alone.saturating_add(more.alone);
            sum.last = sum.last.min(more.last);
        }
        self.since = self.since.max(other.since);
    }
}

impl Query {
    /// What all replicas know of lanes. Who `looks` wants it by the second from now on, for a while.
    pub async fn lanes(&self, ask: &Ask, looks: bool) -> Told {
        let mut told = self.hub.lanes(ask, looks);
        let Some(replica) = &self.replica else { return told };
        let lacks = "a replica does not say what its proxies see of lanes";
        let asked = |replica: Replica, name| async move { replica.lanes(&name, ask, looks).await };
        let (heard, silent) = replica.ask_others(lacks, asked).await;
        heard.into_iter().for_each(|(_, more)| told.add(more));
        told.unheard = silent.into_iter().map(|(name, _)| name).collect();
        told
    }
}

#[cfg(test)]
mod tests;
