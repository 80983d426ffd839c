//! Words of an edge, as messages to the control plane have them.

use tulle_proto::telemetry::v1 as proto;

use super::{Direction, edge::Security};

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
