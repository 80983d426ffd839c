//! The other way round. What is read here is written again and compared, so that only what the
//! types need is looked at: anything else in a message shows as a difference.

use envoy_types::pb::envoy::{
    config::{
        core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction},
        route::v3::{
            self as pb,
            header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier,
            redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
            route,
            route_action::{
                ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy,
                hash_policy::PolicySpecifier,
            },
            route_match::PathSpecifier,
            weighted_cluster::{self, cluster_weight},
        },
    },
    r#type::matcher::v3::{
        RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
    },
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tulle_proto::xds::v1 as ours;

use super::{
    Action, Backend, Filter, HeaderMatch, HeaderModifier, Match, Mirror, PathMatch, PathRewrite,
    QueryMatch, Redirect, Regex, Retry, RouteConfiguration, Rule, Stick, StringMatch, Timeouts,
    encode::{GRPC_NAMES, WHOLE_PATH},
};
use crate::model::{
    Invalid,
    wire::{self, At as _, Result, bad, missing},
};

impl RouteConfiguration {
    /// Reads Envoy's message.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, it has another name, or it says something that
    /// this type cannot.
    pub fn decode(name: &str, bytes: &[u8]) -> std::result::Result<Self, Invalid> {
        wire::decode(name, bytes, |message| Self::read(name, message), |value, _| value.message())
    }

    fn read(announced: &str, message: &pb::RouteConfiguration) -> Result<Self> {
        let name = wire::same_name(announced, &message.name)?;
        let [host] = message.virtual_hosts.as_slice() else {
            return Err(bad("must be one, for \"*\"")).at("virtual_hosts");
        };
        let rule = |(i, route)| Rule::read(route).at_index("virtual_hosts[0].routes", i);
        let rules = host.routes.iter().enumerate().map(rule).collect::<Result<_>>()?;
        Ok(Self { name, rules })
    }
}

impl Rule {
    fn read(message: &pb::Route) -> Result<Self> {
        let metadata: ours::RouteMetadata =
            wire::read_metadata("RouteMetadata", message.metadata.as_ref())?;
        let mut rule = Self {
            matches: message
                .r#match
                .as_ref()
                .at("match")
                .and_then(|m| Match::read(m).at("match"))?,
            filters: header_filters(
                (&message.request_headers_to_add, &message.request_headers_to_remove),
                (&message.response_headers_to_add, &message.response_headers_to_remove),
            )?,
            action: Action::Forward(Vec::new()),
            timeouts: Timeouts::default(),
            retry: None,
            stick: None,
            mirrors: Vec::new(),
            origin: wire::read_origin(metadata.origin),
            setters: wire::read_setters(metadata.setters),
        };
        match message.action.as_ref().at("action")? {
            route::Action::Route(action) => rule.read_forward(action).at("route")?,
            route::Action::Redirect(redirect) => {
                rule.action = Action::Redirect(Redirect::read(redirect).at("redirect")?);
            }
            route::Action::DirectResponse(response) => {
                let status = read_status(response.status).at("direct_response.status")?;
                rule.action = Action::Fail(status);
            }
            route::Action::FilterAction(_) | route::Action::NonForwardingAction(_) => {
                return Err(bad("must be route, redirect or direct_response")).at("action");
            }
        }
        Ok(rule)
    }

