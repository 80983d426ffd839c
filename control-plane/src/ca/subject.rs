//! Whom a client certificate of the cluster's authority names, as the API server reads it: the user is its CN, his groups are its
//! O, <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// User and groups. `None`: it names no user.
pub fn read(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    (!user.is_empty()).then(|| (user, groups.map(str::to_owned).collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    /// One whose subject has these parts: `CN`, `O`.
    pub(crate) fn certificate(names: &[(&str, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (part, name) in names {
            let part = if *part == "CN" { DnType::CommonName } else { DnType::OrganizationName };
            params.distinguished_name.push(part, *name);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_user_is_the_common_name_and_a_group_the_organization() {
        let subject = |names: &[(&str, &str)]| read(&certificate(names));
        let user = |groups: &[&str]| {
            Some(("alice".to_owned(), groups.iter().map(ToString::to_string).collect()))
        };
        assert_eq!(subject(&[("CN", "alice")]), user(&[]));
        let masters = ("O", "system:masters");
        assert_eq!(subject(&[masters, ("CN", "alice")]), user(&["system:masters"]));
        assert_eq!(subject(&[masters]), None);
        assert_eq!(subject(&[("CN", "")]), None);
        assert_eq!(read(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
