//! What of series is exported, under which names.

use super::{
    Labels,
    labels::{error_type, http, rpc, state},
};
use crate::telemetry::{Direction, series::Kind};

/// A name in the export, and the series that have a part in it.
pub(in super::super) struct Family {
    pub(in super::super) name: &'static str,
    pub(in super::super) help: &'static str,
    pub(in super::super) values: Values,
    /// The labels beside the edge's; `None` has no part.
    pub(in super::super) labels: fn(Direction, &Kind) -> Option<Labels>,
}

/// What of a series is exported.
pub(in super::super) enum Values {
    Durations,
    Times,
    Bytes,
}

/// All of them.
pub(in super::super) const FAMILIES: [Family; 9] = [
    Family {
        name: "http_client_request_duration",
        help: "Duration of requests that the application sent, as it saw them, but for gRPC's",
        values: Values::Durations,
        labels: |direction, kind| http(kind).filter(|_| direction == Direction::Outbound),
    },
    Family {
        name: "http_server_request_duration",
        help: "Duration of requests that the application received, but for gRPC's",
        values: Values::Durations,
        labels: |direction, kind| {
            let mut labels = http(kind).filter(|_| direction == Direction::Inbound)?;
            labels.push(("url_scheme", "http".to_owned()));
            Some(labels)
        },
    },
    Family {
        name: "rpc_client_call_duration",
        help: "Duration of gRPC calls that the application made, as it saw them",
        values: Values::Durations,
        labels: |direction, kind| rpc(kind).filter(|_| direction == Direction::Outbound),
    },
    Family {
        name: "rpc_server_call_duration",
        help: "Duration of gRPC calls that the application received",
        values: Values::Durations,
        labels: |direction, kind| rpc(kind).filter(|_| direction == Direction::Inbound),
    },
    Family {
        name: "tulle_client_attempts",
        help: "Attempts at endpoints of other services, by what came of them; divided by requests it is the retry amplification",
        values: Values::Times,
        labels: |_, kind| match kind {
            Kind::Tried { outcome } => Some(vec![("outcome", (*outcome).to_owned())]),
            _ => None,
        },
    },
    Family {
        name: "tulle_tcp_connections",
        help: "Opaque connections that were opened, and that were closed",
        values: Values::Times,
        labels: |_, kind| match kind {
            Kind::Flow => Some(vec![state("opened")]),
            Kind::Closed { error } => Some([vec![state("closed")], error_type(error)].concat()),
            _ => None,
        },
    },
    Family {
        name: "tulle_tcp_io",
        help: "Bytes that clients of opaque connections sent (`received`) and were sent (`sent`), counted when a connection ends",
        values: Values::Bytes,
        labels: |_, kind| (*kind == Kind::Flow).then(Vec::new),
    },
    Family {
        name: "tulle_tcp_connection_duration",
        help: "Duration of opaque connections",
        values: Values::Durations,
        labels: |_, kind| match kind {
            Kind::Closed { error } => Some(error_type(error)),
            _ => None,
        },
    },
    Family {
        name: "tulle_denials",
        help: "Requests and opaque connections that policy forbade (`enforce`), or would have (`audit`)",
        values: Values::Times,
        labels: |_, kind| match kind {
            Kind::Denied { policy, reason, mode } => Some(vec![
                ("tulle_policy", policy.to_string()),
                ("tulle_reason", (*reason).to_owned()),
                ("tulle_mode", (*mode).to_owned()),
            ]),
            _ => None,
        },
    },
];
