//! What people see of lanes. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tulle_xds::model::{Match, StringMatch};

use crate::{
    compile::{Behind, LaneSight},
    telemetry::{
        Direction, Workload,
        lanes::{By, Count, Kind, Told},
    },
};

/// Lanes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LanesView {
    /// Seconds that counts are of, at most.
    pub window: f64,
    /// By namespace and name.
    pub items: Vec<LaneView>,
    /// Replicas of the control plane that did not say what they know: it is missing.
    pub unheard: Vec<String>,
}

/// A lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LaneView {
    /// Of the object.
    pub namespace: String,
    /// Of the object.
    pub name: String,
    /// Who enters: requests that all of one of these holds for.
    pub entry: Vec<EntryView>,
    /// The labels of its pods.
    pub members: BTreeMap<String, String>,
    /// Its requests are refused where it has no pod.
    pub denies: bool,
    /// Proxies that have taken the latest of it.
    pub in_force: usize,
    /// Proxies that use it.
    pub of: usize,
    /// The Services that lead to pods of it.
    pub services: Vec<BehindView>,
    /// Pods of it to which none does.
    pub strays: Vec<String>,
    /// Requests of it, by what says so at the first of both ends that tells: each hop once.
    pub known_by: BTreeMap<By, u64>,
    /// Seconds since the last request was told of; absent: none was, as long as the control plane remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<f64>,
    /// Workloads of its namespace that got requests of it, or sent some.
    pub workloads: Vec<LaneWorkloadView>,
}

/// What requests say that enter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntryView {
    /// In these header fields.
    pub headers: Vec<ValueView>,
    /// In these parameters.
    pub query: Vec<ValueView>,
}

/// A field or parameter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ValueView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// It is an expression.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub regex: bool,
}

/// The lane's pods behind a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BehindView {
    /// Its name.
    pub name: String,
    /// All of them.
    pub pods: usize,
    /// Those that are ready.
    pub ready: usize,
}

/// What a workload got and sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneWorkloadView {
    /// `Deployment`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What came to it.
    pub received: Vec<PassedView>,
    /// What it sent; also in no lane, while it answered requests of this one.
    pub sent: Vec<PassedView>,
}

/// Requests of one kind between two workloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedView {
    /// Of the workload on the other side; empty: it is none of the mesh's.
    pub namespace: String,
    /// It, or what class it is of.
    pub name: String,
    /// The Service that was called, NAMESPACE/NAME; empty: none was, or it came from there.
    pub service: String,
    /// What says that they are of the lane; or why they may be.
    pub by: By,
    /// How many.
    pub requests: u64,
    /// Of those in no lane, the ones that were sent while nothing but requests of the lane was answered.
    pub alone: u64,
}

/// What there is to see.
pub(super) fn view(
    sights: &[LaneSight],
    force: impl Fn(&LaneSight) -> (usize, usize),
    told: &Told,
    window: Duration,
) -> LanesView {
    let items = sights.iter().map(|sight| {
        let (in_force, of) = force(sight);
        let counts = told.counts.iter().filter(|(kind, _)| {
            *kind.lane == *sight.name.name && *kind.workload.namespace == *sight.name.namespace
        });
        let counts: Vec<_> = counts.collect();
        let of_it = counts.iter().filter(|(kind, _)| kind.by.is_in());
        let last = of_it.map(|(_, count)| count.last).min();
        LaneView {
            namespace: sight.name.namespace.to_string(),
            name: sight.name.name.to_string(),
            entry: sight.entry.iter().map(entry).collect(),
            members: sight.members.clone().into_iter().collect(),
            denies: sight.denies,
            in_force,
            of,
            services: sight.services.iter().map(behind).collect(),
            strays: sight.strays.clone(),
            known_by: known_by(&counts, told),
            idle: last.map(|last| last.as_secs_f64()),
            workloads: workloads(&counts),
        }
    });
    let unheard = told.unheard.clone();
    let known = window.min(told.since).as_secs_f64();
    LanesView { window: known, items: items.collect(), unheard }
}

fn entry(matches: &Match) -> EntryView {
    let value = |name: &str, value: &StringMatch| {
        let (value, regex) = match value {
            StringMatch::Exact(text) => (text.clone(), false),
            StringMatch::Regex(regex) => (regex.source().to_owned(), true),
        };
        ValueView { name: name.to_owned(), value, regex }
    };
    let headers = matches.headers.iter().map(|told| value(told.name.as_str(), &told.value));
    let query = matches.query.iter().map(|told| value(&told.name, &told.value));
    EntryView { headers: headers.collect(), query: query.collect() }
}

fn behind(told: &Behind) -> BehindView {
    let Behind { service, pods, ready } = told.clone();
    BehindView { name: service, pods, ready }
}

/// Each hop once: by its caller's proxies if they tell of such requests to that workload at all, of whatever namespace.
fn known_by(counts: &[(&Kind, &Count)], told: &Told) -> BTreeMap<By, u64> {
    let (lane, mut sum) = (counts.first().map(|(kind, _)| &kind.lane), BTreeMap::new());
    let all = told.counts.keys();
    let senders = all.filter(|kind| Some(&kind.lane) == lane && kind.by.is_in());
    let senders = senders.filter(|kind| kind.direction == Direction::Outbound);
    let hop =
        |from: (&str, &str), to: (&str, &str)| [from.0, from.1, to.0, to.1].map(str::to_owned);
    let own = |of: &Workload| (of.namespace.clone(), of.name.clone());
    let hops: BTreeSet<_> = senders
        .map(|kind| {
            let (namespace, name) = own(&kind.workload);
            hop((&namespace, &name), (&kind.peer.namespace, &kind.peer.name))
        })
        .collect();
    for (kind, count) in counts.iter().filter(|(kind, count)| kind.by.is_in() && count.requests > 0)
    {
        let (namespace, name) = own(&kind.workload);
        let known = kind.direction == Direction::Inbound
            && hops.contains(&hop((&kind.peer.namespace, &kind.peer.name), (&namespace, &name)));
        if !known {
            *sum.entry(kind.by).or_default() += count.requests;
        }
    }
    sum
}

