//! Why a request or connection ended otherwise than its peers meant it to.
//!
//! One list of reasons, used alike by the access log, metric labels and the header
//! `x-tulle-reason`. Everything that a reason implies is an exhaustive `match` in this file.

use std::{borrow::Cow, fmt, sync::Arc};

use http::StatusCode;

/// Why a proxy ended a request or connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No connection to the endpoint: refused, unreachable, or too slow.
    Connect,
    /// The endpoint's connection ended before its answer did.
    Reset,
    /// The request's time ran out.
    Timeout,
    /// The cluster has no endpoint that may get requests.
    NoEndpoint,
    /// A limit of the cluster was reached (Envoy's circuit breaker).
    Overflow,
    /// Policy does not allow it: for example plaintext to a port that wants mTLS.
    Denied,
    /// A TLS handshake failed, or the other side proved another identity.
    Tls,
    /// The client's bytes are not what its port or their protocol demands.
    Protocol,
    /// No rule of the route matches the request.
    RouteNotFound,
    /// A rule's backend is invalid, so that Gateway API wants status 500.
    InvalidBackend,
    /// The control plane has not told what is needed to decide.
    ControlPlane,
    /// The destination is outside of the mesh, where this workload may not go.
    ExternalRefused,
    /// The proxy has no room for another connection.
    ConnectionLimit,
    /// The version that it was sent to was rolled back, and its time to end by itself is over.
    Retired,
    /// The client went away before it was answered.
    Canceled,
}

impl Reason {
    /// The word for logs, labels and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::NoEndpoint => "no_endpoint",
            Self::Overflow => "overflow",
            Self::Denied => "denied",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::RouteNotFound => "route_not_found",
            Self::InvalidBackend => "invalid_backend",
            Self::ControlPlane => "control_plane",
            Self::ExternalRefused => "external_refused",
            Self::ConnectionLimit => "connection_limit",
            Self::Retired => "retired",
            Self::Canceled => "canceled",
        }
    }

    /// The status of an HTTP response that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Connect
            | Self::Reset
            | Self::NoEndpoint
            | Self::Overflow
            | Self::Tls
            | Self::ControlPlane
            | Self::ConnectionLimit
            | Self::Retired => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Protocol => StatusCode::BAD_REQUEST,
            Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::InvalidBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ExternalRefused => StatusCode::BAD_GATEWAY,
            // Nobody reads it; the access log does. The number is nginx's.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }

    /// The `grpc-status` of a response that says so. Codes:
    /// <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>; the mapping from HTTP:
    /// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
    pub fn grpc_status(self) -> u8 {
        match self {
            Self::Connect
            | Self::Reset
            | Self::NoEndpoint
            | Self::Overflow
            | Self::Tls
            | Self::ControlPlane
            | Self::ExternalRefused
            | Self::ConnectionLimit
            | Self::Retired
            // Gateway API's GRPCRoute wants it so.
            | Self::InvalidBackend => 14, // UNAVAILABLE
            Self::Timeout => 4,        // DEADLINE_EXCEEDED
            Self::Denied => 7,         // PERMISSION_DENIED
            Self::Protocol => 13,      // INTERNAL
            Self::RouteNotFound => 12, // UNIMPLEMENTED
            Self::Canceled => 1,       // CANCELLED
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A [`Reason`] and its story.
#[derive(Debug)]
pub struct Error {
    reason: Reason,
    status: Option<StatusCode>,
    detail: Cow<'static, str>,
    never_sent: bool,
    ending: bool,
    policy: Option<Policy>,
}

/// What policy has to do with an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// This one forbids it: `KIND/NAMESPACE/NAME`, or as much of it as is known.
    Forbids(Arc<str>),
    /// One of these fields of whatever object set it: `limits.requests`.
    Set(&'static [&'static str]),
    /// This route has nothing for it: `KIND/NAMESPACE/NAME`.
    Lacks(String),
}

impl Error {
    /// An error. `detail` says what happened where, and what to do next; it goes to the log and
    /// never to a client.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            status: None,
            detail: detail.into(),
            never_sent: false,
            ending: false,
            policy: None,
        }
    }

    /// The same error, answered with another status than its reason's.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The same error of a request of which the server saw nothing, so that any method may be tried
    /// elsewhere.
    #[must_use]
    pub fn never_sent(mut self) -> Self {
        self.never_sent = true;
        self
    }

    /// The same error of a request that was never sent, as the pod is about to end: no failure of the server's.
    #[must_use]
    pub fn ending(mut self) -> Self {
        (self.never_sent, self.ending) = (true, true);
        self
    }

    /// The same error, of what `policy` does not allow.
    #[must_use]
    pub fn forbidden_by(mut self, policy: impl Into<Arc<str>>) -> Self {
        self.policy = Some(Policy::Forbids(policy.into()));
        self
    }

    /// The same error, of which one of these fields of a policy is the cause, if one sets it.
    #[must_use]
    pub fn set_by(mut self, fields: &'static [&'static str]) -> Self {
        self.policy = Some(Policy::Set(fields));
        self
    }

    /// The same error, of which the cause is that this route has no rule for it.
    #[must_use]
    pub fn lacking(mut self, route: Option<String>) -> Self {
        self.policy = route.map(Policy::Lacks);
        self
    }

    /// What policy has to do with it.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// Whether the server saw nothing of the request.
    pub fn is_never_sent(&self) -> bool {
        self.never_sent
    }

    /// Whether the server is well, and only about to end.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The status that a response about it has.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.reason.status())
    }

    /// What happened, for the log.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Error {}

/// A text of any error with all of its causes, `a: b: c`.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Several libraries repeat their cause in their own text.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
