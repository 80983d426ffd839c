//! From what enrolment installs to PEM, and what becomes of it over time.

use std::time::Duration;

use pem::{EncodeConfig, LineEnding, Pem};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::time::timeout;
use tulle_runtime::{metrics::Registry, ready::Readiness};
use tulle_xds::sds::{Newest, Secrets};

use crate::tls::{Certs, Material};

/// How often the certificate's end is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// The same, as others read it.
pub(super) fn pem(material: &Material) -> Secrets {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let encode = |tag: &str, der: &[u8]| pem::encode_config(&Pem::new(tag, der), config);
    let all = |list: &[Vec<u8>]| list.iter().map(|der| encode("CERTIFICATE", der)).collect();
    Secrets {
        chain: all(&material.chain),
        key: encode("PRIVATE KEY", &material.key),
        roots: all(&material.roots),
    }
}

/// What is counted about certificates.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    not_before: Gauge,
    not_after: Gauge,
    installed: Counter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        registry.register(|r| {
            let help = "When the certificate in force began, in seconds since 1970";
            r.register("tulle_cert_not_before_seconds", help, metrics.not_before.clone());
            let help = "When the certificate in force ends, in seconds since 1970";
            r.register("tulle_cert_not_after_seconds", help, metrics.not_after.clone());
            let help = "Certificates that were put in force";
            r.register("tulle_certificates_installed", help, metrics.installed.clone());
        });
        metrics
    }
}

/// Watches over the certificate in force: counts each new one, and says in the readiness if one has
/// ended and there is none after it. Returns when enrolment has ended.
pub(super) async fn watch_over(
    mut secrets: Newest,
    certs: Certs,
    metrics: Metrics,
    readiness: Readiness,
) {
    let mut expired = None;
    loop {
        if let Some(info) = certs.info() {
            metrics.not_before.set(info.not_before);
            metrics.not_after.set(info.not_after);
        }
        let left = certs.remaining();
        let is_over = left.is_zero() && certs.info().is_some();
        if is_over && expired.is_none() {
            tracing::error!("the certificate has expired: others refuse this pod now");
            let blocker = readiness.block("certificate");
            blocker.because("it has expired and there is no new one: the log says why");
            expired = Some(blocker);
        } else if !is_over {
            expired = None;
        }
        // Now and then in any case: a clock that is set wakes no sleeper.
        let wait = left.clamp(Duration::from_secs(1), LOOK);
        match timeout(wait, secrets.changed()).await {
            Ok(Ok(())) => drop(metrics.installed.inc()),
            Ok(Err(_ended)) => return,
            Err(_elapsed) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_what_the_rest_of_the_world_reads() {
        let material =
            Material { chain: vec![vec![1; 50], vec![2]], key: vec![3], roots: vec![vec![4]] };
        let Secrets { chain, key, roots } = pem(&material);
        assert_eq!(chain.matches("-----BEGIN CERTIFICATE-----\n").count(), 2, "{chain}");
        assert_eq!(key, "-----BEGIN PRIVATE KEY-----\nAw==\n-----END PRIVATE KEY-----\n");
        assert_eq!(roots, "-----BEGIN CERTIFICATE-----\nBA==\n-----END CERTIFICATE-----\n");
        assert!(!chain.contains('\r'));
    }
}
