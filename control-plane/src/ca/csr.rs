//! What a certificate signing request is good for: its public key.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::{
    certification_request::X509CertificationRequest, extensions::ParsedExtension, prelude::FromDer,
};

/// Larger than any request with the keys that we take.
const MAX: usize = 16 << 10;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    /// It is no PKCS#10 request, or a huge one.
    #[error("the CSR is no PKCS#10 request in DER (RFC 2986)")]
    Garbage,
    /// Its signature is not by its key.
    #[error("the CSR's signature does not match its public key")]
    Signature,
    /// It asks for a CA certificate.
    #[error("the CSR asks for a CA certificate (basicConstraints CA:TRUE); workloads get leaves")]
    Ca,
    /// Its key is of a kind that we do not sign.
    #[error("the CSR's key is of a kind that is not signed; use ECDSA P-256 or P-384, or Ed25519")]
    Key,
}

/// The public key that `csr` proves to hold. All names and extensions in it are ignored.
///
/// # Errors
/// If it is malformed, does not prove to hold its key, or asks to be a CA.
pub fn public_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, BadCsr> {
    if csr.len() > MAX {
        return Err(BadCsr::Garbage);
    }
    let (rest, csr) =
        X509CertificationRequest::from_der(csr).map_err(|_malformed| BadCsr::Garbage)?;
    if !rest.is_empty() {
        return Err(BadCsr::Garbage);
    }
    let info = &csr.certification_request_info;
    let key =
        SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_unsupported| BadCsr::Key)?;
    let signed =
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    if !signed.contains(&rcgen::PublicKeyData::algorithm(&key)) {
        return Err(BadCsr::Key);
    }
    csr.verify_signature().map_err(|_wrong| BadCsr::Signature)?;
    let mut extensions = csr.requested_extensions().into_iter().flatten();
    let asks_ca = |extension: &ParsedExtension<'_>| match extension {
        ParsedExtension::BasicConstraints(basic) => basic.ca,
        // One that cannot be read could be anything, this one too.
        ParsedExtension::ParseError { .. } => true,
        _ => false,
    };
    if extensions.any(asks_ca) { Err(BadCsr::Ca) } else { Ok(key) }
}
