//! Whom a client certificate of the cluster's authority names, as the API server reads it: the user is its CN, his groups are its
//! O, <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>.
//!
//! **Invariant.** A certificate names somebody only as long as [`ClientAuthority::vouch`] vouches for it: nothing else makes a
//! [`Vouched`], and nothing but a [`Vouched`] has a subject that can be read.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The authority by which the cluster knows its clients; by default it knows none. Clones share.
#[derive(Debug, Clone, Default)]
pub struct ClientAuthority(Option<Arc<dyn ClientCertVerifier>>);

/// A certificate of that authority, in force when it was shown.
#[derive(Debug)]
pub struct Vouched<'a>(&'a CertificateDer<'a>);

/// Why nobody vouches for a certificate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unvouched {
    #[error("no certificate was shown")]
    Nothing,
    #[error("the control plane has read no authority of clients from the cluster")]
    NoAuthority,
    #[error("{0}")]
    Unknown(rustls::Error),
}

impl ClientAuthority {
    /// The one that has these certificates.
    ///
    /// # Errors
    /// If no verifier can be made of them.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, VerifierBuilderError> {
        let mut roots = RootCertStore::empty();
        let (_added, odd) = roots.add_parsable_certificates(certificates.iter().cloned());
        if odd > 0 {
            tracing::warn!(odd, "some certificates of the cluster's authority cannot be used");
        }
        if roots.is_empty() {
            return Ok(Self(None));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Self(Some(builder.allow_unauthenticated().build()?)))
    }

    /// The first certificate of the chain, if this authority has signed it and it is in force now. That whoever shows it holds
    /// its key is for the handshake to see to.
    ///
    /// # Errors
    /// [`Unvouched`].
    pub fn vouch<'a>(&self, chain: &'a [CertificateDer<'a>]) -> Result<Vouched<'a>, Unvouched> {
        let (first, between) = chain.split_first().ok_or(Unvouched::Nothing)?;
        let Self(Some(verifier)) = self else { return Err(Unvouched::NoAuthority) };
        let known = verifier.verify_client_cert(first, between, UnixTime::now());
        known.map(|_verified| Vouched(first)).map_err(Unvouched::Unknown)
    }

    /// What the handshake needs of it. `None`: no certificate is worth asking for.
    pub(crate) fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.0.clone()
    }
}

/// User and groups. `None`: it names no user.
pub fn read(Vouched(certificate): &Vouched<'_>) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    (!user.is_empty()).then(|| (user, groups.map(str::to_owned).collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
        IsCa, Issuer, KeyPair,
    };
    use time::OffsetDateTime;

    use super::*;

    /// An authority of clients, with its key.
    pub(crate) struct Signer(Issuer<'static, KeyPair>, CertificateDer<'static>);

    /// A client's certificate and its key, PKCS #8.
    pub(crate) type Client = (CertificateDer<'static>, Vec<u8>);

    impl Signer {
        pub(crate) fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let own = params.self_signed(&key).unwrap().der().clone();
            Self(Issuer::new(params, key), own)
        }

        pub(crate) fn authority(&self) -> ClientAuthority {
            ClientAuthority::new(std::slice::from_ref(&self.1)).unwrap()
        }

        /// One whose subject has these parts, `CN` and `O`, that ends in so many days.
        pub(crate) fn sign(&self, names: &[(&str, &str)], days: i64) -> Client {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
            for (part, name) in names {
                let part =
                    if *part == "CN" { DnType::CommonName } else { DnType::OrganizationName };
                params.distinguished_name.push(part, *name);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.0).unwrap();
            (certificate.der().clone(), key.serialize_der())
        }
    }

    #[test]
    fn a_user_is_the_common_name_and_a_group_the_organization() {
        let signer = Signer::new();
        let subject = |names: &[(&str, &str)]| {
            let chain = [signer.sign(names, 1).0];
            read(&signer.authority().vouch(&chain).unwrap())
        };
        let user = |groups: &[&str]| {
            Some(("alice".to_owned(), groups.iter().map(ToString::to_string).collect()))
        };
        assert_eq!(subject(&[("CN", "alice")]), user(&[]));
        let masters = ("O", "system:masters");
        assert_eq!(subject(&[masters, ("CN", "alice")]), user(&["system:masters"]));
        assert_eq!(subject(&[masters]), None);
        assert_eq!(subject(&[("CN", "")]), None);
    }

    #[test]
    fn nobody_vouches_for_what_is_not_of_the_authority_or_not_in_force() {
        let (signer, other) = (Signer::new(), Signer::new());
        let alice = [("CN", "alice")];
        let refused = |authority: &ClientAuthority, certificate: &CertificateDer<'static>| {
            authority.vouch(std::slice::from_ref(certificate)).unwrap_err().to_string()
        };
        let known = signer.sign(&alice, 1).0;
        assert!(signer.authority().vouch(std::slice::from_ref(&known)).is_ok());
        assert!(refused(&other.authority(), &known).starts_with("invalid peer certificate"));
        assert!(refused(&signer.authority(), &signer.sign(&alice, -1).0).contains("xpired"));
        assert!(refused(&signer.authority(), &vec![1, 2, 3].into()).contains("BadEncoding"));
        assert_eq!(signer.authority().vouch(&[]).unwrap_err(), Unvouched::Nothing);
        let none = ClientAuthority::new(&[]).unwrap();
        assert_eq!(none.vouch(&[known]).unwrap_err(), Unvouched::NoAuthority);
    }
}
