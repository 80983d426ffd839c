use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair, SanType,
};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

fn uri(uri: &&str) -> SanType {
    SanType::URI((*uri).try_into().unwrap())
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::naming(&[])
    }

    /// One whose root names these.
    fn naming(uris: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = uris.iter().map(uri).collect();
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate with these URI names that ends in so many minutes.
    fn issue(&self, uris: &[&str], minutes: i64) -> Material {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.not_before = now - Duration::hours(1);
        params.not_after = now + Duration::minutes(minutes);
        params.subject_alt_names = uris.iter().map(uri).collect();
        let mut pod = vec![0x0c, 14];
        pod.extend(b"shop/web-0/12a");
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 58888, 1, 1], pod));
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Material {
            chain: vec![leaf.der().to_vec()],
            key: key.serialize_der(),
            roots: vec![self.0.der().to_vec()],
        }
    }

    fn certs(&self, uri: &str) -> Certs {
        let certs = Certs::new();
        certs.install(&self.issue(&[uri], 60)).unwrap();
        certs
    }
}

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

type Ends =
    (Result<Stream<DuplexStream>, Error>, Result<(Stream<DuplexStream>, Peer, Alpn), Error>);

/// One handshake: the client expects `expect`, the server accepts domain `cluster.local`.
async fn shake(client: &Certs, server: &Certs, expect: &str, alpn: Alpn) -> Ends {
    let (near, far) = duplex(64 << 10);
    let domains = ["cluster.local".to_owned()];
    let expect = id(expect);
    let connecting = async {
        let mut connected = client::connect(client, near, &expect, alpn).await;
        // A TLS 1.3 client is done before the server has looked at its certificate.
        if let Ok(stream) = &mut connected {
            stream.write_all(b"ping").await.unwrap();
            stream.flush().await.unwrap();
        }
        connected
    };
    let accepting = async {
        let mut accepted = server::accept(server, far, &domains).await;
        if let Ok((stream, _, _)) = &mut accepted {
            let mut got = [0; 4];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"ping");
        }
        accepted
    };
    tokio::join!(connecting, accepting)
}

#[tokio::test]
async fn two_workloads_meet_and_know_one_another() {
    let authority = Authority::new();
    let (web, cart) = (authority.certs(WEB), authority.certs(CART));
    for alpn in Alpn::ALL {
        // The second handshake of each kind resumes the first one's session.
        for _ in 0..2 {
            let (client, server) = shake(&web, &cart, CART, alpn).await;
            client.unwrap();
            let (_, peer, chosen) = server.unwrap();
            assert_eq!(
                peer,
                Peer {
                    id: id(WEB),
                    pod: Some("shop/web-0".to_owned()),
                    workload: None,
                    sidecar: true
                }
            );
            assert_eq!(chosen, alpn);
        }
    }
}

