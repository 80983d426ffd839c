//! The roots that are trusted, by whose identities they vouch for: [`tulle_runtime::vouch`].

use std::{collections::BTreeMap, sync::Arc};

use rustls::RootCertStore;
use tulle_runtime::vouch::{trust_domains, vouches_for};

use super::BadCertificate;

/// Roots for each trust domain.
#[derive(Debug)]
pub(super) struct Roots {
    /// For each trust domain that a root names, those that vouch for it.
    named: BTreeMap<String, Arc<RootCertStore>>,
    /// Those that vouch for any other one: the roots that name none, if there are such.
    others: Arc<RootCertStore>,
}

impl Roots {
    /// From certificates, DER.
    ///
    /// # Errors
    /// If none can be read. Some that cannot are named in the log, and not trusted.
    pub(super) fn new(roots: &[Vec<u8>]) -> Result<Self, BadCertificate> {
        let read: Vec<_> = roots.iter().map(|root| trust_domains(root)).collect();
        let (all, good) = (roots.len(), store(roots.iter()).len());
        let bad = all - good;
        if good == 0 {
            return Err(BadCertificate::Roots(format!("{bad} of {all} cannot be read")));
        }
        if bad > 0 {
            tracing::warn!(bad, all, "some root certificates cannot be read and are not trusted");
        }
        let of = |domain: &str| store(roots.iter().filter(|root| vouches_for(root, domain)));
        let named = read.iter().flatten().flatten();
        let named = named.map(|domain| (domain.clone(), of(domain))).collect();
        let nameless =
            roots.iter().zip(&read).filter(|(_, d)| d.as_ref().is_some_and(Vec::is_empty));
        Ok(Self { named, others: store(nameless.map(|(root, _)| root)) })
    }

    /// Those that vouch for identities of a trust domain.
    pub(super) fn of(&self, trust_domain: &str) -> &Arc<RootCertStore> {
        self.named.get(trust_domain).unwrap_or(&self.others)
    }

    /// The same for each of the trust domains of which [`of`](Self::of) has something to say, `None` for all others.
    pub(super) fn each(&self) -> impl Iterator<Item = (Option<&String>, &Arc<RootCertStore>)> {
        let named = self.named.iter().map(|(domain, roots)| (Some(domain), roots));
        named.chain([(None, &self.others)])
    }
}

fn store<R: AsRef<[u8]>>(roots: impl Iterator<Item = R>) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.map(|root| root.as_ref().to_vec().into()));
    Arc::new(store)
}
