//! The root: made, or loaded from a directory.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::random_serial;

pub(super) const CERTIFICATE: &str = "root.pem";
pub(super) const KEY: &str = "root.key";
const LIFETIME: Duration = Duration::days(3650);
/// Clocks differ: valid a little before it was made.
const BACKDATE: Duration = Duration::minutes(5);

/// The root that signs, and all roots that are trusted.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    trusted: Vec<CertificateDer<'static>>,
    not_after: OffsetDateTime,
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
            (true, true) => Self::load(&certificate, &key),
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
        &self.issuer
    }

    /// When the signing root expires: nothing that it signs may outlive it.
    pub(super) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Every root that is trusted.
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }

    /// Every root that is trusted, as PEM.
    pub fn trusted_pem(&self) -> String {
        self.trusted.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    fn make(directory: &Path, trust_domain: &str) -> Result<Self, RootError> {
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
        let certificate = params.self_signed(&key)?;

        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| RootError::Io { path, error }
        };
        fs::create_dir_all(directory).map_err(io(directory))?;
        // The key first: a certificate without key is refused at the next start, with the reason.
        let path = directory.join(KEY);
        write_secret(&path, &key.serialize_pem()).map_err(io(&path))?;
        let path = directory.join(CERTIFICATE);
        fs::write(&path, pem("CERTIFICATE", certificate.der())).map_err(io(&path))?;
        tracing::info!(directory = %directory.display(), "made a new root");
        Self::load(&directory.join(CERTIFICATE), &directory.join(KEY))
    }

    pub(super) fn load(certificate_path: &Path, key_path: &Path) -> Result<Self, RootError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| RootError::Io { path: path.to_owned(), error })
        };
        let (certificates, key) = (read(certificate_path)?, read(key_path)?);
        let trusted: Vec<_> = CertificateDer::pem_slice_iter(certificates.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(certificate_path, format!("is no PEM: {error}")))?;
        let Some(signing) = trusted.first() else {
            return Err(invalid(certificate_path, "has no certificate in it"));
        };
        let key = KeyPair::from_pem(&key)
            .map_err(|error| invalid(key_path, format!("is no PKCS#8 private key: {error}")))?;
        let not_after = check(signing, &key).map_err(|reason| invalid(certificate_path, reason))?;
        if fs::metadata(key_path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            let path = key_path.display();
            tracing::warn!(%path, "the root's key can be read by others; chmod 600 it");
        }
        let issuer = Issuer::from_ca_cert_der(signing, key)
            .map_err(|error| invalid(certificate_path, error.to_string()))?;
        Ok(Self { issuer, trusted, not_after })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

/// Whether `certificate` can sign with `key` now; until when.
fn check(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<OffsetDateTime, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(format!("does not belong to {KEY}: the public keys differ"));
    }
    let not_after = parsed.validity().not_after.to_datetime();
    if !parsed.validity().is_valid() {
        let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
        return Err(format!("is valid from {from} to {to} only, which is not now"));
    }
    let is_ca = parsed.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca);
    let may_sign =
        parsed.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
    if !is_ca || !may_sign {
        return Err("is not a CA's: it needs CA:TRUE and the key usage keyCertSign".to_owned());
    }
    Ok(not_after)
}

/// Never readable by others, not even for a moment.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn pem(label: &str, der: &[u8]) -> String {
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
mod tests {
    use super::*;

    fn refusal(directory: &Path) -> String {
        Root::load_or_make(directory, "cluster.local").unwrap_err().to_string()
    }

    #[test]
    fn made_once_and_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let made = Root::load_or_make(directory.path(), "cluster.local").unwrap();
        let mode = fs::metadata(directory.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = Root::load_or_make(directory.path(), "cluster.local").unwrap();
        assert_eq!(made.trusted(), loaded.trusted());
        assert_eq!(
            made.trusted_pem(),
            fs::read_to_string(directory.path().join(CERTIFICATE)).unwrap()
        );
    }

    #[test]
    fn a_key_of_another_root_is_refused() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&a, &b] {
            Root::load_or_make(directory.path(), "cluster.local").unwrap();
        }
        fs::copy(a.path().join(KEY), b.path().join(KEY)).unwrap();
        assert!(refusal(b.path()).contains("the public keys differ"));
        fs::remove_file(b.path().join(KEY)).unwrap();
        assert!(refusal(b.path()).contains("root.key: is missing"));
    }

    fn write(directory: &Path, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        fs::write(directory.join(CERTIFICATE), certificate.pem()).unwrap();
        fs::write(directory.join(KEY), key.serialize_pem()).unwrap();
    }

    #[test]
    fn what_cannot_sign_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), |_| {});
        Root::load_or_make(directory.path(), "x").unwrap();
        write(directory.path(), |params| params.is_ca = IsCa::ExplicitNoCa);
        assert!(refusal(directory.path()).contains("not a CA"));
        let past = OffsetDateTime::now_utc() - Duration::days(1);
        write(directory.path(), |params| params.not_after = past);
        assert!(refusal(directory.path()).contains("which is not now"));
        fs::write(directory.path().join(CERTIFICATE), "junk").unwrap();
        assert!(refusal(directory.path()).contains("no certificate"));
    }
}
