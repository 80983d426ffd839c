use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tulle_runtime::{drain, http::over};

use super::*;
use crate::{
    ca::{
        issue::Authority,
        roots::Roots,
        subject::tests::{Client, Signer},
    },
    console::gate::tests::gate_of,
    metrics::Metrics,
    server::https::Https,
};

/// The port, as it is served.
struct Port {
    address: SocketAddr,
    roots: RootCertStore,
    _open: (tempfile::TempDir, drain::Trigger),
}

impl Port {
    async fn open(authority: &ClientAuthority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = Roots::load_or_make(folder.path(), "cluster.local").unwrap();
        let mut roots = RootCertStore::empty();
        own.current().trusted_here().for_each(|root| roots.add(root.clone()).unwrap());
        let issuer = Authority::new(own, Duration::from_secs(3600));
        let certificate = ServerCertificate::new(issuer, vec!["x".to_owned()]).unwrap();
        let port = Https {
            name: "console",
            handler: gate_of(authority.clone()).0,
            tls: watch::channel(tls(certificate, authority).unwrap()).1,
            terms: terms(),
            room: room(),
            metrics: Arc::new(Metrics::default()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, drain) = drain::channel();
        tokio::spawn(port.serve(listener, drain));
        Self { address, roots, _open: (folder, trigger) }
    }

    /// Status and text of an answer about who asks.
    async fn ask(&self, shown: Option<Client>, token: Option<&str>) -> (u16, String) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into())
                .unwrap(),
        };
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("x").unwrap();
        let io = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let mut request = Request::get("/telemetry/me").header(header::HOST, "x");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = over(io, request.body(Bytes::new()).unwrap()).await.unwrap();
        (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_counts_as_none() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let port = Port::open(&signer.authority()).await;
    let alice = [("CN", "alice")];
    for (shown, token, expected) in [
        (Some(signer.sign(&alice, 1)), None, Ok("alice")),
        (Some(signer.sign(&alice, 1)), Some("junk"), Ok("alice")),
        (Some(stranger.sign(&alice, 1)), Some("of-admin"), Ok("admin")),
        (None, Some("of-admin"), Ok("admin")),
        (Some(stranger.sign(&alice, 1)), None, Err("does not know your client certificate")),
        (Some(stranger.sign(&alice, 1)), Some("junk"), Err("does not know this token")),
        (Some(signer.sign(&alice, -1)), None, Err("does not know your client certificate")),
        (None, None, Err("a Kubernetes token is missing")),
    ] {
        let (status, text) = Box::pin(port.ask(shown, token)).await;
        match expected {
            Ok(name) => {
                let user = format!(r#""user":"{name}""#);
                assert!(status == 200 && text.contains(&user), "{token:?}: {status} {text}");
            }
            Err(why) => assert!(status == 401 && text.contains(why), "{token:?}: {status} {text}"),
        }
    }
}