    fn read_forward(&mut self, message: &pb::RouteAction) -> Result<()> {
        let Some(ClusterSpecifier::WeightedClusters(clusters)) = &message.cluster_specifier else {
            return Err(missing()).at("weighted_clusters");
        };
        let path = "weighted_clusters.clusters";
        let backend = |(i, cluster)| Backend::read(cluster).at_index(path, i);
        let backends: Vec<Backend> =
            clusters.clusters.iter().enumerate().map(backend).collect::<Result<_>>()?;
        let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if sum == 0 || sum > u32::MAX.into() {
            return Err(bad(format!("the sum of weights is {sum}; 1 to 4294967295 is possible")))
                .at(path);
        }
        self.action = Action::Forward(backends);
        self.stick = match message.hash_policy.as_slice() {
            [] => None,
            [policy] => Some(Stick::read(policy).at_index("hash_policy", 0)?),
            _ => return Err(bad("must be one at most")).at("hash_policy"),
        };
        let host = match &message.host_rewrite_specifier {
            None => None,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(host.clone()),
            Some(_) => {
                return Err(bad("must be host_rewrite_literal")).at("host_rewrite_specifier");
            }
        };
        let path = match (&message.regex_rewrite, message.prefix_rewrite.as_str()) {
            (Some(regex), _) => Some(read_rewrite(regex).at("regex_rewrite")?),
            (None, "") => None,
            (None, prefix) => Some(PathRewrite::Prefix(prefix.to_owned())),
        };
        if host.is_some() || path.is_some() {
            self.filters.push(Filter::Rewrite { host, path });
        }
        let request = wire::read_duration(message.timeout.as_ref()).at("timeout")?;
        self.timeouts.request = Some(request).filter(|time| !time.is_zero());
        let idle = message.idle_timeout.as_ref();
        self.timeouts.idle =
            idle.map(|time| wire::read_duration(Some(time))).transpose().at("idle_timeout")?;
        if let Some(policy) = &message.retry_policy {
            let per_try = policy.per_try_timeout.as_ref();
            self.timeouts.per_try = per_try
                .map(|time| wire::read_duration(Some(time)))
                .transpose()
                .at("retry_policy.per_try_timeout")?;
            self.retry = Retry::read(policy).at("retry_policy")?;
        }
        let mirror = |(i, policy)| Mirror::read(policy).at_index("request_mirror_policies", i);
        let mirrors = message.request_mirror_policies.iter().enumerate();
        self.mirrors = mirrors.map(mirror).collect::<Result<_>>()?;
        Ok(())
    }
}

impl Stick {
    fn read(message: &HashPolicy) -> Result<Self> {
        match message.policy_specifier.as_ref().at("policy_specifier")? {
            PolicySpecifier::Header(header) => {
                read_header_name(&header.header_name).at("header.header_name").map(Self::Header)
            }
            PolicySpecifier::Cookie(cookie) if cookie.name.is_empty() => {
                Err(missing()).at("cookie.name")
            }
            PolicySpecifier::Cookie(cookie) => Ok(Self::Cookie(cookie.name.clone())),
            PolicySpecifier::ConnectionProperties(_) => Ok(Self::SourceIp),
            PolicySpecifier::QueryParameter(_) | PolicySpecifier::FilterState(_) => {
                Err(bad("must be header, cookie or connection_properties")).at("policy_specifier")
            }
        }
    }
}

impl Match {
    fn read(message: &pb::RouteMatch) -> Result<Self> {
        let path = match message.path_specifier.as_ref().at("path_specifier")? {
            PathSpecifier::Path(path) => PathMatch::Exact(path.clone()),
            PathSpecifier::Prefix(prefix) if prefix == "/" => PathMatch::default(),
            PathSpecifier::PathSeparatedPrefix(prefix)
                if !prefix.is_empty() && !prefix.ends_with('/') =>
            {
                PathMatch::Prefix(prefix.clone())
            }
            PathSpecifier::SafeRegex(regex) => {
                PathMatch::Regex(read_regex(regex).at("safe_regex")?)
            }
            PathSpecifier::PathSeparatedPrefix(_) => {
                return Err(bad("must not be empty, nor end with a slash"))
                    .at("path_separated_prefix");
            }
            PathSpecifier::Prefix(_)
            | PathSpecifier::ConnectMatcher(_)
            | PathSpecifier::PathMatchPolicy(_) => {
                return Err(bad(
                    "must be path, path_separated_prefix, safe_regex, or the prefix \"/\"",
                ))
                .at("path_specifier");
            }
        };
        let mut matches = Self { path, ..Self::default() };
        for (i, matcher) in message.headers.iter().enumerate() {
            matches.read_header(matcher).at_index("headers", i)?;
        }
        for (i, matcher) in message.query_parameters.iter().enumerate() {
            let Some(QueryParameterMatchSpecifier::StringMatch(value)) =
                &matcher.query_parameter_match_specifier
            else {
                return Err(bad("must be a string_match")).at_index("query_parameters", i);
            };
            let value = StringMatch::read(value).at_index("query_parameters", i)?;
            matches.query.push(QueryMatch { name: matcher.name.clone(), value });
        }
        Ok(matches)
    }

