//! What proxies have reported, for as long as it is kept. Time is an argument: how long ago the store began.
//!
//! ```text
//!  [ Edge ] ──┬─ seconds  1 s × 3 min   only while somebody watches its workload
//!             ├─ tens    10 s × 15 min
//!             ├─ minutes  1 min × 2 h
//!             └─ each rule that matched: seconds, minutes × 1 h
//! ```
//!
//! **Invariants.** A report counts in the slot in which it came. Past its size the store forgets, of the workload that has most
//! and there the quietest edges' oldest slots first, and says so; it never adds up what it does not have.

mod kept;
mod reporters;

use std::{
    collections::{BTreeSet, HashMap},
    iter, mem,
    sync::Arc,
    time::Duration,
};

use tulle_proto::telemetry::v1 as proto;

pub use self::reporters::Reporting;
use self::{
    kept::{Kept, Tier},
    reporters::Reporters,
};
use super::{
    edge::{Edge, Workload},
    packed,
    scope::Scope,
    slots::Slots,
    totals::Totals,
};
use crate::world::objects::Name;

/// Bytes that it may take: with what comes before it is looked at again, and with answers that stand, 128 MiB.
const MOST_BYTES: usize = 96 << 20;
/// Edges that it keeps, and those of one workload: a mesh of 1,000 workloads has 5,000 of them, seen from both ends.
const MOST_EDGES: usize = 50_000;
const MOST_OF_A_WORKLOAD: usize = 1000;
/// Edges of one report: a proxy of ours has 500 series, and `other` in each direction.
const MOST_OF_A_REPORT: usize = 600;
/// So much may come before it is looked at again.
const MOST_FRESH: usize = 8 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// What proxies have reported.
#[derive(Debug, Default)]
pub struct Store {
    edges: HashMap<Arc<Edge>, Kept>,
    /// Edges of each workload.
    of: HashMap<Workload, usize>,
    reporters: Reporters,
    /// Until when somebody watches.
    watched: HashMap<Workload, Watched>,
    bytes: usize,
    /// Bytes that came since that was looked at.
    fresh: usize,
    /// Histograms that came and made no sense: what they were of counts without its durations.
    unread: u64,
    /// Up to when something was forgotten before its time.
    forgotten: Option<Duration>,
}

/// A report, as far as it makes sense here. Reading it needs nothing of the store.
#[derive(Debug)]
pub struct Counted {
    /// Process, and number of the report.
    number: (u64, u64),
    certificate_ends: i64,
    edges: Vec<(Edge, String, Totals)>,
    /// Histograms that make no sense here.
    unread: usize,
}

impl Counted {
    /// What a proxy of `workload` says, up to a bound.
    pub fn read(workload: &Workload, report: &proto::ReportRequest) -> Self {
        let mut unread = 0;
        let edges = report.edges.iter().take(MOST_OF_A_REPORT).filter_map(|counted| {
            let (edge, route) = Edge::read(workload, counted.edge.as_ref()?).ok()?;
            let mut totals = Totals::default();
            unread += totals.read(counted.counts.as_ref()?);
            Some((edge, route, totals))
        });
        let edges = edges.collect();
        let (number, certificate_ends) = ((report.process, report.number), report.certificate_ends);
        Self { number, certificate_ends, edges, unread }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose edges.
    pub of: Of,
    /// How far back.
    pub window: Duration,
    /// Into how many parts of the same length the window is cut. If there are several and rules are not told apart, edges are
    /// not either ([`Edge::summed`]): a chart is of all that came to a workload, and would else be a message of megabytes.
    pub points: u32,
    /// Rules are told apart.
    pub routes: bool,
    /// Whether durations and attempts are asked for: they are most of the work.
    pub durations: bool,
}

impl Ask {
    /// Whether stores keep what is asked for that long.
    pub fn is_within_reach(&self) -> bool {
        self.tier().reaches(self.window)
    }

    /// The slot that is not over yet, of those that it is answered from.
    pub(super) fn slot(&self, now: Duration) -> u32 {
        self.tier().slot(now)
    }
}

/// Whose edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Everybody's.
    All,
    /// Those that begin or end in this namespace.
    Namespace(String),
    /// Those that begin or end at this workload, or end at this Service: namespace and name.
    Named(String, String),
}

/// Somebody looks.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    /// All is counted by the second from then on, also on edges on which nothing has happened since.
    from: Duration,
    until: Duration,
}

/// An edge's part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Who calls whom.
    pub edge: Arc<Edge>,
    /// The rule that matched; empty if none did, or rules are not told apart.
    pub route: String,
    /// What happened in each part of the window, the oldest first.
    pub points: Vec<Totals>,
    /// Seconds of the window that it is of: of slots as long as are kept, and not from before the store began.
    pub covers: u32,
}

