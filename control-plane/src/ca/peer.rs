//! Who is on the other end of a connection, by a certificate of ours that TLS has verified.

use x509_parser::{
    der_parser::{der::parse_der_utf8string, oid::Oid},
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::{POD_EXTENSION, attest::Attested};
use crate::world::objects::Name;

/// A certificate that is none of a workload's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client's certificate {0}")]
pub struct BadPeer(&'static str);

/// The identity and pod that a verified leaf certificate (DER) names.
///
/// # Errors
/// If it names no SPIFFE id of a ServiceAccount or no pod.
pub fn read(certificate: &[u8]) -> Result<Attested, BadPeer> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_malformed| BadPeer("cannot be read"))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    // X.509-SVID, 2: exactly one URI.
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(BadPeer("does not have exactly one URI name"));
    };
    let identity = uri.parse().map_err(|_bad| BadPeer("has no SPIFFE id of a ServiceAccount"))?;

    let oid = Oid::from(&POD_EXTENSION).map_err(|_never| BadPeer("has no pod"))?;
    let extension = parsed.get_extension_unique(&oid).ok().flatten();
    let value = extension.ok_or(BadPeer("does not name its pod"))?.value;
    let text = parse_der_utf8string(value).ok().and_then(|(rest, text)| {
        rest.is_empty().then(|| text.as_str().map(str::to_owned).ok()).flatten()
    });
    let text = text.ok_or(BadPeer("names its pod in an unknown form"))?;
    let parts: Vec<&str> = text.split('/').collect();
    let [namespace, pod, uid, workload] = parts[..] else {
        return Err(BadPeer("names its pod in an unknown form"));
    };
    let (pod, pod_uid) = (Name::new(namespace, pod), uid.to_owned());
    Ok(Attested { identity, pod, pod_uid, workload: workload.to_owned() })
}
