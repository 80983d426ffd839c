//! How this proxy gets its certificate, and the next one.
//!
//! A key is made, a signing request for it, and the pod's token proves who asks. The control plane
//! decides what the certificate says.

use std::{collections::BTreeSet, fmt, fs, io, mem, path::PathBuf, time::Duration};

use rand::Rng;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, metadata::AsciiMetadataValue};
use tulle_proto::ca::v1::{IssueRequest, certificate_service_client::CertificateServiceClient};
use tulle_runtime::ready::Blocker;

use super::{
    BadCertificate, Certs, Material,
    control_plane::{As, ConnectError, ControlPlane},
};

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses between tries: they double from the first to the last, each with full jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How often the roots' file is looked at while nothing else is to do.
const LOOK: Duration = Duration::from_secs(5);

/// The least time between two certificates.
const SOON: Duration = Duration::from_secs(1);

/// How often a control plane that tells other roots than the file is asked again, after pauses that begin with [`SOON`] and
/// double: its replicas hear of new roots some seconds apart, and half of a certificate's life is too long to trust the old ones.
/// A file that holds other roots for good, as of a control plane with a certificate from elsewhere, costs no more than that.
const ASKED_AGAIN: u32 = 5;

/// Gets certificates and keeps them fresh.
pub struct Enrolment {
    /// Who issues them.
    pub control_plane: ControlPlane,
    /// The pod's token; read anew for each request, because the kubelet renews it.
    pub token_file: PathBuf,
    /// Where they go.
    pub certs: Certs,
    /// Who else is given each one that was put in force: the agent, for those it enrols for.
    pub hand_over: Option<HandOver>,
}

/// Takes a certificate with its key.
pub type HandOver = Box<dyn Fn(&Material) + Send + Sync>;

/// Why there is no certificate, and what to do next.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum EnrolError {
    #[error("cannot read the token in {}: {error}; is the pod's projected token volume mounted there?", .file.display())]
    Token { file: PathBuf, error: io::Error },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "the control plane refused the token: {0}; its audience must be `tulle`, it must be bound to this pod, and the control plane must know the pod"
    )]
    Refused(String),
    #[error("the control plane issued nothing: {0}")]
    Failed(String),
    #[error(transparent)]
    Bad(#[from] BadCertificate),
    #[error("a new root does not sign yet, until every sidecar trusts it; trying again")]
    NotYet,
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
}

