//! What has come since the last answer, of all replicas. Pure.

use std::collections::{HashMap, HashSet};

use super::{Arm, Teller, Told, Tolds, Version};
use crate::{telemetry::edge::Peer, world::objects::Name};

/// What was answered last, of the versions of one workload: what comes for another one would count as new.
#[derive(Debug, Clone, Default)]
pub struct Differences(HashMap<Name, Last>);

#[derive(Debug, Clone)]
struct Last {
    process: u64,
    arms: HashMap<(Version, Teller), Arm>,
    callers: HashSet<Peer>,
}

impl Differences {
    /// What has come since this replica answered last; nothing if it never did, or has begun anew since. Left out is what the
    /// version's own proxies tell of callers that tell it themselves, at whichever replica: it would count twice.
    pub fn take(&mut self, replica: &Name, now: Tolds) -> Vec<Told> {
        let Tolds { process, arms, callers, fresh: _ } = now;
        let arms = arms.into_iter().map(|(version, teller, arm)| ((version, teller), arm));
        let now = Last { process, arms: arms.collect(), callers: callers.into_iter().collect() };
        let last = self.0.remove(replica).filter(|last| last.process == process);
        let mut news: Vec<_> = last.map(|last| now.since(&last)).unwrap_or_default();
        self.0.insert(replica.clone(), now);
        news.retain(|(_, teller, _)| !teller.inbound || !self.tells(&teller.peer()));
        news
    }

    /// Forgets replicas that are no more.
    pub fn keep(&mut self, there: impl Fn(&Name) -> bool) {
        self.0.retain(|replica, _| there(replica));
    }

    fn tells(&self, caller: &Peer) -> bool {
        self.0.values().any(|last| last.callers.contains(caller))
    }
}

impl Last {
    fn since(&self, last: &Self) -> Vec<Told> {
        let nothing = Arm::default();
        let arms = self.arms.iter().filter_map(|(key, arm)| {
            // What went down was forgotten in between: how much of it is new nobody knows.
            let more = arm.since(last.arms.get(key).unwrap_or(&nothing))?;
            let (version, teller) = key.clone();
            (more.all > 0).then_some((version, teller, more))
        });
        arms.collect()
    }
}
