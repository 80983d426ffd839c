use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        route::v3::{
            HeaderMatcher, RetryPolicy, header_matcher::HeaderMatchSpecifier, retry_policy, route,
        },
    },
    extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
};
use prost::Message as _;

use super::http;
use crate::model::{RouteConfiguration, wire};

/// What was never sent, or never reached the application as its sidecar says, is tried elsewhere.
const NEVER_SENT: &str = "connect-failure,refused-stream,reset-before-request,retriable-headers";

/// How often, where no policy says it.
const TRIES: u32 = 2;

/// Rules of ours, in Envoy's words.
pub fn route(routes: &RouteConfiguration) -> Bytes {
    let mut message = routes.message();
    for host in &mut message.virtual_hosts {
        // The next sidecar may speak with the application as the client did.
        host.request_headers_to_add = vec![header(http::HTTP_VERSION, "%PROTOCOL%")];
        host.request_headers_to_remove =
            vec![http::NOT_REACHED.to_owned(), http::REASON.to_owned()];
        host.response_headers_to_remove = vec![http::NOT_REACHED.to_owned()];
        for (route, rule) in host.routes.iter_mut().zip(&routes.rules) {
            route.metadata = super::origin(&rule.origin, &rule.setters);
            if let Some(route::Action::Route(action)) = &mut route.action {
                action.retry_policy = Some(retries(action.retry_policy.take()));
            }
        }
    }
    message.encode_to_vec().into()
}

fn retries(told: Option<RetryPolicy>) -> RetryPolicy {
    let mut policy = told.unwrap_or_default();
    policy.retry_on = match policy.retry_on.as_str() {
        "" => NEVER_SENT.to_owned(),
        on => format!("{NEVER_SENT},{on}"),
    };
    policy.num_retries = policy.num_retries.or_else(|| wire::uint(TRIES));
    policy.retriable_headers = vec![HeaderMatcher {
        name: http::NOT_REACHED.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..HeaderMatcher::default()
    }];
    let elsewhere = wire::pack(&PreviousHostsPredicate::default());
    policy.retry_host_predicate = vec![retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(elsewhere)),
    }];
    policy.host_selection_retry_max_attempts = 3;
    policy
}

pub(super) fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}