impl Store {
    /// Takes a report of a pod of `workload`. Whether it is new: one that was taken before is not counted again.
    pub fn take(
        &mut self,
        (pod, workload): (&Name, &Workload),
        report: Counted,
        now: Duration,
    ) -> bool {
        if !self.reporters.is_new((pod, workload), report.number, now) {
            return false;
        }
        self.reporters.certificate(pod, report.certificate_ends);
        self.unread = self.unread.saturating_add(report.unread as u64);
        for (edge, route, totals) in report.edges {
            self.fresh = self.fresh.saturating_add(totals.size());
            self.add(edge, route, &totals, now);
        }
        // Its bound holds whatever comes between two looks.
        if self.fresh > MOST_FRESH {
            self.sweep(now);
        }
        true
    }

    /// The last report of this process of a pod that was taken.
    pub fn taken(&self, pod: &Name, process: u64) -> u64 {
        self.reporters.taken(pod, process)
    }

    fn add(&mut self, edge: Edge, route: String, totals: &Totals, now: Duration) {
        let watched = self.watched.get(&edge.workload).is_some_and(|one| now < one.until);
        self.room_for(edge).add(route, totals, now, watched);
    }

    /// Where it is counted: a proxy that is none of ours could make up any number of edges.
    fn room_for(&mut self, mut edge: Edge) -> &mut Kept {
        if !self.edges.contains_key(&edge) {
            let own = self.of.entry(edge.workload.clone()).or_default();
            if self.edges.len() >= MOST_EDGES || *own >= MOST_OF_A_WORKLOAD {
                edge = edge.other();
            }
            if !self.edges.contains_key(&edge) {
                *own += 1;
            }
        }
        self.edges.entry(Arc::new(edge)).or_default()
    }

    /// Somebody watches these workloads until then: they are counted by the second. Whether nobody watched one of them before.
    pub fn watch(
        &mut self,
        workloads: impl IntoIterator<Item = Workload>,
        until: Duration,
        now: Duration,
    ) -> bool {
        let mut new = false;
        for workload in workloads {
            let one = self.watched.entry(workload).or_default();
            if one.until <= now {
                // What comes first is still of ten seconds.
                (one.from, new) = (now + 3 * SECOND, true);
            }
            one.until = until;
        }
        new
    }

    /// Whose proxies have told of this within the last quarter of an hour.
    pub fn tellers(&self, of: &Of) -> BTreeSet<Workload> {
        let busy = self.edges.iter().filter(|(edge, kept)| kept.is_busy() && of.has(edge));
        busy.map(|(edge, _)| edge.workload.clone()).collect()
    }

    /// Until when somebody watches this workload.
    pub fn watched(&self, workload: &Workload) -> Option<Duration> {
        self.watched.get(workload).map(|one| one.until)
    }

    /// Forgets what is over, and more if it takes too much. To be called every ten seconds.
    pub fn sweep(&mut self, now: Duration) {
        self.watched.retain(|_, one| now < one.until);
        self.reporters.sweep(now);
        self.edges.retain(|_, kept| {
            kept.sweep(now);
            !kept.is_empty()
        });
        self.bytes = self.edges.values().map(Kept::size).sum();
        self.fresh = 0;
        if self.bytes > MOST_BYTES {
            self.shorten(MOST_BYTES, now);
        }
        let mut of = HashMap::new();
        for edge in self.edges.keys() {
            *of.entry(edge.workload.clone()).or_default() += 1;
        }
        self.of = of;
    }

