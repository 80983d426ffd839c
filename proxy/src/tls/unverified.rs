//! Handshakes towards the application in this pod, for the kubelet's HTTPS probes alone.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Makes `io` a TLS connection, whoever answers: the kubelet's probes verify nothing, because
/// Kubernetes does not say what to verify. Not for anything that matters to anybody else.
///
/// # Errors
/// If the other side does not speak TLS 1.2 or 1.3.
pub async fn connect(io: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    // An address is never sent as a server name; the kubelet sends none either.
    let name = ServerName::from(io.peer_addr()?.ip());
    let config = CONFIG.clone().ok_or_else(|| io::Error::other("no TLS version is available"))?;
    Box::pin(TlsConnector::from(config).connect(name, io)).await
}

static CONFIG: LazyLock<Option<Arc<ClientConfig>>> = LazyLock::new(|| {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().ok()?.dangerous();
    let verifier = Arc::new(Anybody { schemes });
    let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Some(Arc::new(config))
});

/// Accepts every certificate and signature: to check the signature of a certificate that nobody
/// vouches for would refuse old ones and prove nothing.
#[derive(Debug)]
struct Anybody {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, SupportedProtocolVersion, version};
    use rustls_pki_types::PrivateKeyDer;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    async fn handshake(version: &'static SupportedProtocolVersion) -> [u8; 2] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            let mut io = TlsAcceptor::from(Arc::new(server)).accept(io).await.unwrap();
            io.write_all(b"hi").await.unwrap();
            io.shutdown().await.unwrap();
        });
        let mut io = connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let mut greeting = [0; 2];
        io.read_exact(&mut greeting).await.unwrap();
        served.await.unwrap();
        greeting
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_vouches_for_will_do() {
        for version in [&version::TLS12, &version::TLS13] {
            assert_eq!(handshake(version).await, *b"hi", "{version:?}");
        }
    }
}
