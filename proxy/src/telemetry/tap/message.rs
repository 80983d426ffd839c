//! A record that has ended, as a message.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::Method;
use tokio::time::Instant;
use tulle_expression::Side;
use tulle_proto::telemetry::v1 as proto;

use super::{
    Field, Past,
    past::{Served, Text},
};
use crate::{
    error::Reason,
    telemetry::{Direction, edge::OTHER, fault::Fault, words},
};

/// The clock on the wall, which is not looked at when a record ends, but once when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    now: Instant,
    /// Since 1970.
    today: Duration,
}

impl Clock {
    pub(super) fn at(now: Instant) -> Self {
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { now, today }
    }

    /// Since 1970.
    fn wall(&self, at: Instant) -> Duration {
        self.today.saturating_sub(self.now.saturating_duration_since(at))
    }
}

/// What is said of it.
pub(super) fn record(past: &Past, clock: &Clock) -> proto::Record {
    let text = |text| past.text(text).to_owned();
    let word = |word: Option<&'static str>| word.unwrap_or_default().to_owned();
    let caller = past.caller.as_deref();
    let other = past.endpoint.as_deref().filter(|_| past.direction == Direction::Outbound);
    let peer_id =
        caller.map(|caller| &caller.id).or_else(|| other.and_then(|other| other.identity.as_ref()));
    let peer_pod = caller.and_then(|caller| caller.pod.as_deref());
    let peer_pod = peer_pod.or_else(|| other.map(|other| other.pod.as_str()));
    let external = (past.served == Served::Other).then_some(past.destination);
    let upstream = past.endpoint.as_deref().map(|endpoint| endpoint.address).or(external);
    proto::Record {
        time: nanoseconds(clock.wall(past.ended)),
        took_ns: nanoseconds(past.took),
        first_byte_ns: past.first_byte.map(nanoseconds).unwrap_or_default(),
        edge: Some(edge(past)),
        protocol: past.protocol.to_owned(),
        method: past.method.as_ref().map(Method::as_str).unwrap_or_default().to_owned(),
        host: text(Text::Host),
        path: text(Text::Path),
        status: past.status.map(|status| status.as_u16().into()).unwrap_or_default(),
        grpc: word(past.grpc),
        reason: word(past.reason.map(Reason::as_str)),
        fault: word(past.fault.map(Fault::as_str)),
        detail: text(Text::Detail),
        policy: text(Text::Policy),
        policy_field: text(Text::PolicyField),
        audit: text(Text::Audit),
        ejected: text(Text::Ejected),
        ejected_by: text(Text::EjectedBy),
        ejected_field: text(Text::EjectedField),
        attempts: past.attempts,
        received: past.received,
        sent: past.sent,
        mirror: past.mirror,
        failed: past.failed,
        peer_id: peer_id.map(ToString::to_string).unwrap_or_default(),
        peer_pod: peer_pod.unwrap_or_default().to_owned(),
        upstream: upstream.as_ref().map(SocketAddr::to_string).unwrap_or_default(),
        client: past.client.to_string(),
        destination: past.destination.to_string(),
        trace_id: past.position.map(|position| position.trace.to_string()).unwrap_or_default(),
        sampled: past.position.is_some_and(|position| position.is_sampled()),
        headers: past.fields.iter().map(header).collect(),
    }
}

fn edge(past: &Past) -> proto::Edge {
    let (host, port) = match past.served {
        Served::Unknown => ("", 0),
        Served::Port(port) => (past.text(Text::Service), port),
        Served::Other => (OTHER, 0),
    };
    proto::Edge {
        direction: words::direction(past.direction),
        peer_namespace: past.text(Text::PeerNamespace).to_owned(),
        peer: past.text(Text::Peer).to_owned(),
        host: host.to_owned(),
        port: port.into(),
        route: past.text(Text::Route).to_owned(),
        security: words::security(past.security),
    }
}

fn header(field: &Field) -> proto::Header {
    let (name, value) = (field.name.to_string(), field.value.clone());
    proto::Header { name, value, response: field.side == Side::Response }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
