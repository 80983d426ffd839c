//! What a record counts as.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use tokio::time::Instant;

use super::{Direction, Record, Towards, facts::Ended};
use crate::{
    error::Reason,
    telemetry::{
        edge::{Edge, Security, Server},
        exemplar::Exemplar,
        fault::Fault,
        grpc,
        metrics::Outcome,
        series::{Counter, Event, Kind, Status},
        trace::Position,
        wanted::Wanted,
    },
};

/// It happened, in no time.
pub(super) fn once(kind: Kind) -> Event {
    Event { kind, times: 1, took: None, received: 0, sent: 0, exemplar: None }
}

impl Record {
    /// What its series are about.
    pub(super) fn edge(&self) -> Edge<'_> {
        let server = match &self.towards {
            Towards::Nothing => Server::None,
            Towards::Cluster(cluster) => match cluster.service() {
                Some(service) => Server::Service(&service.host, service.port),
                None => Server::Other,
            },
            Towards::External => Server::Other,
        };
        let (direction, peer, route) = (self.direction, self.workload(), self.origin());
        Edge { direction, peer, server, route, security: self.security(), tags: &[] }
    }

    /// Whether the other side has proven who it is.
    fn security(&self) -> Option<Security> {
        let proven = match (self.direction, &self.endpoint) {
            (Direction::Inbound, _) => self.caller.is_some(),
            (Direction::Outbound, Some(endpoint)) => endpoint.identity.is_some(),
            (Direction::Outbound, None) => return None,
        };
        Some(if proven { Security::Mtls } else { Security::Plaintext })
    }

    /// Namespace and name of the workload on the other side, or its class.
    pub(super) fn workload(&self) -> (&str, &str) {
        match (self.direction, &self.caller, &self.endpoint) {
            (Direction::Inbound, Some(caller), _) => (caller.id.namespace(), caller.workload()),
            (Direction::Inbound, None, _) => ("", self.class(self.client.ip())),
            (Direction::Outbound, _, Some(endpoint)) => endpoint
                .workload
                .split_once('/')
                .unwrap_or_else(|| ("", self.class(endpoint.address.ip()))),
            (Direction::Outbound, _, None) => match self.towards {
                Towards::External => ("", "internet"),
                _ => ("", "unknown"),
            },
        }
    }

    /// What is known of who has no name.
    fn class(&self, address: IpAddr) -> &'static str {
        match &self.cx.store.current().workload {
            None => "unknown",
            Some(me) if me.mesh_ranges.iter().any(|range| range.contains(&address)) => {
                "cluster-unmeshed"
            }
            Some(_) => "internet",
        }
    }

    /// Counts that it has ended, in series of edges unless it is uncounted there: what policy forbade is never.
    pub(super) fn count(&self, now: Instant, wanted: &Wanted) {
        let uncounted = wanted.uncounted;
        let error = self.reason.map_or("", Reason::as_str);
        if self.is_own_copy() {
            if let Towards::Cluster(cluster) = &self.towards {
                self.cx.metrics.mirrored(cluster, error);
            }
            return;
        }
        let denied = self.forbidden.is_some() || self.audited.is_some();
        if !uncounted || denied {
            self.count_events(now, wanted, |counter| {
                if !uncounted {
                    self.ended(counter, error, now);
                    self.tries(counter);
                }
                if denied {
                    self.denials(counter, error);
                }
            });
        }
        if let Some(request) = &self.request
            && self.direction == Direction::Inbound
        {
            self.cx.counts.ends(request.verb);
        }
    }

    /// Counts it on its edge, told apart by what is known of it now.
    pub(super) fn count_events(
        &self,
        now: Instant,
        wanted: &Wanted,
        events: impl FnOnce(&mut Counter<'_>),
    ) {
        let facts = (!wanted.labels.is_empty()).then(|| Ended::of(self, now));
        let tags = facts.as_ref().map(|facts| facts.tags(&wanted.labels)).unwrap_or_default();
        self.cx.counts.count(&Edge { tags: &tags, ..self.edge() }, now, events);
    }

    /// The request, or the connection and what it carried.
    fn ended(&self, counter: &mut Counter<'_>, error: &'static str, now: Instant) {
        let took = Some(now.duration_since(self.started));
        let Some(request) = &self.request else {
            counter.count(&Event {
                times: u64::from(!self.opened),
                received: self.received.load(Ordering::Relaxed),
                sent: self.sent.load(Ordering::Relaxed),
                ..once(Kind::Flow)
            });
            return counter.count(&Event { took, ..once(Kind::Closed { error }) });
        };
        let kind = match self.grpc() {
            Some(status) => Kind::Rpc { status, error },
            None => Kind::Http {
                method: request.verb,
                status: request.status.map_or(Status::None, |s| Status::Exact(s.as_u16())),
                error,
            },
        };
        counter.count(&Event { took, exemplar: self.exemplar(now), ..once(kind) });
    }

    /// Its trace, if that is recorded.
    fn exemplar(&self, now: Instant) -> Option<Box<Exemplar>> {
        let Position { trace, span, .. } = self.position.filter(Position::is_sampled)?;
        let took = now.duration_since(self.started);
        Some(Box::new(Exemplar { took, trace, span, time: SystemTime::now() }))
    }

    /// Its attempts at endpoints of others.
    fn tries(&self, counter: &mut Counter<'_>) {
        if self.direction == Direction::Inbound {
            return;
        }
        let tried = |outcome: Outcome| Kind::Tried { outcome: outcome.as_str() };
        if self.retried > 0 {
            counter.count(&Event { times: self.retried, ..once(tried(Outcome::Retried)) });
        }
        if let Some(outcome) = self.outcome {
            counter.count(&once(tried(outcome)));
        }
    }

    /// What policy forbade, or would have.
    fn denials(&self, counter: &mut Counter<'_>, error: &'static str) {
        let denied = Reason::Denied.as_str();
        let forbidden = self.forbidden.as_ref().map(|policy| (policy, error, "enforce"));
        let audited = self.audited.as_ref().map(|policy| (policy, denied, "audit"));
        for (policy, reason, mode) in [forbidden, audited].into_iter().flatten() {
            counter.count(&once(Kind::Denied { policy: Arc::clone(policy), reason, mode }));
        }
    }

    /// The name of its gRPC status, if it is a call. One that the server did not say follows from how the
    /// call ended otherwise.
    pub(super) fn grpc(&self) -> Option<&'static str> {
        let request = self.request.as_ref().filter(|request| request.grpc)?;
        let by_reason = || self.reason.map(|reason| reason.grpc_status().into());
        let status = request.grpc_status.or_else(by_reason);
        Some(grpc::name(status.unwrap_or_else(|| grpc::of_http(request.status))))
    }

    /// Whether it ended otherwise than it should, whoever is to blame.
    pub(super) fn is_error(&self) -> bool {
        let status = self.request.as_ref().and_then(|request| request.status);
        self.reason.is_some()
            || status.is_some_and(|status| status.is_server_error())
            || self.grpc().is_some_and(grpc::is_server_error)
    }

    /// Whose fault it is, if it ended otherwise than it should.
    pub(super) fn fault(&self) -> Option<Fault> {
        let status = self.request.as_ref().and_then(|request| request.status);
        match self.reason {
            Some(reason) => Some(Fault::of(reason, self.direction, status)),
            None => self.is_error().then_some(Fault::Upstream),
        }
    }
}
