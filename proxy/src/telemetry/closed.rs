//! A record that has ended, as data: what is told of it elsewhere than in this process.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, StatusCode, Version};
use tokio::time::Instant;
use tulle_expression::Value;
use tulle_xds::model::Endpoint;

use super::{
    Direction,
    record::{Attempt, Noted},
    trace::Position,
};
use crate::{error::Reason, tls::Peer};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) direction: Direction,
    /// It has a line in the access log, which stands for others if that was drawn.
    pub(super) line: Option<bool>,
    /// It has spans.
    pub(super) spans: Option<SpanPart>,
    pub(super) position: Option<Position>,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// What the clock on the wall said at its end.
    pub(super) time: SystemTime,
    /// Of a request.
    pub(super) protocol: Option<Version>,
    pub(super) method: Option<Method>,
    /// The method in labels.
    pub(super) verb: &'static str,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) copy: bool,
    pub(super) status: Option<StatusCode>,
    /// The name of a gRPC call's status.
    pub(super) grpc: Option<&'static str>,
    /// It ended otherwise than it should, whoever is to blame.
    pub(super) error: bool,
    pub(super) reason: Option<Reason>,
    pub(super) detail: Cow<'static, str>,
    pub(super) policy: Option<Cow<'static, str>>,
    pub(super) audited: Option<Arc<str>>,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// Namespace and name of the workload on the other side, or its class.
    pub(super) peer: (String, String),
    pub(super) caller: Option<Arc<Peer>>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// The Service that was called.
    pub(super) server: Option<Server>,
    /// The rule that matched.
    pub(super) route: Option<String>,
    pub(super) attempts: u32,
    pub(super) client: SocketAddr,
    pub(super) destination: SocketAddr,
    /// What a Telemetry wants said beyond that, of its spans and of its line.
    pub(super) attributes: Extras,
    pub(super) fields: Extras,
}

/// Names and values.
pub(super) type Extras = Vec<(String, Value<'static>)>;

/// What is in a trace.
#[derive(Debug)]
pub(super) struct SpanPart {
    pub(super) position: Position,
    pub(super) state: Option<HeaderValue>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) events: Vec<Noted>,
}

/// The port of a Service.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: String,
    pub(super) port: u16,
}

impl Closed {
    /// Nanoseconds since 1970 at this moment of it.
    pub(super) fn nanoseconds(&self, at: Instant) -> u64 {
        let before = self.ended.saturating_duration_since(at);
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.saturating_sub(before).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many spans it has.
    pub(super) fn span_count(&self) -> usize {
        let attempts =
            |spans: &SpanPart| if spans.attempts.len() > 1 { spans.attempts.len() } else { 0 };
        self.spans.as_ref().map_or(0, |spans| 1 + attempts(spans))
    }
}
