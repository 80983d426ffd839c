use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An outcome that is tried again: `5xx`, a status (`503`), `reset`, `connect`, or a gRPC code
/// (`unavailable`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryOn {
    /// `5xx`: any status of 500 to 599.
    ServerError,
    /// One status, 400 to 599.
    Status(u16),
    /// `reset`: the connection or stream broke before a response came.
    Reset,
    /// `connect`: no connection could be made.
    Connect,
    /// A gRPC status of the response.
    Grpc(GrpcCode),
}

/// The gRPC status codes other than OK.
/// <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the gRPC code of that name")]
pub enum GrpcCode {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A text that is no [`RetryOn`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is nothing to retry on; write 5xx, a status from 400 to 599, reset, connect, or a gRPC \
     code such as unavailable or resource-exhausted"
)]
pub struct BadRetryOn(pub String);

/// The forms of text, in a way that can be read where the API server shows it.
const PATTERN: &str = "^(5xx|[45][0-9][0-9]|reset|connect|cancelled|deadline-exceeded|\
    resource-exhausted|internal|unavailable)$";

impl GrpcCode {
    const ALL: [(Self, &str); 16] = [
        (Self::Cancelled, "cancelled"),
        (Self::Unknown, "unknown"),
        (Self::InvalidArgument, "invalid-argument"),
        (Self::DeadlineExceeded, "deadline-exceeded"),
        (Self::NotFound, "not-found"),
        (Self::AlreadyExists, "already-exists"),
        (Self::PermissionDenied, "permission-denied"),
        (Self::ResourceExhausted, "resource-exhausted"),
        (Self::FailedPrecondition, "failed-precondition"),
        (Self::Aborted, "aborted"),
        (Self::OutOfRange, "out-of-range"),
        (Self::Unimplemented, "unimplemented"),
        (Self::Internal, "internal"),
        (Self::Unavailable, "unavailable"),
        (Self::DataLoss, "data-loss"),
        (Self::Unauthenticated, "unauthenticated"),
    ];

    /// The code on the wire, `grpc-status`.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether a call that ended with it may be tried again: gRPC's own retries and Envoy's know
    /// these.
    pub const fn is_retried(self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::DeadlineExceeded
                | Self::ResourceExhausted
                | Self::Internal
                | Self::Unavailable
        )
    }

    /// The name in YAML, `resource-exhausted`.
    pub fn as_str(self) -> &'static str {
        Self::ALL[usize::from(self.number()) - 1].1
    }
}

impl RetryOn {
    fn status(number: u64) -> Option<Self> {
        let status = u16::try_from(number).ok()?;
        (400..600).contains(&status).then_some(Self::Status(status))
    }
}

impl FromStr for RetryOn {
    type Err = BadRetryOn;

    fn from_str(text: &str) -> Result<Self, BadRetryOn> {
        let known = match text {
            "5xx" => Some(Self::ServerError),
            "reset" => Some(Self::Reset),
            "connect" => Some(Self::Connect),
            _ => None,
        };
        let grpc = || {
            let (code, _) = GrpcCode::ALL.into_iter().find(|(_, name)| *name == text)?;
            Some(Self::Grpc(code))
        };
        let status = || Self::status(text.parse().ok()?);
        known
            .or_else(grpc)
            .or_else(status)
            .ok_or_else(|| BadRetryOn(text.chars().take(40).collect()))
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerError => f.write_str("5xx"),
            Self::Status(status) => fmt::Display::fmt(status, f),
            Self::Reset => f.write_str("reset"),
            Self::Connect => f.write_str("connect"),
            Self::Grpc(code) => f.write_str(code.as_str()),
        }
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Status(status) => to.serialize_u16(*status),
            other => to.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

/// `503` in YAML is a number, `"503"` a text: both are meant.
struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = RetryOn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("5xx, a status, reset, connect or a gRPC code")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RetryOn, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<RetryOn, E> {
        RetryOn::status(number).ok_or_else(|| E::custom(BadRetryOn(number.to_string())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RetryOn, E> {
        let status = u64::try_from(number).ok().and_then(RetryOn::status);
        status.ok_or_else(|| E::custom(BadRetryOn(number.to_string())))
    }
}

impl JsonSchema for RetryOn {
    fn schema_name() -> Cow<'static, str> {
        "RetryOn".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 400,
            "maximum": 599,
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_round_trips() {
        let text = "[5xx, 503, '429', reset, connect, unavailable, resource-exhausted]";
        let list: Vec<RetryOn> = serde_yaml_ng::from_str(text).expect("a list");
        assert_eq!(
            list,
            [
                RetryOn::ServerError,
                RetryOn::Status(503),
                RetryOn::Status(429),
                RetryOn::Reset,
                RetryOn::Connect,
                RetryOn::Grpc(GrpcCode::Unavailable),
                RetryOn::Grpc(GrpcCode::ResourceExhausted),
            ]
        );
        let json = serde_json::to_string(&list).expect("JSON");
        assert_eq!(serde_json::from_str::<Vec<RetryOn>>(&json).expect("a list"), list);
    }

    #[test]
    fn the_pattern_names_the_codes_that_are_retried() {
        for (code, name) in GrpcCode::ALL {
            let named = PATTERN.contains(&format!("|{name}"));
            assert_eq!(named, code.is_retried(), "{name}");
        }
    }

    #[test]
    fn codes_have_their_numbers() {
        for (i, (code, name)) in GrpcCode::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), i + 1);
            assert_eq!(code.as_str(), name);
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["4xx", "200", "600", "gateway-error", "-1", "''", "ok"] {
            let error = serde_yaml_ng::from_str::<RetryOn>(text).expect_err(text).to_string();
            assert!(error.contains("is nothing to retry on; write 5xx"), "{text}: {error}");
        }
    }
}
