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
    assert_eq!(made.trusted_pem(), fs::read_to_string(directory.path().join(CERTIFICATE)).unwrap());
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

/// `(certificate, key)` of a CA, signed by another one or by itself.
fn ca(
    name: &str,
    by: Option<&(CertificateParams, KeyPair)>,
) -> (CertificateParams, KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = match by {
        Some((issuer, issuer_key)) => {
            params.signed_by(&key, &Issuer::from_params(issuer, issuer_key)).unwrap()
        }
        None => params.self_signed(&key).unwrap(),
    };
    (params, key, certificate.pem())
}

#[test]
fn an_intermediate_signs_below_its_root() {
    let (params, key, root) = ca("root", None);
    let root_pair = (params, key);
    let (params, key, first) = ca("first", Some(&root_pair));
    let first_pair = (params, key);
    let (_, key, second) = ca("second", Some(&first_pair));
    let (_, _, other) = ca("other", None);
    let material = |certificates: &str, roots: &str| Material {
        certificates: certificates.to_owned(),
        key: key.serialize_pem(),
        roots: roots.to_owned(),
    };
    let both = format!("{second}{first}");
    let read = Root::from_pem(&material(&both, &format!("{other}{root}")), "x").unwrap();
    assert_eq!((read.intermediates().len(), read.trusted().len()), (2, 2));
    let refusal = |certificates: &str, roots: &str| {
        Root::from_pem(&material(certificates, roots), "x").unwrap_err().to_string()
    };
    assert!(refusal(&second, &root).contains("chain ends at \"CN=first\""));
    assert!(refusal(&both, &other).contains("not signed by any of the roots"));
    assert!(refusal(&first, &root).contains("the public keys differ"));
    assert!(refusal(&both, "").contains("the roots: has no certificate"));
}

#[test]
fn a_root_is_of_the_trust_domain_that_it_names() {
    let [ours, theirs] = ["cluster.local", "example.org"].map(|d| Root::generate(d).unwrap());
    let refused = Root::from_pem(&ours, "example.org").unwrap_err().to_string();
    assert!(refused.contains("names trust domain cluster.local, and this mesh's is example.org"));
    let roots = format!("{}{}", ours.roots, theirs.roots);
    let both = Root::from_pem(&Material { roots, ..ours }, "cluster.local").unwrap();
    assert_eq!((both.trusted().len(), both.trusted_here().count()), (2, 1));
}
