//! What proxies have reported, for as long as it is kept. Time is an argument: how long ago the store began.
//!
//! ```text
//!  [ Edge ] ──┬─ seconds  1 s × 3 min   only while somebody watches its workload
//!             ├─ tens    10 s × 15 min
//!             ├─ minutes  1 min × 2 h
//!             └─ each rule that matched: seconds, minutes × 1 h
//! ```
//!
//! **Invariants.** A report counts in the slot in which it came. Past its size the store forgets, the quietest edges' oldest
//! slots first, and says so; it never adds up what it does not have.

mod reporters;

use std::{collections::HashMap, time::Duration};

use tulle_proto::telemetry::v1 as proto;

use self::reporters::Reporters;
pub use self::reporters::Reporting;
use super::{
    edge::{Edge, Workload},
    slots::Slots,
    totals::Totals,
};
use crate::world::objects::Name;

/// Slots of one width.
#[derive(Debug, Clone, Copy)]
struct Tier {
    /// Seconds of a slot.
    width: u32,
    /// How many are kept.
    slots: u32,
    /// 2^this many buckets for each doubling of durations.
    scale: i8,
}

const SECONDS: Tier = Tier { width: 1, slots: 180, scale: 3 };
const TENS: Tier = Tier { width: 10, slots: 90, scale: 3 };
const MINUTES: Tier = Tier { width: 60, slots: 120, scale: 2 };
const ROUTE_MINUTES: Tier = Tier { slots: 60, ..MINUTES };

/// Bytes that it may take: the bound is 128 MiB, and so much may come before it is looked at again.
const MOST_BYTES: usize = 120 << 20;
/// Edges that it keeps, and those of one workload: a mesh of 1,000 workloads has 5,000 of them, seen from both ends.
const MOST_EDGES: usize = 50_000;
const MOST_OF_A_WORKLOAD: usize = 1000;
/// Rules that are told apart on one edge.
const MOST_ROUTES: usize = 64;
/// Names and vectors of an edge, and of a rule.
const EDGE_BYTES: usize = 700;
const ROUTE_BYTES: usize = 300;

/// What proxies have reported.
#[derive(Debug, Default)]
pub struct Store {
    edges: HashMap<Edge, Kept>,
    /// Edges of each workload.
    of: HashMap<Workload, usize>,
    reporters: Reporters,
    /// Until when somebody watches.
    watched: HashMap<Workload, Duration>,
    bytes: usize,
    /// Something was forgotten before its time.
    shortened: bool,
}

#[derive(Debug, Default)]
struct Kept {
    seconds: Slots,
    tens: Slots,
    minutes: Slots,
    routes: Vec<(String, OfRoute)>,
    /// When it began to be counted by the second.
    by_second: Option<Duration>,
    /// Requests and connections, those of an hour ago half as much.
    busy: u64,
}

