//! What a record is for the version that was asked, while that is being released.

use tokio::time::Instant;

use super::{Direction, Record};
use crate::{
    error::Reason,
    telemetry::{grpc, versions::Of},
};

impl Record {
    /// The attempt that was under way has failed, and another one follows: `bad` if that was the server's fault.
    pub fn attempt_failed(&mut self, bad: bool) {
        if let Some(since) = self.tried_since.take() {
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

    /// Whether it ended badly, and not because of the client, or of what people forbid or limit; `None`: it never came to the
    /// server.
    fn is_servers_fault(&self) -> Option<bool> {
        match self.reason {
            None => Some(self.is_error()),
            Some(Reason::Canceled | Reason::Protocol) => Some(false),
            Some(Reason::Connect | Reason::Reset | Reason::Timeout | Reason::Tls) => Some(true),
            Some(_) => None,
        }
    }
}

/// Whether an answer that is not given says that the server failed.
pub fn is_bad_answer(status: http::StatusCode, grpc: Option<u32>) -> bool {
    status.is_server_error() || grpc.is_some_and(|status| grpc::is_server_error(grpc::name(status)))
}
