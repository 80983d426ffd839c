//! A control plane on a directory of YAML, and what a proxy would know of it.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Parser;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tulle_control_plane::{config::Config, run};
use tulle_proto::ca::v1::{IssueRequest, certificate_service_client::CertificateServiceClient};
use tulle_xds::{
    client::{Client, ClientConfig, Event, Handle, Node},
    model::{Features, Invalid, Kind, Resource},
    protocol::Received,
};

/// How often a condition is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

pub(crate) const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {tulle.dev/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  clusterIP: 10.96.0.7
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: web}]
---
apiVersion: v1
kind: Pod
metadata:
  name: reviews-abc-1
  namespace: shop
  uid: uid-1
  labels: {app: reviews, pod-template-hash: abc}
  ownerReferences:
    - {apiVersion: apps/v1, kind: ReplicaSet, name: reviews-abc, uid: r, controller: true}
spec:
  serviceAccountName: reviews
  initContainers: [{name: tulle-proxy, restartPolicy: Always, resources: {limits: {cpu: 1}}}]
  containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]
status: {phase: Running, podIP: 10.244.0.9, podIPs: [{ip: 10.244.0.9}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
  - addresses: [10.244.0.9]
    conditions: {ready: true}
    targetRef: {kind: Pod, name: reviews-abc-1, namespace: shop, uid: uid-1}
"#;

pub(crate) struct Mesh {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) token_key: KeyPair,
    pub(crate) plane: run::ControlPlane,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(path("yaml")).unwrap();
        fs::write(path("yaml/shop.yaml"), SHOP).unwrap();
        let token_key = KeyPair::generate().unwrap();
        let point = token_key.der_bytes();
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        }]});
        fs::write(path("keys.json"), jwks.to_string()).unwrap();
        let config = Config::parse_from([
            "tulle-control-plane",
            "--directory",
            &path("yaml"),
            "--output",
            &path("out"),
            "--ca-directory",
            &path("ca"),
            "--token-keys",
            &path("keys.json"),
            "--mesh-range",
            "10.244.0.0/16",
            "--listen",
            "127.0.0.1:0",
            "--status",
            "127.0.0.1:0",
            "--admin-socket",
            &path("admin.sock"),
        ]);
        let plane = Box::pin(run::start(config)).await.unwrap();
        let mesh = Self { directory, token_key, plane };
        mesh.eventually("ready", || mesh.plane.readiness.is_ready()).await;
        mesh
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// As editors save: a temporary file, moved into place.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let temporary = self.path("yaml/.tmp");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path("yaml").join(name)).unwrap();
    }

    pub(crate) fn token(&self, pod: &str, uid: &str) -> String {
        self.token_in("shop", pod, uid)
    }

    pub(crate) fn token_in(&self, namespace: &str, pod: &str, uid: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "aud": ["tulle"], "exp": now + 600, "sub": format!("system:serviceaccount:{namespace}:reviews"),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": "reviews"},
                "pod": {"name": pod, "uid": uid},
            },
        });
        let key = EncodingKey::from_ec_der(self.token_key.serialized_der());
        encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    }

    pub(crate) fn endpoint(&self, identity: Option<Identity>) -> Endpoint {
        let roots = fs::read_to_string(self.path("ca/root.pem")).unwrap();
        self.trusting(&roots, identity)
    }

    pub(crate) fn trusting(&self, roots: &str, identity: Option<Identity>) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(roots))
            .domain_name("tulle-control-plane.tulle-system.svc");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let address = format!("https://{}", self.plane.listen);
        Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap()
    }

    pub(crate) async fn enrol(&self, token: &str) -> Result<Identity, tonic::Status> {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let mut request = Request::new(IssueRequest { csr: csr.der().to_vec().into() });
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let channel = self.endpoint(None).connect().await.unwrap();
        let issued = CertificateServiceClient::new(channel).issue(request).await?.into_inner();
        assert!(!issued.roots.is_empty());
        let leaf = base64::engine::general_purpose::STANDARD.encode(&issued.chain[0]);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{leaf}\n-----END CERTIFICATE-----\n");
        Ok(Identity::from_pem(pem, key.serialize_pem()))
    }

    /// What is written of an object: whether it is accepted, and where it is in force.
    pub(crate) fn status(&self, kind: &str, name: &str) -> Option<Value> {
        let text = fs::read(self.path("out/status/objects.json")).ok()?;
        let all: Value = serde_json::from_slice(&text).unwrap();
        let mut objects = all["objects"].as_array().unwrap().iter();
        objects.find(|object| object["kind"] == kind && object["name"] == name).cloned()
    }

    /// Waits until what is written of an object's `inForce` is `expected`.
    pub(crate) async fn in_force(&self, kind: &str, name: &str, on: u64, of: u64) -> Value {
        let force = json!([on, of]);
        let there = || {
            self.status(kind, name)
                .is_some_and(|s| json!([s["inForce"]["on"], s["inForce"]["of"]]) == force)
        };
        self.eventually(&format!("{kind} {name} {on}/{of}"), there).await;
        self.status(kind, name).unwrap()
    }

    /// A good answer of the admin socket.
    pub(crate) async fn dump(&self, path: &str) -> String {
        let answer = self.asked(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// An answer of the admin socket.
    pub(crate) async fn asked(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.path("admin.sock")).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub(crate) async fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                sleep(LOOK).await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// What a proxy would know.
pub(crate) struct Proxy {
    pub(crate) handle: Handle,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) known: BTreeMap<(Kind, String), Option<Resource>>,
    /// Rejects every route, for this reason.
    pub(crate) rejects: Option<&'static str>,
}

impl Proxy {
    pub(crate) fn open(endpoint: Endpoint, pod: &str) -> Self {
        Self::with(endpoint, pod, Features::default())
    }

    /// A proxy that understands these features.
    pub(crate) fn with(endpoint: Endpoint, pod: &str, features: Features) -> Self {
        let node = Node { id: pod.to_owned(), version: "test".to_owned(), features };
        let connect = Arc::new(move || {
            let endpoint = endpoint.clone();
            async move { Ok::<Channel, _>(endpoint.connect().await?) }.boxed()
        });
        let (client, handle, events) = Client::new(ClientConfig { node, connect });
        tokio::spawn(client.run());
        Self { handle, events, known: BTreeMap::new(), rejects: None }
    }

    /// Subscribes, and follows the stream until what is known of the resource satisfies `good`.
    pub(crate) async fn until(
        &mut self,
        kind: Kind,
        name: &str,
        good: impl Fn(Option<&Resource>) -> bool,
    ) -> Option<Resource> {
        self.handle.subscribe(kind, name);
        let key = (kind, name.to_owned());
        let follow = async {
            while !self.known.get(&key).is_some_and(|known| good(known.as_ref())) {
                let event = self.events.recv().await.unwrap();
                self.learn(event);
            }
            self.known[&key].clone()
        };
        timeout(Duration::from_secs(20), follow).await.unwrap_or_else(|_| panic!("never: {name}"))
    }

    pub(crate) fn learn(&mut self, event: Event) {
        let Event::Update { kind, changed, removed, ack } = event else {
            return;
        };
        if let Some(reason) = self.rejects.filter(|_| kind == Kind::Route) {
            let (field, reason) = ("virtual_hosts[0].routes[0].x".to_owned(), reason.to_owned());
            let invalid = |received: Received| Invalid {
                resource: received.name,
                field: field.clone(),
                reason: reason.clone(),
            };
            return ack.reject(changed.into_iter().map(invalid).collect());
        }
        for received in changed {
            let resource = Resource::decode(kind, &received.name, &received.bytes).unwrap();
            self.known.insert((kind, received.name), Some(resource));
        }
        for name in removed {
            self.known.insert((kind, name), None);
        }
        ack.accept();
    }

    /// Why the stream ended.
    pub(crate) async fn disconnected(mut self) -> String {
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Event::Disconnected { error } = event {
                    return error;
                }
                assert!(matches!(event, Event::Connected), "served");
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap()
    }

    /// Why the stream ended, whatever came before.
    pub(crate) async fn ended(&mut self) -> String {
        let wait = async {
            loop {
                match self.events.recv().await.unwrap() {
                    Event::Disconnected { error } => return error,
                    event => self.learn(event),
                }
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap()
    }

    pub(crate) async fn get(&mut self, kind: Kind, name: &str) -> Resource {
        self.until(kind, name, |known| known.is_some()).await.unwrap()
    }
}
