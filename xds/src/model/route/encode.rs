use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        core::v3::{
            self as core, HeaderValue as PbHeaderValue, HeaderValueOption,
            header_value_option::HeaderAppendAction,
        },
        route::v3::{
            self as pb,
            header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier,
            redirect_action, retry_policy, route,
            route_action::{
                self, ClusterNotFoundResponseCode, HashPolicy,
                hash_policy::{self, PolicySpecifier},
            },
            route_match::PathSpecifier,
            weighted_cluster,
        },
    },
    r#type::{
        matcher::v3::{
            RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
        },
        v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
};
use http::{HeaderName, HeaderValue, StatusCode};
use prost::Message as _;
use tulle_proto::xds::v1 as ours;

use super::{
    Action, Backend, Filter, HeaderMatch, HeaderModifier, Match, Mirror, PathMatch, PathRewrite,
    QueryMatch, Redirect, Regex, Retry, RouteConfiguration, Rule, Stick, StringMatch, Timeouts,
};
use crate::model::wire;

/// Matches any path, for [`PathRewrite::Full`].
pub(super) const WHOLE_PATH: &str = "^.*$";

/// Retries on status and on reset are for these, and for gRPC, whose calls are all POST.
const IDEMPOTENT: &str = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE";

/// What Envoy calls the gRPC statuses of [`Retry::GRPC_STATUSES`].
pub(in crate::model) const GRPC_NAMES: [(u32, &str); 5] = [
    (1, "cancelled"),
    (4, "deadline-exceeded"),
    (8, "resource-exhausted"),
    (13, "internal"),
    (14, "unavailable"),
];

impl RouteConfiguration {
    /// The bytes of Envoy's message, the same for equal rules.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    pub(in crate::model) fn message(&self) -> pb::RouteConfiguration {
        let host = pb::VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: self.rules.iter().map(Rule::message).collect(),
            ..pb::VirtualHost::default()
        };
        pb::RouteConfiguration {
            name: self.name.clone(),
            virtual_hosts: vec![host],
            ..pb::RouteConfiguration::default()
        }
    }
}

impl Rule {
    fn message(&self) -> pb::Route {
        let headers = Headers::of(&self.filters);
        let action = match &self.action {
            Action::Forward(backends) => route::Action::Route(self.forward(backends)),
            Action::Redirect(redirect) => {
                route::Action::Redirect(redirect.message(&self.matches.path))
            }
            Action::Fail(status) => route::Action::DirectResponse(pb::DirectResponseAction {
                status: status.as_u16().into(),
                ..pb::DirectResponseAction::default()
            }),
        };
        pb::Route {
            r#match: Some(self.matches.message()),
            action: Some(action),
            metadata: self.metadata(),
            request_headers_to_add: headers.request_add,
            request_headers_to_remove: headers.request_remove,
            response_headers_to_add: headers.response_add,
            response_headers_to_remove: headers.response_remove,
            ..pb::Route::default()
        }
    }

    fn metadata(&self) -> Option<core::Metadata> {
        let metadata = ours::RouteMetadata {
            origin: wire::origin(&self.origin),
            setters: wire::setters(&self.setters),
        };
        wire::metadata("RouteMetadata", &metadata)
    }

