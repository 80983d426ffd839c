//! A certificate that ends must not do so in silence.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tulle_runtime::ready::Readiness;

use super::Certs;
use crate::telemetry::Told;

/// The clock may be set meanwhile: it is looked at again.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps readiness and the metric true to the certificate, for ever: once it has expired this proxy
/// is not ready, since no other one will talk to it, until there is a new one.
pub async fn watch(certs: Certs, readiness: Readiness, told: Told) {
    let mut installed: watch::Receiver<u64> = certs.watch();
    let mut expired = None;
    loop {
        let _seen = *installed.borrow_and_update();
        let left = certs.remaining();
        if let Some(info) = certs.info() {
            told.certificate(info.not_before, info.not_after);
            if !left.is_zero() {
                expired = None;
            } else if expired.is_none() {
                tracing::error!(serial = info.serial, "the certificate has expired");
                let blocker = readiness.block("certificate");
                blocker.because(
                    "it has expired, and no new one was issued: is the control plane well?",
                );
                expired = Some(blocker);
            }
        }
        let step = if left.is_zero() { LOOK } else { left.min(LOOK) };
        tokio::select! {
            changed = installed.changed() => if changed.is_err() { return },
            () = sleep(step) => {}
        }
    }
}

#[cfg(test)]
pub(in crate::tls) mod tests {
    use std::time::SystemTime;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use tokio::time::{Instant, timeout};
    use tulle_runtime::metrics::Registry;

    use super::*;
    use crate::tls::Material;

    /// A certificate that is valid for so long from now.
    pub(in crate::tls) fn material(valid: Duration) -> Material {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::default();
        let id = "spiffe://cluster.local/ns/shop/sa/web";
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.not_after = (SystemTime::now() + valid).into();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &root).unwrap();
        Material {
            chain: vec![leaf.der().to_vec()],
            key: key.serialize_der(),
            roots: vec![root.der().to_vec()],
        }
    }

    async fn until(readiness: &Readiness, ready: bool) {
        let reached = async {
            while readiness.is_ready() != ready {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), reached).await.expect("readiness did not follow");
    }

    #[tokio::test]
    async fn an_expired_certificate_is_seen_and_so_is_its_successor() {
        let (certs, readiness, registry) = (Certs::new(), Readiness::new(), Registry::default());
        tokio::spawn(watch(certs.clone(), readiness.clone(), Told::new(&registry)));
        let begun = Instant::now();
        certs.install(&material(Duration::from_secs(2))).unwrap();
        until(&readiness, false).await;
        assert!(begun.elapsed() >= Duration::from_millis(500), "not before its end");
        assert!(readiness.pending()[0].starts_with("certificate (it has expired"), "{readiness:?}");
        let (info, rendered) = (certs.info().unwrap(), registry.render());
        for (what, seconds) in [("not_before", info.not_before), ("not_after", info.not_after)] {
            let metric = format!("tulle_cert_{what}_seconds {seconds}\n");
            assert!(rendered.contains(&metric), "{rendered}");
        }
        certs.install(&material(Duration::from_secs(3600))).unwrap();
        until(&readiness, true).await;
    }
}
