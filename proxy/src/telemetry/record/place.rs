//! A record's place in a trace, and what its spans say that nothing else of it does.
//!
//! ```text
//! a span                        one attempt: the request's span is that which went out
//! a span ─┬─ attempt            several: each attempt has one, below the request's, which never went out itself
//!         ├─ attempt, resend_count 1
//!         └─ attempt, resend_count 2
//! ```
//!
//! So what a server is below is always the span of the very attempt that it got. Attempts at the application behind this
//! proxy have no spans of their own.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;
use tulle_xds::model::Endpoint;

use super::{Direction, Record, route_text};
use crate::{
    error::Reason,
    request::lane::Stay,
    telemetry::trace::{self, Entered, Origin, Position, SpanId, Tracing, Way},
    upstream::{Cluster, EndpointState},
};

/// Things that are noted of one request. What happens more often has no place.
const MOST: usize = 32;

/// What only a request has that is recorded in a trace.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) state: Option<HeaderValue>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) events: Vec<Noted>,
}

/// An attempt at another workload's endpoint.
#[derive(Debug)]
pub(in super::super) struct Attempt {
    /// Its span.
    pub span: SpanId,
    /// When it began.
    pub begun: Instant,
    /// Where it was sent.
    pub endpoint: Arc<Endpoint>,
    /// When it ended and what it came to, if another one followed.
    pub ended: Option<(Instant, Came)>,
}

/// What an attempt came to: an answer that was not given, or none.
pub(in super::super) type Came = Result<StatusCode, Reason>;

/// Something that was done with a request.
#[derive(Debug)]
pub(in super::super) struct Noted {
    /// What.
    pub name: &'static str,
    /// When.
    pub at: Instant,
    /// The object that wanted it, and whom it was about.
    pub attributes: Vec<(&'static str, String)>,
}

impl Record {
    /// Finds where it is in a trace; its headers then say so to the next hop.
    pub fn enter(&mut self, headers: &mut HeaderMap, tracing: &Tracing, way: Way) {
        let stranger = way == Way::FromStranger && self.caller.is_none();
        let admits = || !stranger || self.cx.counts.admits_stranger(self.started);
        match trace::enter(headers, tracing, way, &mut rand::rng(), admits) {
            Entered::Nowhere => {}
            Entered::Undrawn => self.undrawn = true,
            Entered::At(Origin { position, state }) => {
                self.position = Some(position);
                let spans = || Box::new(Spans { state, ..Spans::default() });
                self.spans = position.is_sampled().then(spans);
            }
        }
    }

    /// Its trace stays in its lane until it is over.
    pub fn stays_in(&mut self, stay: Stay) {
        let any = stay.flight.is_some() || stay.passage.is_some();
        self.stay = any.then(|| Box::new(stay));
    }

    /// This is a copy of a request that has come to `original`: a span below what that sends first.
    pub fn follow(&mut self, original: &Self, headers: &mut HeaderMap) {
        self.undrawn = original.undrawn;
        let tracing = self.cx.settings().tracing;
        let Some(position) = original.position.filter(|_| tracing.spans) else {
            return;
        };
        let below = position.below(&mut rand::rng());
        trace::resend(headers, &below, &tracing);
        self.position = Some(below);
        self.spans = original
            .spans
            .as_ref()
            .map(|spans| Box::new(Spans { state: spans.state.clone(), ..Spans::default() }));
    }

    /// An attempt begins, which may have a span.
    pub(super) fn tries_at(&mut self, endpoint: &Arc<Endpoint>) {
        if self.undrawn && self.position.is_none() && endpoint.identity.is_none() {
            self.position = Some(trace::begin_undrawn(&mut rand::rng()));
        }
        let (Some(spans), Some(position)) = (&mut self.spans, &mut self.position) else {
            return;
        };
        if self.direction == Direction::Inbound || spans.attempts.len() == MOST {
            return;
        }
        let rng = &mut rand::rng();
        let span = match spans.attempts.len() {
            0 => position.span,
            more => {
                if more == 1 {
                    *position = position.beside(rng);
                }
                position.below(rng).span
            }
        };
        let (begun, endpoint) = (Instant::now(), Arc::clone(endpoint));
        spans.attempts.push(Attempt { span, begun, endpoint, ended: None });
    }

    /// The place of the attempt that begins, if it is another than the request's head says.
    pub fn place(&self) -> Option<Position> {
        if self.undrawn {
            return self.position;
        }
        let attempts = &self.spans.as_ref()?.attempts;
        let last = attempts.last().filter(|_| attempts.len() > 1)?;
        Some(self.position?.above(last.span))
    }

    /// Another attempt will follow one that came to this.
    pub fn retried(&mut self, result: Result<StatusCode, Reason>) {
        let policy = self.policy.clone();
        let Some(spans) = &mut self.spans else { return };
        let now = Instant::now();
        if let Some(last) = spans.attempts.last_mut() {
            last.ended = Some((now, result));
        }
        let came_to = match result {
            Ok(status) => status.as_u16().to_string(),
            Err(reason) => reason.as_str().to_owned(),
        };
        let policy = policy.map(|policy| ("tulle.policy", policy.into_owned()));
        let attributes = [("error.type", came_to)].into_iter().chain(policy).collect();
        spans.note("tulle.retried", now, attributes);
    }

    /// For what came of the attempt its endpoint is left out for a while.
    pub fn ejected(&mut self, endpoint: &EndpointState) {
        let told = endpoint.told();
        self.remember_ejected(&told);
        let Some(spans) = &mut self.spans else { return };
        let attributes = vec![
            ("tulle.peer.pod", told.pod.clone()),
            ("network.peer.address", told.address.ip().to_string()),
        ];
        spans.note("tulle.ejected", Instant::now(), attributes);
    }

    /// A copy of it goes to this cluster.
    pub fn mirrored(&mut self, cluster: &Cluster) {
        let route = self.origin().map(route_text);
        let Some(spans) = &mut self.spans else { return };
        let route = route.map(|route| ("tulle.route", route));
        let attributes = [("tulle.service", cluster.label().to_owned())].into_iter().chain(route);
        spans.note("tulle.mirrored", Instant::now(), attributes.collect());
    }

    /// What policy did that nothing was noted of yet.
    pub(super) fn note_policies(&mut self, now: Instant) {
        let policy = |policy: &str| ("tulle.policy", policy.to_owned());
        let reason = self.reason.map(Reason::as_str);
        let forbidden = self.forbidden.clone();
        let audited = self.audited.clone();
        let set = self.policy.clone();
        let Some(spans) = &mut self.spans else { return };
        if let Some(by) = audited {
            spans.note("tulle.audited", now, vec![policy(&by)]);
        }
        let name = match self.reason {
            _ if forbidden.is_some() => "tulle.denied",
            Some(Reason::Denied | Reason::ExternalRefused) => "tulle.denied",
            Some(Reason::Timeout) => "tulle.timed_out",
            Some(Reason::Overflow | Reason::ConnectionLimit) => "tulle.limited",
            _ => return,
        };
        let by = forbidden.as_deref().or(set.as_deref()).map(policy);
        let reason = reason.map(|reason| ("tulle.reason", reason.to_owned()));
        spans.note(name, now, by.into_iter().chain(reason).collect());
    }
}

impl Spans {
    fn note(&mut self, name: &'static str, at: Instant, attributes: Vec<(&'static str, String)>) {
        if self.events.len() < MOST {
            self.events.push(Noted { name, at, attributes });
        }
    }
}