    /// Forgets before its time, until no more than `most` bytes are left: of the workload that has most, so that nobody
    /// else's are lost for what one says, the quietest edges first, and of each what is oldest.
    fn shorten(&mut self, most: usize, now: Duration) {
        /// Edges, and how busy they are.
        type Edges = Vec<(u64, Arc<Edge>)>;
        let mut workloads: HashMap<Workload, (usize, Edges)> = HashMap::new();
        for (edge, kept) in &self.edges {
            let (bytes, edges) = workloads.entry(edge.workload.clone()).or_default();
            *bytes += kept.size();
            edges.push((kept.busy, Arc::clone(edge)));
        }
        workloads.values_mut().for_each(|(_, edges)| edges.sort());
        while self.bytes > most
            && let Some((bytes, edges)) = workloads.values_mut().max_by_key(|(bytes, _)| *bytes)
            && *bytes > 0
        {
            for (_, edge) in edges.iter() {
                let Some(kept) = self.edges.get_mut(edge) else { continue };
                let before = kept.size();
                let forgotten = kept.halve();
                let after = if forgotten.is_some() { kept.size() } else { 0 };
                self.forgotten = self.forgotten.max(Some(forgotten.unwrap_or(now)));
                if after == 0 {
                    self.edges.remove(edge);
                }
                self.bytes = self.bytes.saturating_sub(before.saturating_sub(after));
                *bytes = bytes.saturating_sub(before.saturating_sub(after));
                if self.bytes <= most {
                    return;
                }
            }
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Histograms of durations that made no sense here.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Edges, and rules of edges.
    pub fn len(&self) -> (usize, usize) {
        (self.edges.len(), self.edges.values().map(|kept| kept.routes.len().max(1)).sum())
    }

    /// Whether something of this window was forgotten before its time.
    pub fn shortened(&self, window: Duration, now: Duration) -> bool {
        self.forgotten.is_some_and(|until| until + window > now)
    }

    /// This pod's stream has ended, on which it reported last at this time.
    pub fn left(&mut self, pod: &Name, last: Duration) {
        self.reporters.left(pod, last);
    }

    /// Who reports.
    pub fn reporting(&self) -> Vec<Reporting> {
        self.reporters.all()
    }

    /// The pods of those who report, and when their certificates end, in seconds since 1970; 0: not known.
    pub fn reporters(&self) -> impl Iterator<Item = (&Name, i64)> {
        self.reporters.pods()
    }

    /// The pods of those who report by the second, and have within the last five seconds.
    pub fn fresh(&self, now: Duration) -> impl Iterator<Item = &Name> {
        self.reporters.fresh(now)
    }

    /// What happened in the window, up to the slot that is not over yet.
    pub fn read(&self, ask: &Ask, now: Duration) -> Vec<Row> {
        let (mut rows, mut sums) = (Vec::new(), HashMap::new());
        // It keeps its room from row to row.
        let mut one = Part::new(ask);
        for (edge, kept) in self.edges.iter().filter(|(edge, _)| ask.of.has(edge)) {
            let watched = self.watched.get(&edge.workload).filter(|one| now < one.until);
            let by_second = watched.is_some_and(|one| one.from + ask.window <= now);
            if ask.routes {
                for (route, tier, slots) in kept.of_routes(ask.window, by_second) {
                    one.add(slots, tier, ask, now);
                    rows.extend(one.take(|| (Arc::clone(edge), route.to_owned())));
                }
                continue;
            }
            let (tier, slots) = kept.best(ask, by_second);
            if ask.points > 1 {
                let new = || (edge, Part::new(ask));
                let (_, sum): &mut (_, Part) = sums.entry(edge.sum()).or_insert_with(new);
                sum.add(slots, tier, ask, now);
            } else {
                one.add(slots, tier, ask, now);
                rows.extend(one.take(|| (Arc::clone(edge), String::new())));
            }
        }
        let summed = |(edge, mut sum): (&Arc<Edge>, Part)| {
            sum.take(|| (Arc::new(edge.summed()), String::new()))
        };
        rows.extend(sums.into_values().filter_map(summed));
        rows
    }
}

impl Row {
    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.route.len() + self.points.iter().map(Totals::size).sum::<usize>()
    }
}

impl Of {
    /// Whether an edge begins or ends there.
    fn has(&self, edge: &Edge) -> bool {
        let (peer, mut host) = (&edge.peer, edge.server.0.split('.'));
        self.is_of(&edge.workload)
            || match self {
                Self::All => true,
                Self::Namespace(namespace) => peer.namespace == *namespace,
                Self::Named(namespace, name) => {
                    (&peer.namespace, &peer.name) == (namespace, name)
                        || (host.next(), host.next()) == (Some(name), Some(namespace))
                }
            }
    }

    /// Whether whoever may see this much may see all of it.
    pub fn is_within(&self, scope: &Scope) -> bool {
        match self {
            Self::All => *scope == Scope::All,
            Self::Namespace(namespace) | Self::Named(namespace, _) => scope.has(namespace),
        }
    }

    /// Whether it is this workload, or in that namespace.
    pub(super) fn is_of(&self, workload: &Workload) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => workload.namespace == *namespace,
            Self::Named(namespace, name) => {
                workload.namespace == *namespace && workload.name == *name
            }
        }
    }
}

/// A row while it is added up.
struct Part {
    points: Vec<packed::Adder>,
    /// As of [`Row`]; 0: nothing happened.
    covers: u32,
}

impl Part {
    fn new(ask: &Ask) -> Self {
        let new = || packed::Adder::new(ask.durations);
        Self {
            points: iter::repeat_with(new).take(ask.points.max(1) as usize).collect(),
            covers: 0,
        }
    }

    fn add(&mut self, slots: &Slots, tier: Tier, ask: &Ask, now: Duration) {
        let width = Duration::from_secs(tier.width.into());
        let points = ask.points.max(1);
        let per_point =
            ask.window.div_f64(points.into()).as_secs().div_ceil(width.as_secs()).max(1);
        let per_point = u32::try_from(per_point).unwrap_or(u32::MAX);
        let to = tier.slot(now);
        let from = to.saturating_sub(per_point.saturating_mul(points)).max(tier.oldest(now));
        // Before the store began nothing happened, and what would be older comes first.
        let skipped = per_point * points - (to - from);
        slots.each((from, to), |number, packed| {
            self.covers = self.covers.max((to - from) * tier.width);
            let point = (number - from + skipped) / per_point;
            self.points[point as usize].add(packed);
        });
    }

    /// What was added since this was last called, if there was anything, as a row of this edge and rule.
    fn take(&mut self, of: impl FnOnce() -> (Arc<Edge>, String)) -> Option<Row> {
        let covers = mem::take(&mut self.covers);
        (covers > 0).then(|| {
            let (edge, route) = of();
            let points = self.points.iter_mut().map(packed::Adder::take).collect();
            Row { edge, route, points, covers }
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
