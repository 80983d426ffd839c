//! One question to all replicas' stores, and what they say added up.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{Ask, Edge, Hub, Known, Reporting, Row, Totals, Workload};
use crate::{replicas::Replica, roster::Roster, world::objects::Name};

/// How long another replica may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Replicas that are asked at once.
const AT_ONCE: usize = 16;

/// Asks all replicas. Clones share.
#[derive(Debug, Clone)]
pub struct Query {
    /// What this one knows.
    pub hub: Hub,
    /// Which pods there are.
    pub roster: Roster,
    /// This replica among the others, if there can be any.
    pub replica: Option<Replica>,
}

/// What all replicas know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What happened, and who reports.
    pub known: Known,
    /// All workloads that there are, and their pods.
    pub workloads: Vec<(Workload, usize)>,
    /// Replicas that did not answer: what only they know is missing.
    pub unheard: Vec<String>,
}

impl Query {
    /// What all replicas know. Who `looks` wants it by the second from now on, for a while.
    pub async fn ask(&self, ask: &Ask, looks: bool) -> Answer {
        let mut sum = Sum::default();
        sum.add(self.hub.ask(ask, looks));
        let mut unheard = Vec::new();
        if let Some(replica) = &self.replica {
            // One that is not ready may have proxies all the same.
            let siblings = self.roster.siblings(&replica.pod).into_iter().map(|(name, _)| name);
            let message = ask.message(looks);
            let answers = stream::iter(siblings).map(|name| async {
                let answer = timeout(PATIENCE, replica.observe(&name, message.clone())).await;
                (name, answer.unwrap_or_else(|_late| Err(format!("no answer within {PATIENCE:?}"))))
            });
            let answers: Vec<(Name, _)> = answers.buffer_unordered(AT_ONCE).collect().await;
            for (name, answer) in answers {
                match answer {
                    Ok(answer) => sum.add(Known::read(answer)),
                    Err(reason) => {
                        tracing::warn!(replica = %name, reason, "a replica does not say what it remembers");
                        unheard.push(name.to_string());
                    }
                }
            }
        }
        let all = self.roster.workloads().into_iter();
        let workloads = all.filter(|(workload, _)| ask.of.is_of(workload)).collect();
        Answer { known: sum.known(), workloads, unheard }
    }
}

/// How many seconds it is of, and the points.
type Part = (u32, Vec<Totals>);

/// Several replicas' parts.
#[derive(Debug, Default)]
struct Sum {
    /// With how many seconds they are of: those of the replica that has known them for longest.
    rows: HashMap<(Edge, String), Part>,
    reporting: HashMap<Workload, usize>,
    shortened: bool,
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
        Known { rows, reporting, shortened: self.shortened }
    }
}
