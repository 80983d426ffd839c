//! Leaf certificates.

use std::{sync::Arc, time::Duration};

use rand::RngCore;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::sync::watch;
use tulle_xds::model::SpiffeId;

use super::{
    POD_EXTENSION,
    attest::Attested,
    csr::{self, BadCsr},
    root::Root,
    roots::Roots,
};

/// Clocks differ: a certificate is valid a little before it was made, so that one which is 5 minutes slow takes it at once.
const BACKDATE: time::Duration = time::Duration::minutes(6);

/// Signs leaf certificates with the root in force.
#[derive(Debug, Clone)]
pub struct Authority {
    roots: Roots,
    lifetime: Duration,
}

/// A certificate for somebody.
#[derive(Debug)]
pub struct Issued {
    /// The leaf first, then whoever is between it and a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The root of the moment.
    pub root: Arc<Root>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum IssueError {
    #[error(transparent)]
    Csr(#[from] BadCsr),
    #[error(
        "nothing is signed yet: the root is a new one, which all sidecars must trust first; try again"
    )]
    NotYet(Arc<Root>),
    #[error("signing: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// Signs with the first of `roots`; certificates are valid for `lifetime`, or as long as the root
    /// itself.
    pub fn new(roots: Roots, lifetime: Duration) -> Self {
        Self { roots, lifetime }
    }

    /// The root in force.
    pub fn root(&self) -> Arc<Root> {
        self.roots.current()
    }

