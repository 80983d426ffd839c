//! What gRPC without a proxy is sent: the same model, in the words that gRPC knows.
//!
//! gRPC reads less of Envoy's API than Envoy does, and one thing that it cannot read costs it the
//! whole resource (an unknown action, in its Node implementation) or sends a request elsewhere (a
//! rule that is skipped). So nothing is sent here that one of its implementations does not know:
//!
//! | ours | for gRPC |
//! |---|---|
//! | a path's prefix, by segments | a regular expression |
//! | a method | nothing: each call is a POST; a rule for another method is left out |
//! | a query parameter | the rule is left out: a call has none |
//! | a redirect, a failing rule, an invalid backend | the cluster [`Backend::INVALID`], which has no endpoints: the call fails with UNAVAILABLE |
//! | request timeout | `max_stream_duration` |
//! | retries on grpc-status | the same, five tries at most; on HTTP status and resets: nothing |
//! | limit on requests | the same; on connections and pending requests: nothing |
//! | ejection after failures in a row | ejection by their share, see [`cluster()`] |
//! | least request, random | round robin, where nothing better is known |
//! | what decides which backend gets a request | nothing: chance does |
//! | header changes, rewrites, mirrors, time per try, idle time, connect timeout | nothing |
//!
//! Specifications: gRPC's A27 to A31, A44, A50, A52 and A29 (TLS), <https://github.com/grpc/proposal>.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            self as pb, CircuitBreakers, LoadBalancingPolicy, OutlierDetection,
            circuit_breakers::Thresholds, cluster,
        },
        core::v3::{HealthStatus, Locality, TransportSocket, transport_socket},
        endpoint::v3::{
            self as endpoint, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
        listener::v3::{ApiListener, Listener},
        route::v3::{self as route, retry_policy, route_action, route_match::PathSpecifier},
    },
    extensions::{
        filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                http_filter,
            },
        },
        load_balancing_policies::{round_robin::v3::RoundRobin, wrr_locality::v3::WrrLocality},
        transport_sockets::tls::v3::{
            CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
            UpstreamTlsContext, common_tls_context::ValidationContextType,
        },
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};
use http::Method;
use prost::Message as _;

use super::{
    Action, Backend, Cluster, Ejection, Endpoint, Endpoints, Health, Limits, Match, PathMatch,
    Retry, RouteConfiguration, Rule, SpiffeId, Timeouts, cluster::policy, route::GRPC_NAMES, wire,
};

/// The certificate provider of the bootstrap that `tulle-proxy agent` writes.
const PROVIDER: &str = "default";

/// gRPC's own bound on the tries of a call.
const MOST_TRIES: u32 = 5;

/// A listener of this name that is routed by the route configuration `route`.
pub fn listener(name: &str, route: &str) -> Bytes {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(wire::pack(&Router::default()))),
        ..HttpFilter::default()
    };
    let rds = Rds { config_source: wire::ads(), route_config_name: route.to_owned() };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: vec![router],
        ..HttpConnectionManager::default()
    };
    let listener = Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(wire::pack(&manager)) }),
        ..Listener::default()
    };
    listener.encode_to_vec().into()
}

/// The rules that a call can match.
pub fn route(told: &RouteConfiguration) -> Bytes {
    let host = route::VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: told.rules.iter().filter_map(rule).collect(),
        ..route::VirtualHost::default()
    };
    let configuration = route::RouteConfiguration {
        name: told.name.clone(),
        virtual_hosts: vec![host],
        ..route::RouteConfiguration::default()
    };
    configuration.encode_to_vec().into()
}

fn rule(rule: &Rule) -> Option<route::Route> {
    let invalid = [Backend { cluster: Backend::INVALID.to_owned(), weight: 1, filters: vec![] }];
    // What is no forwarding action is refused by some, and by others skipped, so that the next rule
    // would take what this one was to refuse.
    let backends = match &rule.action {
        Action::Forward(backends) => backends.as_slice(),
        Action::Redirect(_) | Action::Fail(_) => &invalid,
    };
    let share = |backend: &Backend| route::weighted_cluster::ClusterWeight {
        name: backend.cluster.clone(),
        weight: wire::uint(backend.weight),
        ..route::weighted_cluster::ClusterWeight::default()
    };
    let clusters = route::WeightedCluster {
        clusters: backends.iter().map(share).collect(),
        ..route::WeightedCluster::default()
    };
    let action = route::RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::WeightedClusters(clusters)),
        max_stream_duration: duration(rule.timeouts),
        retry_policy: rule.retry.as_ref().and_then(retry),
        ..route::RouteAction::default()
    };
    Some(route::Route {
        r#match: Some(matches(&rule.matches)?),
        action: Some(route::route::Action::Route(action)),
        ..route::Route::default()
    })
}

/// `None` if no call can match.
fn matches(told: &Match) -> Option<route::RouteMatch> {
    let by_method = told.method.as_ref().is_none_or(|method| *method == Method::POST);
    if !by_method || !told.query.is_empty() {
        return None;
    }
    let path = match &told.path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Prefix(prefix) if prefix.is_empty() => PathSpecifier::Prefix("/".to_owned()),
        PathMatch::Prefix(prefix) => {
            PathSpecifier::SafeRegex(regex(format!("{}(/.*)?", ::regex::escape(prefix))))
        }
        PathMatch::Regex(source) => PathSpecifier::SafeRegex(regex(source.source().to_owned())),
    };
    Some(route::RouteMatch {
        path_specifier: Some(path),
        headers: told.headers.iter().map(super::route::header_match).collect(),
        ..route::RouteMatch::default()
    })
}

fn regex(source: String) -> RegexMatcher {
    RegexMatcher { regex: source, ..RegexMatcher::default() }
}

