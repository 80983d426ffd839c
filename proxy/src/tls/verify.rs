//! Is the certificate's chain good, and whose is it?
//!
//! The chain is webpki's business (RFC 5280: signatures, dates, constraints, key usage) with our
//! roots: with those that vouch for the trust domain of the identity. That is exactly one URI SAN, a
//! SPIFFE id (X509-SVID, section 5.2).

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use tulle_xds::model::SpiffeId;
use x509_parser::{
    asn1_rs::{FromDer, Utf8String},
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{Oid, asn1_rs::oid},
};

use super::{Peer, roots::Roots};

/// Our extension, in which a certificate names the pod: `NAMESPACE/POD/UID` as UTF8String.
const POD: Oid<'static> = oid!(1.3.6.1.4.1.58888.1.1);

/// What a workload's certificate says.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) peer: Peer,
    /// Serial number, hexadecimal.
    pub(super) serial: String,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

/// A certificate that names no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum BadIdentity {
    #[error("it sent no certificate")]
    Missing,
    #[error("its certificate does not parse: {0}")]
    Unreadable(String),
    #[error("its certificate has {0} URI names; a workload's has exactly one")]
    Names(usize),
    #[error(transparent)]
    Id(#[from] tulle_xds::model::BadSpiffeId),
    #[error("its certificate's pod extension is not NAMESPACE/POD/UID/WORKLOAD")]
    Pod,
}

/// Another identity than the expected one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the peer is {0}, which is not the expected identity")]
pub(super) struct Unexpected(pub(super) SpiffeId);

