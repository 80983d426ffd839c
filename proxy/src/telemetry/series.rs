//! Series of edges: a bounded number of them, and none of what is long over. Time is an argument.
//!
//! ```text
//!  worker ──► its [ Tally ] ─┐ what it has counted since, whenever somebody asks
//!  worker ──► its [ Tally ] ─┴─► [ Table ]: [ Edge ] ─► its series, one per [ Kind ] of event
//!                                  └─ no room ─► the edge that rested longest becomes `other`
//! ```
//!
//! **Invariants.** Every event is counted once, in its own series or in one of `other`. What a scrape has
//! seen is not shown a second time under `other`: sums over all series would jump.

mod bounds;

pub(super) use bounds::{BOUNDS, OF_CONNECTIONS, OF_REQUESTS};

use std::{mem, sync::Arc, time::Duration};

use hashbrown::HashMap;
use tulle_runtime::histogram::Histogram;

use super::{
    edge::{Edge, EdgeName},
    exemplar::{Exemplar, Exemplars},
};

/// Series of edges that a proxy keeps; those of `other` come on top.
const MOST: usize = 500;

/// A series on which nothing happened for so long leaves.
const LIFE: Duration = Duration::from_secs(600);

/// HTTP statuses that are told apart on one edge; what comes beyond is counted by its class.
const MOST_STATUSES: usize = 12;

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
    /// A request was tried at an endpoint.
    Tried { outcome: &'static str },
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
    /// How often; 0 where it was counted before, and this adds bytes to it.
    pub(super) times: u64,
    /// How long it took each time.
    pub(super) took: Option<Duration>,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// The trace that it is in, if that is recorded.
    pub(super) exemplar: Option<Box<Exemplar>>,
}

/// What one worker has counted since it was asked. Times are milliseconds of any one clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    edges: HashMap<Arc<EdgeName>, Vec<Series>>,
    len: usize,
}

/// Where a worker counts what happened on one edge.
#[derive(Debug)]
pub(super) struct Counter<'a> {
    all: &'a mut Vec<Series>,
    now: u64,
}

/// All series.
#[derive(Debug)]
pub(super) struct Table {
    edges: HashMap<Arc<EdgeName>, Vec<Kept>>,
    most: usize,
    /// Series that are no `other`'s.
    kept: usize,
    /// Series that became `other`.
    folded: u64,
    born: u64,
    /// When it was shown last. What was counted of a new series came later, as all tallies were emptied then.
    shown_at: u64,
}

/// What one series has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) times: u64,
    pub(super) took: Took,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// Durations, in both forms in which they are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Took {
    /// How often it took at most as long as a bound and longer than the one before; the last is any longer.
    pub(super) classic: [u64; BOUNDS + 1],
    pub(super) histogram: Histogram,
    /// Nanoseconds, all together.
    pub(super) nanoseconds: u64,
    pub(super) exemplars: Exemplars,
}

#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) kind: Kind,
    used: u64,
    pub(super) cells: Cells,
}

/// A series of the table.
#[derive(Debug)]
struct Kept {
    series: Series,
    /// A number that no other series has: they come in this order.
    born: u64,
    /// Nothing of it is older.
    since: u64,
    /// What the last scrape was shown.
    shown: Cells,
}

/// A series as a scrape sees it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) edge: Arc<EdgeName>,
    pub(super) kind: Kind,
    pub(super) born: u64,
    /// Nothing of it is older.
    pub(super) since: u64,
    pub(super) cells: Cells,
}

impl Default for Table {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Tally {
    /// Counts what happened on an edge, which `events` says one by one. Whether it is time to be asked: there is much in it.
    pub(super) fn count(
        &mut self,
        edge: &Edge<'_>,
        now: u64,
        events: impl FnOnce(&mut Counter<'_>),
    ) -> bool {
        // Nearly always it is there: looked for once.
        let mut new = Vec::new();
        let known = self.edges.get_mut(edge);
        let is_new = known.is_none();
        let all = known.unwrap_or(&mut new);
        let before = all.len();
        events(&mut Counter { all, now });
        self.len += all.len() - before;
        if is_new {
            self.edges.insert(Arc::new(edge.name()), new);
        }
        self.len >= MOST
    }

    /// What was counted, and nothing from now on.
    pub(super) fn take(&mut self) -> Self {
        mem::take(self)
    }

    /// Each edge, with its series.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&EdgeName, &[Series])> {
        self.edges.iter().map(|(name, all)| (&**name, &**all))
    }
}

impl Counter<'_> {
    /// This happened.
    pub(super) fn count(&mut self, event: &Event) {
        let index = self.all.iter().position(|series| series.kind == event.kind);
        let index = index.unwrap_or_else(|| {
            self.all.push(Series { kind: event.kind.clone(), used: 0, cells: Cells::default() });
            self.all.len() - 1
        });
        self.all[index].count(event, self.now);
    }
}

impl Table {
    fn new(most: usize) -> Self {
        Self { edges: HashMap::default(), most, kept: 0, folded: 0, born: 0, shown_at: 0 }
    }

    /// Takes in what a worker has counted.
    pub(super) fn add(&mut self, tally: Tally, now: u64) {
        for (name, all) in tally.edges {
            for series in all {
                self.merge(&name, series, now);
            }
        }
    }

    fn merge(&mut self, name: &Arc<EdgeName>, series: Series, now: u64) {
        let known = self.edges.get_mut(name).and_then(|all| find(all, &series.kind));
        if let Some(known) = known {
            known.series.merge(&series);
        } else if name.edge().is_other() {
            self.begin(name, series);
        } else if self.make_room(name, now) {
            self.kept += 1;
            self.begin(name, series);
        } else {
            self.folded += 1;
            self.merge(&other_than(name), series, now);
        }
    }

