//! A question, to whom it goes, and what all say together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tulle_proto::{replica::v1 as replica, telemetry::v1 as proto};

use super::{Question, Target, cursor::Cursors};
use crate::{
    replicas::Replica,
    telemetry::{
        Ask, Direction, Of, Query, Workload,
        view::{TapView, tap},
    },
    world::objects::Name,
};

/// Pods that are asked at once.
pub const MOST_PODS: usize = 100;
/// What there is instead of what was asked for, at most.
const MOST_NAMED: usize = 12;
/// How far back it is known which workloads serve a Service.
const SERVED: std::time::Duration = std::time::Duration::from_secs(3600);

/// Pods, and the workload that each is of.
type Pods = BTreeMap<Name, Workload>;

/// Why nobody was asked: there is no such thing; and what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What was heard: by pod, with `None` for those that have a stream and said nothing in time; and the replicas that said nothing.
type Heard = (HashMap<Name, Option<proto::Records>>, Vec<String>);

impl Query {
    /// What the proxies say whom the question is for.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn tap(&self, question: &Question) -> Result<TapView, Refused> {
        let mut pods = self.pods(question).await?;
        let not_asked = pods.len().saturating_sub(MOST_PODS);
        let first: Vec<_> = pods.keys().take(MOST_PODS).cloned().collect();
        pods.retain(|pod, _| first.contains(pod));
        let asked: Vec<_> =
            pods.iter().map(|(pod, workload)| (pod.clone(), question.to(pod, workload))).collect();
        let (mut heard, unheard) = self.hear(asked).await;
        let (mut cursors, mut silent, mut answers) = (Cursors::default(), Vec::new(), Vec::new());
        for (pod, workload) in &pods {
            let before = question.cursors.get(pod);
            match heard.remove(pod).flatten() {
                Some(records) => {
                    if let Some(cursor) = records.cursor.clone().or_else(|| before.cloned()) {
                        cursors.set(pod, cursor);
                    }
                    answers.push((pod, workload, records));
                }
                None => {
                    // It goes on where it was, if it comes back.
                    if let Some(before) = before {
                        cursors.set(pod, before.clone());
                    }
                    silent.push(pod.to_string());
                }
            }
        }
        let (records, missed, left_out) = tap::merged(&answers, question.most as usize);
        let asked = pods.len();
        let cursor = cursors.word();
        Ok(TapView { records, cursor, missed, left_out, unheard, silent, asked, not_asked })
    }

    /// Asks them on this replica's streams, and the other replicas for the rest.
    async fn hear(&self, asked: Vec<(Name, proto::Question)>) -> Heard {
        let elsewhere = asked.iter().filter(|(pod, _)| !self.hub.has_line(pod));
        let pods: Vec<_> = elsewhere
            .map(|(pod, question)| replica::Asked {
                namespace: pod.namespace.to_string(),
                name: pod.name.to_string(),
                question: Some(question.clone()),
            })
            .collect();
        let wanted: BTreeSet<_> = asked.iter().map(|(pod, _)| pod.clone()).collect();
        let others = async {
            let Some(replica) = self.replica.as_ref().filter(|_| !pods.is_empty()) else {
                return (Vec::new(), Vec::new());
            };
            let ask = |replica: Replica, name| {
                let request = replica::TapRequest { pods: pods.clone() };
                async move { replica.tap(&name, request).await }
            };
            let lacks = "a replica does not ask its proxies";
            let (others, unheard) = replica.ask_others(lacks, ask).await;
            (others, unheard.into_iter().map(|(name, _why)| name).collect())
        };
        let (mut said, (others, unheard)) = tokio::join!(self.hub.tap(asked), others);
        let pods = others.into_iter().flat_map(|(_, answer)| answer.pods);
        said.extend(pods.map(|pod| (Name::new(pod.namespace, pod.name), pod.records)));
        // Of a pod with two streams, the one that said something.
        let mut heard: HashMap<Name, Option<proto::Records>> = HashMap::new();
        for (pod, records) in said.into_iter().filter(|(pod, _)| wanted.contains(pod)) {
            let known = heard.entry(pod).or_default();
            *known = known.take().or(records);
        }
        (heard, unheard)
    }

    /// Whom it is for.
    async fn pods(&self, question: &Question) -> Result<Pods, Refused> {
        let Question { namespace, target: Target { kind, name }, .. } = question;
        let all = self.roster.pods(namespace);
        if all.is_empty() {
            return Err(Refused(format!("there are no pods in namespace {namespace}")));
        }
        let named = |workload: &Workload| name.is_empty() || workload.name == *name;
        let is_pod = |pod: &Name| name.is_empty() || *pod.name == **name;
        let found = match kind.as_str() {
            "" => of(&all, |_, workload| named(workload)),
            "Service" => Pods::new(),
            "Pod" => of(&all, |pod, _| is_pod(pod)),
            kind => of(&all, |_, workload| workload.kind == kind && named(workload)),
        };
        let found = match (found.is_empty(), kind.as_str()) {
            (true, "") => of(&all, |pod, _| is_pod(pod)),
            _ => found,
        };
        if !found.is_empty() {
            return Ok(found);
        }
        if matches!(kind.as_str(), "" | "Service") && !name.is_empty() {
            let serving = self.serving(namespace, name).await;
            let found = of(&all, |_, workload| serving.contains(&workload.name));
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(nothing(question, &all))
    }

    /// The workloads of its own namespace that have served a Service lately, as far as its callers' proxies told.
    async fn serving(&self, namespace: &str, service: &str) -> BTreeSet<String> {
        let of = Of::Named(namespace.to_owned(), service.to_owned());
        let ask = Ask { of, window: SERVED, points: 1, routes: false, durations: false };
        let rows = self.ask(&ask, false).await.known.rows;
        let host = format!("{service}.{namespace}.");
        let calls = rows.iter().map(|row| &row.edge).filter(|edge| {
            edge.direction == Direction::Outbound
                && edge.server.0.starts_with(&host)
                && edge.peer.namespace == namespace
        });
        calls.map(|edge| edge.peer.name.clone()).collect()
    }
}

