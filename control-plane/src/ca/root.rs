//! The root: made, or loaded from a directory or from what a Secret holds.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::{Duration, OffsetDateTime};
use tulle_runtime::vouch::{trust_domains, vouches_for};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::random_serial;

pub(super) const CERTIFICATE: &str = "root.pem";
pub(super) const KEY: &str = "root.key";
const LIFETIME: Duration = Duration::days(3650);
/// Clocks differ: valid a little before it was made.
const BACKDATE: Duration = Duration::minutes(6);

/// Who signs, and all roots that are trusted.
pub struct Root {
    /// Of whose identities it is.
    trust_domain: Arc<str>,
    signer: Arc<Signer>,
    trusted: Vec<CertificateDer<'static>>,
    issues: bool,
}

struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// From who signs up to below a root; empty if a root signs.
    intermediates: Vec<CertificateDer<'static>>,
    anchor: CertificateDer<'static>,
    not_after: OffsetDateTime,
}

/// A signing certificate with its key and the roots above it, each as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// Who signs, then those who signed that, if they are no roots.
    pub certificates: String,
    /// The first one's key.
    pub key: String,
    /// The roots that are trusted.
    pub roots: String,
}

/// Which part of a [`Material`] is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadMaterial {
    #[error("the signing certificate {0}")]
    Certificate(String),
    #[error("the key {0}")]
    Key(String),
    #[error("the roots: {0}")]
    Roots(String),
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RootError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("making a root: {0}")]
    Make(#[from] rcgen::Error),
}

impl Root {
    /// Loads `root.pem` and `root.key` from `directory`, or makes both if neither is there.
    ///
    /// `root.pem` may hold several certificates, while one root takes over from another: all are
    /// trusted, and the first one signs.
    ///
    /// # Errors
    /// If only one of the files is there, they do not belong together, or the certificate cannot
    /// sign: expired, not yet valid, or not a CA's.
    pub fn load_or_make(directory: &Path, trust_domain: &str) -> Result<Self, RootError> {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        match (certificate.exists(), key.exists()) {
            (true, true) => Self::load(&certificate, &key, trust_domain),
            (false, false) => Self::make(directory, trust_domain),
            (true, false) => Err(invalid(
                &key,
                format!("is missing, but {CERTIFICATE} is there; put both files there or none"),
            )),
            (false, true) => Err(invalid(
                &certificate,
                format!("is missing, but {KEY} is there; put both files there or none"),
            )),
        }
    }

    /// Who signs.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.signer.issuer
    }

    /// What a leaf needs besides itself for whoever knows the roots alone.
    pub(super) fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.signer.intermediates
    }

    /// The root above who signs.
    pub(super) fn anchor(&self) -> &CertificateDer<'static> {
        &self.signer.anchor
    }

    /// Whether certificates are issued to workloads: not while others do not trust who signs yet.
    pub fn issues(&self) -> bool {
        self.issues
    }

    /// Who signs here, where `trusted` is what is trusted.
    pub(super) fn trusting(&self, trusted: Vec<CertificateDer<'static>>, issues: bool) -> Self {
        let (trust_domain, signer) = (Arc::clone(&self.trust_domain), Arc::clone(&self.signer));
        Self { trust_domain, signer, trusted, issues }
    }

    /// Whether nothing is different for anybody.
    pub(super) fn is(&self, other: &Self) -> bool {
        let signs = self.intermediates() == other.intermediates()
            && self.anchor() == other.anchor()
            && self.issuer().key().public_key_raw() == other.issuer().key().public_key_raw();
        signs && self.trusted == other.trusted && self.issues == other.issues
    }

    /// When who signs expires: nothing that it signs may outlive it.
    pub fn not_after(&self) -> OffsetDateTime {
        self.signer.not_after
    }

    /// Every root that is trusted.
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }

    /// The roots that vouch for identities of our own trust domain: by these the parts of the control plane and its
    /// clients know each other.
    pub fn trusted_here(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.trusted.iter().filter(|root| vouches_for(root, &self.trust_domain))
    }

    /// Of whose identities it is.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Every root that is trusted, as PEM.
    pub fn trusted_pem(&self) -> String {
        self.trusted.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// A new root that signs itself.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn generate(trust_domain: &str) -> Result<Material, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let now = OffsetDateTime::now_utc();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Tulle");
        name.push(DnType::CommonName, format!("{trust_domain} root"));
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.serial_number = Some(random_serial());
        params.not_before = now - BACKDATE;
        params.not_after = now + LIFETIME;
        // Leaves only: whoever gets hold of a certificate of ours cannot sign with it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Where it is trusted for the sake of our domain it is no root of another one.
        params.subject_alt_names =
            vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
        let certificate = pem("CERTIFICATE", params.self_signed(&key)?.der());
        Ok(Material {
            roots: certificate.clone(),
            certificates: certificate,
            key: key.serialize_pem(),
        })
    }

    /// Reads what is in the form of a Secret, for identities of `trust_domain`.
    ///
    /// # Errors
    /// If it cannot be read, does not belong together, cannot sign now, or is of another trust domain.
    pub fn from_pem(material: &Material, trust_domain: &str) -> Result<Self, BadMaterial> {
        let certificates =
            certificates(&material.certificates).map_err(BadMaterial::Certificate)?;
        let trusted = certificates_of_roots(&material.roots).map_err(BadMaterial::Roots)?;
        let key = KeyPair::from_pem(&material.key)
            .map_err(|error| BadMaterial::Key(format!("cannot be read: {error}")))?;
        let (anchor, not_after) =
            check(&certificates, &trusted, &key).map_err(BadMaterial::Certificate)?;
        if !vouches_for(&anchor, trust_domain) {
            let named = trust_domains(&anchor).unwrap_or_default().join(", ");
            return Err(BadMaterial::Certificate(format!(
                "is below a root that names trust domain {named}, and this mesh's is {trust_domain}: \
                 let the root name spiffe://{trust_domain}, or none"
            )));
        }
        let issuer = certificates.first().map(|signing| Issuer::from_ca_cert_der(signing, key));
        let issuer =
            issuer.transpose().map_err(|error| BadMaterial::Certificate(error.to_string()))?;
        let issuer = issuer.ok_or_else(|| BadMaterial::Certificate("is missing".to_owned()))?;
        let intermediates =
            certificates.into_iter().filter(|certificate| !trusted.contains(certificate)).collect();
        let signer = Arc::new(Signer { issuer, intermediates, anchor, not_after });
        Ok(Self { trust_domain: trust_domain.into(), signer, trusted, issues: true })
    }

    fn make(directory: &Path, trust_domain: &str) -> Result<Self, RootError> {
        let Material { certificates, key, .. } = Self::generate(trust_domain)?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| RootError::Io { path, error }
        };
        fs::create_dir_all(directory).map_err(io(directory))?;
        // The key first: a certificate without key is refused at the next start, with the reason.
        let path = directory.join(KEY);
        write_secret(&path, &key).map_err(io(&path))?;
        let path = directory.join(CERTIFICATE);
        fs::write(&path, certificates).map_err(io(&path))?;
        tracing::info!(directory = %directory.display(), "made a new root");
        Self::load(&directory.join(CERTIFICATE), &directory.join(KEY), trust_domain)
    }

    pub(super) fn load(
        certificate_path: &Path,
        key_path: &Path,
        trust_domain: &str,
    ) -> Result<Self, RootError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| RootError::Io { path: path.to_owned(), error })
        };
        let (roots, key) = (read(certificate_path)?, read(key_path)?);
        let all = certificates(&roots).map_err(|reason| invalid(certificate_path, reason))?;
        let certificates = all.first().map(|signing| pem("CERTIFICATE", signing));
        let certificates = certificates.unwrap_or_default();
        let root = Self::from_pem(&Material { certificates, key, roots }, trust_domain);
        let root = root.map_err(|error| match error {
            BadMaterial::Certificate(reason) | BadMaterial::Roots(reason) => {
                invalid(certificate_path, reason)
            }
            BadMaterial::Key(reason) => invalid(key_path, reason),
        })?;
        if fs::metadata(key_path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            let path = key_path.display();
            tracing::warn!(%path, "the root's key can be read by others; chmod 600 it");
        }
        Ok(root)
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").finish_non_exhaustive()
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let certificates = read.map_err(|error| format!("is no PEM: {error}"))?;
    match certificates.is_empty() {
        true => Err("has no certificate in it".to_owned()),
        false => Ok(certificates),
    }
}

