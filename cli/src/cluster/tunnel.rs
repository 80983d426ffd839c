//! A way to the control plane's port for people: through the API server into one of its pods (port-forward), there by TLS to whom
//! the mesh's roots vouch for, with the credentials by which the user is known to the cluster.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::{Body, ConfigExt as _},
};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, client::ResolvesClientCert};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::{BoxError, Layer as _, Service as _};

use super::{
    Reach, Unreachable, chain,
    pods::{self, refused},
};
use crate::install::{CONSOLE, NAME};

/// For an answer, by whatever way: the control plane takes ten seconds at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open way.
type Connection = SendRequest<Full<Bytes>>;

/// The ways to a control plane.
pub(crate) struct Tunnel {
    client: Client,
    config: Config,
    namespace: String,
    identity: Arc<dyn ResolvesClientCert>,
    /// Those that nobody uses at the moment.
    connections: Mutex<Vec<Connection>>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The cluster does not help.
    #[error(transparent)]
    Cluster(#[from] pods::Error),
    /// There is no control plane.
    #[error(
        "no pod of the control plane runs in namespace {0}; `tulle check` says more, `tulle install` installs it, --system-namespace says where else it is"
    )]
    NoControlPlane(String),
    /// Nobody has vouched for it.
    #[error("ConfigMap {0}/tulle-roots, by which the control plane is known, holds no certificate")]
    NoRoots(String),
    /// The way ends before the control plane.
    #[error("no connection to the control plane in pod {pod}: {reason}")]
    Unreached {
        /// Which replica.
        pod: String,
        /// What happened.
        reason: String,
    },
    /// The user's credentials are of no use.
    #[error("your credentials in the kubeconfig cannot be used: {0}")]
    Credentials(String),
}

impl Tunnel {
    /// Finds the way; nothing is opened yet.
    pub(crate) async fn find(reach: &Reach, namespace: &str) -> Result<Self, Error> {
        let config = reach.config().await.map_err(pods::Error::from)?;
        let unusable = |error: kube::Error| Error::Credentials(chain(&error));
        let identity = config.rustls_client_config().map_err(unusable)?.client_auth_cert_resolver;
        let client = Client::try_from(config.clone())
            .map_err(|error| pods::Error::from(Unreachable::Client(Box::new(error))))?;
        let (namespace, connections) = (namespace.to_owned(), Mutex::default());
        Ok(Self { client, config, namespace, identity, connections })
    }

    /// The API server, as the same user.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the control plane, on a connection of before if one still stands.
    pub(crate) async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let host = header::HeaderValue::from_static(NAME);
        request.headers_mut().insert(header::HOST, host);
        self.authorize(&mut request).await?;
        let late = |_elapsed| Error::Unreached {
            pod: self.namespace.clone(),
            reason: format!("no answer within {} s", PATIENCE.as_secs()),
        };
        timeout(PATIENCE, Box::pin(self.answer(request))).await.map_err(late)?
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        // A connection of before may end after it was heard: what is to be done is not said twice.
        let again = request.method() == Method::GET;
        let kept = again.then(|| self.connections.lock().pop()).flatten();
        if let Some(mut open) = kept
            && open.ready().await.is_ok()
            && let Ok(answer) = open.send_request(request.clone().map(Full::new)).await
            && let Ok(answer) = whole(answer).await
        {
            self.connections.lock().push(open);
            return Ok(answer);
        }
        let (pod, mut opened) = self.connect().await?;
        let unreached = |error| Error::Unreached { pod: pod.clone(), reason: chain(&error) };
        let answer = opened.send_request(request.map(Full::new)).await;
        let answer = whole(answer.map_err(unreached)?).await.map_err(unreached)?;
        self.connections.lock().push(opened);
        Ok(answer)
    }

    /// To the first replica that answers: another one may be of an older version, or on its way out.
    async fn connect(&self) -> Result<(String, Connection), Error> {
        let mut failure = Error::NoControlPlane(self.namespace.clone());
        for pod in self.replicas().await? {
            match self.open(&pod).await {
                Ok(opened) => return Ok((pod, opened)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn open(&self, pod: &str) -> Result<Connection, Error> {
        let unreached = |reason: &dyn std::error::Error| {
            let reason = format!("{}; is it of this version? `tulle check` says", chain(reason));
            Error::Unreached { pod: pod.to_owned(), reason }
        };
        let tls = TlsConnector::from(Arc::new(self.tls().await?));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut forwarded = Box::pin(pods.portforward(pod, &[CONSOLE]))
            .await
            .map_err(refused(&format!("port-forward to pod {}/{pod}", self.namespace)))?;
        let io = forwarded.take_stream(CONSOLE);
        let io = io.ok_or_else(|| unreached(&std::io::Error::other("no stream")))?;
        let name = format!("{NAME}.{}.svc", self.namespace);
        let name = ServerName::try_from(name).map_err(|error| unreached(&error))?;
        let io = Box::pin(tls.connect(name, io)).await.map_err(|error| unreached(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| unreached(&error))?;
        tokio::spawn(async move {
            let ended = connection.await;
            tracing::debug!(?ended, "the way to the control plane");
            drop(forwarded);
        });
        Ok(sender)
    }

    async fn tls(&self) -> Result<ClientConfig, Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get("tulle-roots").await;
        let map = map.map_err(refused("the mesh's roots (ConfigMap tulle-roots)"))?;
        let pem = map.data.unwrap_or_default().remove("roots.pem").unwrap_or_default();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok),
        );
        if roots.is_empty() {
            return Err(Error::NoRoots(self.namespace.clone()));
        }
        let unusable = |error: rustls::Error| Error::Credentials(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&self.identity));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Adds the token that the API server would get, be it from a file, a program or an identity provider.
    async fn authorize(&self, request: &mut Request<Bytes>) -> Result<(), Error> {
        let unusable = |error: &dyn std::error::Error| Error::Credentials(chain(error));
        let Some(layer) = self.config.auth_layer().map_err(|error| unusable(&error))? else {
            return Ok(());
        };
        let echo = tower::service_fn(|request: Request<Body>| async move {
            let mut said = Response::new(());
            *said.headers_mut() = request.headers().clone();
            Ok::<_, BoxError>(said)
        });
        let said = layer.layer(echo).call(Request::new(Body::empty())).await;
        let said = said.map_err(|error| Error::Credentials(error.to_string()))?;
        if let Some(value) = said.headers().get(header::AUTHORIZATION) {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        Ok(())
    }

    /// The replicas that are ready.
    async fn replicas(&self) -> Result<Vec<String>, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = ListParams::default()
            .labels(&format!("app.kubernetes.io/name={NAME}"))
            .fields("status.phase=Running");
        let pods = api.list(&ours).await.map_err(refused("the control plane's pods"))?;
        let ready = pods.items.into_iter().filter(|pod| {
            let conditions =
                pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = |kind: &str, status: &str| kind == "Ready" && status == "True";
            pod.metadata.deletion_timestamp.is_none()
                && conditions.into_iter().any(|one| ready(&one.type_, &one.status))
        });
        Ok(ready.filter_map(|pod| pod.metadata.name).collect())
    }
}

async fn whole(answer: Response<hyper::body::Incoming>) -> Result<Response<Bytes>, hyper::Error> {
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}
