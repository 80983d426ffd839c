//! Who calls whom.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    View,
    signals::{Signals, Sum},
};
use crate::telemetry::{Direction, Edge, Row, Security, query::Answer};

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

impl End {
    pub(super) fn named((namespace, name): (&str, &str)) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
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

/// Namespace and name of a workload, or of a class.
pub(super) type Name<'a> = (&'a str, &'a str);

/// Who calls, and who is called.
pub(super) type Ends<'a> = (Name<'a>, Name<'a>);

/// Each edge once.
pub fn edges(answer: &Answer, window: Duration) -> View<EdgeView> {
    type Key<'a> = (Ends<'a>, Option<Server<'a>>, Option<Travels>);
    let mut all: BTreeMap<Key<'_>, Sum<'_>> = BTreeMap::new();
    for (ends, row) in seen_once(answer) {
        let key = (ends, server(&row.edge), Travels::of(row.edge.security));
        all.entry(key).or_default().add(row);
    }
    let items = all.into_iter().map(|(((from, to), server, security), sum)| EdgeView {
        from: End::named(from),
        to: End::named(to),
        service: server.map(service),
        security,
        signals: sum.signals(),
    });
    let items = items.collect();
    View::of(answer, window, items)
}

/// Each row with its ends, as the caller's proxies tell it; or as those of who was called do, where they saw much more, because
/// not all callers have a proxy that reports. (A little more they may have seen because their report came a moment earlier.)
pub(super) fn seen_once(answer: &Answer) -> impl Iterator<Item = (Ends<'_>, &Row)> {
    let mut seen: HashMap<Ends<'_>, [u64; 2]> = HashMap::new();
    for row in answer.known.rows.iter() {
        let total =
            row.points.iter().map(|point| point.requested().saturating_add(point.flow.opened));
        let [called, caller] = seen.entry(ends(row)).or_default();
        let side = if row.edge.direction == Direction::Inbound { called } else { caller };
        *side = total.fold(*side, u64::saturating_add);
    }
    answer.known.rows.iter().filter_map(move |row| {
        let ends = ends(row);
        let [called, caller] = seen.get(&ends).copied().unwrap_or_default();
        let tells = if called / 3 > caller / 2 { Direction::Inbound } else { Direction::Outbound };
        (row.edge.direction == tells).then_some((ends, row))
    })
}

fn ends(row: &Row) -> Ends<'_> {
    let Edge { workload, peer, direction, .. } = &*row.edge;
    let own = (workload.namespace.as_str(), workload.name.as_str());
    let peer = (peer.namespace.as_str(), peer.name.as_str());
    match direction {
        Direction::Inbound => (peer, own),
        Direction::Outbound => (own, peer),
    }
}

/// Host and port of a Service.
pub(super) type Server<'a> = (&'a str, u16);

/// The Service that was called, if it is known.
pub(super) fn server(edge: &Edge) -> Option<Server<'_>> {
    let (host, port) = &edge.server;
    (*port > 0).then_some((host.as_str(), *port))
}

/// HOST:PORT.
pub(super) fn service((host, port): Server<'_>) -> String {
    format!("{host}:{port}")
}
