//! By which rule a workload or Service is called.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    View,
    edges::{End, Name, Server, seen_once, server, service},
    signals::{Signals, Sum},
};
use crate::telemetry::{Of, Row, query::Answer};

/// A rule, or none, by which somebody calls a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// KIND/NAMESPACE/NAME#RULE; absent if no rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Who calls.
    pub caller: End,
    /// HOST:PORT that was called; absent where only who is called tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// All of it.
    pub signals: Signals,
    /// Each workload that it went to.
    pub backends: Vec<BackendView>,
}

/// A workload to which a rule's requests went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// The workload; `unknown` where nobody was reached.
    pub to: End,
    /// Its part.
    pub signals: Signals,
}

/// Rows by the workload that they went to.
type Backends<'a> = BTreeMap<Name<'a>, Vec<&'a Row>>;

/// How `of` is called, the most requests first.
pub fn routes(answer: &Answer, of: &Of, window: Duration) -> View<RouteView> {
    type Key<'a> = (&'a str, Name<'a>, Option<Server<'a>>);
    let mut all: BTreeMap<Key<'_>, Backends<'_>> = BTreeMap::new();
    for ((from, to), row) in seen_once(answer) {
        let server = server(&row.edge);
        if is_called(of, to, server) {
            let backends = all.entry((&row.route, from, server)).or_default();
            backends.entry(to).or_default().push(row);
        }
    }
    let item = |((route, caller, server), backends): (Key<'_>, Backends<'_>)| {
        let signals = sum(backends.values().flatten());
        let backends = backends.into_iter();
        let backends: Vec<_> = match backends.len() {
            // It is the whole, which is not summed up again.
            1 => backends.map(|(to, _)| backend(to, signals.clone())).collect(),
            _ => backends.map(|(to, rows)| backend(to, sum(&rows))).collect(),
        };
        let (route, service) = ((!route.is_empty()).then(|| route.to_owned()), server.map(service));
        RouteView { route, caller: End::named(caller), service, signals, backends }
    };
    let mut items: Vec<_> = all.into_iter().map(item).collect();
    items.sort_by(|one, other| other.signals.rps.total_cmp(&one.signals.rps));
    View::of(answer, window, items)
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a &'a Row>) -> Signals {
    let mut sum = Sum::default();
    rows.into_iter().for_each(|row| sum.add(row));
    sum.signals()
}

fn backend(to: Name<'_>, signals: Signals) -> BackendView {
    BackendView { to: End::named(to), signals }
}

fn is_called(of: &Of, to: Name<'_>, server: Option<Server<'_>>) -> bool {
    match of {
        Of::All => true,
        Of::Namespace(namespace) => to.0 == namespace,
        Of::Named(namespace, name) => {
            let host = server.is_some_and(|(host, _)| {
                let mut labels = host.split('.');
                (labels.next(), labels.next()) == (Some(name.as_str()), Some(namespace.as_str()))
            });
            host || to == (namespace.as_str(), name.as_str())
        }
    }
}
