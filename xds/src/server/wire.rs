//! Requests from Envoy's messages, and responses to them: the two variants of the protocol.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{self as core, node::UserAgentVersionType},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            Resource,
        },
    },
    google::protobuf::Any,
};
use tonic::Status as Refusal;

use crate::{
    cache::{Dialect, Published},
    model::{Features, Kind, envoy},
    protocol::{Answer, Node, PROGRAM, Received, Request, Response, Version},
    session::{
        Changes, KindStatus, NameNews, NameStatus, Session,
        state::{StateRequest, StateSession},
    },
    text::{bounded, printable},
};

/// What is kept and logged of what a client says of itself, in bytes.
pub(super) const MAX_SAID: usize = 200;

/// A variant of the protocol: a session, and the messages that it takes and gives.
pub(super) trait Variant: Status + Send + 'static {
    type Request: Send + 'static;
    type Response: prost::Message + 'static;

    /// A fresh stream of the client in pod `workload`.
    fn new(workload: &str, dialect: Dialect) -> Self;
    /// Who the client says that it is.
    fn node(request: &Self::Request) -> Option<&core::Node>;
    fn take(&mut self, request: Self::Request) -> Result<(Kind, Changes), Refusal>;
    fn subscriptions(&self) -> usize;
    /// Responses that the client has not answered.
    fn unanswered(&self) -> usize;
    fn changed(&mut self, kind: Kind, name: &str);
    fn next_response(
        &mut self,
        published: impl Fn(Kind, &str) -> Published,
    ) -> Option<Self::Response>;
}

/// What all variants tell of themselves.
pub(super) trait Status: Send {
    fn status(&self) -> Vec<KindStatus>;
    fn name_status(&self, kind: Kind, name: &str) -> Option<NameStatus>;
    fn take_news(&mut self) -> Vec<NameNews>;
}

impl Status for Session {
    fn status(&self) -> Vec<KindStatus> {
        self.status()
    }

    fn name_status(&self, kind: Kind, name: &str) -> Option<NameStatus> {
        self.name_status(kind, name)
    }

    fn take_news(&mut self) -> Vec<NameNews> {
        self.take_news()
    }
}

impl Status for StateSession {
    fn status(&self) -> Vec<KindStatus> {
        self.status()
    }

    fn name_status(&self, kind: Kind, name: &str) -> Option<NameStatus> {
        self.name_status(kind, name)
    }

    fn take_news(&mut self) -> Vec<NameNews> {
        self.take_news()
    }
}

impl Variant for Session {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn new(workload: &str, dialect: Dialect) -> Self {
        let session = Self::new(workload);
        match dialect {
            Dialect::Envoy => session.with_wildcard(envoy::own(workload)),
            Dialect::Tulle | Dialect::Other(_) | Dialect::Grpc => session,
        }
    }

    fn node(request: &DeltaDiscoveryRequest) -> Option<&core::Node> {
        request.node.as_ref()
    }

    fn take(&mut self, message: DeltaDiscoveryRequest) -> Result<(Kind, Changes), Refusal> {
        let request = request(message)?;
        let kind = request.kind;
        Ok((kind, self.request(request)?))
    }

    fn subscriptions(&self) -> usize {
        self.subscriptions()
    }

    fn unanswered(&self) -> usize {
        self.unanswered()
    }

    fn changed(&mut self, kind: Kind, name: &str) {
        self.changed(kind, name);
    }

    fn next_response(
        &mut self,
        published: impl Fn(Kind, &str) -> Published,
    ) -> Option<DeltaDiscoveryResponse> {
        self.next_response(published).map(response)
    }
}

impl Variant for StateSession {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn new(workload: &str, dialect: Dialect) -> Self {
        let session = Self::new(workload);
        match dialect {
            Dialect::Envoy => session.with_wildcard(envoy::own(workload)),
            Dialect::Tulle | Dialect::Other(_) | Dialect::Grpc => session,
        }
    }

    fn node(request: &DiscoveryRequest) -> Option<&core::Node> {
        request.node.as_ref()
    }

    fn take(&mut self, message: DiscoveryRequest) -> Result<(Kind, Changes), Refusal> {
        let kind = kind(&message.type_url)?;
        if !message.resource_locators.is_empty() {
            return Err(Refusal::unimplemented(
                "resource locators are not served: use resource_names",
            ));
        }
        let answer = (!message.response_nonce.is_empty()).then(|| Answer {
            nonce: message.response_nonce,
            error: message.error_detail.map(|status| status.message),
        });
        let names = message.resource_names.into_iter().collect();
        Ok((kind, self.request(StateRequest { kind, names, answer })?))
    }

    fn subscriptions(&self) -> usize {
        self.subscriptions()
    }

    fn unanswered(&self) -> usize {
        self.unanswered()
    }

    fn changed(&mut self, kind: Kind, name: &str) {
        self.changed(kind, name);
    }

    fn next_response(
        &mut self,
        published: impl Fn(Kind, &str) -> Published,
    ) -> Option<DiscoveryResponse> {
        let response = self.next_response(published)?;
        let url = response.kind.type_url();
        let any = |r: Received| Any { type_url: url.to_owned(), value: r.bytes.into() };
        Some(DiscoveryResponse {
            version_info: response.version.as_str().to_owned(),
            resources: response.resources.into_iter().map(any).collect(),
            type_url: url.to_owned(),
            nonce: response.nonce,
            ..DiscoveryResponse::default()
        })
    }
}

fn kind(url: &str) -> Result<Kind, Refusal> {
    Kind::from_type_url(url).ok_or_else(|| {
        let url: String = url.chars().take(128).collect();
        Refusal::invalid_argument(format!("resources of type {url:?} are not served here"))
    })
}

fn request(request: DeltaDiscoveryRequest) -> Result<Request, Refusal> {
    let kind = kind(&request.type_url)?;
    let unserved = [&request.resource_locators_subscribe, &request.resource_locators_unsubscribe];
    if unserved.iter().any(|locators| !locators.is_empty()) {
        return Err(Refusal::unimplemented(
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
        node: request.node.as_ref().map(node),
        subscribe: request.resource_names_subscribe,
        unsubscribe: request.resource_names_unsubscribe,
        versions: versions.map(|(name, text)| (name, Version::new(text))).collect(),
        answer,
    })
}

/// What a client understands, by the name that it announces: Envoy calls itself `envoy`, gRPC's
/// implementations `gRPC C-core`, `gRPC Node Pure JS`, `gRPC Go`, ….
/// Our own says which features it knows.
pub(super) fn dialect(node: Option<&core::Node>) -> Dialect {
    match node.map_or("", |node| node.user_agent_name.as_str()) {
        "envoy" => Dialect::Envoy,
        name if name.to_ascii_lowercase().starts_with("grpc") => Dialect::Grpc,
        PROGRAM => Dialect::of(node.map(features).unwrap_or_default()),
        _ => Dialect::Tulle,
    }
}

fn features(node: &core::Node) -> Features {
    Features::named(&node.client_features)
}

pub(super) fn node(node: &core::Node) -> Node {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(text)) => text.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(_)) | None => String::new(),
    };
    Node {
        id: node.id.clone(),
        version: printable(bounded(&version, MAX_SAID)),
        features: features(node),
    }
}

fn response(response: Response) -> DeltaDiscoveryResponse {
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