fn workloads(counts: &[(&Kind, &Count)]) -> Vec<LaneWorkloadView> {
    let mut all: BTreeMap<&Workload, LaneWorkloadView> = BTreeMap::new();
    for (kind, count) in counts.iter().filter(|(_, count)| count.requests > 0) {
        let workload = &kind.workload;
        let one = all.entry(workload).or_insert_with(|| LaneWorkloadView {
            kind: workload.kind.clone(),
            name: workload.name.clone(),
            ..LaneWorkloadView::default()
        });
        let passed = PassedView {
            namespace: kind.peer.namespace.clone(),
            name: kind.peer.name.clone(),
            service: service(&kind.host),
            by: kind.by,
            requests: count.requests,
            alone: count.alone,
        };
        match kind.direction {
            Direction::Inbound => one.received.push(passed),
            Direction::Outbound => one.sent.push(passed),
        }
    }
    all.into_values().collect()
}

/// NAMESPACE/NAME of a host name of the mesh's; others as they are.
fn service(host: &str) -> String {
    let mut labels = host.split('.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(name), Some(namespace), Some("svc")) => format!("{namespace}/{name}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tulle_xds::model::{HeaderMatch, QueryMatch, Regex};

    use super::*;
    use crate::{
        telemetry::Peer,
        world::objects::{Labels, Name},
    };

    fn kind(workload: &str, direction: Direction, peer: (&str, &str), by: By) -> Kind {
        Kind {
            lane: "pr-1".to_owned(),
            workload: Workload {
                namespace: "shop".to_owned(),
                kind: "Deployment".to_owned(),
                name: workload.to_owned(),
            },
            direction,
            peer: Peer { namespace: peer.0.to_owned(), name: peer.1.to_owned() },
            host: "ratings.shop.svc.cluster.local".to_owned(),
            by,
        }
    }

    fn count(requests: u64) -> Count {
        Count { requests, alone: 0, last: Duration::from_secs(3) }
    }

    #[test]
    fn each_hop_counts_once_as_its_first_end_knows_it() {
        use Direction::{Inbound, Outbound};
        let stranger = ("", "internet");
        let told = [
            (kind("web", Inbound, stranger, By::Entry), count(5)),
            (kind("web", Outbound, ("shop", "reviews"), By::Traceparent), count(5)),
            (kind("reviews", Inbound, ("shop", "web"), By::Baggage), count(5)),
            // Their own sidecars know of no such lane.
            (kind("reviews", Inbound, ("bank", "teller"), By::Baggage), count(2)),
            (kind("reviews", Outbound, ("shop", "ratings"), By::Nothing), count(7)),
        ];
        let told = Told {
            counts: told.into_iter().collect(),
            since: Duration::from_secs(40),
            unheard: vec!["m/b".to_owned()],
        };
        let sight = |name: &str| LaneSight {
            name: Name::new("shop", name),
            entry: Vec::new(),
            members: Labels::new(),
            denies: false,
            services: vec![Behind { service: "web".to_owned(), pods: 2, ready: 1 }],
            strays: Vec::new(),
        };
        let seen =
            view(&[sight("pr-1"), sight("pr-2")], |_| (3, 4), &told, Duration::from_secs(60));
        assert_eq!((seen.window, seen.unheard.as_slice()), (40.0, told.unheard.as_slice()));
        let [one, other] = &seen.items[..] else { panic!("{seen:?}") };
        let known: Vec<_> = one.known_by.iter().map(|(by, n)| (*by, *n)).collect();
        assert_eq!(known, [(By::Baggage, 2), (By::Entry, 5), (By::Traceparent, 5)]);
        assert_eq!((one.idle, one.in_force, one.of), (Some(3.0), 3, 4));
        let names: Vec<_> = one
            .workloads
            .iter()
            .map(|one| (one.name.as_str(), one.received.len(), one.sent.len()))
            .collect();
        assert_eq!(names, [("reviews", 2, 1), ("web", 1, 1)]);
        assert_eq!(one.workloads[0].sent[0].service, "shop/ratings");
        assert_eq!(service("db.example.com"), "db.example.com");
        assert_eq!((other.idle, other.known_by.len(), other.workloads.len()), (None, 0, 0));
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<LanesView>(&text).unwrap(), seen, "{text}");
    }

    #[test]
    fn who_enters_is_said_as_in_the_yaml() {
        let value = |name: &str, value: &str, regex| ValueView {
            name: name.to_owned(),
            value: value.to_owned(),
            regex,
        };
        let said = Match {
            headers: vec![HeaderMatch {
                name: http::HeaderName::from_static("x-user"),
                value: StringMatch::Regex(Regex::new("ann|bob").unwrap()),
            }],
            query: vec![QueryMatch {
                name: "beta".to_owned(),
                value: StringMatch::Exact("1".to_owned()),
            }],
            ..Match::default()
        };
        let (headers, query) =
            (vec![value("x-user", "ann|bob", true)], vec![value("beta", "1", false)]);
        assert_eq!(entry(&said), EntryView { headers, query });
    }
}