    /// Changes with the root.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Root>> {
        self.roots.watch()
    }

    /// A certificate for the key of `csr` with the identity and the pod that were proven, and with
    /// nothing that the CSR asks for.
    ///
    /// # Errors
    /// If the CSR is refused, or nothing is issued at the moment.
    pub fn workload(&self, attested: &Attested, csr: &[u8]) -> Result<Issued, IssueError> {
        let root = self.root();
        match root.issues() {
            true => self.pod(root, attested, csr),
            false => Err(IssueError::NotYet(root)),
        }
    }

    fn pod(&self, root: Arc<Root>, attested: &Attested, csr: &[u8]) -> Result<Issued, IssueError> {
        let key = csr::public_key(csr)?;
        let mut params = self.leaf(&root);
        params.subject_alt_names = vec![SanType::URI(spiffe(&attested.identity)?)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let Attested { pod, pod_uid, workload, .. } = attested;
        let pod = format!("{pod}/{pod_uid}/{workload}");
        let extension = CustomExtension::from_oid_content(&POD_EXTENSION, utf8_string(&pod));
        params.custom_extensions = vec![extension];
        Ok(sign(root, &params, &key)?)
    }

    /// A certificate for a pod of our own, with a new key: replicas know the same roots.
    ///
    /// # Errors
    /// If it cannot be made or signed.
    pub fn own(&self, attested: &Attested) -> Result<(Issued, PrivateKeyDer<'static>), IssueError> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?;
        let issued = self.pod(self.root(), attested, request.der())?;
        Ok((issued, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }

    /// A certificate for a server of ours with these DNS names.
    pub(super) fn server(
        &self,
        names: &[String],
        key: &impl PublicKeyData,
    ) -> Result<Issued, rcgen::Error> {
        let root = self.root();
        let mut params = self.leaf(&root);
        let names = names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        params.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        sign(root, &params, key)
    }

    /// How long a certificate is valid.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    fn leaf(&self, root: &Root) -> CertificateParams {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        // SPIFFE: the name is the URI. An empty subject asks for a critical SAN, which rcgen sets.
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(random_serial());
        params.not_before = now - BACKDATE;
        params.not_after = (now + self.lifetime).min(root.not_after());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params
    }
}

fn sign(
    root: Arc<Root>,
    params: &CertificateParams,
    key: &impl PublicKeyData,
) -> Result<Issued, rcgen::Error> {
    let leaf = params.signed_by(key, root.issuer())?.der().clone();
    let chain = [leaf].into_iter().chain(root.intermediates().iter().cloned()).collect();
    Ok(Issued { chain, root })
}

/// 127 random bits: positive, and at most 20 bytes (RFC 5280, 4.1.2.2).
pub(super) fn random_serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn spiffe(id: &SpiffeId) -> Result<Ia5String, rcgen::Error> {
    id.as_str().try_into()
}

/// DER: tag 12, length, bytes (X.690, 8.1.3 and 8.23).
fn utf8_string(text: &str) -> Vec<u8> {
    let length = text.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut der = vec![0x0c];
    match significant.as_slice() {
        [] => der.push(0),
        [short] if *short < 0x80 => der.push(*short),
        long => {
            let count = u8::try_from(long.len()).unwrap_or(u8::MAX);
            der.push(0x80 | count);
            der.extend(long);
        }
    }
    der.extend(text.as_bytes());
    der
}

#[cfg(test)]
mod tests {
    use x509_parser::{der_parser, prelude::*};

    use super::*;

    #[test]
    fn utf8_strings_are_der() {
        for length in [0, 1, 127, 128, 255, 256, 400] {
            let text = "x".repeat(length);
            let der = utf8_string(&text);
            let (rest, parsed) = der_parser::der::parse_der_utf8string(&der).unwrap();
            assert!(rest.is_empty());
            assert_eq!(parsed.as_str().unwrap(), text);
        }
    }

    #[test]
    fn serials_are_positive() {
        for _ in 0..100 {
            let serial = random_serial().to_bytes();
            assert!(serial[0] < 0x80 && serial[0] >= 0x40 && serial.len() == 16);
        }
    }

    fn authority() -> (tempfile::TempDir, Authority) {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots::load_or_make(directory.path(), "cluster.local").unwrap();
        (directory, Authority::new(roots, Duration::from_secs(3600)))
    }

    fn attested() -> Attested {
        Attested {
            identity: SpiffeId::service_account("cluster.local", "shop", "reviews"),
            pod: crate::world::objects::Name::new("shop", "reviews-1"),
            pod_uid: "uid-1".to_owned(),
            workload: "web".to_owned(),
        }
    }

    fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        change(&mut params);
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_leaf_says_what_was_proven_and_nothing_that_was_asked() {
        let (_directory, authority) = authority();
        let issued = authority.workload(&attested(), &request(|_| {})).unwrap();
        let [leaf] = issued.chain.as_slice() else { panic!("{:?}", issued.chain) };
        let (_, parsed) = X509Certificate::from_der(leaf).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical);
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            panic!("{names:?}")
        };
        assert_eq!(*uri, "spiffe://cluster.local/ns/shop/sa/reviews");
        assert!(!parsed.is_ca());
        assert!(parsed.key_usage().unwrap().unwrap().value.digital_signature());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth && !usage.any);
        let pod = super::super::peer::read(leaf).unwrap();
        assert_eq!(pod, attested());
        let root = authority.root();
        let (_, root) = X509Certificate::from_der(&root.trusted()[0]).unwrap();
        parsed.verify_signature(Some(root.public_key())).unwrap();
    }

    #[test]
    fn what_a_csr_may_not_be() {
        let (_directory, authority) = authority();
        let refused = |csr: &[u8]| match authority.workload(&attested(), csr) {
            Err(IssueError::Csr(bad)) => bad,
            other => panic!("{other:?}"),
        };
        let ca = request(|params| {
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        });
        assert_eq!(refused(&ca), BadCsr::Ca);
        assert_eq!(refused(b"garbage"), BadCsr::Garbage);
        let mut tampered = request(|_| {});
        let name = tampered.windows(4).position(|bytes| bytes == b"evil").unwrap();
        tampered[name] = b'E';
        assert_eq!(refused(&tampered), BadCsr::Signature);
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _refused = csr::public_key(&bytes);
        }
    }
}
