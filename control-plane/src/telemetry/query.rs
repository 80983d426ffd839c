//! One question to all replicas' stores, and what they say added up.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Ask, Edge, Hub, Known, Prometheus, Row, Scope, Totals, Workload};
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
        (known.rows, known.since, known.whole) = Default::default();
        match prometheus.ask(ask, now, kind).await {
            Ok((rows, since)) => {
                (known.rows, known.since, known.whole) = (rows.into(), since, since);
            }
            Err(reason) => {
                tracing::warn!(%prometheus, reason, "Prometheus does not say what was");
                answer.unheard.push(format!("{prometheus} ({reason})"));
            }
        }
        answer
    }

    async fn stores(&self, ask: &Ask, looks: bool) -> Answer {
        let mut known = self.hub.ask(ask, looks);
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
            known.add(heard.into_iter().map(|(_, answer)| Known::read(answer)).collect());
        }
        let all = self.roster.workloads().into_iter();
        let workloads = all.filter(|(workload, _)| ask.of.is_of(workload)).collect();
        Answer { known, workloads, unheard }
    }
}

impl Answer {
    /// What somebody may see of it.
    #[must_use]
    pub fn within(mut self, scope: &Scope) -> Self {
        let Known { rows, reporting, .. } = &mut self.known;
        let may = |Row { edge, .. }: &Row| {
            scope.has(&edge.workload.namespace) || scope.has(&edge.peer.namespace)
        };
        if !rows.iter().all(may) {
            *rows = Arc::new(rows.iter().filter(|row| may(row)).cloned().collect());
        }
        reporting.retain(|one| scope.has(&one.workload.namespace));
        self.workloads.retain(|(workload, _)| scope.has(&workload.namespace));
        self
    }
}

impl Known {
    /// Adds what other replicas know.
    fn add(&mut self, others: Vec<Self>) {
        if others.is_empty() {
            return;
        }
        let mut rows = Places::of(&self.rows, Row::key);
        let mut reporting = Places::of(&self.reporting, |one| one.workload.clone());
        for other in others {
            rows.add(Arc::make_mut(&mut self.rows), Arc::unwrap_or_clone(other.rows), Row::merge);
            reporting.add(&mut self.reporting, other.reporting, |sum, one| {
                sum.proxies += one.proxies;
            });
            self.shortened |= other.shortened;
            self.since = self.since.max(other.since);
            self.whole = self.whole.min(other.whole);
        }
    }
}

/// Where things stand, by what tells them apart.
struct Places<T, K> {
    at: HashMap<K, usize>,
    key: fn(&T) -> K,
}

impl<T, K: Hash + Eq> Places<T, K> {
    fn of(all: &[T], key: fn(&T) -> K) -> Self {
        Self { at: all.iter().map(key).zip(0..).collect(), key }
    }

    fn add(&mut self, all: &mut Vec<T>, more: Vec<T>, merge: impl Fn(&mut T, T)) {
        for one in more {
            let at = *self.at.entry((self.key)(&one)).or_insert(all.len());
            match all.get_mut(at) {
                Some(sum) => merge(sum, one),
                None => all.push(one),
            }
        }
    }
}

impl Row {
    fn key(&self) -> (Arc<Edge>, String) {
        (Arc::clone(&self.edge), self.route.clone())
    }

    /// Adds what another replica says of the same: of as many seconds as the one that has known it for longest.
    fn merge(&mut self, other: Self) {
        self.covers = self.covers.max(other.covers);
        if self.points.len() < other.points.len() {
            self.points.resize_with(other.points.len(), Totals::default);
        }
        self.points.iter_mut().zip(&other.points).for_each(|(sum, more)| sum.merge(more));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_replica_says_what_is_known_and_the_youngest_since_when_all_of_it() {
        let known = |seconds| {
            let since = Duration::from_secs(seconds);
            let rows = Arc::default();
            Known { rows, reporting: Vec::new(), shortened: false, since, whole: since }
        };
        let mut sum = known(600);
        sum.add(vec![known(30), known(7200)]);
        let Known { since, whole, .. } = sum;
        assert_eq!((since.as_secs(), whole.as_secs()), (7200, 30));
    }
}
