//! Responses that a proxy makes up.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};

use super::{Connection, body::ResponseBody, head};
use crate::{
    error::{Error, Reason},
    net::guard::scan::Fault,
    telemetry::Record,
};

/// How the client wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// The request is a gRPC call.
    pub grpc: bool,
    /// The version of the client's connection.
    pub version: Version,
}

impl Manner {
    /// How the client of `request` wants to be told.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self { grpc: head::is_grpc(request.headers()), version: request.version() }
    }
}

/// Tells a client about `error`: with the reason's status, or the way of gRPC, a response of
/// trailers only (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub fn error(
    connection: &Connection,
    error: &Error,
    manner: Manner,
    mut record: Record,
) -> Response<ResponseBody> {
    let reason = error.reason();
    let (status, content) = if manner.grpc {
        (StatusCode::OK, None)
    } else {
        (error.status(), Some(Bytes::from(format!("tulle: {reason}\n"))))
    };
    if let Some(limit) = limit(error.status()) {
        connection.cx.metrics.rejected(limit);
    }
    record.status(status);
    record.fail(error);
    if manner.grpc {
        record.grpc_status(reason.grpc_status().into());
    }
    let mut response = Response::new(ResponseBody::own(content, record));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(head::REASON, HeaderValue::from_static(reason.as_str()));
    if manner.grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(reason.grpc_status())));
        headers.insert("grpc-message", HeaderValue::from_static(reason.as_str()));
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if connection.from_sidecar() && error.is_never_sent() {
        headers.insert(
            head::NOT_REACHED,
            match error.is_ending() {
                true => head::ENDING,
                false => HeaderValue::from_static("1"),
            },
        );
    }
    if reason == Reason::Protocol && status.is_client_error() && manner.version != Version::HTTP_2 {
        // What else is on this connection cannot be trusted to begin where we think it does.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The limit for which a client is told this status.
fn limit(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::PAYLOAD_TOO_LARGE => "body_bytes",
        StatusCode::URI_TOO_LONG => "uri_bytes",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "head_bytes",
        _ => return None,
    })
}

/// Tells a client that what it sent is no proper HTTP/1 request, and that the connection ends.
pub fn fault(connection: &Connection, fault: Fault) -> Response<ResponseBody> {
    let mut record = connection.record();
    record.unreadable_request();
    let reason = match fault.status {
        StatusCode::REQUEST_TIMEOUT => {
            connection.cx.metrics.rejected("head_time");
            Reason::Timeout
        }
        _ => Reason::Protocol,
    };
    let failed = Error::new(reason, fault.what).with_status(fault.status);
    let manner = Manner { grpc: false, version: Version::HTTP_11 };
    let mut response = error(connection, &failed, manner, record);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Sends a client elsewhere.
pub fn redirect(
    status: StatusCode,
    location: Option<HeaderValue>,
    mut record: Record,
) -> Response<ResponseBody> {
    record.status(status);
    record.finish();
    let mut response = Response::new(ResponseBody::own(None, record));
    *response.status_mut() = status;
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
