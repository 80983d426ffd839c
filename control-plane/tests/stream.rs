//! A directory, a control plane, a pod: enrol, open a stream, follow an edit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

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
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tulle_control_plane::{
    ca::{root::Root, server_certificate::SERVER_NAME},
    config::Config,
    run,
};
use tulle_proto::ca::v1::{IssueRequest, certificate_service_client::CertificateServiceClient};
use tulle_xds::{
    client::{Client, ClientConfig, Event, Handle, Node},
    model::{Action, Health, Invalid, Kind, MtlsMode, PathMatch, Protocol, Resource},
    protocol::Received,
    server::MAX_STREAMS,
};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

const SHOP: &str = r#"
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

struct Mesh {
    directory: tempfile::TempDir,
    token_key: KeyPair,
    plane: run::ControlPlane,
}

impl Mesh {
    async fn start() -> Self {
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

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// As editors save: a temporary file, moved into place.
    fn save(&self, name: &str, text: &str) {
        let temporary = self.path("yaml/.tmp");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path("yaml").join(name)).unwrap();
    }

    fn token(&self, pod: &str, uid: &str) -> String {
        self.token_in("shop", pod, uid)
    }

    fn token_in(&self, namespace: &str, pod: &str, uid: &str) -> String {
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

    fn endpoint(&self, identity: Option<Identity>) -> Endpoint {
        let roots = fs::read_to_string(self.path("ca/root.pem")).unwrap();
        self.trusting(&roots, identity)
    }

    fn trusting(&self, roots: &str, identity: Option<Identity>) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(roots))
            .domain_name(SERVER_NAME);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let address = format!("https://{}", self.plane.listen);
        Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap()
    }

    async fn enrol(&self, token: &str) -> Result<Identity, tonic::Status> {
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
    fn status(&self, kind: &str, name: &str) -> Option<Value> {
        let text = fs::read(self.path("out/status/objects.json")).ok()?;
        let all: Value = serde_json::from_slice(&text).unwrap();
        let mut objects = all["objects"].as_array().unwrap().iter();
        objects.find(|object| object["kind"] == kind && object["name"] == name).cloned()
    }

    /// Waits until what is written of an object's `inForce` is `expected`.
    async fn in_force(&self, kind: &str, name: &str, on: u64, of: u64) -> Value {
        let force = json!([on, of]);
        let there = || {
            self.status(kind, name)
                .is_some_and(|s| json!([s["inForce"]["on"], s["inForce"]["of"]]) == force)
        };
        self.eventually(&format!("{kind} {name} {on}/{of}"), there).await;
        self.status(kind, name).unwrap()
    }

    /// An answer of the admin socket.
    async fn dump(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.path("admin.sock")).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    async fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                sleep(LOOK).await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// What a proxy would know.
struct Proxy {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    known: BTreeMap<(Kind, String), Option<Resource>>,
    /// Rejects every route, for this reason.
    rejects: Option<&'static str>,
}

impl Proxy {
    fn open(endpoint: Endpoint, pod: &str) -> Self {
        let node = Node { id: pod.to_owned(), version: "test".to_owned() };
        let connect = Arc::new(move || {
            let endpoint = endpoint.clone();
            async move { Ok::<Channel, _>(endpoint.connect().await?) }.boxed()
        });
        let (client, handle, events) = Client::new(ClientConfig { node, connect });
        tokio::spawn(client.run());
        Self { handle, events, known: BTreeMap::new(), rejects: None }
    }

    /// Subscribes, and follows the stream until what is known of the resource satisfies `good`.
    async fn until(
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

    fn learn(&mut self, event: Event) {
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
    async fn disconnected(mut self) -> String {
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
    async fn ended(&mut self) -> String {
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

    async fn get(&mut self, kind: Kind, name: &str) -> Resource {
        self.until(kind, name, |known| known.is_some()).await.unwrap()
    }
}

const CLUSTER: &str = "service/shop/reviews/9080";

#[tokio::test(flavor = "multi_thread")]
async fn enrols_serves_and_follows_an_edit() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut proxy = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");

    let Resource::Workload(workload) = proxy.get(Kind::Workload, "shop/reviews-abc-1").await else {
        panic!()
    };
    assert_eq!(workload.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/reviews");
    assert_eq!((&*workload.owner_kind, &*workload.owner_name), ("Deployment", "reviews"));
    assert_eq!((workload.ports[0].port, workload.ports[0].protocol), (8080, Protocol::Http));
    assert_eq!(workload.ports[0].services, ["shop/reviews"]);

    let Resource::Listener(listener) = proxy.get(Kind::Listener, "10.96.0.7:9080").await else {
        panic!()
    };
    assert_eq!(listener.route.as_deref(), Some(CLUSTER));
    proxy.get(Kind::Route, CLUSTER).await;
    proxy.get(Kind::Cluster, CLUSTER).await;
    let Resource::Endpoints(endpoints) = proxy.get(Kind::Endpoints, CLUSTER).await else {
        panic!()
    };
    let endpoint = &endpoints.endpoints[0];
    assert_eq!(endpoint.address, "10.244.0.9:8080".parse().unwrap());
    assert_eq!(endpoint.identity.as_ref(), Some(&workload.identity));
    assert_eq!((endpoint.health, &*endpoint.workload), (Health::Ready, "shop/reviews"));

    // The pod's own address, and an address that is nobody's.
    let Resource::Listener(pod) = proxy.get(Kind::Listener, "10.244.0.9:8080").await else {
        panic!()
    };
    assert_eq!(pod.route.as_deref(), Some("pod/shop/reviews-abc-1/8080"));
    proxy.until(Kind::Listener, "10.96.0.99:80", |known| known.is_none()).await;

    // An edit, a file of its own, a broken edit (nothing changes), and its removal.
    mesh.save("shop.yaml", &SHOP.replace("ready: true", "ready: false"));
    let not_ready = |known: Option<&Resource>| matches!(known, Some(Resource::Endpoints(e)) if e.endpoints[0].health == Health::NotReady);
    proxy.until(Kind::Endpoints, CLUSTER, not_ready).await;
    mesh.save(
        "tls.yaml",
        "apiVersion: tulle.dev/v1alpha1\nkind: MeshTLS\nmetadata: {name: d, namespace: shop}\n\
         spec: {mode: Strict}\n",
    );
    let strict = |known: Option<&Resource>| matches!(known, Some(Resource::Workload(w)) if w.default_mtls == MtlsMode::Strict);
    proxy.until(Kind::Workload, "shop/reviews-abc-1", strict).await;
    mesh.save("shop.yaml", "kind: {");
    let problems = mesh.path("out/status/problems.json");
    let named = || fs::read_to_string(&problems).is_ok_and(|text| text.contains("shop.yaml"));
    mesh.eventually("the broken file is named", named).await;
    assert!(mesh.path("out/shop/tulle-roots.yaml").exists());
    mesh.save("shop.yaml", &SHOP.replace("10.96.0.7", "10.96.0.8"));
    proxy.until(Kind::Listener, "10.96.0.7:9080", |known| known.is_none()).await;
    // With the file goes the pod, and with the pod its stream.
    fs::remove_file(mesh.path("yaml/shop.yaml")).unwrap();
    let error = proxy.ended().await;
    assert!(error.contains("does not exist any more"), "{error}");
    mesh.plane.run_until(std::future::ready(())).await;
}

const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 9080}]
  rules:
    - name: beta
      matches: [{path: {value: /beta}}]
      backendRefs: [{name: reviews, port: 9080, weight: 9}, {name: gone, port: 9080}]
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: retry, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: split, sectionName: beta}]
  retries: {attempts: 3, on: [503]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_route_comes_and_goes() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut proxy = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");
    proxy.get(Kind::Workload, "shop/reviews-abc-1").await;
    let Resource::Route(default) = proxy.get(Kind::Route, CLUSTER).await else { panic!() };
    assert_eq!(default.rules[0].origin.kind, "Service");

    mesh.save("route.yaml", ROUTE);
    let retried = |known: Option<&Resource>| matches!(known, Some(Resource::Route(r)) if r.rules[0].retry.is_some());
    let Some(Resource::Route(route)) = proxy.until(Kind::Route, CLUSTER, retried).await else {
        panic!()
    };
    let rule = &route.rules[0];
    assert_eq!((&*rule.origin.kind, &*rule.origin.rule), ("HTTPRoute", "beta"));
    assert_eq!(rule.matches.path, PathMatch::Prefix("/beta".to_owned()));
    let Action::Forward(backends) = &rule.action else { panic!("{rule:?}") };
    let shares: Vec<_> = backends.iter().map(|b| (&*b.cluster, b.weight)).collect();
    assert_eq!(shares, [(CLUSTER, 9), ("invalid", 1)]);
    assert_eq!(rule.retry.as_ref().unwrap().attempts, 3);

    let status = mesh.path("out/status/problems.json");
    let named = |parts: [&str; 4]| {
        fs::read_to_string(&status).is_ok_and(|text| parts.iter().all(|part| text.contains(part)))
    };
    let problem = [
        "\"line\": 10",
        "HTTPRoute shop/split",
        "spec.rules[0].backendRefs[1]",
        "there is no Service shop/gone",
    ];
    mesh.eventually("the missing backend is named", || named(problem)).await;

    fs::remove_file(mesh.path("yaml/route.yaml")).unwrap();
    let back =
        |known: Option<&Resource>| matches!(known, Some(Resource::Route(r)) if *r == default);
    proxy.until(Kind::Route, CLUSTER, back).await;
    mesh.eventually("nothing is wrong any more", || !named(problem)).await;
}

const FAR: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: far, uid: uid-far}
spec:
  serviceAccountName: reviews
  initContainers: [{name: tulle-proxy, restartPolicy: Always}]
  containers: [{name: app}]
