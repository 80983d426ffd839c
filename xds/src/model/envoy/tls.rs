//! mTLS between sidecars, with certificate and roots from the agent beside Envoy.

use envoy_types::pb::envoy::{
    config::core::v3::{
        ApiConfigSource, ApiVersion, ConfigSource, GrpcService, TransportSocket,
        api_config_source::ApiType,
        config_source::ConfigSourceSpecifier,
        grpc_service::{EnvoyGrpc, TargetSpecifier},
        transport_socket,
    },
    extensions::transport_sockets::{
        raw_buffer::v3::RawBuffer,
        tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
            SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            downstream_tls_context::SessionTicketKeysType,
            subject_alt_name_matcher::SanType,
            tls_parameters::TlsProtocol,
        },
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use prost::Name;

use crate::model::{SpiffeId, wire};

/// What is inside, as the ALPN values of our own proxies say it.
pub(super) const HTTP2: &str = "tulle-h2";
pub(super) const HTTP1: &str = "tulle-http/1.1";
pub(super) const TCP: &str = "tulle-tcp";

/// Beside [`HTTP2`] it lets Envoy's client find out which version a peer speaks.
pub(super) const STANDARD_HTTP2: &str = "h2";

/// The agent's Unix socket, in Envoy's bootstrap, and the names of its secrets.
const AGENT: &str = "tulle-sds";
const CERTIFICATE: &str = "default";
const ROOTS: &str = "ROOTCA";

/// To the workload with this identity and nobody else.
pub(super) fn to(identity: &SpiffeId, alpn: &[&str]) -> TransportSocket {
    let exact = MatchPattern::Exact(identity.as_str().to_owned());
    client(exact, alpn)
}

/// To nobody: for an endpoint of which nothing is known.
pub(super) fn to_nobody() -> TransportSocket {
    client(MatchPattern::Exact("spiffe://unknown".to_owned()), &[HTTP2])
}

fn client(peer: MatchPattern, alpn: &[&str]) -> TransportSocket {
    tls(&UpstreamTlsContext {
        common_tls_context: Some(common(vec![peer], alpn)),
        // A resumed session would skip the check of the identity.
        max_session_keys: wire::uint(0),
        ..UpstreamTlsContext::default()
    })
}

/// From any workload of these trust domains.
pub(super) fn from(trust_domains: &[String], alpn: &[&str]) -> TransportSocket {
    let prefix = |domain| MatchPattern::Prefix(format!("spiffe://{domain}/"));
    tls(&DownstreamTlsContext {
        common_tls_context: Some(common(trust_domains.iter().map(prefix).collect(), alpn)),
        require_client_certificate: wire::boolean(true),
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(
            true,
        )),
        ..DownstreamTlsContext::default()
    })
}

/// Without encryption.
pub(super) fn none() -> TransportSocket {
    socket("raw_buffer", &RawBuffer::default())
}

fn common(peers: Vec<MatchPattern>, alpn: &[&str]) -> CommonTlsContext {
    let name = |pattern| SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }),
        ..SubjectAltNameMatcher::default()
    };
    let validation = CertificateValidationContext {
        match_typed_subject_alt_names: peers.into_iter().map(name).collect(),
        ..CertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ecdh_curves: ["X25519MLKEM768", "X25519", "P-256"].map(ToOwned::to_owned).into(),
            ..TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(validation),
                validation_context_sds_secret_config: Some(secret(ROOTS)),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        ..CommonTlsContext::default()
    }
}

fn secret(name: &str) -> SdsSecretConfig {
    let agent = EnvoyGrpc { cluster_name: AGENT.to_owned(), ..EnvoyGrpc::default() };
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(agent)),
            ..GrpcService::default()
        }],
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            ..ConfigSource::default()
        }),
    }
}

fn tls(context: &impl Name) -> TransportSocket {
    socket("tls", context)
}

fn socket(name: &str, config: &impl Name) -> TransportSocket {
    TransportSocket {
        name: format!("envoy.transport_sockets.{name}"),
        config_type: Some(transport_socket::ConfigType::TypedConfig(wire::pack(config))),
    }
}