/// Each of them a CA's.
pub(super) fn certificates_of_roots(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let roots = certificates(text)?;
    for (at, root) in roots.iter().enumerate() {
        let parsed = parse(root)?;
        if !signs(&parsed) {
            return Err(format!("certificate {} is not a CA's", at + 1));
        }
    }
    Ok(roots)
}

/// Whether the first of `chain` can sign with `key` now, and a root is above it; which one, until when.
fn check(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    key: &KeyPair,
) -> Result<(CertificateDer<'static>, OffsetDateTime), String> {
    let links: Vec<_> = chain.iter().map(|link| parse(link)).collect::<Result<_, _>>()?;
    let parsed: Vec<_> = roots.iter().map(|root| parse(root)).collect::<Result<_, _>>()?;
    let Some(signing) = links.first() else {
        return Err("is missing".to_owned());
    };
    if signing.public_key().raw != key.subject_public_key_info() {
        return Err("does not belong to its key: the public keys differ".to_owned());
    }
    for link in &links {
        if !link.validity().is_valid() {
            let (from, to) = (link.validity().not_before, link.validity().not_after);
            return Err(format!("is valid from {from} to {to} only, which is not now"));
        }
        if !signs(link) {
            return Err("is not a CA's: it needs CA:TRUE and the key usage keyCertSign".to_owned());
        }
    }
    let signed_by = |link: &X509Certificate<'_>, by: &X509Certificate<'_>| {
        link.issuer() == by.subject() && link.verify_signature(Some(by.public_key())).is_ok()
    };
    for (at, link) in links.iter().enumerate() {
        let above = parsed.iter().zip(roots).find(|(root, _)| signed_by(link, root));
        if let Some((_, anchor)) = above {
            let ends = links.iter().take(at + 1).map(|link| link.validity().not_after);
            let ends = ends.min().unwrap_or_else(|| link.validity().not_after);
            return Ok((anchor.clone(), ends.to_datetime()));
        }
        if !links.get(at + 1).is_some_and(|next| signed_by(link, next)) {
            break;
        }
    }
    let issuer = links.last().map(|last| last.issuer().to_string()).unwrap_or_default();
    Err(format!("is not signed by any of the roots; its chain ends at {issuer:?}"))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|error| format!("cannot be read: {error}"))
}

fn signs(certificate: &X509Certificate<'_>) -> bool {
    let is_ca = certificate.basic_constraints().ok().flatten().is_some_and(|b| b.value.ca);
    let usage = certificate.key_usage().ok().flatten();
    is_ca && usage.is_none_or(|usage| usage.value.key_cert_sign())
}

/// Never readable by others, not even for a moment.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    // RFC 7468: lines of 64 characters.
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn invalid(path: &Path, reason: impl Into<String>) -> RootError {
    RootError::Invalid { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
