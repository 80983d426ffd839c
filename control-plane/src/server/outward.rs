//! A TLS connection to a server that is none of ours: known by its name, and by who has signed its certificate.

use std::{io, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Shakes hands with `host`, whose certificate one of `authority` (PEM, from the file that people know as `file`) must have signed;
/// without any, one of those that this system trusts.
///
/// # Errors
/// If there is nobody to trust, or it is somebody else.
pub async fn shake_hands(
    tcp: TcpStream,
    host: &str,
    (file, authority): (&str, Option<&[u8]>),
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots(file, authority)?).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

fn roots(file: &str, authority: Option<&[u8]>) -> io::Result<RootCertStore> {
    let (found, lacks) = match authority {
        Some(pem) => {
            let read = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
            (read.collect(), format!("{file} holds no certificate in PEM"))
        }
        None => (
            rustls_native_certs::load_native_certs().certs,
            format!("this system trusts no authority: say which one in {file}"),
        ),
    };
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(found);
    match added {
        0 => Err(io::Error::other(lacks)),
        _ => Ok(roots),
    }
}
