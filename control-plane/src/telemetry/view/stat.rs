//! How workloads do.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    View, covered,
    edges::Name,
    signals::{Signals, Sum, float},
};
use crate::{
    roster::Pods,
    telemetry::{Direction, Peer, Row, Totals, Workload, query::Answer},
};

/// Points of a trend, and seconds of each.
pub const TREND: u32 = 15;
/// Seconds of each.
pub const TREND_POINT: u32 = 60;

/// A workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    /// Its namespace.
    pub namespace: String,
    /// `Deployment`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it was asked.
    pub signals: Signals,
    /// Whether anybody tells of it, and of any of the time; if not, figures of 0 say nothing.
    #[serde(default = "known")]
    pub known: bool,
    /// Workloads, and classes of what is none, that call it, and that it calls.
    pub callers: usize,
    /// That it calls.
    pub callees: usize,
    /// Its pods, and those of them whose sidecars report.
    pub pods: usize,
    /// Whose sidecars report.
    pub reporting: usize,
    /// Pods whose sidecars count nothing: they report, but figures they have none.
    #[serde(default)]
    pub uncounted: usize,
    /// The Telemetries by which, NAMESPACE/NAME.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub uncounted_by: Vec<String>,
    /// Requests per second in parts of the last quarter of an hour, the oldest first; empty if nothing is known of it, and
    /// `None` where nothing is known of that time.
    pub trend: Vec<Option<f64>>,
}

/// An older control plane does not say it.
fn known() -> bool {
    true
}

/// Of each workload that was asked for. `trend` says how many requests came before.
pub fn stat(answer: &Answer, trend: &Answer, window: Duration) -> View<WorkloadView> {
    let now = Inbound::of(answer);
    let earlier = Inbound::of(trend);
    let peers = Peers::of(answer);
    let tellers = Tellers::of(answer);
    let any = !covered(answer, window).is_zero();
    let item = |(workload, pods): &(Workload, Pods)| {
        let (mut sum, tell) = (Sum::default(), tellers.tell(workload, pods));
        let mut rows = now.rows(workload, tell).peekable();
        let known = any && (tell || rows.peek().is_some());
        rows.for_each(|row| sum.add(row));
        let (callers, callees) = peers.count(workload);
        WorkloadView {
            namespace: workload.namespace.clone(),
            kind: workload.kind.clone(),
            name: workload.name.clone(),
            signals: sum.signals(),
            known,
            callers,
            callees,
            pods: pods.all,
            reporting: tellers.reporting(workload),
            uncounted: pods.uncounted,
            uncounted_by: pods.uncounted_by.iter().map(ToString::to_string).collect(),
            trend: earlier.trend(workload, tell, trend.known.since),
        }
    };
    View::of(answer, window, answer.workloads.iter().map(item).collect())
}

/// Whose own proxies tell what came to them.
pub(super) struct Tellers<'a>(HashMap<&'a Workload, usize>);

impl<'a> Tellers<'a> {
    pub(super) fn of(answer: &'a Answer) -> Self {
        Self(answer.known.reporting.iter().map(|one| (&one.workload, one.proxies)).collect())
    }

    /// How many of a workload's proxies report.
    fn reporting(&self, workload: &Workload) -> usize {
        self.0.get(workload).copied().unwrap_or(0)
    }

    /// Whether some of them count.
    pub(super) fn tell(&self, workload: &Workload, pods: &Pods) -> bool {
        self.reporting(workload) > pods.uncounted
    }
}

/// What came to each workload: as its own proxies saw it, and as its callers' did.
pub(super) struct Inbound<'a> {
    own: HashMap<&'a Workload, Vec<&'a Row>>,
    callers: HashMap<&'a Peer, Vec<&'a Row>>,
}

impl<'a> Inbound<'a> {
    pub(super) fn of(answer: &'a Answer) -> Self {
        let (mut own, mut callers) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for row in answer.known.rows.iter() {
            match row.edge.direction {
                Direction::Inbound => own.entry(&row.edge.workload).or_default().push(row),
                Direction::Outbound => callers.entry(&row.edge.peer).or_default().push(row),
            }
        }
        Self { own, callers }
    }

    pub(super) fn rows(
        &self,
        workload: &Workload,
        reports: bool,
    ) -> impl Iterator<Item = &'a Row> + use<'a> {
        let Workload { namespace, name, .. } = workload.clone();
        let found = match reports {
            true => self.own.get(workload),
            false => self.callers.get(&Peer { namespace, name }),
        };
        found.into_iter().flatten().copied().collect::<Vec<_>>().into_iter()
    }

    /// Of the last parts `since` somebody has listened.
    fn trend(&self, workload: &Workload, reports: bool, since: Duration) -> Vec<Option<f64>> {
        let mut trend: Vec<f64> = Vec::new();
        for row in self.rows(workload, reports) {
            trend.resize(row.points.len().max(trend.len()), 0.0);
            let seconds = f64::from(TREND_POINT);
            let rate = |point: &Totals| float(point.requested()) / seconds;
            trend.iter_mut().zip(&row.points).for_each(|(sum, point)| *sum += rate(point));
        }
        let known = since.as_secs() / u64::from(TREND_POINT);
        let unknown = trend.len().saturating_sub(usize::try_from(known).unwrap_or(usize::MAX));
        trend.into_iter().enumerate().map(|(at, rate)| (at >= unknown).then_some(rate)).collect()
    }
}

/// Whom each workload calls, and who calls it.
#[derive(Default)]
struct Peers<'a> {
    callers: HashMap<Name<'a>, HashSet<Name<'a>>>,
    callees: HashMap<Name<'a>, HashSet<Name<'a>>>,
}

impl<'a> Peers<'a> {
    fn of(answer: &'a Answer) -> Self {
        let mut peers = Self::default();
        for edge in answer.known.rows.iter().map(|row| &row.edge) {
            let own = (edge.workload.namespace.as_str(), edge.workload.name.as_str());
            let other = (edge.peer.namespace.as_str(), edge.peer.name.as_str());
            let (from, to) = match edge.direction {
                Direction::Inbound => (other, own),
                Direction::Outbound => (own, other),
            };
            peers.callers.entry(to).or_default().insert(from);
            peers.callees.entry(from).or_default().insert(to);
        }
        peers
    }

    /// How many call it, and how many it calls.
    fn count(&self, workload: &Workload) -> (usize, usize) {
        let name = (workload.namespace.as_str(), workload.name.as_str());
        let len =
            |all: &HashMap<Name<'_>, HashSet<Name<'_>>>| all.get(&name).map_or(0, HashSet::len);
        (len(&self.callers), len(&self.callees))
    }
}
