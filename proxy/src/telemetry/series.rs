//! Series of edges: a bounded number of them, and none of what is long over. Time is an argument.
//!
//! ```text
//!  worker ──► its [ Tally ] ─┐ what it has counted since, whenever somebody asks
//!  worker ──► its [ Tally ] ─┴─► [ Table ]: [ Edge ] ─► its series, one per [ Kind ] of event
//!                                  ├─ no room ─► the edge that rested longest becomes `other`
//!                                  └─ one value of a [ Tag ] too many ─► that value is `other`
//! ```
//!
//! An edge with other [`Tag`](super::tags::Tag)s is another edge here, but for reports, which are
//! [without](Tally::untagged) them.
//!
//! **Invariants.** Every event is counted once, in its own series or in one of `other`. What a scrape has
//! seen is not shown a second time under `other`: sums over all series would jump.

use std::{mem, sync::Arc, time::Duration};

use hashbrown::HashMap;
use tulle_runtime::histogram::Histogram;

use super::{
    edge::{Edge, EdgeName},
    exemplar::{Exemplar, Exemplars},
};

/// Series of edges that a proxy keeps; those of `other` come on top.
pub(super) const MOST: usize = 500;

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
    pub(super) edges: HashMap<Arc<EdgeName>, Vec<Series>>,
    /// How many series.
    pub(super) len: usize,
}

/// Where a worker counts what happened on one edge.
#[derive(Debug)]
pub(super) struct Counter<'a> {
    all: &'a mut Vec<Series>,
    now: u64,
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
    pub(super) used: u64,
    pub(super) cells: Cells,
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

    /// Whether something was counted by tags.
    pub(super) fn has_tags(&self) -> bool {
        self.edges.keys().any(|name| !name.tags().is_empty())
    }

    /// The same, whatever the tags.
    pub(super) fn untagged(&self) -> Self {
        if !self.has_tags() {
            return self.clone();
        }
        let mut sums = Self::default();
        for (name, all) in &self.edges {
            let edge = Edge { tags: &[], ..name.edge() };
            if let Some(known) = sums.edges.get_mut(&edge) {
                sums.len += merge(known, all);
            } else {
                sums.len += all.len();
                sums.edges.insert(Arc::new(edge.name()), all.clone());
            }
        }
        sums
    }

    /// Each edge, with its series.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&EdgeName, &[Series])> {
        self.edges.iter().map(|(name, all)| (&**name, &**all))
    }
}

/// Adds these up; how many series are new.
fn merge(all: &mut Vec<Series>, more: &[Series]) -> usize {
    let before = all.len();
    for series in more {
        match all.iter_mut().find(|known| known.kind == series.kind) {
            Some(known) => known.merge(series),
            None => all.push(series.clone()),
        }
    }
    all.len() - before
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

impl Kind {
    pub(super) fn exact(&self) -> Option<u16> {
        match self {
            Self::Http { status: Status::Exact(status), .. } => Some(*status),
            _ => None,
        }
    }

    pub(super) fn by_class(&self) -> Option<Self> {
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

    pub(super) fn merge(&mut self, other: &Self) {
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
    pub(super) fn since(&self, earlier: &Self) -> Self {
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
