//! What others are told of a record that has ended.

use std::{mem, sync::atomic::Ordering, time::SystemTime};

use tokio::time::Instant;
use tulle_expression::Value;
use tulle_xds::text::bounded;

use super::{Record, Towards, facts::Ended, route_text};
use crate::telemetry::{
    closed::{Closed, Extras, Server, SpanPart},
    wanted::{Extra, Wanted},
};

/// Bytes of a host and of a path.
const MAX_TEXT: usize = 1 << 10;

impl Record {
    /// Puts it where whoever sends it on finds it, if somebody wants its spans or its line: `Some` of whether that is drawn.
    pub(super) fn tell(&mut self, now: Instant, line: Option<bool>, wanted: &Wanted) {
        let has_spans = self.position.is_some() && self.spans.is_some();
        if !has_spans && line.is_none() {
            return;
        }
        self.note_policies(now);
        let attributes = self.extras(now, if has_spans { &wanted.attributes } else { &[] });
        let fields = self.extras(now, if line.is_some() { &wanted.fields } else { &[] });
        let closed = Closed { attributes, fields, ..self.closed(now, line) };
        self.cx.counts.tell(closed);
    }

    /// What more shall be said of it.
    fn extras(&self, now: Instant, wanted: &[Extra]) -> Extras {
        let ended = Ended::of(self, now);
        let owned = |(name, value): (&str, Value<'_>)| (name.to_owned(), value.into_owned());
        ended.extras(wanted).map(owned).collect()
    }

    /// What is moved out of it is not read any more.
    fn closed(&mut self, now: Instant, line: Option<bool>) -> Closed {
        let error = self.is_error();
        let grpc = self.grpc();
        let (namespace, workload) = self.workload();
        let peer = (namespace.to_owned(), workload.to_owned());
        let route = self.origin().map(route_text);
        let server = match &self.towards {
            Towards::Cluster(cluster) => cluster
                .service()
                .map(|service| Server { address: service.host.clone(), port: service.port }),
            Towards::Nothing | Towards::External => None,
        };
        let spans = self.spans.take().zip(self.position).map(|(spans, position)| {
            let spans = *spans;
            SpanPart {
                position,
                state: spans.state,
                attempts: spans.attempts,
                events: spans.events,
            }
        });
        let mut request = self.request.take();
        // It may wait for long, and there are many.
        let text = |of: Option<&mut String>| {
            let mut text = of.map(mem::take).unwrap_or_default();
            text.truncate(bounded(&text, MAX_TEXT).len());
            text
        };
        Closed {
            direction: self.direction,
            line,
            spans,
            position: self.position,
            begun: self.started,
            ended: now,
            time: SystemTime::now(),
            protocol: request.as_ref().map(|request| request.version),
            method: request.as_mut().and_then(|request| request.method.take()),
            verb: request.as_ref().map_or("", |request| request.verb),
            host: text(request.as_mut().map(|request| &mut request.host)),
            path: text(request.as_mut().map(|request| &mut request.path)),
            copy: request.as_ref().is_some_and(|request| request.copy),
            status: request.as_ref().and_then(|request| request.status),
            grpc,
            error,
            reason: self.reason,
            detail: mem::take(&mut self.detail),
            policy: self.policy.take(),
            audited: self.audited.take(),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            peer,
            caller: self.caller.take(),
            endpoint: self.endpoint.take(),
            server,
            route,
            attempts: self.attempts,
            client: self.client,
            destination: self.destination,
            attributes: Extras::new(),
            fields: Extras::new(),
        }
    }
}
