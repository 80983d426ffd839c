use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            self as pb, CircuitBreakers, OutlierDetection, circuit_breakers::Thresholds,
            circuit_breakers::thresholds, cluster, load_balancing_policy::Policy,
        },
        core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, TypedExtensionConfig},
    },
    extensions::{
        load_balancing_policies::{
            least_request::v3::LeastRequest, random::v3::Random, round_robin::v3::RoundRobin,
        },
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                explicit_http_config::ProtocolConfig,
            },
        },
    },
    r#type::v3::Percent,
};
use prost::{Message, Name};
use tulle_proto::xds::v1 as ours;

use super::{
    Balance, Cluster, Ejection, Limits, Released, RetryBudget, ServicePort, UpstreamProtocol,
};
use crate::model::{
    Invalid,
    wire::{self, At as _, bad},
};

/// Where the HTTP options live in `typed_extension_protocol_options`.
pub(in crate::model) const HTTP_OPTIONS: &str =
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Envoy has defaults where we have no bound: this is its way to say none.
const UNBOUNDED: u32 = u32::MAX;

impl Cluster {
    /// The bytes of Envoy's message, the same for equal clusters.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Reads Envoy's message.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, it has another name, or it says something that
    /// this type cannot.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, Invalid> {
        wire::decode(
            name,
            bytes,
            |message| Self::read(name, message),
            |value, message| {
                // A label for statistics changes nothing.
                pb::Cluster { alt_stat_name: message.alt_stat_name.clone(), ..value.message() }
            },
        )
    }

    pub(in crate::model) fn message(&self) -> pb::Cluster {
        let service = self.service.as_ref();
        let metadata = ours::ClusterMetadata {
            host: service.map(|s| s.host.clone()).unwrap_or_default(),
            service: service.map(ServicePort::full_name).unwrap_or_default(),
            port: service.map(|s| s.port.into()).unwrap_or_default(),
            protocol: wire::protocol(self.protocol),
            origin: wire::origin(&self.origin),
            setters: wire::setters(&self.setters),
            released: self.released.number(),
        };
        let eds = cluster::EdsClusterConfig {
            eds_config: wire::ads(),
            ..cluster::EdsClusterConfig::default()
        };
        let common = cluster::CommonLbConfig {
            // Never to endpoints that are not ready, also when most are not (Envoy's default: 50 %).
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..cluster::CommonLbConfig::default()
        };
        let http = wire::pack(&self.upstream_protocol.message());
        pb::Cluster {
            name: self.name.clone(),
            cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
                cluster::DiscoveryType::Eds.into(),
            )),
            eds_cluster_config: Some(eds),
            connect_timeout: wire::duration(self.connect_timeout.max(Duration::from_millis(1))),
            load_balancing_policy: Some(self.balance.message()),
            common_lb_config: Some(common),
            circuit_breakers: Some(self.limits.message()),
            outlier_detection: self.ejection.as_ref().map(Ejection::message),
            // A map, whose order is random: never more than one entry.
            typed_extension_protocol_options: [(HTTP_OPTIONS.to_owned(), http)].into(),
            metadata: wire::metadata("ClusterMetadata", &metadata),
            ..pb::Cluster::default()
        }
    }

    fn read(announced: &str, message: &pb::Cluster) -> wire::Result<Self> {
        let metadata: ours::ClusterMetadata =
            wire::read_metadata("ClusterMetadata", message.metadata.as_ref())?;
        let connect_timeout =
            wire::read_duration(message.connect_timeout.as_ref()).at("connect_timeout")?;
        let http = message
            .typed_extension_protocol_options
            .get(HTTP_OPTIONS)
            .ok_or_else(wire::missing)
            .and_then(wire::unpack)
            .and_then(|options| UpstreamProtocol::read(&options))
            .at(&format!("typed_extension_protocol_options[{HTTP_OPTIONS}]"))?;
        let breakers = message.circuit_breakers.as_ref();
        let ejection = message.outlier_detection.as_ref();
        Ok(Self {
            name: wire::same_name(announced, &message.name)?,
            service: ServicePort::read(&metadata.service, metadata.port, metadata.host)
                .at("metadata.service")?,
            protocol: wire::read_protocol(metadata.protocol).at("metadata.protocol")?,
            upstream_protocol: http,
            balance: Balance::read(message.load_balancing_policy.as_ref())
                .at("load_balancing_policy")?,
            limits: breakers.at("circuit_breakers").and_then(Limits::read)?,
            ejection: ejection.map(Ejection::read).transpose().at("outlier_detection")?,
            connect_timeout,
            origin: wire::read_origin(metadata.origin),
            setters: wire::read_setters(metadata.setters),
            released: Released::read(metadata.released).at("metadata.released")?,
        })
    }
}

