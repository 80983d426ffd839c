//! What a worker's tally says, as messages.

use tulle_proto::telemetry::v1 as proto;
use tulle_runtime::histogram::Histogram;

use crate::telemetry::{
    edge::{Edge, OTHER, Server},
    grpc,
    record::route_text,
    series::{Kind, Series, Status, Tally, Took},
    words,
};

/// All edges of it.
pub(super) fn edges(tally: &Tally) -> Vec<proto::EdgeCounts> {
    let edges = tally.edges().map(|(name, all)| proto::EdgeCounts {
        edge: Some(edge(&name.edge())),
        counts: Some(counts(all)),
    });
    edges.collect()
}

fn edge(edge: &Edge<'_>) -> proto::Edge {
    let (host, port) = match edge.server {
        Server::None => ("", 0),
        Server::Service(host, port) => (host, port),
        Server::Other => (OTHER, 0),
    };
    proto::Edge {
        direction: words::direction(edge.direction),
        peer_namespace: edge.peer.0.to_owned(),
        peer: edge.peer.1.to_owned(),
        host: host.to_owned(),
        port: port.into(),
        route: edge.route.map(route_text).unwrap_or_default(),
        security: words::security(edge.security),
    }
}

fn counts(all: &[Series]) -> proto::Counts {
    let mut counts = proto::Counts::default();
    let (mut requests, mut connections) = (Took::default(), Took::default());
    let mut flow = proto::Flow::default();
    for Series { kind, cells, .. } in all {
        let times = cells.times;
        match kind {
            Kind::Http { status, error, .. } => {
                let status = match status {
                    Status::None => 0,
                    Status::Exact(status) | Status::Class(status) => (*status).into(),
                };
                add(&mut counts.requests, (status, 0, error), times);
                requests.merge(&cells.took);
            }
            Kind::Rpc { status, error } => {
                add(&mut counts.requests, (0, grpc::number(status) + 1, error), times);
                requests.merge(&cells.took);
            }
            Kind::Tried { outcome } => {
                counts.tries.push(proto::Tries { outcome: (*outcome).to_owned(), times });
            }
            Kind::Flow => {
                flow.opened += times;
                flow.received += cells.received;
                flow.sent += cells.sent;
            }
            Kind::Closed { error } => {
                flow.closed += times;
                flow.failed += if error.is_empty() { 0 } else { times };
                connections.merge(&cells.took);
            }
            Kind::Denied { policy, reason, mode } => counts.denials.push(proto::Denials {
                policy: policy.to_string(),
                reason: (*reason).to_owned(),
                audit: *mode == "audit",
                times,
            }),
        }
    }
    counts.took = took(&requests);
    flow.took = took(&connections);
    counts.flow = (flow != proto::Flow::default()).then_some(flow);
    counts
}

/// Methods are not told apart.
fn add(requests: &mut Vec<proto::Requests>, (status, grpc, error): (u32, u32, &str), times: u64) {
    let same = |known: &&mut proto::Requests| {
        (known.status, known.grpc, known.error.as_str()) == (status, grpc, error)
    };
    match requests.iter_mut().find(same) {
        Some(known) => known.times += times,
        None => requests.push(proto::Requests { status, grpc, error: error.to_owned(), times }),
    }
}

fn took(took: &Took) -> Option<proto::Histogram> {
    (took.histogram != Histogram::default()).then(|| took.message())
}

impl Took {
    /// As a message.
    pub(in crate::telemetry) fn message(&self) -> proto::Histogram {
        let Self { histogram, nanoseconds, .. } = self;
        proto::Histogram {
            scale: histogram.scale().into(),
            zero: histogram.zero(),
            steps: histogram.steps().collect(),
            counts: histogram.buckets().iter().map(|(_, times)| *times).collect(),
            nanoseconds: *nanoseconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::{Direction, edge::Security, series::Event};

    #[test]
    fn each_kind_of_event_is_where_it_belongs() {
        let event = |kind, times, took: Option<u64>| Event {
            kind,
            times,
            took: took.map(Duration::from_millis),
            received: 3,
            sent: 4,
            exemplar: None,
        };
        let http = |method, status, error| Kind::Http { method, status, error };
        let events = [
            event(http("GET", Status::Exact(200), ""), 1, Some(1000)),
            event(http("GET", Status::Exact(200), ""), 1, Some(1000)),
            event(http("POST", Status::Exact(200), ""), 1, Some(2000)),
            event(http("GET", Status::Exact(504), "timeout"), 1, Some(0)),
            event(http("GET", Status::None, "canceled"), 1, None),
            event(http("GET", Status::Class(4), ""), 1, None),
            event(Kind::Rpc { status: "OK", error: "" }, 1, None),
            event(Kind::Rpc { status: "UNAVAILABLE", error: "connect" }, 5, None),
            event(Kind::Tried { outcome: "retried" }, 7, None),
            event(Kind::Flow, 2, None),
            event(Kind::Closed { error: "" }, 1, Some(4000)),
            event(Kind::Closed { error: "reset" }, 1, Some(4000)),
            event(Kind::Denied { policy: "p".into(), reason: "denied", mode: "audit" }, 9, None),
        ];
        let mut tally = Tally::default();
        let name = Edge {
            direction: Direction::Outbound,
            peer: ("shop", "cart"),
            server: Server::Service("cart.shop", 80),
            route: None,
            security: Some(Security::Mtls),
            tags: &[],
        };
        tally.count(&name, 0, |counter| events.iter().for_each(|event| counter.count(event)));
        let [proto::EdgeCounts { edge: Some(edge), counts: Some(counts) }] = &edges(&tally)[..]
        else {
            panic!("one edge");
        };
        assert_eq!((edge.peer.as_str(), edge.port, edge.host.as_str()), ("cart", 80, "cart.shop"));
        assert_eq!((edge.direction, edge.security, edge.route.as_str()), (2, 1, ""));
        let requests: Vec<_> =
            counts.requests.iter().map(|r| (r.status, r.grpc, r.error.as_str(), r.times)).collect();
        let expected = [
            (200, 0, "", 3),
            (504, 0, "timeout", 1),
            (0, 0, "canceled", 1),
            (4, 0, "", 1),
            (0, 1, "", 1),
            (0, 15, "connect", 5),
        ];
        assert_eq!(requests, expected);
        let took = counts.took.as_ref().unwrap();
        // 1 s ends bucket -1, 2 s bucket 7.
        assert_eq!((took.zero, &took.steps[..], &took.counts[..]), (1, &[-1, 8][..], &[2, 1][..]));
        assert_eq!((took.scale, took.nanoseconds), (3, 4_000_000_000));
        assert_eq!((counts.tries[0].outcome.as_str(), counts.tries[0].times), ("retried", 7));
        let flow = counts.flow.as_ref().unwrap();
        assert_eq!((flow.opened, flow.closed, flow.failed), (2, 2, 1));
        assert_eq!((flow.received, flow.sent), (3, 4));
        assert_eq!(flow.took.as_ref().unwrap().counts, [2]);
        assert_eq!((counts.denials[0].times, counts.denials[0].audit), (9, true));
    }
}
