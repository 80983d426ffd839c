//! One question to all replicas' stores, and what they say added up.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Ask, Edge, Hub, Known, Prometheus, Reporting, Row, Scope, Totals, Workload};
use crate::{
    replicas::Replica,
    roster::{Pods, Roster},
};

/// Asks all replicas. Clones share.
#[derive(Debug, Clone)]
pub struct Query {
    /// What this one knows.
    pub hub: Hub,
    /// Which pods there are.
    pub roster: Roster,
    /// This replica among the others, if there can be any.
    pub replica: Option<Replica>,
    /// Who is asked about what stores have forgotten.
    pub prometheus: Option<Prometheus>,
}

/// What all replicas know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What happened, and who reports.
    pub known: Known,
    /// All workloads that there are, and their pods.
    pub workloads: Vec<(Workload, Pods)>,
    /// Replicas that did not answer: what only they know is missing.
    pub unheard: Vec<String>,
}

impl Query {
    /// What all replicas know. Who `looks` wants it by the second from now on, for a while.
    pub async fn ask(&self, ask: &Ask, looks: bool) -> Answer {
        match &self.prometheus {
            Some(prometheus) if !ask.is_within_reach() => {
                Box::pin(self.beyond(prometheus, ask)).await
            }
            _ => self.stores(ask, looks).await,
        }
    }

    /// What a Prometheus knows. Who reports is a matter of now.
    async fn beyond(&self, prometheus: &Prometheus, ask: &Ask) -> Answer {
        let brief =
            Ask { window: Duration::from_secs(60), points: 1, durations: false, ..ask.clone() };
        let mut answer = self.stores(&brief, false).await;
        let kinds: HashMap<(String, String), String> = answer
            .workloads
            .iter()
            .map(|(one, _)| ((one.namespace.clone(), one.name.clone()), one.kind.clone()))
            .collect();
        let kind = |namespace: &str, name: &str| {
            kinds.get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Of the time that is asked for the stores' short window says nothing.
        let known = &mut answer.known;
        (known.rows, known.since, known.whole) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        match prometheus.ask(ask, now, kind).await {
            Ok((rows, since)) => (known.rows, known.since, known.whole) = (rows, since, since),
            Err(reason) => {
                tracing::warn!(%prometheus, reason, "Prometheus does not say what was");
                answer.unheard.push(format!("{prometheus} ({reason})"));
            }
        }
        answer
    }

    async fn stores(&self, ask: &Ask, looks: bool) -> Answer {
        let mut sum = Sum::default();
        sum.add(self.hub.ask(ask, looks));
        let mut unheard = Vec::new();
        if let Some(replica) = &self.replica {
            let message = ask.message(looks);
            let lacks = "a replica does not say what it remembers";
            let ask = |replica: Replica, name| {
                let message = message.clone();
                async move { replica.observe(&name, message).await }
            };
            let (heard, silent) = replica.ask_others(lacks, ask).await;
            // What somebody can do something about is said.
            unheard.extend(silent.into_iter().map(|(name, why)| match why.too_much {
                true => format!(
                    "{name} (it is more than a replica says at once; ask for one namespace)"
                ),
                false => name,
            }));
            heard.into_iter().for_each(|(_, answer)| sum.add(Known::read(answer)));
        }
        let all = self.roster.workloads().into_iter();
        let workloads = all.filter(|(workload, _)| ask.of.is_of(workload)).collect();
        Answer { known: sum.known(), workloads, unheard }
    }
}

impl Answer {
    /// What somebody may see of it.
    #[must_use]
    pub fn within(mut self, scope: &Scope) -> Self {
        let Known { rows, reporting, .. } = &mut self.known;
        rows.retain(|Row { edge, .. }| {
            scope.has(&edge.workload.namespace) || scope.has(&edge.peer.namespace)
        });
        reporting.retain(|one| scope.has(&one.workload.namespace));
        self.workloads.retain(|(workload, _)| scope.has(&workload.namespace));
        self
    }
}

/// How many seconds it is of, and the points.
type Part = (u32, Vec<Totals>);

/// Several replicas' parts.
#[derive(Debug, Default)]
struct Sum {
    /// With how many seconds they are of: those of the replica that has known them for longest.
    rows: HashMap<(Arc<Edge>, String), Part>,
    reporting: HashMap<Workload, usize>,
    shortened: bool,
    since: Duration,
    /// That of the youngest.
    whole: Option<Duration>,
}

impl Sum {
    fn add(&mut self, known: Known) {
        for row in known.rows {
            let (covers, points) = self.rows.entry((row.edge, row.route)).or_default();
            *covers = row.covers.max(*covers);
            if points.len() < row.points.len() {
                points.resize_with(row.points.len(), Default::default);
            }
            points.iter_mut().zip(&row.points).for_each(|(sum, more)| sum.merge(more));
        }
        for Reporting { workload, proxies } in known.reporting {
            *self.reporting.entry(workload).or_default() += proxies;
        }
        self.shortened |= known.shortened;
        self.since = self.since.max(known.since);
        self.whole = Some(self.whole.map_or(known.whole, |whole| whole.min(known.whole)));
    }

    /// In order.
    fn known(self) -> Known {
        let rows = self.rows.into_iter();
        let row = |((edge, route), (covers, points))| Row { edge, route, points, covers };
        let mut rows: Vec<_> = rows.map(row).collect();
        rows.sort_by(|one, other| (&one.edge, &one.route).cmp(&(&other.edge, &other.route)));
        let reporting = self.reporting.into_iter();
        let mut reporting: Vec<_> =
            reporting.map(|(workload, proxies)| Reporting { workload, proxies }).collect();
        reporting.sort_by(|one, other| one.workload.cmp(&other.workload));
        let whole = self.whole.unwrap_or_default();
        Known { rows, reporting, shortened: self.shortened, since: self.since, whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_replica_says_what_is_known_and_the_youngest_since_when_all_of_it() {
        let mut sum = Sum::default();
        for seconds in [600, 30, 7200] {
            let since = Duration::from_secs(seconds);
            let rows = Vec::new();
            sum.add(Known { rows, reporting: Vec::new(), shortened: false, since, whole: since });
        }
        let Known { since, whole, .. } = sum.known();
        assert_eq!((since.as_secs(), whole.as_secs()), (7200, 30));
    }
}
