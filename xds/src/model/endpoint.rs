use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use envoy_types::pb::envoy::config::{
    core::v3::{HealthStatus, Locality},
    endpoint::v3 as pb,
};
use prost::Message as _;
use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::{
    Invalid, Near, SpiffeId,
    wire::{self, At as _, bad},
};

/// The endpoints of a [`Cluster`](super::Cluster).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Endpoints {
    /// The cluster's name.
    pub name: String,
    /// In a fixed order (by address), each address once.
    pub endpoints: Vec<Endpoint>,
}

/// Somewhere a request can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Pod address and container port.
    pub address: SocketAddr,
    /// Whether it may get new requests.
    pub health: Health,
    /// Share relative to the other endpoints, at least 1.
    pub weight: u32,
    /// The identity that its sidecar must prove. `Some` exactly if the endpoint is meshed: then it
    /// never gets plaintext.
    pub identity: Option<SpiffeId>,
    /// `NAMESPACE/POD`; empty when no pod is behind the address.
    pub pod: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Owner of the pod, `NAMESPACE/NAME`.
    pub workload: String,
    /// `pod-template-hash` of the pod.
    pub revision: String,
    /// Zone of the node (Envoy's locality); empty when unknown.
    pub zone: String,
    /// Who is to use it.
    #[serde(skip_serializing_if = "Near::is_everybody")]
    pub near: Near,
}

/// Whether an endpoint may get new requests (EndpointSlice conditions; Envoy's `HealthStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Health {
    /// Ready: `HEALTHY`.
    Ready,
    /// Terminating but still serving: only if nothing is ready. `DRAINING`.
    Draining,
    /// Neither: kept so that pools and ejections survive. `UNHEALTHY`.
    NotReady,
}

impl Endpoints {
    /// The bytes of Envoy's message, the same for equal sets of endpoints.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Reads Envoy's message.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, it has another name, or it says something that
    /// this type cannot.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, Invalid> {
        wire::decode(name, bytes, |message| Self::read(name, message), |value, _| value.message())
    }

    /// Envoy wants endpoints by locality; ours have a zone at most.
    fn message(&self) -> pb::ClusterLoadAssignment {
        self.message_of(Endpoint::message)
    }

    /// With each endpoint as `member` says it.
    pub(super) fn message_of(
        &self,
        member: impl Fn(&Endpoint) -> pb::LbEndpoint,
    ) -> pb::ClusterLoadAssignment {
        let mut endpoints: Vec<_> = self.endpoints.iter().collect();
        endpoints.sort_by_key(|endpoint| endpoint.address);
        let mut zones = BTreeMap::<&str, Vec<&Endpoint>>::new();
        for endpoint in endpoints {
            zones.entry(&endpoint.zone).or_default().push(endpoint);
        }
        pb::ClusterLoadAssignment {
            cluster_name: self.name.clone(),
            endpoints: zones
                .into_iter()
                .map(|(zone, members)| locality(zone, &members, &member))
                .collect(),
            ..pb::ClusterLoadAssignment::default()
        }
    }

    fn read(announced: &str, message: &pb::ClusterLoadAssignment) -> wire::Result<Self> {
        let name = wire::same_name(announced, &message.cluster_name)?;
        let mut by_address = BTreeMap::new();
        for (i, group) in message.endpoints.iter().enumerate() {
            let zone = group.locality.as_ref().map(|l| l.zone.as_str()).unwrap_or_default();
            for (j, member) in group.lb_endpoints.iter().enumerate() {
                let field = format!("endpoints[{i}].lb_endpoints[{j}]");
                let endpoint = Endpoint::read(zone, member).at(&field)?;
                if by_address.insert(endpoint.address, endpoint).is_some() {
                    return Err(bad("has the address of another endpoint")).at(&field);
                }
            }
        }
        Ok(Self { name, endpoints: by_address.into_values().collect() })
    }
}

fn locality(
    zone: &str,
    members: &[&Endpoint],
    member: impl Fn(&Endpoint) -> pb::LbEndpoint,
) -> pb::LocalityLbEndpoints {
    // gRPC shares traffic between localities by weight: the sum of those that may get some.
    let ready = members.iter().filter(|endpoint| endpoint.health == Health::Ready);
    let weight = ready.fold(0_u32, |sum, endpoint| sum.saturating_add(endpoint.weight.max(1)));
    pb::LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.to_owned(), ..Locality::default() }),
        load_balancing_weight: wire::uint(weight.max(1)),
        lb_endpoints: members.iter().map(|endpoint| member(endpoint)).collect(),
        ..pb::LocalityLbEndpoints::default()
    }
}

impl Endpoint {
    /// A ready one with a share like any other, of which nothing is known but its address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            health: Health::Ready,
            weight: 1,
            identity: None,
            pod: String::new(),
            pod_uid: String::new(),
            workload: String::new(),
            revision: String::new(),
            zone: String::new(),
            near: Near::default(),
        }
    }

    pub(super) fn message(&self) -> pb::LbEndpoint {
        let metadata = ours::EndpointMetadata {
            identity: self.identity.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
            pod: self.pod.clone(),
            pod_uid: self.pod_uid.clone(),
            workload: self.workload.clone(),
            revision: self.revision.clone(),
            node: self.near.node.clone(),
            for_nodes: self.near.for_nodes.clone(),
            for_zones: self.near.for_zones.clone(),
        };
        let health = match self.health {
            Health::Ready => HealthStatus::Healthy,
            Health::Draining => HealthStatus::Draining,
            Health::NotReady => HealthStatus::Unhealthy,
        };
        let endpoint =
            pb::Endpoint { address: wire::address(self.address), ..pb::Endpoint::default() };
        pb::LbEndpoint {
            health_status: health.into(),
            metadata: (metadata != ours::EndpointMetadata::default())
                .then(|| wire::metadata("EndpointMetadata", &metadata))
                .flatten(),
            load_balancing_weight: wire::uint(self.weight.max(1)),
            host_identifier: Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        }
    }

    fn read(zone: &str, message: &pb::LbEndpoint) -> wire::Result<Self> {
        let Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &message.host_identifier
        else {
            return Err(wire::missing()).at("endpoint");
        };
        let address = wire::read_address(endpoint.address.as_ref()).at("endpoint.address")?;
        let health = match HealthStatus::try_from(message.health_status) {
            Ok(HealthStatus::Healthy) => Health::Ready,
            Ok(HealthStatus::Draining) => Health::Draining,
            Ok(HealthStatus::Unhealthy) => Health::NotReady,
            Ok(HealthStatus::Unknown | HealthStatus::Timeout | HealthStatus::Degraded) | Err(_) => {
                return Err(bad("must be HEALTHY, DRAINING or UNHEALTHY")).at("health_status");
            }
        };
        let weight = message.load_balancing_weight.at("load_balancing_weight")?.value;
        let metadata: ours::EndpointMetadata =
            wire::read_metadata("EndpointMetadata", message.metadata.as_ref())?;
        let identity = match metadata.identity.as_str() {
            "" => None,
            text => Some(text.parse().map_err(wire::not_an_id).at("metadata.identity")?),
        };
        Ok(Self {
            address,
            health,
            weight,
            identity,
            pod: metadata.pod,
            pod_uid: metadata.pod_uid,
            workload: metadata.workload,
            revision: metadata.revision,
            zone: zone.to_owned(),
            near: Near {
                node: metadata.node,
                for_nodes: metadata.for_nodes,
                for_zones: metadata.for_zones,
            },
        })
    }
}