    fn forward(&self, backends: &[Backend]) -> pb::RouteAction {
        let clusters = pb::WeightedCluster {
            clusters: backends.iter().map(Backend::message).collect(),
            random_value_specifier: self.stick.as_ref().and_then(|_| by_hash()),
            ..pb::WeightedCluster::default()
        };
        let not_found = if backends.iter().all(Backend::is_valid) {
            ClusterNotFoundResponseCode::default()
        } else {
            ClusterNotFoundResponseCode::InternalServerError
        };
        let mut action = pb::RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::WeightedClusters(clusters)),
            cluster_not_found_response_code: not_found.into(),
            // Without a policy there is no time limit; Envoy's default is 15 s.
            timeout: wire::duration(self.timeouts.request.unwrap_or_default()),
            idle_timeout: self.timeouts.idle.and_then(wire::duration),
            retry_policy: retry_policy(self.retry.as_ref(), self.timeouts),
            hash_policy: self.stick.iter().map(Stick::message).collect(),
            request_mirror_policies: self.mirrors.iter().map(Mirror::message).collect(),
            ..pb::RouteAction::default()
        };
        for filter in &self.filters {
            let Filter::Rewrite { host, path } = filter else {
                continue;
            };
            if let Some(host) = host {
                action.host_rewrite_specifier =
                    Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(host.clone()));
            }
            match path.as_ref().and_then(|path| path.message(&self.matches.path)) {
                None => {}
                Some(Rewrite::Prefix(prefix)) => action.prefix_rewrite = prefix,
                Some(Rewrite::Regex(regex)) => action.regex_rewrite = Some(regex),
            }
        }
        action
    }
}

/// Without it hash policies are for load balancers alone.
fn by_hash() -> Option<weighted_cluster::RandomValueSpecifier> {
    wire::boolean(true).map(weighted_cluster::RandomValueSpecifier::UseHashPolicy)
}

impl Stick {
    fn message(&self) -> HashPolicy {
        let specifier = match self {
            Self::Header(name) => PolicySpecifier::Header(hash_policy::Header {
                header_name: name.as_str().to_owned(),
                ..hash_policy::Header::default()
            }),
            Self::Cookie(name) => PolicySpecifier::Cookie(hash_policy::Cookie {
                name: name.clone(),
                ..hash_policy::Cookie::default()
            }),
            Self::SourceIp => {
                let address = hash_policy::ConnectionProperties { source_ip: true };
                PolicySpecifier::ConnectionProperties(address)
            }
        };
        HashPolicy { policy_specifier: Some(specifier), ..HashPolicy::default() }
    }
}

impl Match {
    fn message(&self) -> pb::RouteMatch {
        let path = match &self.path {
            PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
            PathMatch::Prefix(prefix) if prefix.is_empty() => PathSpecifier::Prefix("/".to_owned()),
            PathMatch::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
            PathMatch::Regex(regex) => PathSpecifier::SafeRegex(regex.message()),
        };
        let method = self.method.as_ref().map(|method| {
            let value = StringMatch::Exact(method.as_str().to_owned());
            header_matcher(":method", &value)
        });
        let headers = self.headers.iter().map(header_match);
        pb::RouteMatch {
            path_specifier: Some(path),
            headers: method.into_iter().chain(headers).collect(),
            query_parameters: self.query.iter().map(QueryMatch::message).collect(),
            ..pb::RouteMatch::default()
        }
    }
}

/// A condition on a header.
pub(in crate::model) fn header_match(told: &HeaderMatch) -> pb::HeaderMatcher {
    header_matcher(told.name.as_str(), &told.value)
}

fn header_matcher(name: &str, value: &StringMatch) -> pb::HeaderMatcher {
    pb::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value.message())),
        ..pb::HeaderMatcher::default()
    }
}

impl QueryMatch {
    fn message(&self) -> pb::QueryParameterMatcher {
        let value = QueryParameterMatchSpecifier::StringMatch(self.value.message());
        pb::QueryParameterMatcher {
            name: self.name.clone(),
            query_parameter_match_specifier: Some(value),
        }
    }
}

impl StringMatch {
    fn message(&self) -> StringMatcher {
        let pattern = match self {
            Self::Exact(text) => MatchPattern::Exact(text.clone()),
            Self::Regex(regex) => MatchPattern::SafeRegex(regex.message()),
        };
        StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
    }
}

impl Regex {
    fn message(&self) -> RegexMatcher {
        regex(self.source())
    }
}

fn regex(source: &str) -> RegexMatcher {
    RegexMatcher { regex: source.to_owned(), ..RegexMatcher::default() }
}

