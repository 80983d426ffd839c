//! What a record is for the version that was asked, while that is being released; and for lanes.

use tokio::time::Instant;

use super::{Direction, Record};
use crate::{
    error::Reason,
    telemetry::{
        edge::{Edge, Server},
        fault::Fault,
        versions::Of,
    },
};

impl Record {
    /// The attempt that was under way has failed, and another one follows; [`blame`] says whether that was the server's fault.
    pub fn attempt_failed(&mut self, bad: Option<bool>) {
        if let (Some(since), Some(bad)) = (self.tried_since.take(), bad) {
            let now = Instant::now();
            self.count_attempt((since, now), bad);
        }
    }

    /// Counts it when it has ended: outbound its last attempt, inbound the request itself if the own version is `counted`.
    pub(super) fn count_version(&self, now: Instant, counted: bool) {
        let outbound = self.tried_since.filter(|_| self.request.is_some());
        if !counted && outbound.is_none() || self.is_own_copy() {
            return;
        }
        let Some(bad) = self.is_servers_fault() else { return };
        if let Some(since) = outbound {
            self.count_attempt((since, now), bad);
        } else if self.direction == Direction::Inbound {
            let (namespace, workload) = self.workload();
            let of = Of { direction: self.direction, namespace, workload, revision: "" };
            self.cx.counts.attempted(of, bad, self.measured().then(|| now - self.started));
        }
    }

    /// Counts it for the lane that it is in, or for those that it may be of.
    pub(super) fn count_lanes(&self) {
        let Some(passage) = self.stay.as_ref().and_then(|stay| stay.passage.as_ref()) else {
            return;
        };
        let Edge { direction, peer, server, .. } = self.edge();
        let host = if let Server::Service(host, _) = server { host } else { "" };
        self.cx.counts.passed((direction, peer, host), passage);
    }

    /// Whether it is a copy that this proxy made.
    pub(super) fn is_own_copy(&self) -> bool {
        self.direction == Direction::Outbound && self.request.as_ref().is_some_and(|r| r.copy)
    }

    fn count_attempt(&self, (since, now): (Instant, Instant), bad: bool) {
        let Some(endpoint) = self.endpoint.as_ref().filter(|_| !self.is_own_copy()) else { return };
        let (namespace, workload) = endpoint.workload.split_once('/').unwrap_or_default();
        let (direction, revision) = (self.direction, endpoint.revision.as_str());
        let of = Of { direction, namespace, workload, revision };
        self.cx.counts.attempted(of, bad, self.measured().then(|| now - since));
    }

    /// Whether its duration says something: connections last as long as clients like.
    fn measured(&self) -> bool {
        let upgraded = http::StatusCode::SWITCHING_PROTOCOLS;
        self.request.as_ref().is_some_and(|request| request.status != Some(upgraded))
    }

    /// Whether it ended badly, and not because of the client; `None`: it never came to the server, or people forbid or limit it.
    fn is_servers_fault(&self) -> Option<bool> {
        let tried = self.endpoint.is_some();
        let status = self.request.as_ref().and_then(|request| request.status);
        let Some(reason) = self.reason else {
            let refused = status.is_some_and(|status| status.is_client_error());
            let failed = status.is_some_and(|status| status.is_server_error())
                || !refused && self.grpc().is_some_and(blame::call);
            return tried.then_some(failed);
        };
        // Of an opaque connection it counts that it began: how long nothing is said on it is the application's business.
        let opaque = self.request.is_none() && reason != Reason::Connect;
        match Fault::of(reason, self.direction, status) {
            _ if self.ending || reason == Reason::NoEndpoint => None,
            Fault::Upstream if opaque => tried.then_some(false),
            // An application that takes no connection was tried, too.
            Fault::Upstream => (tried || reason == Reason::Connect).then_some(true),
            Fault::Downstream => tried.then_some(false),
            Fault::Proxy | Fault::Policy => None,
        }
    }
}

/// Whether the server is to blame for what an attempt came to.
pub mod blame {
    use http::StatusCode;

    use crate::{
        error::{Error, Reason},
        telemetry::{Direction, fault::Fault, grpc},
    };

    /// For an answer with this status, and this one of gRPC.
    pub fn answer(status: StatusCode, grpc: Option<u32>) -> bool {
        status.is_server_error() || grpc.is_some_and(|status| call(grpc::name(status)))
    }

    /// For an attempt at another workload's endpoint that has failed so; `None`: it never was one.
    pub fn error(error: &Error) -> Option<bool> {
        let fault = Fault::of(error.reason(), Direction::Outbound, Some(error.status()));
        match fault {
            _ if error.is_ending() || error.reason() == Reason::NoEndpoint => None,
            Fault::Upstream => Some(true),
            Fault::Downstream => Some(false),
            Fault::Proxy | Fault::Policy => None,
        }
    }

    /// For the gRPC status of this name. Who calls what there is not gets `UNIMPLEMENTED`, as 404 elsewhere.
    pub(super) fn call(status: &str) -> bool {
        status != "UNIMPLEMENTED" && grpc::is_server_error(status)
    }
}