#[test]
fn no_byte_comes_before_the_handshake() {
    let current = Authority::new().certs(WEB).current().unwrap();
    assert_eq!(current.server.max_early_data_size, 0);
    for alpn in Alpn::ALL {
        assert!(!current.client(alpn).enable_early_data);
    }
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_and_the_version_is_1_3() {
    let authority = Authority::new();
    let (web, cart) = (authority.certs(WEB), authority.certs(CART));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (near, far) = duplex(64 << 10);
        let domains = ["cluster.local".to_owned()];
        let cart_id = id(CART);
        let (client, server) = tokio::join!(
            client::connect(&web, near, &cart_id, Alpn::H2),
            server::accept(&cart, far, &domains)
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        // The ticket comes after the handshake: the client reads it with the first bytes.
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_u8().await.unwrap();
        let (_, connection) = client.0.get_ref();
        let version = connection.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
        let group = connection.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        kinds.push(connection.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[tokio::test]
async fn a_recycled_address_is_found_out() {
    let authority = Authority::new();
    let (web, cart) = (authority.certs(WEB), authority.certs(CART));
    let (client, server) = shake(&web, &cart, WEB, Alpn::H2).await;
    match client.unwrap_err() {
        Error::WrongIdentity { expected, found } => {
            assert_eq!((expected, found), (id(WEB), id(CART)));
        }
        other => panic!("{other}"),
    }
    assert!(server.is_err());
}

#[tokio::test]
async fn strangers_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.certs(CART);
    let issued = |uris: &[&str], minutes| {
        let certs = Certs::new();
        certs.install(&authority.issue(uris, minutes)).map(|()| certs)
    };
    let elsewhere = "spiffe://elsewhere.example/ns/shop/sa/web";
    // Signed by nobody we know, though it trusts us.
    let unsigned = Certs::new();
    let mut material = other.issue(&[WEB], 60);
    material.roots.push(authority.0.der().to_vec());
    unsigned.install(&material).unwrap();
    let cases = [
        ("another trust domain", issued(&[elsewhere], 60).unwrap(), "trust domain is not accepted"),
        ("expired", issued(&[WEB], -1).unwrap(), "expired"),
        ("another authority", unsigned, "invalid peer certificate"),
    ];
    for (case, client, reason) in cases {
        let (_, server) = shake(&client, &good, CART, Alpn::Tcp).await;
        let error = server.unwrap_err().to_string();
        assert!(error.contains(reason), "{case}: {error}");
    }
    // The same from the client's side.
    for (case, server) in
        [("expired", issued(&[CART], -1).unwrap()), ("authority", other.certs(CART))]
    {
        let (client, _) = shake(&good, &server, CART, Alpn::Tcp).await;
        assert!(matches!(client, Err(Error::Handshake(_))), "{case}: {client:?}");
    }
    for uris in [&[WEB, CART][..], &[], &["https://example.com/"]] {
        assert!(matches!(issued(uris, 60), Err(BadCertificate::Identity(_))), "{uris:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_by_the_next_handshake() {
    let authority = Authority::new();
    let (web, cart) = (authority.certs(WEB), authority.certs(CART));
    let before = web.info().unwrap().serial;
    let (_, server) = shake(&web, &cart, CART, Alpn::H2).await;
    let old = server.unwrap();
    // The other authority is the next root: both are trusted while they overlap.
    let next = Authority::new();
    let both = vec![authority.0.der().to_vec(), next.0.der().to_vec()];
    let renewed = |uri| Material { roots: both.clone(), ..next.issue(&[uri], 60) };
    let overlapping = Material { roots: both.clone(), ..authority.issue(&[CART], 60) };
    cart.install(&overlapping).unwrap();
    web.install(&renewed(WEB)).unwrap();
    let (client, server) = shake(&web, &cart, CART, Alpn::H2).await;
    client.unwrap();
    server.unwrap();
    assert_ne!(web.info().unwrap().serial, before);
    assert_eq!(web.info().unwrap().roots.len(), 2);
    drop(old); // It lived on until here.

    // A certificate that cannot be used changes nothing.
    let serial = web.info().unwrap().serial;
    let wrong_key = Material { key: next.issue(&[WEB], 60).key, ..renewed(WEB) };
    assert!(matches!(web.install(&wrong_key), Err(BadCertificate::Key(_))));
    assert_eq!(web.info().unwrap().serial, serial);
    assert!(!format!("{:?}", renewed(WEB)).contains("key: ["));
}

#[tokio::test]
async fn without_a_certificate_nothing_is_sent() {
    let authority = Authority::new();
    let (near, _far) = duplex(1024);
    let none = Certs::new();
    let connected = client::connect(&none, near, &id(CART), Alpn::H2).await;
    assert!(matches!(connected, Err(Error::NoCertificate)));
    let (near, _far) = duplex(1024);
    let accepted = server::accept(&none, near, &[]).await;
    assert!(matches!(accepted, Err(Error::NoCertificate)));
    assert!(authority.certs(WEB).remaining() > std::time::Duration::from_secs(3000));
}

/// A client as gRPC is one: its own TLS, ALPN `h2`, a server name that we did not choose.
async fn shake_without_sidecar(
    certs: &Certs,
    server: &Certs,
    with_certificate: bool,
) -> Result<(Stream<DuplexStream>, Peer, Alpn), Error> {
    let current = certs.current().unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(certs.provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verify::Servers::new(
            Arc::clone(&current.roots),
            certs.provider(),
        ));
    let mut config = if with_certificate {
        builder.with_client_cert_resolver(Arc::clone(&current.key) as _)
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = duplex(64 << 10);
    let domains = ["cluster.local".to_owned()];
    let connecting = async {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        if let Ok(mut io) = connector.connect(verify::server_name(&id(CART)), near).await {
            // The refusal of a certificate comes after the client's last word.
            let _end = io.read(&mut [0; 1]).await.is_err();
        }
    };
    let accepting = Box::pin(server::accept(server, far, &domains));
    tokio::select! {
        accepted = accepting => accepted,
        () = Box::pin(connecting) => panic!("the client left"),
    }
}

#[tokio::test]
async fn http2_without_a_sidecar_proves_who_it_is_too() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (web, cart) = (authority.certs(WEB), authority.certs(CART));
    let (_, peer, alpn) = shake_without_sidecar(&web, &cart, true).await.unwrap();
    assert_eq!(
        peer,
        Peer { id: id(WEB), pod: Some("shop/web-0".to_owned()), workload: None, sidecar: false }
    );
    assert_eq!(alpn, Alpn::H2);
    let refused = shake_without_sidecar(&web, &cart, false).await.unwrap_err();
    assert!(refused.to_string().contains("peer sent no certificates"), "{refused}");
    let mut stranger = other.issue(&[WEB], 60);
    stranger.roots = vec![authority.0.der().to_vec()];
    let certs = Certs::new();
    certs.install(&stranger).unwrap();
    let refused = shake_without_sidecar(&certs, &cart, true).await.unwrap_err();
    assert!(matches!(refused, Error::Handshake(_)), "{refused}");
}

#[tokio::test]
async fn a_root_that_names_a_trust_domain_vouches_for_no_other() {
    let theirs = Authority::naming(&["spiffe://example.org"]);
    for ours in [Authority::naming(&["spiffe://cluster.local"]), Authority::new()] {
        let both = |by: &Authority, uri: &str| {
            let mut material = by.issue(&[uri], 60);
            material.roots = [&ours, &theirs].map(|authority| authority.0.der().to_vec()).into();
            let certs = Certs::new();
            certs.install(&material).unwrap();
            certs
        };
        let (web, cart) = (both(&ours, WEB), both(&ours, CART));
        let (connected, accepted) = shake(&web, &cart, CART, Alpn::Http1).await;
        assert!(connected.is_ok() && accepted.is_ok(), "{connected:?} {accepted:?}");
        // Their root made an identity of ours.
        let forged = both(&theirs, WEB);
        let (_, accepted) = shake(&forged, &cart, CART, Alpn::Http1).await;
        assert!(matches!(accepted, Err(Error::Handshake(_))), "{accepted:?}");
        let (connected, _) = shake(&cart, &forged, WEB, Alpn::Http1).await;
        assert!(matches!(connected, Err(Error::Handshake(_))), "{connected:?}");
        // Of its own it may: whether such a peer is wanted is asked after that.
        const GUEST: &str = "spiffe://example.org/ns/a/sa/guest";
        let guest = both(&theirs, GUEST);
        let (connected, _) = shake(&cart, &guest, GUEST, Alpn::Http1).await;
        assert!(connected.is_ok(), "{connected:?}");
        let (_, accepted) = shake(&guest, &cart, CART, Alpn::Http1).await;
        assert!(matches!(accepted, Err(Error::WrongTrustDomain { .. })), "{accepted:?}");
    }
}
