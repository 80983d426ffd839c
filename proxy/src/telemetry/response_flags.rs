//! Envoy's word for why a request failed, which its access log has and the tools that read it know:
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage>, `%RESPONSE_FLAGS%`.

use crate::error::Reason;

/// The flag of a reason. Where Envoy has no such case, the nearest one.
pub(crate) fn of(reason: Reason) -> &'static str {
    match reason {
        // "Upstream connection failure"; Envoy's handshakes with servers are a part of that.
        Reason::Connect | Reason::Tls => "UF",
        // "Upstream connection termination"
        Reason::Reset => "UC",
        // "Upstream request timeout"
        Reason::Timeout => "UT",
        // "No healthy upstream hosts in upstream cluster"
        Reason::NoEndpoint => "UH",
        // "Upstream overflow (circuit breaking)"
        Reason::Overflow => "UO",
        // "The request was denied by the external authorization service"
        Reason::Denied => "UAEX",
        // "The downstream request had an HTTP protocol error"
        Reason::Protocol => "DPE",
        // "No route configured for a given request"
        Reason::RouteNotFound | Reason::ExternalRefused => "NR",
        // "Upstream cluster not found"
        Reason::InvalidBackend | Reason::ControlPlane => "NC",
        // "Overload Manager terminated the request"
        Reason::ConnectionLimit => "OM",
        // "Connection local reset"
        Reason::Retired => "LR",
        // "Downstream connection termination"
        Reason::Canceled => "DC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_the_flag_that_envoy_would_log() {
        for (reason, flag) in [
            (Reason::Connect, "UF"),
            (Reason::Reset, "UC"),
            (Reason::Timeout, "UT"),
            (Reason::NoEndpoint, "UH"),
            (Reason::Overflow, "UO"),
            (Reason::Denied, "UAEX"),
            (Reason::Tls, "UF"),
            (Reason::Protocol, "DPE"),
            (Reason::RouteNotFound, "NR"),
            (Reason::InvalidBackend, "NC"),
            (Reason::ControlPlane, "NC"),
            (Reason::ExternalRefused, "NR"),
            (Reason::ConnectionLimit, "OM"),
            (Reason::Retired, "LR"),
            (Reason::Canceled, "DC"),
        ] {
            assert_eq!(of(reason), flag, "{reason}");
        }
    }
}
