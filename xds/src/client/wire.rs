//! Requests to Envoy's messages, and responses from them.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{self as core, node::UserAgentVersionType},
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    google::rpc,
};
use tonic::Code;

use crate::{
    model::Kind,
    protocol::{Node, PROGRAM, Received, Request, Response, Version},
};

/// What a server said that is no part of the protocol; the stream has to end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadResponse {
    #[error("the server sent resources of type {0:?}, which nobody asked for")]
    Type(String),
    #[error("the server sent {name:?} of {kind:?} without its message")]
    Empty { kind: Kind, name: String },
    #[error("the server sent {name:?} of {kind:?} with a message of type {url:?}")]
    WrongType { kind: Kind, name: String, url: String },
}

pub(super) fn request(request: Request) -> DeltaDiscoveryRequest {
    let (response_nonce, error_detail) = match request.answer {
        None => (String::new(), None),
        Some(answer) => (answer.nonce, answer.error.map(error_detail)),
    };
    let versions = request.versions.into_iter().map(|(name, v)| (name, v.as_str().to_owned()));
    DeltaDiscoveryRequest {
        node: request.node.map(node),
        type_url: request.kind.type_url().to_owned(),
        resource_names_subscribe: request.subscribe,
        resource_names_unsubscribe: request.unsubscribe,
        initial_resource_versions: versions.collect(),
        response_nonce,
        error_detail,
        ..DeltaDiscoveryRequest::default()
    }
}

fn error_detail(message: String) -> rpc::Status {
    rpc::Status { code: Code::InvalidArgument.into(), message, details: Vec::new() }
}

fn node(node: Node) -> core::Node {
    core::Node {
        id: node.id,
        user_agent_name: PROGRAM.to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(node.version)),
        client_features: node.features.names(),
        ..core::Node::default()
    }
}

pub(super) fn response(response: DeltaDiscoveryResponse) -> Result<Response, BadResponse> {
    let kind =
        Kind::from_type_url(&response.type_url).ok_or(BadResponse::Type(response.type_url))?;
    let mut resources = Vec::with_capacity(response.resources.len());
    for resource in response.resources {
        let name = resource.name;
        let Some(any) = resource.resource else {
            return Err(BadResponse::Empty { kind, name });
        };
        if any.type_url != kind.type_url() {
            return Err(BadResponse::WrongType { kind, name, url: any.type_url });
        }
        let version = Version::new(resource.version);
        resources.push(Received { name, version, bytes: any.value.into() });
    }
    Ok(Response { kind, nonce: response.nonce, resources, removed: response.removed_resources })
}
