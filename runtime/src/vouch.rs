//! For whose identities a root certificate vouches.
//!
//! A root may name trust domains, each by a URI `spiffe://DOMAIN` among its alternative names (X509-SVID,
//! section 3.2: the SPIFFE ID of a signing certificate). It vouches for identities of these alone: whoever
//! holds the key of another trust domain's root cannot make an identity of ours. One that names none
//! vouches for every identity.

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// The trust domains that a root (DER) names; none: it vouches for all. `None` if it cannot be read.
pub fn trust_domains(root: &[u8]) -> Option<Vec<String>> {
    let (_, root) = X509Certificate::from_der(root).ok()?;
    let names = root.subject_alternative_name().ok()?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let domains = names.filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
        _ => None,
    });
    // An identity below it is no trust domain, but says which one it is of.
    Some(domains.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned()).collect())
}

/// Whether a root (DER) vouches for identities of this trust domain; not if it cannot be read.
pub fn vouches_for(root: &[u8], trust_domain: &str) -> bool {
    let domains = trust_domains(root);
    domains.is_some_and(|domains| domains.is_empty() || domains.iter().any(|d| d == trust_domain))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};

    use super::*;

    fn root(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_root_vouches_for_what_it_names() {
        for (uris, ours, theirs) in [
            (&[][..], true, true),
            (&["spiffe://cluster.local"], true, false),
            (&["spiffe://cluster.local/"], true, false),
            (&["spiffe://cluster.local/ns/a/sa/b"], true, false),
            (&["spiffe://example.org"], false, true),
            (&["spiffe://example.org", "spiffe://cluster.local"], true, true),
            (&["https://example.org/ca"], true, true),
            (&["spiffe://"], false, false),
        ] {
            let root = root(uris);
            let vouches = [vouches_for(&root, "cluster.local"), vouches_for(&root, "example.org")];
            assert_eq!(vouches, [ours, theirs], "{uris:?}");
        }
        assert!(!vouches_for(b"junk", "cluster.local"));
    }
}
