//! All series of a proxy, as workers' tallies come in and scrapes are shown them. Time is an argument.

use std::{cmp::Reverse, mem, sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{
    edge::{Edge, EdgeName},
    series::{Cells, Kind, MOST, Series, Tally},
    tags::Values,
};

/// A series on which nothing happened for so long leaves.
const LIFE: Duration = Duration::from_secs(600);

/// HTTP statuses that are told apart on one edge; what comes beyond is counted by its class.
const MOST_STATUSES: usize = 12;

/// All series.
#[derive(Debug)]
pub(super) struct Table {
    edges: HashMap<Arc<EdgeName>, Vec<Kept>>,
    most: usize,
    /// Series that are no `other`'s.
    kept: usize,
    /// Values of tags that have series.
    values: Values,
    lost: Lost,
    born: u64,
    /// When it was shown last. What was counted of a new series came later, as all tallies were emptied then.
    shown_at: u64,
}

/// What became `other` so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Series, for want of room.
    pub(super) series: u64,
    /// Values of tags that were one too many, each time that some worker has counted it.
    pub(super) values: u64,
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

impl Table {
    fn new(most: usize) -> Self {
        Self {
            edges: HashMap::default(),
            most,
            kept: 0,
            values: Values::default(),
            lost: Lost::default(),
            born: 0,
            shown_at: 0,
        }
    }

    /// Takes in what a worker has counted.
    pub(super) fn add(&mut self, tally: Tally, now: u64) {
        let has_tags = tally.has_tags();
        let mut edges: Vec<_> = tally.edges.into_iter().collect();
        if has_tags {
            // What is over is in no value's way, and neither are strangers in that of what comes often.
            self.expire(now);
            let times = |all: &[Series]| all.iter().map(|series| series.cells.times).sum::<u64>();
            edges.sort_by_cached_key(|(_, all)| Reverse(times(all)));
        }
        for (name, all) in edges {
            let name = self.bounded(name);
            for series in all {
                self.merge(&name, series, now);
            }
        }
    }

    /// The edge, of which values of tags are `other` that are too many.
    fn bounded(&mut self, name: Arc<EdgeName>) -> Arc<EdgeName> {
        let Some((tags, values)) = self.values.bounded(name.tags()) else { return name };
        self.lost.values += values;
        let edge = Edge { tags: &tags, ..name.edge() };
        let known = self.edges.get_key_value(&edge).map(|(known, _)| Arc::clone(known));
        known.unwrap_or_else(|| Arc::new(edge.name()))
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
            self.lost.series += 1;
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
        self.values = Values::default();
        let edges = mem::take(&mut self.edges).into_iter();
        let edges = edges
            .map(|(name, all)| (name, all.into_iter().map(|kept| kept.series).collect::<Vec<_>>()));
        let edges: HashMap<_, _, _> = edges.collect();
        Tally { len: edges.values().map(Vec::len).sum(), edges }
    }

    /// What became `other` so far.
    pub(super) fn lost(&self) -> Lost {
        self.lost
    }

    /// Adds it to the series of its class, if it is counted as that, or to a new one.
    fn begin(&mut self, name: &Arc<EdgeName>, series: Series) {
        let values = &mut self.values;
        let all = self.edges.entry(Arc::clone(name)).or_insert_with(|| {
            values.come(name.tags());
            Vec::new()
        });
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
        self.values.leave(name.tags());
        self.kept -= all.len();
        self.lost.series += all.len() as u64;
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
            if all.is_empty() {
                self.values.leave(name.tags());
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

#[cfg(test)]
mod tests;
