//! Series of edges: a bounded number of them, and none of what is long over. Time is an argument.
//!
//! ```text
//!  [ Edge ] ─► its series, one per [ Kind ] of event      found under a read lock, counted by atomics
//!    └─ no room ─► the edge that rested longest becomes `other`      under the write lock, seldom
//! ```
//!
//! **Invariants.** Every event is counted once, in its own series or in one of `other`. What a scrape has
//! seen is not shown a second time under `other`: sums over all series would jump.

use std::{
    collections::hash_map::RandomState,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;

use super::edge::{Edge, EdgeName};

/// Series of edges that a proxy keeps; those of `other` come on top.
const MOST: usize = 500;

/// A series on which nothing happened for so long leaves.
const LIFE: Duration = Duration::from_secs(600);

/// HTTP statuses that are told apart on one edge; what comes beyond is counted by its class.
const MOST_STATUSES: usize = 12;

/// How many upper bounds of durations there are.
pub(super) const BOUNDS: usize = 14;

/// Upper bounds of durations of requests, in seconds.
pub(super) const OF_REQUESTS: [f64; BOUNDS] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Those of opaque connections, which may last for days.
pub(super) const OF_CONNECTIONS: [f64; BOUNDS] = [
    0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0,
    604_800.0,
];

/// What happened, as far as it makes a series of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A request ended.
    Http {
        method: &'static str,
        status: Status,
        /// Why we ended it; empty if we did not.
        error: &'static str,
    },
    /// A gRPC call ended.
    Rpc { status: &'static str, error: &'static str },
    /// An opaque connection was opened, or has carried bytes.
    Flow,
    /// An opaque connection ended.
    Closed { error: &'static str },
    /// Policy forbade something; or would have, were it not only audited.
    Denied { policy: Arc<str>, reason: &'static str, mode: &'static str },
}

/// An HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Status {
    /// There was no answer.
    None,
    Exact(u16),
    /// Its first digit.
    Class(u16),
}

/// Something that happened on an edge.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// How long it took; `None` happened before, and this adds bytes to it.
    pub(super) took: Option<Duration>,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// All series. Times are milliseconds of any one clock.
#[derive(Debug)]
pub(super) struct Table {
    edges: HashMap<Arc<EdgeName>, Vec<Series>, RandomState>,
    most: usize,
    /// Series that are no `other`'s.
    kept: usize,
    /// Series that became `other`.
    folded: u64,
    born: u64,
}

/// What one series has counted. `C` is an atomic, or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cells<C> {
    /// How often it took at most as long as a bound and longer than the one before; the last is any longer.
    pub(super) took: [C; BOUNDS + 1],
    /// Nanoseconds, all together.
    pub(super) nanoseconds: C,
    pub(super) received: C,
    pub(super) sent: C,
}

#[derive(Debug)]
struct Series {
    kind: Kind,
    /// A number that no other series has: they come in this order.
    born: u64,
    used: AtomicU64,
    now: Cells<AtomicU64>,
    /// What the last scrape was shown.
    shown: Cells<u64>,
}

/// A series as a scrape sees it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) edge: Arc<EdgeName>,
    pub(super) kind: Kind,
    pub(super) born: u64,
    pub(super) cells: Cells<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Table {
    fn new(most: usize) -> Self {
        Self { edges: HashMap::default(), most, kept: 0, folded: 0, born: 0 }
    }

    /// Counts an event whose series is there; whether it is.
    pub(super) fn count(&self, edge: &Edge<'_>, event: &Event, now: u64) -> bool {
        let series = self.edges.get(edge).and_then(|all| find(all, &event.kind));
        series.inspect(|series| series.count(event, now)).is_some()
    }

    /// Counts an event, in a new series if need be.
    pub(super) fn add(&mut self, edge: &Edge<'_>, event: &Event, now: u64) {
        // Another thread may have been faster.
        if self.count(edge, event, now) {
            return;
        }
        if edge.is_other() {
            self.series(edge, event.kind.clone()).count(event, now);
        } else if self.make_room(edge, now) {
            self.kept += 1;
            self.series(edge, event.kind.clone()).count(event, now);
        } else {
            self.folded += 1;
            self.add(&Edge::other(edge.direction), event, now);
        }
    }

    /// Takes out what is over, and copies the rest.
    pub(super) fn show(&mut self, now: u64) -> Vec<Shown> {
        self.expire(now);
        let mut shown = Vec::with_capacity(self.kept);
        for (edge, all) in &mut self.edges {
            for series in all {
                series.shown = series.now.read();
                let (edge, cells) = (Arc::clone(edge), series.shown);
                shown.push(Shown { edge, kind: series.kind.clone(), born: series.born, cells });
            }
        }
        shown.sort_unstable_by_key(|shown| shown.born);
        shown
    }

    /// How many series became `other` so far.
    pub(super) fn folded(&self) -> u64 {
        self.folded
    }

    /// The series of this kind, or of its class, or a new one.
    fn series(&mut self, edge: &Edge<'_>, kind: Kind) -> &Series {
        if !self.edges.contains_key(edge) {
            self.edges.insert(Arc::new(edge.name()), Vec::new());
        }
        let all = self.edges.get_mut(edge).expect("inserted above");
        let kind = coarsened(all, kind);
        let index = all.iter().position(|series| series.kind == kind).unwrap_or_else(|| {
            self.born += 1;
            all.push(Series::new(kind, self.born));
            all.len() - 1
        });
        &all[index]
    }

    /// Whether there is room for one more series of `edge`, if need be after others became `other`.
    fn make_room(&mut self, edge: &Edge<'_>, now: u64) -> bool {
        if self.kept >= self.most {
            self.expire(now);
        }
        while self.kept >= self.most {
            let others = self.edges.iter().filter(|(name, _)| {
                let name = name.edge();
                name != *edge && !name.is_other()
            });
            let oldest = others.min_by_key(|(_, all)| all.iter().map(Series::used).max());
            let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else {
                return false;
            };
            self.fold(&oldest);
        }
        true
    }

    fn fold(&mut self, name: &Arc<EdgeName>) {
        let all = self.edges.remove(name).unwrap_or_default();
        self.kept -= all.len();
        self.folded += all.len() as u64;
        let other = Edge::other(name.edge().direction);
        for series in all {
            let (used, rest) = (series.used(), series.now.read().less(&series.shown));
            if rest != Cells::default() {
                let into = self.series(&other, series.kind.clone());
                into.now.add(&rest);
                into.used.fetch_max(used, Ordering::Relaxed);
            }
        }
    }

    fn expire(&mut self, now: u64) {
        let life = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        self.edges.retain(|name, all| {
            let before = all.len();
            all.retain(|series| now.saturating_sub(series.used()) < life);
            if !name.edge().is_other() {
                self.kept -= before - all.len();
            }
            !all.is_empty()
        });
    }
}

