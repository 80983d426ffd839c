//! The two variants of the protocol: what a stream asked for, and what it has been sent. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, TlsCertificate, secret,
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            Resource,
        },
    },
    google::protobuf::Any,
};
use prost::Message as _;
use tonic::Status;

use super::{CERTIFICATE, ROOTS, Secrets};
use crate::cache::content_version;

const URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Names that one stream may ask for: there are two that exist.
const MOST: usize = 64;

/// A variant of the protocol.
pub(super) trait Variant: Default + Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// Takes a request of the client.
    fn take(&mut self, request: Self::Request) -> Result<(), Status>;
    /// What to send now that these are the newest secrets, if anything.
    fn next(&mut self, secrets: &Secrets) -> Option<Self::Response>;
}

/// State of the world: a response holds all secrets that were asked for.
#[derive(Debug, Default)]
pub(super) struct State {
    names: BTreeSet<String>,
    sent: Option<(BTreeSet<String>, String)>,
    nonce: u64,
}

impl Variant for State {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take(&mut self, request: DiscoveryRequest) -> Result<(), Status> {
        check(&request.type_url, request.error_detail.map(|status| status.message))?;
        self.names = request.resource_names.into_iter().collect();
        expected(self.names.iter())
    }

    fn next(&mut self, secrets: &Secrets) -> Option<DiscoveryResponse> {
        let known = self.names.iter().filter_map(|name| Some((name, resource(name, secrets)?)));
        let (names, resources): (BTreeSet<_>, Vec<_>) =
            known.map(|(name, (_, any))| (name.clone(), any)).unzip();
        let version = version(secrets);
        if names.is_empty() || self.sent.as_ref() == Some(&(names.clone(), version.clone())) {
            return None;
        }
        self.sent = Some((names, version.clone()));
        self.nonce += 1;
        Some(DiscoveryResponse {
            version_info: version,
            resources,
            type_url: URL.to_owned(),
            nonce: self.nonce.to_string(),
            ..DiscoveryResponse::default()
        })
    }
}

/// Delta: a response holds what is new.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// What is asked for, and its version at the client; `None` if that is unknown.
    names: BTreeMap<String, Option<String>>,
    nonce: u64,
}

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), Status> {
        check(&request.type_url, request.error_detail.map(|status| status.message))?;
        for name in request.resource_names_unsubscribe {
            self.names.remove(&name);
        }
        for name in request.resource_names_subscribe {
            let version = request.initial_resource_versions.remove(&name);
            self.names.insert(name, version);
        }
        expected(self.names.keys())
    }

    fn next(&mut self, secrets: &Secrets) -> Option<DeltaDiscoveryResponse> {
        /// The version of what does not exist.
        const ABSENT: &str = "";
        let mut response = DeltaDiscoveryResponse::default();
        for (name, known) in &mut self.names {
            let found = resource(name, secrets);
            let version = found.as_ref().map_or(ABSENT, |(version, _)| version);
            if known.as_deref() == Some(version) {
                continue;
            }
            *known = Some(version.to_owned());
            match found {
                Some((version, any)) => response.resources.push(Resource {
                    name: name.clone(),
                    version,
                    resource: Some(any),
                    ..Resource::default()
                }),
                None => response.removed_resources.push(name.clone()),
            }
        }
        if response.resources.is_empty() && response.removed_resources.is_empty() {
            return None;
        }
        self.nonce += 1;
        Some(DeltaDiscoveryResponse {
            type_url: URL.to_owned(),
            nonce: self.nonce.to_string(),
            system_version_info: version(secrets),
            ..response
        })
    }
}

/// Refuses other types, and tells of what a client refused.
fn check(type_url: &str, refused: Option<String>) -> Result<(), Status> {
    if let Some(reason) = refused {
        let reason: String = reason.chars().take(1024).collect();
        tracing::warn!(reason, "a client of the secrets' socket refused them");
    }
    // A request may leave out the type: the method says it.
    if type_url.is_empty() || type_url == URL {
        return Ok(());
    }
    let url: String = type_url.chars().take(128).collect();
    Err(Status::invalid_argument(format!("{url:?} is not served here: only {URL}")))
}

/// Bounds the names, and tells of those that nobody serves.
fn expected(names: impl ExactSizeIterator<Item = impl AsRef<str>>) -> Result<(), Status> {
    if names.len() > MOST {
        return Err(Status::resource_exhausted(format!("a stream may ask for {MOST} names")));
    }
    for name in names {
        let name = name.as_ref();
        if [CERTIFICATE, ROOTS].contains(&name) {
            continue;
        }
        let name: String = name.chars().take(128).collect();
        tracing::warn!(name, "there is no such secret: there is {CERTIFICATE}, and {ROOTS}");
    }
    Ok(())
}

/// The secret of this name with its version, if there is one.
fn resource(name: &str, secrets: &Secrets) -> Option<(String, Any)> {
    let (kind, public) = match name {
        CERTIFICATE => (
            secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: inline(&secrets.chain),
                private_key: inline(&secrets.key),
                ..TlsCertificate::default()
            }),
            &secrets.chain,
        ),
        ROOTS => (
            secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: inline(&secrets.roots),
                ..CertificateValidationContext::default()
            }),
            &secrets.roots,
        ),
        _ => return None,
    };
    // A certificate stands for its key: nothing derived from the key leaves this process beside it.
    let version = content_version(public.as_bytes()).as_str().to_owned();
    let value = Secret { name: name.to_owned(), r#type: Some(kind) }.encode_to_vec();
    Some((version, Any { type_url: URL.to_owned(), value }))
}

fn version(secrets: &Secrets) -> String {
    content_version(format!("{}{}", secrets.chain, secrets.roots).as_bytes()).as_str().to_owned()
}

fn inline(pem: &str) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineString(pem.to_owned())),
        ..DataSource::default()
    })
}
