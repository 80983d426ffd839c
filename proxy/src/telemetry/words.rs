//! Words of an edge, as messages to the control plane have them.

use tulle_proto::telemetry::v1 as proto;

use super::{Direction, edge::Security};
use crate::request::lane::By;

/// As a message's field.
pub(super) fn direction(direction: Direction) -> i32 {
    match direction {
        Direction::Inbound => proto::Direction::Inbound,
        Direction::Outbound => proto::Direction::Outbound,
    }
    .into()
}

/// As a message's field.
pub(super) fn security(security: Option<Security>) -> i32 {
    match security {
        None => proto::Security::Unspecified,
        Some(Security::Mtls) => proto::Security::Mtls,
        Some(Security::Plaintext) => proto::Security::Plaintext,
    }
    .into()
}

/// As a message's field.
pub(super) fn lane_by(by: By) -> i32 {
    match by {
        By::Baggage => proto::LaneBy::Baggage,
        By::State => proto::LaneBy::Tracestate,
        By::Entry => proto::LaneBy::Entry,
        By::Trace => proto::LaneBy::Traceparent,
        By::Nothing => proto::LaneBy::Nothing,
        By::UnknownTrace => proto::LaneBy::UnknownTrace,
        By::Unclear => proto::LaneBy::Unclear,
    }
    .into()
}