impl Released {
    fn number(self) -> i32 {
        match self {
            Self::No => ours::Released::Unspecified.into(),
            Self::Counted => ours::Released::Counted.into(),
            Self::Retired => ours::Released::Retired.into(),
        }
    }

    fn read(number: i32) -> wire::Result<Self> {
        match ours::Released::try_from(number) {
            Ok(ours::Released::Unspecified) => Ok(Self::No),
            Ok(ours::Released::Counted) => Ok(Self::Counted),
            Ok(ours::Released::Retired) => Ok(Self::Retired),
            Err(_) => Err(bad(format!("{number} is no choice that this version knows"))),
        }
    }
}

impl ServicePort {
    /// `NAMESPACE/NAME` of the Service.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub(in crate::model) fn read(
        service: &str,
        port: u32,
        host: String,
    ) -> wire::Result<Option<Self>> {
        if service.is_empty() {
            return Ok(None);
        }
        let (namespace, name) = wire::read_pair(service)?;
        Ok(Some(Self { namespace, name, port: wire::read_port(port)?, host }))
    }
}

impl UpstreamProtocol {
    pub(in crate::model) fn message(self) -> HttpProtocolOptions {
        let http1 = Http1ProtocolOptions::default();
        let http2 = Http2ProtocolOptions::default();
        let explicit = |config| {
            UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
                protocol_config: Some(config),
            })
        };
        let options = match self {
            Self::Same => {
                UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                    http_protocol_options: Some(http1),
                    http2_protocol_options: Some(http2),
                    http3_protocol_options: None,
                })
            }
            Self::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
            Self::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
        };
        HttpProtocolOptions {
            upstream_protocol_options: Some(options),
            ..HttpProtocolOptions::default()
        }
    }

    fn read(message: &HttpProtocolOptions) -> wire::Result<Self> {
        [Self::Same, Self::Http1, Self::Http2]
            .into_iter()
            .find(|protocol| protocol.message() == *message)
            .ok_or_else(|| {
                bad("must be use_downstream_protocol_config, HTTP/1.1 or HTTP/2 with default options")
            })
    }
}

impl Balance {
    pub(in crate::model) fn message(self) -> pb::LoadBalancingPolicy {
        let fallback = policy("round_robin", &RoundRobin::default());
        // The first that a client knows counts.
        let policies = match self {
            Self::LeastRequest { choices } => {
                let choice_count = wire::uint(choices.clamp(2, 10));
                let first = LeastRequest { choice_count, ..LeastRequest::default() };
                vec![policy("least_request", &first), fallback]
            }
            Self::RoundRobin => vec![fallback],
            Self::Random => vec![policy("random", &Random::default()), fallback],
        };
        pb::LoadBalancingPolicy { policies }
    }

    fn read(message: Option<&pb::LoadBalancingPolicy>) -> wire::Result<Self> {
        let first = message.and_then(|m| m.policies.first()).at("policies")?;
        let config = first.typed_extension_config.as_ref().and_then(|c| c.typed_config.as_ref());
        let config = config.at("policies[0].typed_extension_config")?;
        let read = match &config.type_url {
            url if *url == RoundRobin::type_url() => Ok(Self::RoundRobin),
            url if *url == Random::type_url() => Ok(Self::Random),
            _ => wire::unpack(config).and_then(|least: LeastRequest| {
                let choices = least.choice_count.map_or(2, |count| count.value);
                Self::least_request(choices).map_err(|error| bad(error.to_string()))
            }),
        };
        read.at("policies[0].typed_extension_config.typed_config")
    }
}