#[derive(Debug, Default)]
struct OfRoute {
    seconds: Slots,
    minutes: Slots,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose edges.
    pub of: Of,
    /// How far back.
    pub window: Duration,
    /// Into how many parts of the same length the window is cut.
    pub points: u32,
    /// Rules are told apart.
    pub routes: bool,
    /// Whether durations are asked for: they are most of the work.
    pub durations: bool,
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

/// An edge's part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Who calls whom.
    pub edge: Edge,
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
        report: &proto::ReportRequest,
        now: Duration,
    ) -> bool {
        if !self.reporters.is_new((pod, workload), (report.process, report.number), now) {
            return false;
        }
        for counted in &report.edges {
            let Some((edge, route)) =
                counted.edge.as_ref().and_then(|edge| Edge::read(workload, edge).ok())
            else {
                continue;
            };
            let mut totals = Totals::default();
            let read = counted.counts.as_ref().map_or(Ok(()), |counts| totals.read(counts));
            if read.is_ok() {
                self.add(edge, route, &totals, now);
            }
        }
        true
    }

    /// The last report of this process of a pod that was taken.
    pub fn taken(&self, pod: &Name, process: u64) -> u64 {
        self.reporters.taken(pod, process)
    }

    fn add(&mut self, edge: Edge, route: String, totals: &Totals, now: Duration) {
        let edge = self.room_for(edge);
        let watched = self.watched.get(&edge.workload).is_some_and(|until| now < *until);
        let kept = self.edges.entry(edge).or_default();
        kept.busy = kept.busy.saturating_add(totals.requested() + totals.flow.opened);
        kept.tens.add(TENS.slot(now), totals, TENS.scale);
        kept.minutes.add(MINUTES.slot(now), totals, MINUTES.scale);
        if watched {
            kept.by_second.get_or_insert(now);
            kept.seconds.add(SECONDS.slot(now), totals, SECONDS.scale);
        }
        let of_route = kept.route(route);
        of_route.minutes.add(MINUTES.slot(now), totals, MINUTES.scale);
        if watched {
            of_route.seconds.add(SECONDS.slot(now), totals, SECONDS.scale);
        }
    }

    /// The edge as which it is counted: a proxy that is none of ours could make up any number of them.
    fn room_for(&mut self, edge: Edge) -> Edge {
        if self.edges.contains_key(&edge) {
            return edge;
        }
        let own = self.of.get(&edge.workload).copied().unwrap_or(0);
        let edge = if self.edges.len() >= MOST_EDGES || own >= MOST_OF_A_WORKLOAD {
            edge.other()
        } else {
            edge
        };
        if !self.edges.contains_key(&edge) {
            *self.of.entry(edge.workload.clone()).or_default() += 1;
        }
        edge
    }

    /// Somebody watches this workload until then: it is counted by the second. Whether nobody did before.
    pub fn watch(&mut self, workload: Workload, until: Duration, now: Duration) -> bool {
        self.watched.insert(workload, until).is_none_or(|before| before <= now)
    }

    /// Until when somebody watches this workload.
    pub fn watched(&self, workload: &Workload) -> Option<Duration> {
        self.watched.get(workload).copied()
    }

    /// Forgets what is over, and more if it takes too much. To be called every ten seconds.
    pub fn sweep(&mut self, now: Duration) {
        self.watched.retain(|_, until| now < *until);
        self.reporters.sweep(now);
        let watched = &self.watched;
        self.edges.retain(|edge, kept| {
            kept.sweep(now);
            if !watched.contains_key(&edge.workload) {
                kept.by_second = None;
            }
            !kept.is_empty()
        });
        self.bytes = self.edges.values().map(Kept::size).sum();
        if self.bytes > MOST_BYTES {
            self.shorten(MOST_BYTES);
        }
        let mut of = HashMap::new();
        for edge in self.edges.keys() {
            *of.entry(edge.workload.clone()).or_default() += 1;
        }
        self.of = of;
    }

    /// Forgets before its time, until no more than `most` bytes are left: of the quietest edges first, and of each what is
    /// oldest.
    fn shorten(&mut self, most: usize) {
        self.shortened = true;
        let mut quiet: Vec<_> =
            self.edges.iter().map(|(edge, kept)| (kept.busy, edge.clone())).collect();
        quiet.sort();
        while self.bytes > most && !quiet.is_empty() {
            quiet.retain(|(_, edge)| {
                let Some(kept) = self.edges.get_mut(edge).filter(|_| self.bytes > most) else {
                    return true;
                };
                let before = kept.size();
                let halved = kept.halve();
                self.bytes = self.bytes - before + kept.size();
                halved
            });
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Edges, and rules of edges.
    pub fn len(&self) -> (usize, usize) {
        (self.edges.len(), self.edges.values().map(|kept| kept.routes.len()).sum())
    }

    /// Whether something was forgotten before its time.
    pub fn shortened(&self) -> bool {
        self.shortened
    }

    /// Who reports.
    pub fn reporting(&self) -> Vec<Reporting> {
        self.reporters.all()
    }

    /// What happened in the window, up to the slot that is not over yet.
    pub fn read(&self, ask: &Ask, now: Duration) -> Vec<Row> {
        let mut rows = Vec::new();
        for (edge, kept) in self.edges.iter().filter(|(edge, _)| ask.of.has(edge)) {
            let by_second = kept.by_second.is_some_and(|since| since + ask.window <= now);
            if ask.routes {
                for (route, of) in &kept.routes {
                    let (tier, slots) = match by_second && SECONDS.reaches(ask.window) {
                        true => (SECONDS, &of.seconds),
                        false => (ROUTE_MINUTES, &of.minutes),
                    };
                    rows.extend(row(edge, route, slots, tier, ask, now));
                }
            } else {
                let (tier, slots) = kept.best(ask, by_second);
                rows.extend(row(edge, "", slots, tier, ask, now));
            }
        }
        rows
    }
}

impl Tier {
    fn slot(self, now: Duration) -> u32 {
        u32::try_from(now.as_secs() / u64::from(self.width)).unwrap_or(u32::MAX)
    }

    fn reaches(self, window: Duration) -> bool {
        window.as_secs() <= u64::from(self.width * self.slots)
    }

    /// The oldest slot that is kept.
    fn oldest(self, now: Duration) -> u32 {
        self.slot(now).saturating_sub(self.slots)
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

/// `None`: nothing happened.
fn row(
    edge: &Edge,
    route: &str,
    slots: &Slots,
    tier: Tier,
    ask: &Ask,
    now: Duration,
) -> Option<Row> {
    let width = Duration::from_secs(tier.width.into());
    let points = ask.points.max(1);
    let per_point = ask.window.div_f64(points.into()).as_secs().div_ceil(width.as_secs()).max(1);
    let per_point = u32::try_from(per_point).unwrap_or(u32::MAX);
    let to = tier.slot(now);
    let from = to.saturating_sub(per_point.saturating_mul(points));
    // Before the store began nothing happened, and what would be older comes first.
    let skipped = per_point * points - (to - from);
    let covers = (to - from) * tier.width;
    let mut row = None;
    slots.each((from, to), |number, counts| {
        let row = row.get_or_insert_with(|| vec![Totals::default(); points as usize]);
        let point = (number - from + skipped) / per_point;
        let known = match ask.durations {
            true => row[point as usize].read(counts),
            false => row[point as usize].read(&counts_without_durations(counts)),
        };
        debug_assert!(known.is_ok(), "it was read when it came");
    });
    row.map(|points| Row { edge: edge.clone(), route: route.to_owned(), points, covers })
}

fn counts_without_durations(counts: &proto::Counts) -> proto::Counts {
    let mut counts = counts.clone();
    counts.took = None;
    counts.flow.iter_mut().for_each(|flow| flow.took = None);
    counts
}

impl Kept {
    /// Where this rule is counted: under its name, as long as there is room for names.
    fn route(&mut self, name: String) -> &mut OfRoute {
        let at = |routes: &[(String, OfRoute)], name: &str| {
            routes.iter().position(|(known, _)| known == name)
        };
        let full = self.routes.len() >= MOST_ROUTES;
        let name = match at(&self.routes, &name) {
            None if full => "other".to_owned(),
            _ => name,
        };
        let at = at(&self.routes, &name).unwrap_or_else(|| {
            self.routes.push((name, OfRoute::default()));
            self.routes.len() - 1
        });
        &mut self.routes[at].1
    }

    /// The slots to answer from: the finest that reach so far back, and if there is more than one point the coarsest that can
    /// tell them apart.
    fn best(&self, ask: &Ask, by_second: bool) -> (Tier, &Slots) {
        let step = ask.window.as_secs() / u64::from(ask.points.max(1));
        if by_second && SECONDS.reaches(ask.window) {
            (SECONDS, &self.seconds)
        } else if TENS.reaches(ask.window) && (ask.points <= 1 || step < u64::from(MINUTES.width)) {
            (TENS, &self.tens)
        } else {
            (MINUTES, &self.minutes)
        }
    }

    fn sweep(&mut self, now: Duration) {
        for (slots, tier) in
            [(&mut self.seconds, SECONDS), (&mut self.tens, TENS), (&mut self.minutes, MINUTES)]
        {
            slots.close(tier.slot(now), tier.scale);
            slots.expire(tier.oldest(now));
        }
        self.routes.retain_mut(|(_, of)| {
            of.seconds.close(SECONDS.slot(now), SECONDS.scale);
            of.seconds.expire(SECONDS.oldest(now));
            of.minutes.close(ROUTE_MINUTES.slot(now), ROUTE_MINUTES.scale);
            of.minutes.expire(ROUTE_MINUTES.oldest(now));
            !of.minutes.is_empty()
        });
        // 360 sweeps are an hour.
        self.busy -= self.busy / 520;
    }

    fn halve(&mut self) -> bool {
        let mut halved = self.minutes.halve();
        for (_, of) in &mut self.routes {
            halved |= of.minutes.halve();
        }
        halved || self.tens.halve() || self.seconds.halve()
    }

    fn size(&self) -> usize {
        let own = self.seconds.size() + self.tens.size() + self.minutes.size();
        let route =
            |(_, of): &(String, OfRoute)| ROUTE_BYTES + of.seconds.size() + of.minutes.size();
        EDGE_BYTES + own + self.routes.iter().map(route).sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        self.tens.is_empty() && self.minutes.is_empty()
    }
}

impl Row {
    /// All points added up.
    pub fn total(&self) -> Totals {
        let mut total = Totals::default();
        self.points.iter().for_each(|point| total.merge(point));
        total
    }
}

#[cfg(test)]
mod tests;
