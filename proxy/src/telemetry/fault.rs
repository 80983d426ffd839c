//! Whose fault a failure is: where to look first.

use http::StatusCode;

use super::Direction;
use crate::error::Reason;

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Who called.
    Downstream,
    /// Who was called.
    Upstream,
    /// This sidecar, or its control plane.
    Proxy,
    /// Somebody wrote that it should be so, or nothing that says where it goes.
    Policy,
}

impl Fault {
    /// The word for logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
            Self::Policy => "policy",
        }
    }

    /// Whose fault it is that a sidecar ended something itself, and answered with this status.
    pub(crate) fn of(reason: Reason, direction: Direction, status: Option<StatusCode>) -> Self {
        match reason {
            Reason::Connect | Reason::Reset | Reason::NoEndpoint => Self::Upstream,
            // Who is slow: a client that does not send its request is answered with 408.
            Reason::Timeout if status == Some(StatusCode::REQUEST_TIMEOUT) => Self::Downstream,
            Reason::Timeout => Self::Upstream,
            // Whoever is on the other side of the handshake.
            Reason::Tls => match direction {
                Direction::Inbound => Self::Downstream,
                Direction::Outbound => Self::Upstream,
            },
            // A server that sends no proper HTTP is answered for with 502.
            Reason::Protocol if status.is_some_and(|status| status.is_server_error()) => {
                Self::Upstream
            }
            Reason::Protocol | Reason::Canceled => Self::Downstream,
            Reason::Overflow
            | Reason::Denied
            | Reason::RouteNotFound
            | Reason::InvalidBackend
            | Reason::ExternalRefused
            | Reason::Retired => Self::Policy,
            Reason::ControlPlane | Reason::ConnectionLimit => Self::Proxy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_says_where_to_look_first() {
        use Direction::{Inbound, Outbound};
        use Fault::{Downstream, Policy, Proxy, Upstream};
        for (reason, direction, status, fault) in [
            (Reason::Connect, Outbound, 503, Upstream),
            (Reason::Reset, Inbound, 503, Upstream),
            (Reason::Timeout, Outbound, 504, Upstream),
            (Reason::Timeout, Inbound, 408, Downstream),
            (Reason::NoEndpoint, Outbound, 503, Upstream),
            (Reason::Overflow, Outbound, 503, Policy),
            (Reason::Denied, Inbound, 403, Policy),
            (Reason::Tls, Inbound, 503, Downstream),
            (Reason::Tls, Outbound, 503, Upstream),
            (Reason::Protocol, Inbound, 400, Downstream),
            (Reason::Protocol, Outbound, 502, Upstream),
            (Reason::RouteNotFound, Outbound, 404, Policy),
            (Reason::InvalidBackend, Outbound, 500, Policy),
            (Reason::ControlPlane, Outbound, 503, Proxy),
            (Reason::ExternalRefused, Outbound, 502, Policy),
            (Reason::ConnectionLimit, Inbound, 503, Proxy),
            (Reason::Retired, Outbound, 503, Policy),
            (Reason::Canceled, Inbound, 499, Downstream),
        ] {
            let status = StatusCode::from_u16(status).ok();
            assert_eq!(Fault::of(reason, direction, status), fault, "{reason} {direction:?}");
        }
        assert_eq!(Fault::of(Reason::Protocol, Inbound, None), Downstream);
    }
}
