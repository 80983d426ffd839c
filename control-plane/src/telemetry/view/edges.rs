//! Who calls whom.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    View,
    signals::{Signals, Sum},
};
use crate::telemetry::{Direction, Edge, Peer, Row, Security, query::Answer};

/// Two who speak to each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeView {
    /// Who calls; without namespace a class: `internet`, …
    pub from: End,
    /// Who is called.
    pub to: End,
    /// The Service and its port that was called, as far as the caller's proxy told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How bytes travel; absent if nobody was reached, or it is outside of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Travels>,
    /// What was asked and answered.
    pub signals: Signals,
}

/// An end of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// Empty for a class.
    pub namespace: String,
    /// Of the workload, or the class.
    pub name: String,
}

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Travels {
    /// Both ends have proven who they are.
    Mtls,
    /// Whoever is on the way can read them.
    Plaintext,
}

impl From<&Peer> for End {
    fn from(peer: &Peer) -> Self {
        Self { namespace: peer.namespace.clone(), name: peer.name.clone() }
    }
}

impl Travels {
    pub(super) fn of(security: Security) -> Option<Self> {
        match security {
            Security::Unknown => None,
            Security::Mtls => Some(Self::Mtls),
            Security::Plaintext => Some(Self::Plaintext),
        }
    }
}

/// Each edge once.
pub fn edges(answer: &Answer, window: Duration) -> View<EdgeView> {
    type Key = (End, End, Option<String>, Option<Travels>);
    let mut all: BTreeMap<Key, Sum> = BTreeMap::new();
    for (from, to, row) in seen_once(answer) {
        let key = (from, to, service(&row.edge), Travels::of(row.edge.security));
        all.entry(key).or_default().add(row);
    }
    let items = all.into_iter().map(|((from, to, service, security), sum)| EdgeView {
        from,
        to,
        service,
        security,
        signals: sum.signals(),
    });
    let items = items.collect();
    View::of(answer, window, items)
}

/// Each row with its ends, as the caller's proxies tell it; or as those of who was called do, where they saw much more, because
/// not all callers have a proxy that reports. (A little more they may have seen because their report came a moment earlier.)
pub(super) fn seen_once(answer: &Answer) -> impl Iterator<Item = (End, End, &Row)> {
    let mut seen: BTreeMap<(End, End), [u64; 2]> = BTreeMap::new();
    for row in &answer.known.rows {
        let total =
            row.points.iter().map(|point| point.requested().saturating_add(point.flow.opened));
        let [called, caller] = seen.entry(ends(row)).or_default();
        let side = if row.edge.direction == Direction::Inbound { called } else { caller };
        *side = total.fold(*side, u64::saturating_add);
    }
    answer.known.rows.iter().filter_map(move |row| {
        let (from, to) = ends(row);
        let [called, caller] = seen.get(&(from.clone(), to.clone())).copied().unwrap_or_default();
        let tells = if called / 3 > caller / 2 { Direction::Inbound } else { Direction::Outbound };
        (row.edge.direction == tells).then_some((from, to, row))
    })
}

fn ends(row: &Row) -> (End, End) {
    let workload = &row.edge.workload;
    let own = End { namespace: workload.namespace.clone(), name: workload.name.clone() };
    let peer = End::from(&row.edge.peer);
    match row.edge.direction {
        Direction::Inbound => (peer, own),
        Direction::Outbound => (own, peer),
    }
}

/// HOST:PORT of a Service.
pub(super) fn service(edge: &Edge) -> Option<String> {
    let (host, port) = &edge.server;
    (*port > 0).then(|| format!("{host}:{port}"))
}