pub(in crate::model) fn policy(name: &str, config: &impl Name) -> Policy {
    Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: format!("envoy.load_balancing_policies.{name}"),
            typed_config: Some(wire::pack(config)),
        }),
    }
}

impl Limits {
    pub(in crate::model) fn message(&self) -> CircuitBreakers {
        let bound = |limit: Option<u32>| wire::uint(limit.unwrap_or(UNBOUNDED));
        let budget = thresholds::RetryBudget {
            budget_percent: Some(Percent { value: self.retry_budget.percent.clamp(0.0, 100.0) }),
            min_retry_concurrency: wire::uint(self.retry_budget.min_concurrency),
            budget_interval: None,
        };
        let thresholds = Thresholds {
            max_connections: bound(self.connections),
            max_pending_requests: bound(self.pending),
            max_requests: bound(self.requests),
            retry_budget: Some(budget),
            ..Thresholds::default()
        };
        CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() }
    }

    fn read(message: &CircuitBreakers) -> wire::Result<Self> {
        let path = |field| format!("circuit_breakers.thresholds[0].{field}");
        let first = message.thresholds.first().at("circuit_breakers.thresholds")?;
        let bound = |value: Option<_>, field| -> wire::Result<Option<u32>> {
            let value: envoy_types::pb::google::protobuf::UInt32Value = value.at(&path(field))?;
            Ok(Some(value.value).filter(|&limit| limit != UNBOUNDED))
        };
        let budget = first.retry_budget.as_ref().at(&path("retry_budget"))?;
        let percent = budget.budget_percent.at(&path("retry_budget.budget_percent"))?.value;
        let minimum = budget.min_retry_concurrency;
        let minimum = minimum.at(&path("retry_budget.min_retry_concurrency"))?.value;
        if !(0.0..=100.0).contains(&percent) {
            return Err(bad(format!("{percent} is not between 0 and 100")))
                .at(&path("retry_budget.budget_percent"));
        }
        Ok(Self {
            connections: bound(first.max_connections, "max_connections")?,
            pending: bound(first.max_pending_requests, "max_pending_requests")?,
            requests: bound(first.max_requests, "max_requests")?,
            retry_budget: RetryBudget { percent, min_concurrency: minimum },
        })
    }
}

impl Ejection {
    /// Envoy has other detectors that are on by default: they are switched off here.
    fn message(&self) -> OutlierDetection {
        let enforcing =
            |detector: Option<u32>| wire::uint(if detector.is_some() { 100 } else { 0 });
        let count = |detector: Option<u32>| detector.and_then(|n| wire::uint(n.max(1)));
        let time = |time: Duration| wire::duration(time.max(Duration::from_millis(1)));
        OutlierDetection {
            consecutive_5xx: count(self.consecutive_5xx),
            enforcing_consecutive_5xx: enforcing(self.consecutive_5xx),
            split_external_local_origin_errors: true,
            consecutive_local_origin_failure: count(self.consecutive_local_failures),
            enforcing_consecutive_local_origin_failure: enforcing(self.consecutive_local_failures),
            interval: time(self.interval),
            base_ejection_time: time(self.base_time),
            max_ejection_time: time(self.max_time.max(self.base_time)),
            max_ejection_percent: wire::uint(self.max_percent.min(100)),
            always_eject_one_host: wire::boolean(true),
            enforcing_success_rate: wire::uint(0),
            enforcing_local_origin_success_rate: wire::uint(0),
            ..OutlierDetection::default()
        }
    }

    fn read(message: &OutlierDetection) -> wire::Result<Self> {
        let time = |value: Option<_>, field| wire::read_duration(value.as_ref()).at(field);
        let max_percent = message.max_ejection_percent.at("max_ejection_percent")?.value;
        if max_percent > 100 {
            return Err(bad("must be 100 at most")).at("max_ejection_percent");
        }
        Ok(Self {
            consecutive_5xx: message.consecutive_5xx.map(|n| n.value),
            consecutive_local_failures: message.consecutive_local_origin_failure.map(|n| n.value),
            base_time: time(message.base_ejection_time, "base_ejection_time")?,
            max_time: time(message.max_ejection_time, "max_ejection_time")?,
            interval: time(message.interval, "interval")?,
            max_percent,
        })
    }
}
