//! Labels by which the series of one edge are told apart.

use super::Labels;
use crate::telemetry::{
    grpc,
    series::{Kind, Status},
};

pub(super) fn http(kind: &Kind) -> Option<Labels> {
    let Kind::Http { method, status, error } = *kind else { return None };
    let code = match status {
        Status::None => String::new(),
        Status::Exact(status) => status.to_string(),
        Status::Class(digit) => format!("{digit}xx"),
    };
    let error = match status {
        _ if !error.is_empty() => error_type(error),
        Status::Exact(500..) | Status::Class(5..) => error_type(&code),
        _ => Labels::new(),
    };
    let mut labels = vec![("http_request_method", method.to_owned())];
    if !code.is_empty() {
        labels.push(("http_response_status_code", code));
    }
    Some([labels, error].concat())
}

pub(super) fn rpc(kind: &Kind) -> Option<Labels> {
    let Kind::Rpc { status, error } = *kind else { return None };
    let error = match error {
        "" if grpc::is_server_error(status) => status,
        error => error,
    };
    let labels =
        vec![("rpc_system_name", "grpc".to_owned()), ("rpc_status_code", status.to_owned())];
    Some([labels, error_type(error)].concat())
}

pub(super) fn error_type(error: &str) -> Labels {
    if error.is_empty() { Vec::new() } else { vec![("error_type", error.to_owned())] }
}

pub(super) fn state(state: &str) -> (&'static str, String) {
    ("tulle_connection_state", state.to_owned())
}