fn duration(told: Timeouts) -> Option<route_action::MaxStreamDuration> {
    let max_stream_duration = wire::duration(told.request?);
    Some(route_action::MaxStreamDuration {
        max_stream_duration,
        ..route_action::MaxStreamDuration::default()
    })
}

fn retry(told: &Retry) -> Option<route::RetryPolicy> {
    let names = GRPC_NAMES.iter().filter(|(code, _)| told.grpc_statuses.contains(code));
    let on: Vec<_> = names.map(|&(_, name)| name).collect();
    if on.is_empty() {
        return None;
    }
    Some(route::RetryPolicy {
        retry_on: on.join(","),
        num_retries: wire::uint(told.attempts.clamp(1, MOST_TRIES - 1)),
        retry_back_off: Some(retry_policy::RetryBackOff {
            base_interval: wire::duration(told.base_backoff),
            max_interval: wire::duration(told.max_backoff.max(told.base_backoff)),
        }),
        ..route::RetryPolicy::default()
    })
}

/// A cluster with the endpoints that are called `endpoints`. With `identities` it is reached over
/// mTLS only, and one of these must answer; to nobody else is anything sent.
///
/// gRPC has no ejection after so many failures in a row. In its place an endpoint is ejected that
/// had at least so many requests in an interval, of which more than 85 % (Envoy's default) failed.
pub fn cluster(told: &Cluster, endpoints: &str, identities: Option<&BTreeSet<SpiffeId>>) -> Bytes {
    let eds =
        cluster::EdsClusterConfig { eds_config: wire::ads(), service_name: endpoints.to_owned() };
    let locality = WrrLocality { endpoint_picking_policy: Some(told.balance.message()) };
    let thresholds = |limits: &Limits| Thresholds {
        // gRPC's own default is 1024.
        max_requests: wire::uint(limits.requests.unwrap_or(u32::MAX)),
        ..Thresholds::default()
    };
    let message = pb::Cluster {
        name: told.name.clone(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(eds),
        load_balancing_policy: Some(LoadBalancingPolicy {
            policies: vec![
                policy("wrr_locality", &locality),
                policy("round_robin", &RoundRobin::default()),
            ],
        }),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds(&told.limits)],
            ..CircuitBreakers::default()
        }),
        outlier_detection: told.ejection.as_ref().and_then(ejection),
        transport_socket: identities.map(transport_socket),
        ..pb::Cluster::default()
    };
    message.encode_to_vec().into()
}

fn ejection(told: &Ejection) -> Option<OutlierDetection> {
    let requests = told.consecutive_5xx?;
    Some(OutlierDetection {
        interval: wire::duration(told.interval),
        base_ejection_time: wire::duration(told.base_time),
        max_ejection_time: wire::duration(told.max_time.max(told.base_time)),
        max_ejection_percent: wire::uint(told.max_percent.min(100)),
        enforcing_success_rate: wire::uint(0),
        enforcing_failure_percentage: wire::uint(100),
        failure_percentage_threshold: wire::uint(85),
        failure_percentage_minimum_hosts: wire::uint(1),
        failure_percentage_request_volume: wire::uint(requests.max(1)),
        ..OutlierDetection::default()
    })
}

#[expect(deprecated, reason = "gRPC reads no other field with the names that are accepted")]
fn transport_socket(identities: &BTreeSet<SpiffeId>) -> TransportSocket {
    let instance = || CertificateProviderPluginInstance {
        instance_name: PROVIDER.to_owned(),
        ..CertificateProviderPluginInstance::default()
    };
    let exactly = |id: &SpiffeId| StringMatcher {
        match_pattern: Some(MatchPattern::Exact(id.as_str().to_owned())),
        ..StringMatcher::default()
    };
    let validation = CertificateValidationContext {
        ca_certificate_provider_instance: Some(instance()),
        match_subject_alt_names: identities.iter().map(exactly).collect(),
        ..CertificateValidationContext::default()
    };
    let tls = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_provider_instance: Some(instance()),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(wire::pack(&tls))),
    }
}

/// Endpoints that may all get requests, whatever their health says: gRPC has no word for one that is
/// used only if no other is left. By zone, each with its share.
pub fn endpoints(told: &Endpoints) -> Bytes {
    let mut zones = BTreeMap::<&str, Vec<&Endpoint>>::new();
    for endpoint in &told.endpoints {
        zones.entry(&endpoint.zone).or_default().push(endpoint);
    }
    let assignment = ClusterLoadAssignment {
        cluster_name: told.name.clone(),
        endpoints: zones.into_iter().map(|(zone, members)| zone_of(zone, &members)).collect(),
        ..ClusterLoadAssignment::default()
    };
    assignment.encode_to_vec().into()
}

fn zone_of(zone: &str, members: &[&Endpoint]) -> LocalityLbEndpoints {
    let weight = members.iter().fold(0_u32, |sum, e| sum.saturating_add(e.weight.max(1)));
    let member = |told: &&Endpoint| LbEndpoint {
        health_status: HealthStatus::Healthy.into(),
        load_balancing_weight: wire::uint(told.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
            address: wire::address(told.address),
            ..endpoint::Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.to_owned(), ..Locality::default() }),
        load_balancing_weight: wire::uint(weight),
        lb_endpoints: members.iter().map(member).collect(),
        ..LocalityLbEndpoints::default()
    }
}

impl Endpoints {
    /// Those that gRPC may use: the ready ones, or if there are none, those that end but still
    /// serve.
    #[must_use]
    pub fn usable(mut self) -> Self {
        let best = [Health::Ready, Health::Draining]
            .into_iter()
            .find(|health| self.endpoints.iter().any(|e| e.health == *health));
        self.endpoints.retain(|endpoint| Some(endpoint.health) == best);
        self
    }
}

#[cfg(test)]
mod tests;