    fn read_header(&mut self, matcher: &pb::HeaderMatcher) -> Result<()> {
        let Some(HeaderMatchSpecifier::StringMatch(value)) = &matcher.header_match_specifier else {
            return Err(bad("must be a string_match"));
        };
        let value = StringMatch::read(value)?;
        if matcher.name != ":method" {
            let name = read_header_name(&matcher.name).at("name")?;
            self.headers.push(HeaderMatch { name, value });
            return Ok(());
        }
        let StringMatch::Exact(method) = value else {
            return Err(bad("must be exact for :method"));
        };
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_invalid| bad(format!("{method:?} is no method")))?;
        self.method = Some(method);
        Ok(())
    }
}

impl StringMatch {
    fn read(message: &StringMatcher) -> Result<Self> {
        match &message.match_pattern {
            Some(MatchPattern::Exact(text)) => Ok(Self::Exact(text.clone())),
            Some(MatchPattern::SafeRegex(regex)) => read_regex(regex).map(Self::Regex),
            _ => Err(bad("must be exact or safe_regex")),
        }
        .at("string_match")
    }
}

fn read_regex(message: &RegexMatcher) -> Result<Regex> {
    Regex::new(&message.regex).map_err(|error| {
        // The library draws a picture over several lines; its last one says it.
        let text = error.to_string();
        bad(text.lines().last().unwrap_or_default().trim())
    })
}

/// Which of the rewrites that use a regular expression it is.
fn read_rewrite(message: &RegexMatchAndSubstitute) -> Result<PathRewrite> {
    let pattern = message.pattern.as_ref().at("pattern")?;
    let path = message.substitution.replace(r"\\", r"\");
    Ok(if pattern.regex == WHOLE_PATH {
        PathRewrite::Full(path)
    } else {
        PathRewrite::Prefix(path.trim_end_matches('/').to_owned())
    })
}

impl Backend {
    fn read(message: &weighted_cluster::ClusterWeight) -> Result<Self> {
        if message.name.is_empty() {
            return Err(missing()).at("name");
        }
        let mut filters = header_filters(
            (&message.request_headers_to_add, &message.request_headers_to_remove),
            (&message.response_headers_to_add, &message.response_headers_to_remove),
        )?;
        if let Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) =
            &message.host_rewrite_specifier
        {
            filters.push(Filter::Rewrite { host: Some(host.clone()), path: None });
        }
        let weight = message.weight.at("weight")?.value;
        Ok(Self { cluster: message.name.clone(), weight, filters })
    }
}

/// What Envoy adds, and what it removes.
type Lists<'a> = (&'a [HeaderValueOption], &'a [String]);

fn header_filters(request: Lists<'_>, response: Lists<'_>) -> Result<Vec<Filter>> {
    let request = read_modifier(request, ["request_headers_to_add", "request_headers_to_remove"])?;
    let response =
        read_modifier(response, ["response_headers_to_add", "response_headers_to_remove"])?;
    let request = request.map(Filter::RequestHeaders);
    Ok(request.into_iter().chain(response.map(Filter::ResponseHeaders)).collect())
}

fn read_modifier(lists: Lists<'_>, fields: [&str; 2]) -> Result<Option<HeaderModifier>> {
    let mut modifier = HeaderModifier::default();
    for (i, option) in lists.0.iter().enumerate() {
        let header = read_header(option).at_index(fields[0], i)?;
        match HeaderAppendAction::try_from(option.append_action) {
            Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => modifier.set.push(header),
            Ok(HeaderAppendAction::AppendIfExistsOrAdd) => modifier.add.push(header),
            _ => {
                let error = bad("must be OVERWRITE_IF_EXISTS_OR_ADD or APPEND_IF_EXISTS_OR_ADD");
                return Err(error).at("append_action").at_index(fields[0], i);
            }
        }
    }
    for (i, name) in lists.1.iter().enumerate() {
        modifier.remove.push(read_header_name(name).at_index(fields[1], i)?);
    }
    Ok((modifier != HeaderModifier::default()).then_some(modifier))
}

