//! Requests from Envoy's messages, and responses to them.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{self as core, node::UserAgentVersionType},
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    },
    google::protobuf::Any,
};
use tonic::Status;

use crate::{
    cache::Dialect,
    model::Kind,
    protocol::{Answer, Node, Received, Request, Response, Version},
};

pub(super) fn request(request: DeltaDiscoveryRequest) -> Result<Request, Status> {
    let kind = Kind::from_type_url(&request.type_url).ok_or_else(|| {
        let url: String = request.type_url.chars().take(128).collect();
        Status::invalid_argument(format!("resources of type {url:?} are not served here"))
    })?;
    let unserved = [&request.resource_locators_subscribe, &request.resource_locators_unsubscribe];
    if unserved.iter().any(|locators| !locators.is_empty()) {
        return Err(Status::unimplemented(
            "resource locators are not served: use resource_names_subscribe",
        ));
    }
    let answer = (!request.response_nonce.is_empty()).then(|| Answer {
        nonce: request.response_nonce,
        error: request.error_detail.map(|status| status.message),
    });
    let versions = request.initial_resource_versions.into_iter();
    Ok(Request {
        kind,
        node: request.node.map(node),
        subscribe: request.resource_names_subscribe,
        unsubscribe: request.resource_names_unsubscribe,
        versions: versions.map(|(name, text)| (name, Version::new(text))).collect(),
        answer,
    })
}

/// What a client understands, by the name that it announces: Envoy calls itself `envoy`, gRPC's
/// implementations `gRPC C-core`, `gRPC Node Pure JS`, `gRPC Go`, ….
pub(super) fn dialect(node: Option<&core::Node>) -> Dialect {
    match node.map_or("", |node| node.user_agent_name.as_str()) {
        "envoy" => Dialect::Envoy,
        name if name.to_ascii_lowercase().starts_with("grpc") => Dialect::Grpc,
        _ => Dialect::Tulle,
    }
}

fn node(node: core::Node) -> Node {
    let version = match node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(text)) => text,
        Some(UserAgentVersionType::UserAgentBuildVersion(_)) | None => String::new(),
    };
    Node { id: node.id, version }
}

pub(super) fn response(response: Response) -> DeltaDiscoveryResponse {
    let url = response.kind.type_url();
    DeltaDiscoveryResponse {
        type_url: url.to_owned(),
        nonce: response.nonce,
        resources: response.resources.into_iter().map(|r| resource(url, r)).collect(),
        removed_resources: response.removed,
        ..DeltaDiscoveryResponse::default()
    }
}

fn resource(url: &str, received: Received) -> Resource {
    Resource {
        name: received.name,
        version: received.version.as_str().to_owned(),
        resource: Some(Any { type_url: url.to_owned(), value: received.bytes.into() }),
        ..Resource::default()
    }
}