impl Enrolment {
    /// Gets the first certificate, then the next at half of each one's life or when the roots'
    /// file changes, and soon where other roots were told than stand there, for ever. `blocker` says meanwhile what is missing, and is dropped with the
    /// first. A renewal that fails leaves the last certificate in force.
    pub async fn run(self, blocker: Blocker) {
        let mut blocker = Some(blocker);
        let mut last = None;
        let mut pause = PAUSES.0;
        let mut asked_again = 0;
        loop {
            let roots = self.control_plane.read_roots().ok();
            match Box::pin(self.enrol(&mut last)).await {
                Ok(()) => {
                    drop(blocker.take());
                    pause = PAUSES.0;
                    self.announce();
                    if asked_again < ASKED_AGAIN && differ(roots.as_deref(), last.as_ref()) {
                        sleep(SOON * 2_u32.pow(asked_again)).await;
                        asked_again += 1;
                    } else {
                        asked_again = 0;
                        self.until_due(roots).await;
                    }
                }
                Err(error) => {
                    let left = self.certs.remaining();
                    tracing::warn!(%error, valid_for = ?left, "cannot get a certificate");
                    if let Some(blocker) = &blocker {
                        blocker.because(&error);
                    }
                    let jitter = rand::rng().random_range(0.5..1.0);
                    sleep(pause.mul_f64(jitter)).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// One certificate, which takes the place of the `last`.
    async fn enrol(&self, last: &mut Option<Material>) -> Result<(), EnrolError> {
        let token = fs::read_to_string(&self.token_file)
            .map_err(|error| EnrolError::Token { file: self.token_file.clone(), error })?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = CertificateParams::default().serialize_request(&key)?;
        let channel = Box::pin(self.control_plane.connect(&self.certs, As::Nobody)).await?;
        let mut request = Request::new(IssueRequest { csr: csr.der().to_vec().into() });
        let mut bearer = AsciiMetadataValue::try_from(format!("Bearer {}", token.trim())).map_err(
            |_invalid| EnrolError::Token {
                file: self.token_file.clone(),
                error: io::Error::other("it holds bytes that no token has"),
            },
        )?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        let mut client = CertificateServiceClient::new(channel);
        let answer = timeout(PATIENCE, client.issue(request))
            .await
            .map_err(|_elapsed| EnrolError::Failed(format!("no answer within {PATIENCE:?}")))?;
        let issued = answer.map_err(refusal)?.into_inner();
        let roots = issued.roots.into_iter().map(Vec::from).collect();
        if issued.chain.is_empty() {
            self.trust(roots, last)?;
            return Err(EnrolError::NotYet);
        }
        let chain = issued.chain.into_iter().map(Vec::from).collect();
        let material = Material { chain, key: key.serialize_der(), roots };
        self.put_in_force(&material)?;
        *last = Some(material);
        Ok(())
    }

    /// A new root comes, and does not sign yet: until it does, the certificate that there is stays.
    fn trust(
        &self,
        roots: Vec<Vec<u8>>,
        last: &mut Option<Material>,
    ) -> Result<(), BadCertificate> {
        match last {
            Some(last) if last.roots != roots => {
                let before = mem::replace(&mut last.roots, roots);
                self.put_in_force(last).inspect_err(|_| last.roots = before)
            }
            _ => Ok(()),
        }
    }

    fn put_in_force(&self, material: &Material) -> Result<(), BadCertificate> {
        self.certs.install(material)?;
        if let Some(hand_over) = &self.hand_over {
            hand_over(material);
        }
        Ok(())
    }

    /// Returns when the next certificate is due.
    async fn until_due(&self, roots: Option<Vec<Vec<u8>>>) {
        // Half of what is left, not of the whole: NotBefore lies in the past because clocks differ. Never at once: whoever signs
        // may be about to end, and a new certificate then ends no later than this one.
        let half = self.certs.remaining().mul_f64(rand::rng().random_range(0.45..0.55));
        let mut left = half.max(SOON);
        while !left.is_zero() {
            let step = left.min(LOOK);
            sleep(step).await;
            left -= step;
            let now = self.control_plane.read_roots().ok();
            if now.is_some() && now != roots {
                tracing::info!("the roots have changed, renewing the certificate");
                return;
            }
        }
    }

    fn announce(&self) {
        if let Some(info) = self.certs.info() {
            let (identity, serial) = (info.identity, info.serial);
            tracing::info!(%identity, serial, valid_for = ?self.certs.remaining(), "certificate installed");
        }
    }
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("control_plane", &self.control_plane)
            .field("token_file", &self.token_file)
            .field("certs", &self.certs)
            .finish_non_exhaustive()
    }
}

/// Whether a certificate came with other roots than the file's.
fn differ(file: Option<&[Vec<u8>]>, last: Option<&Material>) -> bool {
    file.zip(last).is_some_and(|(file, last)| {
        let (file, told): (BTreeSet<_>, BTreeSet<_>) =
            (file.iter().collect(), last.roots.iter().collect());
        file != told
    })
}

fn refusal(status: Status) -> EnrolError {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            EnrolError::Refused(status.message().to_owned())
        }
        code => EnrolError::Failed(format!("{code:?}: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::Instant;

    use super::*;
    use crate::tls::expiry::tests::material;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn enrolled(roots: &Path) -> Enrolment {
        let certs = Certs::new();
        certs.install(&material(DAY)).unwrap();
        let control_plane = ControlPlane {
            host: "localhost".to_owned(),
            port: 1,
            name: "localhost".to_owned(),
            roots_file: roots.to_owned(),
        };
        Enrolment { control_plane, token_file: PathBuf::new(), certs, hand_over: None }
    }

    fn save_root(path: &Path) {
        let key = KeyPair::generate().unwrap();
        let root = CertificateParams::default().self_signed(&key).unwrap();
        fs::write(path, root.pem()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_certificate_is_due_at_half_of_the_life_of_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let enrolment = enrolled(&directory.path().join("none"));
        for _ in 0..20 {
            let begun = Instant::now();
            enrolment.until_due(None).await;
            let waited = begun.elapsed().as_secs_f64() / DAY.as_secs_f64();
            assert!((0.44..0.56).contains(&waited), "{waited} of its life");
        }
    }

    #[test]
    fn roots_alone_change_whom_we_trust_and_nothing_else() {
        let enrolment = enrolled(Path::new("none"));
        let other = material(DAY);
        // Whoever has no certificate gets none by this.
        let mut last = None;
        enrolment.trust(other.roots.clone(), &mut last).unwrap();
        assert!(last.is_none());
        let mut last = Some(material(DAY));
        enrolment.put_in_force(last.as_ref().unwrap()).unwrap();
        let before = enrolment.certs.info().unwrap();
        let both = [roots_of(&last), other.roots].concat();
        enrolment.trust(both.clone(), &mut last).unwrap();
        let after = enrolment.certs.info().unwrap();
        assert_eq!((after.serial, after.not_after), (before.serial, before.not_after));
        assert_eq!((before.roots.len(), after.roots.len()), (1, 2));
        assert_eq!(roots_of(&last), both);
        assert!(enrolment.trust(vec![b"junk".to_vec()], &mut last).is_err());
        assert_eq!(enrolment.certs.info().unwrap().roots.len(), 2);
    }

    #[test]
    fn roots_that_differ_from_the_file_are_noticed_in_whatever_order_they_come() {
        let last = material(DAY);
        let (one, other) = (last.roots[0].clone(), b"other".to_vec());
        let both = Material { roots: vec![one.clone(), other.clone()], ..material(DAY) };
        assert!(!differ(None, Some(&last)) && !differ(Some(&[]), None));
        assert!(!differ(Some(&last.roots), Some(&last)));
        assert!(differ(Some(&[one.clone(), other.clone()]), Some(&last)));
        assert!(!differ(Some(&[other, one.clone()]), Some(&both)));
        assert!(differ(Some(&[one]), Some(&both)));
    }

    fn roots_of(last: &Option<Material>) -> Vec<Vec<u8>> {
        last.as_ref().unwrap().roots.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn or_as_soon_as_the_roots_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("roots.pem");
        save_root(&file);
        let enrolment = enrolled(&file);
        let roots = enrolment.control_plane.read_roots().ok();
        let begun = Instant::now();
        let changed = async {
            sleep(DAY / 4).await;
            fs::write(&file, "half-written").unwrap();
            sleep(LOOK * 2).await;
            save_root(&file);
        };
        tokio::join!(changed, enrolment.until_due(roots));
        let waited = begun.elapsed();
        assert!(waited >= DAY / 4 + LOOK * 2 && waited <= DAY / 4 + LOOK * 4, "{waited:?}");
    }
}