/// The series that counts `kind` by now.
fn find<'a>(all: &'a [Series], kind: &Kind) -> Option<&'a Series> {
    let exact = all.iter().find(|series| series.kind == *kind);
    exact.or_else(|| {
        let class = kind.by_class()?;
        all.iter().find(|series| series.kind == class)
    })
}

/// The kind as which it is counted beside these series.
fn coarsened(all: &[Series], kind: Kind) -> Kind {
    let mut exact: Vec<u16> = all.iter().filter_map(|series| series.kind.exact()).collect();
    exact.sort_unstable();
    exact.dedup();
    match (kind.exact(), kind.by_class()) {
        (Some(status), Some(class)) if exact.len() >= MOST_STATUSES && !exact.contains(&status) => {
            class
        }
        _ => kind,
    }
}

impl Kind {
    fn exact(&self) -> Option<u16> {
        match self {
            Self::Http { status: Status::Exact(status), .. } => Some(*status),
            _ => None,
        }
    }

    fn by_class(&self) -> Option<Self> {
        match *self {
            Self::Http { method, status: Status::Exact(status), error } => {
                Some(Self::Http { method, status: Status::Class(status / 100), error })
            }
            _ => None,
        }
    }

    /// The bounds of its durations.
    pub(super) fn bounds(&self) -> &'static [f64; BOUNDS] {
        match self {
            Self::Closed { .. } => &OF_CONNECTIONS,
            _ => &OF_REQUESTS,
        }
    }
}

impl Series {
    fn new(kind: Kind, born: u64) -> Self {
        let (used, now) = (AtomicU64::new(0), Cells::default());
        Self { kind, born, used, now, shown: Cells::default() }
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn count(&self, event: &Event, now: u64) {
        let add = |cell: &AtomicU64, more| cell.fetch_add(more, Ordering::Relaxed);
        if let Some(took) = event.took {
            let seconds = took.as_secs_f64();
            let bucket = self.kind.bounds().partition_point(|bound| *bound < seconds);
            add(&self.now.took[bucket], 1);
            add(&self.now.nanoseconds, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        if event.received > 0 {
            add(&self.now.received, event.received);
        }
        if event.sent > 0 {
            add(&self.now.sent, event.sent);
        }
        self.used.fetch_max(now, Ordering::Relaxed);
    }
}

impl Cells<AtomicU64> {
    fn read(&self) -> Cells<u64> {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Cells {
            took: self.took.each_ref().map(read),
            nanoseconds: read(&self.nanoseconds),
            received: read(&self.received),
            sent: read(&self.sent),
        }
    }

    fn add(&self, more: &Cells<u64>) {
        for (cell, more) in self.each().zip(more.each()) {
            cell.fetch_add(*more, Ordering::Relaxed);
        }
    }
}

impl Cells<u64> {
    /// How often it happened.
    pub(super) fn times(&self) -> u64 {
        self.took.iter().sum()
    }

    fn less(mut self, earlier: &Self) -> Self {
        let Self { took, nanoseconds, received, sent } = &mut self;
        let all = took.iter_mut().chain([nanoseconds, received, sent]);
        for (cell, earlier) in all.zip(earlier.each()) {
            *cell -= earlier;
        }
        self
    }
}

impl<C> Cells<C> {
    fn each(&self) -> impl Iterator<Item = &C> {
        self.took.iter().chain([&self.nanoseconds, &self.received, &self.sent])
    }
}

#[cfg(test)]
mod tests;
