use bytes::Bytes;
use envoy_types::pb::envoy::config::{
    core::v3::HealthStatus,
    endpoint::v3::{LbEndpoint, cluster_load_assignment::Policy},
};
use prost::Message as _;

use super::metadata;
use crate::model::{Endpoint, Endpoints, Health, wire};

/// Under which key an endpoint says who it is, and what it says without a sidecar.
pub(super) const IDENTITY: &str = "identity";
pub(super) const NO_IDENTITY: &str = "none";

/// In percent. By default Envoy sends a share to what is only degraded as soon as less than five of seven
/// endpoints are ready; here one in a thousand is enough to keep all traffic from what is on its way out.
const ONE_IS_ENOUGH: u32 = 100_000;

/// Envoy's own name for metadata that chooses between `transport_socket_matches`.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// Endpoints of ours, in Envoy's words.
pub fn endpoints(endpoints: &Endpoints) -> Bytes {
    let mut message = endpoints.message_of(member);
    message.policy =
        Some(Policy { overprovisioning_factor: wire::uint(ONE_IS_ENOUGH), ..Policy::default() });
    message.encode_to_vec().into()
}

/// One that nothing needs to be known of beside its address.
pub(super) fn plain(endpoint: &Endpoint) -> LbEndpoint {
    LbEndpoint { metadata: None, ..endpoint.message() }
}

fn member(endpoint: &Endpoint) -> LbEndpoint {
    let message = endpoint.message();
    let identity = endpoint.identity.as_ref().map_or(NO_IDENTITY, |identity| identity.as_str());
    let health_status = match endpoint.health {
        // Only if nothing is ready: what is `DRAINING` Envoy gives nothing at all.
        Health::Draining => HealthStatus::Degraded.into(),
        Health::Ready | Health::NotReady => message.health_status,
    };
    LbEndpoint {
        metadata: Some(metadata(SOCKET_MATCH, IDENTITY, identity)),
        health_status,
        ..message
    }
}
