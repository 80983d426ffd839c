//! What proxies and replicas say about lanes, as messages.

use std::time::Duration;

use tulle_proto::{replica::v1 as replica, telemetry::v1 as proto};

use super::{Ask, By, Count, Direction, Kind, Peer, Told, Workload, text};
use crate::telemetry::Hub;

/// `None`: it makes no sense here.
pub(super) fn kind(workload: &Workload, message: &proto::LaneRequests) -> Option<Kind> {
    let direction = match message.direction() {
        proto::Direction::Inbound => Direction::Inbound,
        proto::Direction::Outbound => Direction::Outbound,
        proto::Direction::Unspecified => return None,
    };
    let by = match message.by() {
        proto::LaneBy::Baggage => By::Baggage,
        proto::LaneBy::Tracestate => By::Tracestate,
        proto::LaneBy::Entry => By::Entry,
        proto::LaneBy::Traceparent => By::Traceparent,
        proto::LaneBy::Nothing => By::Nothing,
        proto::LaneBy::UnknownTrace => By::UnknownTrace,
        proto::LaneBy::Unclear => By::Unclear,
        proto::LaneBy::Unspecified => return None,
    };
    let peer = Peer { namespace: text(&message.peer_namespace), name: text(&message.peer) };
    let (lane, host, workload) = (text(&message.lane), text(&message.host), workload.clone());
    Some(Kind { lane, workload, direction, peer, host, by })
}

fn message(kind: Kind, count: Count) -> replica::LaneCount {
    let direction = match kind.direction {
        Direction::Inbound => proto::Direction::Inbound,
        Direction::Outbound => proto::Direction::Outbound,
    };
    let by = match kind.by {
        By::Baggage => proto::LaneBy::Baggage,
        By::Tracestate => proto::LaneBy::Tracestate,
        By::Entry => proto::LaneBy::Entry,
        By::Traceparent => proto::LaneBy::Traceparent,
        By::Nothing => proto::LaneBy::Nothing,
        By::UnknownTrace => proto::LaneBy::UnknownTrace,
        By::Unclear => proto::LaneBy::Unclear,
    };
    let requests = proto::LaneRequests {
        lane: kind.lane,
        direction: direction.into(),
        peer_namespace: kind.peer.namespace,
        peer: kind.peer.name,
        by: by.into(),
        requests: count.requests,
        alone: count.alone,
        host: kind.host,
    };
    replica::LaneCount {
        workload: Some(kind.workload.message()),
        requests: Some(requests),
        last_ms: milliseconds(count.last),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What another replica is asked.
pub(crate) fn question(ask: &Ask, looks: bool) -> replica::LanesRequest {
    let Ask { namespace, name, window } = ask.clone();
    replica::LanesRequest { namespace, name, window_ms: milliseconds(window), looks }
}

/// What it has said. What makes no sense, because it is of another version, is left out.
pub(crate) fn answer(message: replica::LanesResponse) -> Told {
    let counts = message.counts.into_iter().filter_map(|told| {
        let requests = told.requests?;
        let kind = kind(&Workload::read(told.workload?), &requests)?;
        let last = Duration::from_millis(told.last_ms);
        Some((kind, Count { requests: requests.requests, alone: requests.alone, last }))
    });
    let since = Duration::from_millis(message.since_ms);
    Told { counts: counts.collect(), since, unheard: Vec::new() }
}

impl Hub {
    /// What another replica asks for.
    pub(crate) fn tell_lanes(&self, question: replica::LanesRequest) -> replica::LanesResponse {
        let replica::LanesRequest { namespace, name, window_ms, looks } = question;
        let ask = Ask { namespace, name, window: Duration::from_millis(window_ms) };
        let Told { counts, since, .. } = self.lanes(&ask, looks);
        let counts = counts.into_iter().map(|(kind, count)| message(kind, count));
        replica::LanesResponse { counts: counts.collect(), since_ms: milliseconds(since) }
    }
}
