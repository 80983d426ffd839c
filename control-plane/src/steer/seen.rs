//! What callers saw of both versions in a second.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tulle_runtime::histogram::Histogram;

use crate::{
    release::{Arm, Course, Pair, Seen},
    roster::Roster,
    telemetry::{
        edge::Peer,
        versions::{self, Differences, Target, Teller, Tolds, Version},
    },
    world::{
        objects::{Name, Release},
        release::Target as Released,
    },
};

/// What is slow is what the stable version's were in this time.
const LATELY: Duration = Duration::from_secs(60);
/// From so many requests on its quantile says something.
const ENOUGH: u64 = 50;
/// Workloads of which nobody has told anything for so many looks call it no more: a minute after whoever listens has forgotten them.
const GONE: u32 = 60;
/// Of a hundred proxies that have told before so many must tell, or nobody knows what happens.
const QUORUM: usize = 80;

/// What a replica says, by workload.
type ByTarget = HashMap<Target, Tolds>;

/// What all replicas say in a second.
#[derive(Debug, Default)]
pub(super) struct Answers {
    told: Vec<(Name, ByTarget)>,
    /// Those that did not answer.
    silent: BTreeSet<Name>,
    /// Pods that report by the second, and have.
    fresh: HashSet<Name>,
}

impl Answers {
    /// What replicas told, this one first, and those that did not.
    pub(super) fn new(told: Vec<(Name, ByTarget)>, silent: BTreeSet<Name>) -> Self {
        // A replica says the same of each workload.
        let any = told.iter().filter_map(|(_, told)| told.values().next());
        let fresh = any.flat_map(|told| told.fresh.iter().cloned()).collect();
        Self { told, silent, fresh }
    }
}

/// Follows what is told of one release.
#[derive(Debug, Default)]
pub(super) struct Observer {
    differences: HashMap<Target, Differences>,
    /// Workloads whose proxies have told of it, and for how many looks they have not.
    callers: HashMap<Peer, u32>,
    /// Proxies of these, and of its own pods, that have told something by the second.
    tellers: HashSet<Name>,
    /// Durations of the stable version, of each second of [`LATELY`], the newest first.
    stable: VecDeque<Histogram>,
}

/// What happened in a second.
#[derive(Debug, Default)]
pub(super) struct Second {
    /// What each caller saw; `None`: too few proxies say anything.
    pub(super) seen: Option<BTreeMap<String, Seen>>,
    /// The stable version's quantile of the last minute, in seconds.
    pub(super) slow: Option<f64>,
}

/// One version's, as one caller sees it.
#[derive(Default)]
struct Caller {
    canary: versions::Arm,
    stable: versions::Arm,
}

impl Observer {
    /// Takes in a second. `quantile`: of the stable version's durations.
    pub(super) fn look(
        &mut self,
        release: &Release,
        course: &Course,
        (answers, roster): (&Answers, &Roster),
        quantile: f64,
    ) -> Second {
        let callers = self.take(release, course, answers);
        let mut stable = Histogram::default();
        for caller in callers.values() {
            stable.merge(&caller.stable.took);
        }
        self.stable.push_front(stable);
        self.stable.truncate(usize::try_from(LATELY.as_secs()).unwrap_or_default());
        let seen =
            callers.into_iter().map(|(name, caller)| (name, caller.seen(course.slower_than)));
        let seen = self.is_told(release, answers, roster).then(|| seen.collect());
        Second { seen, slow: self.slow(quantile) }
    }

    /// What came since the last look, by caller.
    fn take(
        &mut self,
        release: &Release,
        course: &Course,
        answers: &Answers,
    ) -> BTreeMap<String, Caller> {
        let there = |replica: &Name| {
            answers.told.iter().any(|(name, _)| name == replica) || answers.silent.contains(replica)
        };
        let mut callers: BTreeMap<String, Caller> = BTreeMap::new();
        self.callers.values_mut().for_each(|looks| *looks += 1);
        self.callers.retain(|_, looks| *looks < GONE);
        for workload in release.workloads() {
            let target = (workload.namespace.to_string(), workload.name);
            let differences = self.differences.entry(target.clone()).or_default();
            differences.keep(there);
            let told =
                answers.told.iter().filter_map(|(name, told)| Some((name, told.get(&target)?)));
            // All replicas' callers first: what one tells of them another's pods do not tell again.
            let mut news = Vec::new();
            for (replica, told) in told {
                self.callers.extend(told.callers.iter().map(|caller| (caller.clone(), 0)));
                news.extend(differences.take(replica, told.clone()));
            }
            for (version, teller, arm) in news {
                let caller = callers.entry(name(&teller)).or_default();
                match side(release, course, &version) {
                    Some(Side::Canary) => caller.canary.merge(&arm),
                    Some(Side::Stable) => caller.stable.merge(&arm),
                    None => {}
                }
            }
        }
        callers
    }

    /// Whether so many proxies tell that what they do not tell did not happen.
    fn is_told(&mut self, release: &Release, answers: &Answers, roster: &Roster) -> bool {
        let own: Vec<_> = release.workloads().collect();
        let fresh = &answers.fresh;
        let counts = |pod: &Name| {
            let Some(member) = roster.get(pod) else { return false };
            let of = member.workload(&pod.namespace);
            let peer = Peer { namespace: of.namespace, name: of.name };
            let is_own = own.iter().any(|o| *o.namespace == *peer.namespace && o.name == peer.name);
            is_own || self.callers.contains_key(&peer)
        };
        self.tellers.extend(fresh.iter().filter(|pod| counts(pod)).cloned());
        self.tellers.retain(counts);
        let telling = self.tellers.iter().filter(|pod| fresh.contains(*pod)).count();
        telling > 0 && telling * 100 >= self.tellers.len() * QUORUM
    }

    fn slow(&self, quantile: f64) -> Option<f64> {
        let mut all = Histogram::default();
        for second in &self.stable {
            all.merge(second);
        }
        (all.count() >= ENOUGH).then(|| all.quantile_edge(quantile)).flatten()
    }
}

impl Caller {
    fn seen(&self, slower_than: Option<f64>) -> Seen {
        let errors = |arm: &versions::Arm| Arm { all: arm.all, bad: arm.bad };
        let slow = |arm: &versions::Arm| match slower_than {
            Some(edge) => Arm { all: arm.took.count(), bad: arm.took.above(edge) },
            None => Arm::default(),
        };
        Seen {
            errors: Pair { canary: errors(&self.canary), stable: errors(&self.stable) },
            slow: Pair { canary: slow(&self.canary), stable: slow(&self.stable) },
        }
    }
}

/// Which of the two a version is.
enum Side {
    Canary,
    Stable,
}

fn side(release: &Release, course: &Course, version: &Version) -> Option<Side> {
    let told = match release.target {
        Released::Deployment(_) => &version.revision,
        Released::Two { .. } => &version.workload,
    };
    match told {
        told if *told == course.canary => Some(Side::Canary),
        told if *told == course.stable || course.trusted.contains(told) => Some(Side::Stable),
        _ => None,
    }
}

/// `shop/frontend`; of callers that are none of the mesh's their class.
fn name(teller: &Teller) -> String {
    match teller.namespace.as_str() {
        "" => teller.name.clone(),
        namespace => format!("{namespace}/{}", teller.name),
    }
}