/// How Envoy says a [`PathRewrite`].
enum Rewrite {
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

impl PathRewrite {
    /// `None` if it says nothing, because there is no prefix to replace.
    fn message(&self, matched: &PathMatch) -> Option<Rewrite> {
        let by_regex = |pattern: &str, path: &str| {
            Rewrite::Regex(RegexMatchAndSubstitute {
                pattern: Some(regex(pattern)),
                substitution: path.replace('\\', r"\\"),
            })
        };
        match (self, matched) {
            (Self::Full(path), _) => Some(by_regex(WHOLE_PATH, path)),
            (Self::Prefix(path), PathMatch::Prefix(prefix)) => {
                let path = path.trim_end_matches('/');
                Some(match (prefix.as_str(), path) {
                    // Envoy's prefix_rewrite is textual: it would make two slashes, or none.
                    ("", path) => by_regex("^/", &format!("{path}/")),
                    (prefix, "") => by_regex(&format!("^{}/*", regex::escape(prefix)), "/"),
                    (_, path) => Rewrite::Prefix(path.to_owned()),
                })
            }
            (Self::Prefix(_), PathMatch::Exact(_) | PathMatch::Regex(_)) => None,
        }
    }
}

impl Backend {
    fn message(&self) -> weighted_cluster::ClusterWeight {
        let headers = Headers::of(&self.filters);
        let host = self.filters.iter().find_map(|filter| match filter {
            Filter::Rewrite { host, .. } => host.clone(),
            Filter::RequestHeaders(_) | Filter::ResponseHeaders(_) => None,
        });
        weighted_cluster::ClusterWeight {
            name: self.cluster.clone(),
            weight: wire::uint(self.weight),
            request_headers_to_add: headers.request_add,
            request_headers_to_remove: headers.request_remove,
            response_headers_to_add: headers.response_add,
            response_headers_to_remove: headers.response_remove,
            host_rewrite_specifier: host
                .map(weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..weighted_cluster::ClusterWeight::default()
        }
    }
}

/// The header changes of some filters, as Envoy lists them.
#[derive(Default)]
struct Headers {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
}

impl Headers {
    fn of(filters: &[Filter]) -> Self {
        let mut headers = Self::default();
        for filter in filters {
            let (modifier, add, remove) = match filter {
                Filter::RequestHeaders(modifier) => {
                    (modifier, &mut headers.request_add, &mut headers.request_remove)
                }
                Filter::ResponseHeaders(modifier) => {
                    (modifier, &mut headers.response_add, &mut headers.response_remove)
                }
                Filter::Rewrite { .. } => continue,
            };
            let HeaderModifier { set, add: added, remove: removed } = modifier;
            let overwrite = |h| header(h, HeaderAppendAction::OverwriteIfExistsOrAdd);
            let append = |h| header(h, HeaderAppendAction::AppendIfExistsOrAdd);
            add.extend(set.iter().map(overwrite).chain(added.iter().map(append)));
            remove.extend(removed.iter().map(|name| name.as_str().to_owned()));
        }
        headers
    }
}

fn header(
    (name, value): &(HeaderName, HeaderValue),
    action: HeaderAppendAction,
) -> HeaderValueOption {
    // A percent sign begins a command in Envoy.
    let (value, raw_value) = match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => (text.replace('%', "%%"), Vec::new()),
        Err(_) => (String::new(), value.as_bytes().to_vec()),
    };
    HeaderValueOption {
        header: Some(PbHeaderValue { key: name.as_str().to_owned(), value, raw_value }),
        append_action: action.into(),
        keep_empty_value: true,
        ..HeaderValueOption::default()
    }
}

impl Redirect {
    fn message(&self, matched: &PathMatch) -> pb::RedirectAction {
        use redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier::SchemeRedirect};

