use bytes::Bytes;
use envoy_types::pb::envoy::config::{core::v3::HealthStatus, endpoint::v3::LbEndpoint};
use prost::Message as _;

use super::metadata;
use crate::model::{Endpoint, Endpoints, Health};

/// Under which key an endpoint says who it is, and what it says without a sidecar.
pub(super) const IDENTITY: &str = "identity";
pub(super) const NO_IDENTITY: &str = "none";

/// Envoy's own name for metadata that chooses between `transport_socket_matches`.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// Endpoints of ours, in Envoy's words.
pub fn endpoints(endpoints: &Endpoints) -> Bytes {
    endpoints.message_of(member).encode_to_vec().into()
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