fn read_header(option: &HeaderValueOption) -> Result<(HeaderName, HeaderValue)> {
    let header = option.header.as_ref().at("header")?;
    let name = read_header_name(&header.key).at("header.key")?;
    let value = if header.raw_value.is_empty() {
        HeaderValue::from_str(&header.value.replace("%%", "%"))
    } else {
        HeaderValue::from_bytes(&header.raw_value)
    };
    let value =
        value.map_err(|_invalid| bad("has bytes that a header cannot have")).at("header.value")?;
    Ok((name, value))
}

fn read_header_name(name: &str) -> Result<HeaderName> {
    name.parse().map_err(|_invalid| bad(format!("{name:?} is no header name")))
}

impl Redirect {
    fn read(message: &pb::RedirectAction) -> Result<Self> {
        let scheme = match &message.scheme_rewrite_specifier {
            None => None,
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme))
                if matches!(scheme.as_str(), "http" | "https") =>
            {
                Some(scheme.clone())
            }
            Some(_) => {
                return Err(bad("must be \"http\" or \"https\"")).at("scheme_redirect");
            }
        };
        let path = match &message.path_rewrite_specifier {
            None => None,
            Some(PathRewriteSpecifier::PathRedirect(path)) => Some(PathRewrite::Full(path.clone())),
            Some(PathRewriteSpecifier::PrefixRewrite(path)) => {
                Some(PathRewrite::Prefix(path.clone()))
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                Some(read_rewrite(regex).at("regex_rewrite")?)
            }
            Some(_) => {
                return Err(bad("must be path_redirect or prefix_rewrite"))
                    .at("path_rewrite_specifier");
            }
        };
        let code = usize::try_from(message.response_code).ok();
        let status = code
            .and_then(|code| [301, 302, 303, 307, 308].get(code).copied())
            .ok_or_else(|| bad("is unknown"))
            .and_then(read_status)
            .at("response_code")?;
        let port = wire::read_port(message.port_redirect).at("port_redirect")?;
        Ok(Self {
            scheme,
            host: Some(message.host_redirect.clone()).filter(|host| !host.is_empty()),
            port: Some(port).filter(|&port| port != 0),
            path,
            status,
        })
    }
}

fn read_status(number: u32) -> Result<StatusCode> {
    u16::try_from(number)
        .ok()
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| bad(format!("{number} is no status")))
}

impl Retry {
    /// `None` if the policy is there for the time of each try only.
    fn read(message: &pb::RetryPolicy) -> Result<Option<Self>> {
        let Some(attempts) = message.num_retries else {
            return Ok(None);
        };
        let on: Vec<_> = message.retry_on.split(',').collect();
        let grpc = GRPC_NAMES.iter().filter(|(_, name)| on.contains(name));
        let status =
            |(i, &code): (usize, &u32)| read_status(code).at_index("retriable_status_codes", i);
        let statuses = message.retriable_status_codes.iter().enumerate();
        let backoff = message.retry_back_off.as_ref().at("retry_back_off")?;
        Ok(Some(Self {
            attempts: attempts.value,
            statuses: statuses.map(status).collect::<Result<_>>()?,
            grpc_statuses: grpc.map(|&(code, _)| code).collect(),
            on_connect: on.contains(&"connect-failure"),
            on_reset: on.contains(&"reset"),
            base_backoff: wire::read_duration(backoff.base_interval.as_ref())
                .at("retry_back_off.base_interval")?,
            max_backoff: wire::read_duration(backoff.max_interval.as_ref())
                .at("retry_back_off.max_interval")?,
        }))
    }
}

impl Mirror {
    fn read(message: &RequestMirrorPolicy) -> Result<Self> {
        let fraction = message.runtime_fraction.as_ref().and_then(|f| f.default_value);
        let millionths = fraction.at("runtime_fraction.default_value")?.numerator;
        if message.cluster.is_empty() {
            return Err(missing()).at("cluster");
        }
        Ok(Self { cluster: message.cluster.clone(), millionths })
    }
}