impl Identity {
    /// Reads a certificate. Says nothing about its signature.
    pub(super) fn read(certificate: &[u8]) -> Result<Self, BadIdentity> {
        let unreadable = |e: &dyn fmt::Display| BadIdentity::Unreadable(e.to_string());
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|e| unreadable(&e))?;
        let names = certificate.subject_alternative_name().map_err(|e| unreadable(&e))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .collect();
        let [uri] = uris[..] else {
            return Err(BadIdentity::Names(uris.len()));
        };
        let pod = certificate
            .extensions()
            .iter()
            .find(|extension| extension.oid == POD)
            .map(|extension| pod_name(extension.value).ok_or(BadIdentity::Pod))
            .transpose()?;
        let (pod, workload) = pod.unzip();
        let validity = certificate.validity();
        Ok(Self {
            peer: Peer { id: uri.parse()?, pod, workload: workload.flatten(), sidecar: true },
            serial: certificate.serial.to_str_radix(16),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Reads the leaf of what a peer sent.
    pub(super) fn of_peer(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, BadIdentity> {
        Self::read(chain.and_then(<[_]>::first).ok_or(BadIdentity::Missing)?)
    }

    /// Whether its time is over.
    pub(super) fn has_expired(&self) -> bool {
        u64::try_from(self.not_after).map_or(true, |end| end < UnixTime::now().as_secs())
    }
}

/// `NAMESPACE/POD` and `WORKLOAD` from the extension's `NAMESPACE/POD/UID/WORKLOAD`, of which the last
/// may be missing.
fn pod_name(der: &[u8]) -> Option<(String, Option<String>)> {
    let (_, text) = Utf8String::from_der(der).ok()?;
    let text = text.string();
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, name, workload) = match parts[..] {
        _ if parts.iter().any(|part| part.is_empty()) => return None,
        [namespace, name, _uid] => (namespace, name, None),
        [namespace, name, _uid, workload] => (namespace, name, Some(workload.to_owned())),
        _ => return None,
    };
    Some((format!("{namespace}/{name}"), workload))
}

/// The server name that stands for an identity: its digest, because an id is no DNS name. It is
/// never sent (no SNI). Sessions for resumption are kept by server name, hence by identity.
pub(super) fn server_name(id: &SpiffeId) -> ServerName<'static> {
    let hash = digest(&SHA256, id.as_str().as_bytes());
    let mut name = String::with_capacity(80);
    for (i, byte) in hash.as_ref().iter().enumerate() {
        if i == 16 {
            name.push('.'); // A label has at most 63 bytes.
        }
        name.push_str(&format!("{byte:02x}"));
    }
    name.push_str(".spiffe");
    let name = DnsName::try_from(name).expect("hexadecimal digits and dots are a DNS name");
    ServerName::DnsName(name)
}

/// Checks servers: the chain, and that the identity is the one that [`server_name`] stands for.
#[derive(Debug)]
pub(super) struct Servers {
    roots: Arc<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Servers {
    pub(super) fn new(roots: Arc<Roots>, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { roots, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let found = Identity::read(end_entity).map_err(other)?.peer.id;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            self.roots.of(found.trust_domain()),
            intermediates,
            now,
            self.algorithms.all,
        )?;
        if server_name(&found) != *name {
            return Err(other(Unexpected(found)));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks clients: the chain, and that there is an identity. Which trust domains are accepted can
/// change at any time, so that is asked after the handshake.
#[derive(Debug)]
pub(super) struct Clients {
    /// By trust domain; `None` for those that no root names.
    chains: BTreeMap<Option<String>, Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    pub(super) fn new(
        roots: &Roots,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, rustls::client::VerifierBuilderError> {
        let mut chains = BTreeMap::new();
        for (domain, roots) in roots.each().filter(|(_, roots)| !roots.is_empty()) {
            let (roots, provider) = (Arc::clone(roots), Arc::clone(provider));
            let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
            chains.insert(domain.cloned(), chain);
        }
        Ok(Arc::new(Self { chains, algorithms: provider.signature_verification_algorithms }))
    }
}

impl ClientCertVerifier for Clients {
    /// None: they would tell strangers our roots, and sidecars have one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let domain = Identity::read(end_entity).map_err(other)?.peer.id.trust_domain().to_owned();
        let chain = self.chains.get(&Some(domain)).or_else(|| self.chains.get(&None));
        let chain = chain.ok_or(CertificateError::UnknownIssuer)?;
        chain.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn tls12() -> TlsError {
    TlsError::General("TLS 1.2 is not spoken between sidecars".to_owned())
}

/// An error of ours inside of one of rustls.
fn other(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// The error of ours inside of one of rustls inside of an I/O error, if it is there.
pub(super) fn cause<E: std::error::Error + 'static>(error: &std::io::Error) -> Option<&E> {
    match error.get_ref()?.downcast_ref::<TlsError>()? {
        TlsError::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            (**cause).downcast_ref()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identities_have_server_names_of_their_own() {
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        let a = server_name(&id("spiffe://cluster.local/ns/shop/sa/a"));
        assert_eq!(a, server_name(&id("spiffe://cluster.local/ns/shop/sa/a")));
        assert_ne!(a, server_name(&id("spiffe://cluster.local/ns/shop/sa/b")));
    }

    #[test]
    fn pod_extension() {
        let der = |text: &str| {
            let mut der = vec![0x0c, u8::try_from(text.len()).unwrap()];
            der.extend(text.as_bytes());
            der
        };
        let pod = "shop/web-0".to_owned();
        assert_eq!(pod_name(&der("shop/web-0/12ab")), Some((pod.clone(), None)));
        let workload = Some("web".to_owned());
        assert_eq!(pod_name(&der("shop/web-0/12ab/web")), Some((pod, workload)));
        for bad in ["shop/web-0", "shop//12ab", "/web/12ab", "shop/web/", "a/b/c/", "a/b/c/d/e", ""]
        {
            assert_eq!(pod_name(&der(bad)), None, "{bad}");
        }
        assert_eq!(pod_name(&[0x04, 1, 0]), None, "an octet string");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _either = Identity::read(&bytes);
            let _either = pod_name(&bytes);
        }
    }
}