    /// Takes out what is over, and copies the rest.
    pub(super) fn show(&mut self, now: u64) -> Vec<Shown> {
        self.expire(now);
        let mut shown = Vec::with_capacity(self.kept);
        for (edge, all) in &mut self.edges {
            for Kept { series, born, since, shown: last } in all {
                last.clone_from(&series.cells);
                let (edge, kind) = (Arc::clone(edge), series.kind.clone());
                let (born, since, cells) = (*born, *since, last.clone());
                shown.push(Shown { edge, kind, born, since, cells });
            }
        }
        self.shown_at = now;
        shown.sort_unstable_by_key(|shown| shown.born);
        shown
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Tally {
        self.kept = 0;
        let edges = mem::take(&mut self.edges).into_iter();
        let edges = edges
            .map(|(name, all)| (name, all.into_iter().map(|kept| kept.series).collect::<Vec<_>>()));
        let edges: HashMap<_, _, _> = edges.collect();
        Tally { len: edges.values().map(Vec::len).sum(), edges }
    }

    /// How many series became `other` so far.
    pub(super) fn folded(&self) -> u64 {
        self.folded
    }

    /// Adds it to the series of its class, if it is counted as that, or to a new one.
    fn begin(&mut self, name: &Arc<EdgeName>, series: Series) {
        let all = self.edges.entry(Arc::clone(name)).or_default();
        let kind = coarsened(all, series.kind.clone());
        let born = self.born + 1;
        match all.iter_mut().find(|kept| kept.series.kind == kind) {
            Some(known) => known.series.merge(&series),
            None => {
                self.born = born;
                let series = Series { kind, ..series };
                let since = self.shown_at;
                all.push(Kept { series, born, since, shown: Cells::default() });
            }
        }
    }

    /// Whether there is room for one more series of this edge, if need be after others became `other`.
    fn make_room(&mut self, edge: &Arc<EdgeName>, now: u64) -> bool {
        if self.kept >= self.most {
            self.expire(now);
        }
        while self.kept >= self.most {
            let others =
                self.edges.iter().filter(|(name, _)| *name != edge && !name.edge().is_other());
            let oldest =
                others.min_by_key(|(_, all)| all.iter().map(|kept| kept.series.used).max());
            let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else {
                return false;
            };
            self.fold(&oldest, now);
        }
        true
    }

    fn fold(&mut self, name: &Arc<EdgeName>, now: u64) {
        let all = self.edges.remove(name).unwrap_or_default();
        self.kept -= all.len();
        self.folded += all.len() as u64;
        let other = other_than(name);
        for Kept { series, shown, .. } in all {
            let cells = series.cells.since(&shown);
            if cells != Cells::default() {
                self.merge(&other, Series { cells, ..series }, now);
            }
        }
    }

    fn expire(&mut self, now: u64) {
        let life = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        self.edges.retain(|name, all| {
            let before = all.len();
            all.retain(|kept| now.saturating_sub(kept.series.used) < life);
            if !name.edge().is_other() {
                self.kept -= before - all.len();
            }
            !all.is_empty()
        });
    }
}

/// What an edge without room of its own is counted as.
fn other_than(name: &EdgeName) -> Arc<EdgeName> {
    Arc::new(Edge::other(name.edge().direction).name())
}

/// The series that counts `kind` by now.
fn find<'a>(all: &'a mut [Kept], kind: &Kind) -> Option<&'a mut Kept> {
    let position = |kind: &Kind| all.iter().position(|kept| kept.series.kind == *kind);
    let index = position(kind).or_else(|| position(&kind.by_class()?))?;
    all.get_mut(index)
}

/// The kind as which it is counted beside these series.
fn coarsened(all: &[Kept], kind: Kind) -> Kind {
    let mut exact: Vec<u16> = all.iter().filter_map(|kept| kept.series.kind.exact()).collect();
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
    fn count(&mut self, event: &Event, now: u64) {
        let cells = &mut self.cells;
        cells.times += event.times;
        if let Some(took) = event.took {
            let bucket = cells.took.observe(took, self.kind.bounds());
            if let Some(exemplar) = event.exemplar.as_deref() {
                cells.took.exemplars.observe(bucket, *exemplar);
            }
        }
        cells.received += event.received;
        cells.sent += event.sent;
        self.used = self.used.max(now);
    }

    fn merge(&mut self, other: &Self) {
        let (cells, more) = (&mut self.cells, &other.cells);
        cells.times += more.times;
        cells.took.merge(&more.took);
        cells.received += more.received;
        cells.sent += more.sent;
        self.used = self.used.max(other.used);
    }
}

impl Cells {
    /// What was counted since it was `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        let mut took = Took {
            histogram: self.took.histogram.since(&earlier.took.histogram),
            nanoseconds: self.took.nanoseconds - earlier.took.nanoseconds,
            classic: self.took.classic,
            exemplars: Exemplars::default(),
        };
        for (more, before) in took.classic.iter_mut().zip(earlier.took.classic) {
            *more -= before;
        }
        Self {
            times: self.times - earlier.times,
            took,
            received: self.received - earlier.received,
            sent: self.sent - earlier.sent,
        }
    }
}

impl Took {
    /// Counts it; its bucket of the classic form.
    fn observe(&mut self, took: Duration, bounds: &[f64; BOUNDS]) -> usize {
        let seconds = took.as_secs_f64();
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        self.classic[bucket] += 1;
        self.histogram.observe(seconds);
        self.nanoseconds += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        bucket
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.classic.iter_mut().zip(other.classic) {
            *sum += more;
        }
        self.histogram.merge(&other.histogram);
        self.nanoseconds += other.nanoseconds;
        self.exemplars.merge(&other.exemplars);
    }
}

#[cfg(test)]
mod tests;