impl Question {
    /// As this pod's proxy is asked.
    fn to(&self, pod: &Name, workload: &Workload) -> proto::Question {
        proto::Question {
            number: 0,
            since: self.cursors.get(pod).cloned(),
            filter: Some(self.filter.clone()),
            most: self.most,
            headers: self.headers.clone(),
            namespace: workload.namespace.clone(),
            workload: workload.name.clone(),
        }
    }
}

/// Those of them.
fn of(all: &Pods, holds: impl Fn(&Name, &Workload) -> bool) -> Pods {
    let those = all.iter().filter(|(pod, workload)| holds(pod, workload));
    those.map(|(pod, workload)| (pod.clone(), workload.clone())).collect()
}

/// That there is nothing of this name, and what there is.
fn nothing(question: &Question, all: &Pods) -> Refused {
    let Question { namespace, target: Target { kind, name }, .. } = question;
    let what = match kind.as_str() {
        "" => "no workload or pod, and no Service that was called lately, is".to_owned(),
        "Service" => "no Service that was called lately is".to_owned(),
        kind => format!("no {kind} is"),
    };
    let named = if name.is_empty() { "there".to_owned() } else { format!("named {name}") };
    let there: BTreeSet<_> = all
        .values()
        .map(|workload| format!("{}/{}", workload.kind.to_lowercase(), workload.name))
        .collect();
    let mut shown: Vec<_> = there.iter().take(MOST_NAMED).cloned().collect();
    if there.len() > MOST_NAMED {
        shown.push("…".to_owned());
    }
    Refused(format!("in namespace {namespace} {what} {named}; there are {}", shown.join(", ")))
}
