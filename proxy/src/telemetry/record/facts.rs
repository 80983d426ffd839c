//! What expressions can ask of a record that has ended.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tulle_expression::{Facts, Failed, Side, Value, Variable};
use tulle_xds::model::{SpiffeId, Workload};

use super::{Direction, Record, Towards, line::route_text};
use crate::{
    error::Reason,
    telemetry::{
        tags::Tag,
        wanted::{Extra, Labelled},
    },
};

/// A record at its end.
pub(super) struct Ended<'a> {
    record: &'a Record,
    took: Duration,
    me: Option<Arc<Workload>>,
    /// It is in the sample.
    pub(super) sampled: bool,
}

/// Which end of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl<'a> Ended<'a> {
    pub(super) fn of(record: &'a Record, now: Instant) -> Self {
        let me = record.cx.store.current().workload.clone();
        Self { record, took: now.duration_since(record.started), me, sampled: false }
    }

    /// What more shall be said, as far as there is something to say. What cannot be worked out is counted.
    pub(super) fn extras<'b>(
        &'b self,
        wanted: &'b [Extra],
    ) -> impl Iterator<Item = (&'b str, Value<'b>)> {
        wanted.iter().filter_map(|Extra { name, value }| match value.evaluate(self) {
            Ok(Value::Text(text)) if text.is_empty() => None,
            Ok(value) => Some((name.as_str(), value)),
            Err(failed) => {
                self.failed(failed);
                None
            }
        })
    }

    /// What its series are told apart by, as far as there is something to say.
    pub(super) fn tags<'b>(&'b self, wanted: &'b [Labelled]) -> Vec<Tag<'b>> {
        let one = |Labelled { label, value }: &'b Labelled| match value.label(self) {
            Ok(value) => value.map(|value| label.with(value)),
            Err(failed) => {
                self.failed(failed);
                None
            }
        };
        wanted.iter().filter_map(one).collect()
    }

    /// An expression has no value for this record.
    pub(super) fn failed(&self, failed: Failed) {
        tracing::debug!(%failed, "an expression of Telemetry");
        self.record.cx.metrics.expression_failed();
    }

    /// Whether this proxy is at that end.
    fn is_mine(&self, end: End) -> bool {
        match self.record.direction {
            Direction::Inbound => end == End::Destination,
            Direction::Outbound => end == End::Source,
        }
    }

    fn workload(&self, end: End) -> Option<&str> {
        if self.is_mine(end) {
            return self.me.as_ref().map(|me| me.owner_name.as_str());
        }
        Some(self.record.workload().1)
    }

    fn namespace(&self, end: End) -> Option<&str> {
        let namespace = match self.is_mine(end) {
            true => self.me.as_ref()?.identity.namespace(),
            false => self.record.workload().0,
        };
        Some(namespace).filter(|namespace| !namespace.is_empty())
    }

    fn principal(&self, end: End) -> Option<&str> {
        let id = match self.is_mine(end) {
            true => self.me.as_ref().map(|me| &me.identity),
            false => self.record.peer_id(),
        };
        id.map(SpiffeId::as_str)
    }

    fn text(&self, variable: Variable) -> Option<Cow<'_, str>> {
        let record = self.record;
        let request = record.request.as_ref();
        let read = request.filter(|request| request.method.is_some());
        let text = match variable {
            Variable::Direction => record.direction.as_str(),
            Variable::Protocol => record.protocol(),
            Variable::Method => read?.method.as_ref()?.as_str(),
            Variable::Path => &read?.path,
            Variable::Host => &read?.host,
            Variable::GrpcStatus => record.grpc()?,
            Variable::SourceWorkload => self.workload(End::Source)?,
            Variable::SourceNamespace => self.namespace(End::Source)?,
            Variable::SourcePrincipal => self.principal(End::Source)?,
            Variable::DestinationWorkload => self.workload(End::Destination)?,
            Variable::DestinationNamespace => self.namespace(End::Destination)?,
            Variable::DestinationPrincipal => self.principal(End::Destination)?,
            Variable::DestinationService => record.service()?,
            Variable::Route => return record.origin().map(route_text).map(Cow::Owned),
            Variable::Reason => record.reason.map(Reason::as_str)?,
            Variable::Fault => record.fault()?.as_str(),
            Variable::Policy => record.policy.as_deref()?,
            Variable::Audit => record.audited.as_deref()?,
            _ => return None,
        };
        Some(Cow::Borrowed(text))
    }
}

impl Facts for Ended<'_> {
    fn get(&self, variable: Variable) -> Option<Value<'_>> {
        let record = self.record;
        let count = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        Some(match variable {
            Variable::Code => {
                count(record.request.as_ref().and_then(|r| r.status)?.as_u16().into())
            }
            Variable::Duration => {
                Value::Span(i64::try_from(self.took.as_nanos()).unwrap_or(i64::MAX))
            }
            Variable::BytesReceived => count(record.received.load(Ordering::Relaxed)),
            Variable::BytesSent => count(record.sent.load(Ordering::Relaxed)),
            Variable::Attempts => count(record.attempts.into()),
            Variable::Mtls => Value::Bool(record.is_mtls()),
            Variable::Mirror => Value::Bool(record.request.as_ref().is_some_and(|r| r.copy)),
            Variable::Failed => Value::Bool(record.is_error()),
            Variable::Sampled => Value::Bool(self.sampled),
            text => Value::Text(self.text(text)?),
        })
    }

    fn header(&self, side: Side, name: &str) -> Option<Cow<'_, str>> {
        self.record.kept.get(side, name).map(Cow::Borrowed)
    }
}

impl Record {
    /// The identity that the other side has proven.
    pub(super) fn peer_id(&self) -> Option<&SpiffeId> {
        let endpoint = self.endpoint.as_deref().filter(|_| self.direction == Direction::Outbound);
        let identity = endpoint.and_then(|endpoint| endpoint.identity.as_ref());
        self.caller.as_deref().map(|caller| &caller.id).or(identity)
    }

    /// Whether it was encrypted between sidecars.
    pub(super) fn is_mtls(&self) -> bool {
        self.peer_id().is_some()
    }

    /// The Service that the application called, or that it is outside of the mesh.
    pub(super) fn service(&self) -> Option<&str> {
        match &self.towards {
            Towards::Nothing => None,
            Towards::Cluster(cluster) => Some(cluster.label()),
            Towards::External => Some("external"),
        }
    }
}
