//! Statuses of gRPC: <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>.

/// Their names, by number.
const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a status; `None`: gRPC has no such number.
pub fn name(status: u32) -> Option<&'static str> {
    STATUSES.get(usize::try_from(status).ok()?).copied()
}

/// The number of the status with this name.
pub fn number(name: &str) -> Option<u32> {
    (0..).zip(STATUSES).find(|(_, known)| *known == name).map(|(number, _)| number)
}

/// Whether the server is to blame for the status with this name, by OpenTelemetry's conventions for `error.type`.
pub fn is_server_error(name: &str) -> bool {
    matches!(
        name,
        "UNKNOWN"
            | "DEADLINE_EXCEEDED"
            | "UNIMPLEMENTED"
            | "INTERNAL"
            | "UNAVAILABLE"
            | "DATA_LOSS"
    )
}