status: {phase: Running, podIP: 10.244.0.20, podIPs: [{ip: 10.244.0.20}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: far}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, namespace: shop}]
  rules: [{backendRefs: [{name: reviews, namespace: shop, port: 9080}]}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_consumers_route_is_for_its_own_callers() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut near = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");
    let Resource::Route(default) = near.get(Kind::Route, CLUSTER).await else { panic!() };
    assert_eq!(default.rules[0].origin.kind, "Service");

    mesh.save("far.yaml", FAR);
    let there = || async {
        loop {
            if let Ok(identity) = mesh.enrol(&mesh.token_in("far", "caller", "uid-far")).await {
                break identity;
            }
        }
    };
    let identity = timeout(Duration::from_secs(20), there()).await.unwrap();
    let mut far = Proxy::open(mesh.endpoint(Some(identity)), "far/caller");
    let Resource::Route(own) = far.get(Kind::Route, CLUSTER).await else { panic!() };
    let origin = &own.rules[0].origin;
    assert_eq!((&*origin.kind, &*origin.namespace, &*origin.name), ("HTTPRoute", "far", "mine"));

    // A producer's route is for the others; the end of the consumer's brings it to all.
    mesh.save("route.yaml", ROUTE);
    let producers = |known: Option<&Resource>| matches!(known, Some(Resource::Route(r)) if r.rules[0].origin.name == "split");
    near.until(Kind::Route, CLUSTER, producers).await;
    assert_eq!(far.known[&(Kind::Route, CLUSTER.to_owned())], Some(Resource::Route(own)));
    mesh.save("far.yaml", FAR.split("---").next().unwrap());
    far.until(Kind::Route, CLUSTER, producers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_say_what_is_accepted_and_where_it_is_in_force() {
    let mesh = Mesh::start().await;
    mesh.save("route.yaml", ROUTE);
    // Nobody uses it: that is no fault.
    let status = mesh.in_force("HTTPRoute", "split", 0, 0).await;
    let parent = &status["status"]["parents"][0];
    assert_eq!(parent["parentRef"]["name"], "reviews");
    let reasons: Vec<_> =
        parent["conditions"].as_array().unwrap().iter().map(|c| &c["reason"]).collect();
    assert_eq!(reasons, ["Accepted", "BackendNotFound", "NotInUse"]);

    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut proxy = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");
    proxy.get(Kind::Route, CLUSTER).await;
    mesh.in_force("HTTPRoute", "split", 1, 1).await;
    let policy = mesh.in_force("TrafficPolicy", "retry", 1, 1).await;
    assert_eq!(policy["status"]["ancestors"][0]["ancestorRef"]["sectionName"], "beta");

    // An edit that the proxy does not take: what it said stays, and the object that is behind it
    // says who did not take what, and why.
    proxy.rejects = Some("not today");
    mesh.save("route.yaml", &ROUTE.replace("/beta", "/gamma"));
    let follow = async {
        loop {
            let event = proxy.events.recv().await.unwrap();
            proxy.learn(event);
        }
    };
    let status = tokio::select! {
        () = follow => panic!("the stream has ended"),
        status = mesh.in_force("HTTPRoute", "split", 0, 1) => status,
    };
    let rejection = &status["inForce"]["rejections"][0];
    assert_eq!(rejection["proxy"], "shop/reviews-abc-1");
    assert_eq!(rejection["resource"], CLUSTER);
    assert_eq!(rejection["reason"], "virtual_hosts[0].routes[0].x: not today");
    let policy = mesh.in_force("TrafficPolicy", "retry", 0, 1).await;
    assert_eq!(policy["inForce"]["rejections"], Value::Null, "the reason names the route's rule");

    // A document that does not apply: the object says so, and stays.
    mesh.save("route.yaml", &ROUTE.replace("weight: 9", "weight: -9"));
    let invalid = || mesh.status("HTTPRoute", "split").is_some_and(|s| s["reason"] == "Invalid");
    mesh.eventually("the broken document is named", invalid).await;

    for (path, part) in [
        ("/debug/world", "HttpRoute"),
        ("/debug/cache", CLUSTER),
        ("/debug/streams", "shop/reviews-abc-1"),
        ("/debug/status", "split"),
        ("/metrics", "tulle_control_plane_rejected_resources{kind=\"route\"} 1"),
    ] {
        let dump = mesh.dump(path).await;
        assert!(dump.contains(part), "{path}: {dump}");
    }
    fs::remove_file(mesh.path("yaml/route.yaml")).unwrap();
    mesh.eventually("it is gone", || mesh.status("HTTPRoute", "split").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_strangers() {
    let mesh = Mesh::start().await;
    let refused = mesh.enrol(&mesh.token("reviews-abc-1", "uid-0")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("uid"), "{refused}");

    // Without a certificate; for another pod.
    let error = Proxy::open(mesh.endpoint(None), "shop/reviews-abc-1").disconnected().await;
    assert!(error.contains("no client certificate"), "{error}");
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let error =
        Proxy::open(mesh.endpoint(Some(identity.clone())), "shop/other").disconnected().await;
    assert!(error.contains("is for pod shop/reviews-abc-1"), "{error}");
    // For a pod that has been replaced: its stream ends, and there is no other one.
    let mut open = Proxy::open(mesh.endpoint(Some(identity.clone())), "shop/reviews-abc-1");
    open.get(Kind::Workload, "shop/reviews-abc-1").await;
    mesh.save("shop.yaml", &SHOP.replace("uid-1", "uid-2"));
    let replaced = || async {
        let token = mesh.token("reviews-abc-1", "uid-2");
        while mesh.enrol(&token).await.is_err() {
            sleep(LOOK).await;
        }
    };
    timeout(Duration::from_secs(20), replaced()).await.unwrap();
    let error = open.ended().await;
    assert!(error.contains("does not exist any more"), "{error}");
    let error =
        Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1").disconnected().await;
    assert!(error.contains("does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_so_many_streams_and_no_more() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let open = || Proxy::open(mesh.endpoint(Some(identity.clone())), "shop/reviews-abc-1");
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let mut stream = open();
        stream.get(Kind::Workload, "shop/reviews-abc-1").await;
        streams.push(stream);
    }
    let error = open().disconnected().await;
    assert!(error.contains("streams open already"), "{error}");
    // One leaves, one may come.
    drop(streams.pop());
    let room = async {
        let mut late = open();
        while !late.known.values().any(Option::is_some) {
            let event = late.events.recv().await.unwrap();
            late.learn(event);
        }
    };
    timeout(Duration::from_secs(20), room).await.unwrap();
}

/// The three steps of `ca/roots.rs`, with a client that was there before the first.
#[tokio::test(flavor = "multi_thread")]
async fn one_root_takes_over_from_another_without_a_restart() {
    let mesh = Mesh::start().await;
    let token = mesh.token("reviews-abc-1", "uid-1");
    let veteran = mesh.enrol(&token).await.unwrap();
    let root = |name: &str| fs::read_to_string(mesh.path(name)).unwrap();
    let (old, other) = (root("ca/root.pem"), tempfile::tempdir().unwrap());
    Root::load_or_make(other.path(), "cluster.local").unwrap();
    let new = fs::read_to_string(other.path().join("root.pem")).unwrap();
    // What the pods get, in the end; and that somebody who trusts nothing else still connects.
    let in_force = async |pem: &str| {
        let line = pem.lines().nth(1).unwrap().to_owned();
        let map = mesh.path("out/shop/tulle-roots.yaml");
        let written = || fs::read_to_string(&map).is_ok_and(|text| text.contains(&line));
        mesh.eventually("the roots reach the pods", written).await;
    };

    fs::write(mesh.path("ca/root.pem"), format!("{old}{new}")).unwrap();
    in_force(&new).await;
    fs::copy(other.path().join("root.key"), mesh.path("ca/root.key")).unwrap();
    fs::write(mesh.path("ca/root.pem"), format!("{new}{old}")).unwrap();
    // The server's own certificate is of the new root by now, and so are those that it issues.
    let novice = async {
        loop {
            let trusting = mesh.trusting(&new, None).connect().await;
            if trusting.is_ok() {
                return mesh.enrol(&token).await.unwrap();
            }
            sleep(LOOK).await;
        }
    };
    let novice = timeout(Duration::from_secs(20), novice).await.unwrap();
    for identity in [&veteran, &novice] {
        let endpoint = mesh.trusting(&new, Some(identity.clone()));
        Proxy::open(endpoint, "shop/reviews-abc-1").get(Kind::Workload, "shop/reviews-abc-1").await;
    }
    fs::write(mesh.path("ca/root.pem"), &new).unwrap();
    let refused = async {
        let endpoint = mesh.trusting(&new, Some(veteran));
        loop {
            let mut late = Proxy::open(endpoint.clone(), "shop/reviews-abc-1");
            match late.events.recv().await.unwrap() {
                Event::Disconnected { error } => return error,
                event => late.learn(event),
            }
            sleep(LOOK).await;
        }
    };
    let error = timeout(Duration::from_secs(20), refused).await.unwrap();
    // By TLS, whose alert may be overtaken by the end of the connection; not by a verdict of ours.
    assert!(error.contains("transport error"), "{error}");
    let endpoint = mesh.trusting(&new, Some(novice));
    Proxy::open(endpoint, "shop/reviews-abc-1").get(Kind::Workload, "shop/reviews-abc-1").await;
}