        let path = self.path.as_ref().and_then(|path| match path {
            PathRewrite::Full(path) => Some(PathRewriteSpecifier::PathRedirect(path.clone())),
            PathRewrite::Prefix(_) => path.message(matched).map(|rewrite| match rewrite {
                Rewrite::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
                Rewrite::Regex(regex) => PathRewriteSpecifier::RegexRewrite(regex),
            }),
        });
        pb::RedirectAction {
            scheme_rewrite_specifier: self.scheme.clone().map(SchemeRedirect),
            host_redirect: self.host.clone().unwrap_or_default(),
            port_redirect: self.port.unwrap_or_default().into(),
            path_rewrite_specifier: path,
            response_code: redirect_code(self.status).into(),
            ..pb::RedirectAction::default()
        }
    }
}

fn redirect_code(status: StatusCode) -> redirect_action::RedirectResponseCode {
    use redirect_action::RedirectResponseCode::{
        Found, MovedPermanently, PermanentRedirect, SeeOther, TemporaryRedirect,
    };
    match status.as_u16() {
        301 => MovedPermanently,
        303 => SeeOther,
        307 => TemporaryRedirect,
        308 => PermanentRedirect,
        _ => Found,
    }
}

/// Envoy keeps the time for each try in the retry policy, also when there are no retries.
fn retry_policy(retry: Option<&Retry>, timeouts: Timeouts) -> Option<pb::RetryPolicy> {
    if retry.is_none() && timeouts.per_try.is_none() {
        return None;
    }
    let policy = retry.map(Retry::message).unwrap_or_default();
    Some(pb::RetryPolicy { per_try_timeout: timeouts.per_try.and_then(wire::duration), ..policy })
}

impl Retry {
    fn message(&self) -> pb::RetryPolicy {
        let (by_status, by_grpc) = (!self.statuses.is_empty(), !self.grpc_statuses.is_empty());
        let connect = self.on_connect.then_some("connect-failure");
        let reset = self.on_reset.then_some("reset");
        let status = by_status.then_some("retriable-status-codes");
        let grpc = GRPC_NAMES
            .iter()
            .filter(|(code, _)| self.grpc_statuses.contains(code))
            .map(|&(_, name)| name);
        let on: Vec<_> = connect.into_iter().chain(reset).chain(status).chain(grpc).collect();
        let idempotent = StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex(IDEMPOTENT))),
            ..StringMatcher::default()
        };
        let grpc_call = StringMatcher {
            match_pattern: Some(MatchPattern::Prefix("application/grpc".to_owned())),
            ..StringMatcher::default()
        };
        let request = |name: &str, value| pb::HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
            ..pb::HeaderMatcher::default()
        };
        // One that matches is enough.
        let mut requests = vec![request(":method", idempotent)];
        if by_grpc {
            requests.push(request("content-type", grpc_call));
        }
        let base = self.base_backoff.max(Duration::from_millis(1));
        pb::RetryPolicy {
            retry_on: on.join(","),
            num_retries: wire::uint(self.attempts),
            retriable_status_codes: self.statuses.iter().map(|s| s.as_u16().into()).collect(),
            retriable_request_headers: requests,
            retry_back_off: Some(retry_policy::RetryBackOff {
                base_interval: wire::duration(base),
                max_interval: wire::duration(self.max_backoff.max(base)),
            }),
            ..pb::RetryPolicy::default()
        }
    }
}

impl Mirror {
    fn message(&self) -> route_action::RequestMirrorPolicy {
        let share = FractionalPercent {
            numerator: self.millionths.min(1_000_000),
            denominator: DenominatorType::Million.into(),
        };
        route_action::RequestMirrorPolicy {
            cluster: self.cluster.clone(),
            runtime_fraction: Some(core::RuntimeFractionalPercent {
                default_value: Some(share),
                ..core::RuntimeFractionalPercent::default()
            }),
            // The copy has the host of the original.
            disable_shadow_host_suffix_append: true,
            ..route_action::RequestMirrorPolicy::default()
        }
    }
}
