//! Which records somebody wants. Pure.

use std::{ops::RangeInclusive, time::Duration};

use http::StatusCode;
use tokio::time::Instant;
use tulle_proto::telemetry::v1 as proto;

use super::{
    Past,
    past::{Served, Text},
};
use crate::{error::Reason, telemetry::Direction};

/// Of a message, read. What is not asked for is empty.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    asked: proto::Filter,
    direction: Option<Direction>,
    statuses: Vec<RangeInclusive<u32>>,
    slower: Duration,
    /// It ended no earlier.
    after: Option<Instant>,
    /// The workload of this proxy.
    own: (&'a str, &'a str),
}

impl<'a> Filter<'a> {
    pub(super) fn read(question: &'a proto::Question, now: Instant) -> Self {
        let asked = question.filter.clone().unwrap_or_default();
        let direction = match asked.direction() {
            proto::Direction::Unspecified => None,
            proto::Direction::Inbound => Some(Direction::Inbound),
            proto::Direction::Outbound => Some(Direction::Outbound),
        };
        let within = Duration::from_millis(asked.within_ms);
        Self {
            direction,
            statuses: asked.statuses.iter().map(|of| of.first..=of.last).collect(),
            slower: Duration::from_micros(asked.slower_us),
            after: (asked.within_ms > 0).then(|| now.checked_sub(within)).flatten(),
            asked,
            own: (&question.namespace, &question.workload),
        }
    }

    /// Names of header fields that are asked for in any way.
    pub(super) fn fields<'b>(
        &'b self,
        question: &'b proto::Question,
    ) -> impl Iterator<Item = &'b str> {
        let filtered = self.asked.headers.iter().map(|field| field.name.as_str());
        question.headers.iter().map(String::as_str).chain(filtered)
    }

    pub(super) fn lets_through(&self, past: &Past) -> bool {
        let asked = &self.asked;
        let any = |wanted: &str, holds: &dyn Fn(&str) -> bool| wanted.is_empty() || holds(wanted);
        self.direction.is_none_or(|direction| direction == past.direction)
            && self.after.is_none_or(|after| past.ended >= after)
            && past.took >= self.slower
            && (past.failed || !asked.failed)
            && self.has_status(past.status)
            && any(&asked.grpc, &|grpc| past.grpc == Some(grpc))
            && any(&asked.reason, &|reason| past.reason.map(Reason::as_str) == Some(reason))
            && any(&asked.method, &|method| {
                past.method.as_ref().is_some_and(|of| of.as_str().eq_ignore_ascii_case(method))
            })
            && any(&asked.path_prefix, &|prefix| past.text(Text::Path).starts_with(prefix))
            && any(&asked.from, &|from| self.is_caller(past, (&asked.from_namespace, from)))
            && any(&asked.to, &|to| self.is_called(past, (&asked.to_namespace, to)))
            && asked.headers.iter().all(|wanted| has_field(past, wanted))
    }

    fn has_status(&self, status: Option<StatusCode>) -> bool {
        let status = status.map(|status| status.as_u16().into());
        self.statuses.is_empty()
            || status.is_some_and(|status| self.statuses.iter().any(|of| of.contains(&status)))
    }

    fn is_caller(&self, past: &Past, wanted: (&str, &str)) -> bool {
        match past.direction {
            Direction::Inbound => is(peer(past), wanted),
            Direction::Outbound => is(self.own, wanted),
        }
    }

    fn is_called(&self, past: &Past, wanted: (&str, &str)) -> bool {
        match past.direction {
            Direction::Inbound => is(self.own, wanted),
            Direction::Outbound => is(peer(past), wanted) || is_service(past, wanted),
        }
    }
}

fn peer(past: &Past) -> (&str, &str) {
    (past.text(Text::PeerNamespace), past.text(Text::Peer))
}

/// In any namespace, if none is wanted.
fn is((namespace, name): (&str, &str), (in_namespace, wanted): (&str, &str)) -> bool {
    name == wanted && (in_namespace.is_empty() || namespace == in_namespace)
}

/// By its host name, `NAME.NAMESPACE.svc.…`.
fn is_service(past: &Past, wanted: (&str, &str)) -> bool {
    let mut labels = past.text(Text::Service).split('.');
    let (name, namespace) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    matches!(past.served, Served::Port(_)) && is((namespace, name), wanted)
}

fn has_field(past: &Past, wanted: &proto::Header) -> bool {
    past.fields.iter().any(|field| {
        field.name == *wanted.name && (wanted.value.is_empty() || field.value == wanted.value)
    })
}
