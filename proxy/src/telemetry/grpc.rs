//! Statuses of gRPC, as calls come to them.

use http::StatusCode;
use tulle_xds::grpc;
pub(super) use tulle_xds::grpc::is_server_error;

/// What a client takes for the status when no number says it.
const UNKNOWN: u32 = 2;

/// The name of a status. A number that gRPC does not have is unknown, as for its clients.
pub(super) fn name(status: u32) -> &'static str {
    grpc::name(status).unwrap_or("UNKNOWN")
}

/// The number of a status with this name.
pub(super) fn number(name: &str) -> u32 {
    grpc::number(name).unwrap_or(UNKNOWN)
}

/// The status of an answer without `grpc-status`, as clients take it:
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
pub(super) fn of_http(status: Option<StatusCode>) -> u32 {
    match status.map_or(0, |status| status.as_u16()) {
        400 => 13,                   // INTERNAL
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 => 12,                   // UNIMPLEMENTED
        429 | 502 | 503 | 504 => 14, // UNAVAILABLE
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_name() {
        for (status, expected) in
            [(0, "OK"), (2, "UNKNOWN"), (14, "UNAVAILABLE"), (16, "UNAUTHENTICATED")]
        {
            assert_eq!(name(status), expected);
        }
        assert_eq!([name(17), name(u32::MAX)], ["UNKNOWN"; 2]);
    }

    #[test]
    fn an_answer_without_status_is_what_clients_take_it_for() {
        let cases = [(None, 2), (Some(200), 2), (Some(404), 12), (Some(503), 14), (Some(500), 2)];
        for (status, expected) in cases {
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            assert_eq!(of_http(status), expected, "{status:?}");
        }
    }
}
