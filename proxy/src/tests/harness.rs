//! The mesh that the tests of this room talk through.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};
use tulle_runtime::{
    drain::{self, Trigger},
    log::Lines,
    metrics::Registry,
};
use tulle_xds::model::{
    Action, Backend, Balance, ByName, Cluster as Settings, Ejection, Endpoint, Endpoints,
    ExternalTraffic, InboundPort, Limits, Listener, Match, MtlsMode, Origin, Protocol, Released,
    RouteConfiguration, Rule, ServicePort, Setter, SpiffeId, Timeouts, UpstreamProtocol, Workload,
};

use crate::{
    context::{self, Context, Shared},
    inbound,
    mesh::{Destination, LastUsed, Lookup, Mesh, Names, Publisher, Store},
    net::{capture::Capture, listen},
    outbound,
    telemetry::{Metrics, register_clusters},
    tls::{Certs, Material},
    upstream::Cluster,
};

/// The Service's address, as applications know it.
pub(super) const SERVICE: &str = "10.96.0.7:80";

pub(super) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
pub(super) const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
/// Somebody else.
const BANK: &str = "spiffe://cluster.local/ns/bank/sa/vault";

/// What the tests set about a mesh.
pub(super) struct Told {
    pub(super) protocol: Protocol,
    /// Where TLS goes by the server's name, and whether nothing else goes anywhere.
    pub(super) by_name: Vec<ByName>,
    pub(super) only_named: bool,
    /// How long opaque connections may be idle.
    pub(super) idle: Option<Duration>,
    pub(super) mtls: MtlsMode,
    pub(super) rules: Vec<Rule>,
    pub(super) limits: Limits,
    /// Who set what of the cluster.
    pub(super) setters: Vec<Setter>,
    pub(super) ejection: Option<Ejection>,
    /// Endpoints without sidecar, beside the sidecars.
    pub(super) plain: Vec<SocketAddr>,
    /// Other clusters, by name, each of one endpoint without sidecar.
    pub(super) others: Vec<(&'static str, SocketAddr)>,
    /// Applications of another workload, whose sidecars have addresses of which the client still
    /// believes that they are this one's.
    pub(super) recycled: Vec<SocketAddr>,
    pub(super) upstream_protocol: UpstreamProtocol,
    /// What a release says of the endpoints, and whether of the applications behind sidecars, too.
    pub(super) released: Released,
    /// Changes the bounds of both sidecars.
    pub(super) tune: fn(&mut context::Settings),
}

impl Default for Told {
    fn default() -> Self {
        Self {
            protocol: Protocol::Detect,
            by_name: Vec::new(),
            only_named: false,
            idle: None,
            mtls: MtlsMode::Permissive,
            rules: vec![forward()],
            limits: Limits::default(),
            setters: Vec::new(),
            ejection: None,
            plain: Vec::new(),
            others: Vec::new(),
            recycled: Vec::new(),
            upstream_protocol: UpstreamProtocol::Same,
            released: Released::No,
            tune: |_| {},
        }
    }
}

/// A client's sidecar, and a server's for each of its applications.
pub(super) struct Pair {
    /// Where the client's application gets to when it dials [`SERVICE`].
    pub(super) outbound: SocketAddr,
    /// Where others get to when they dial the applications.
    pub(super) inbound: Vec<SocketAddr>,
    pub(super) client: Sidecar,
    pub(super) server: Sidecar,
    /// Of the `recycled` addresses.
    pub(super) stranger: Sidecar,
}

pub(super) struct Sidecar {
    records: mpsc::Receiver<Value>,
    pub(super) shared: Arc<Shared>,
    registry: Registry,
    publisher: Publisher,
    /// One for each listener.
    pub(super) triggers: Vec<Trigger>,
}

impl Pair {
    /// A mesh in which `applications` are the endpoints of [`SERVICE`], each behind a sidecar.
    pub(super) async fn new(applications: &[SocketAddr], told: Told) -> Self {
        let authority = Authority::new();
        let tune = told.tune;
        let (server, inbound) = behind_sidecars(&authority, CART, applications, &told);
        let (stranger, recycled) = behind_sidecars(&authority, BANK, &told.recycled, &told);
        let listener = listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let outbound = listener.local_addr().unwrap();
        let captured = HashMap::from([(outbound, SERVICE.parse().unwrap())]);
        let believed = [recycled, inbound.clone()].concat();
        let mut client = sidecar(&authority, WEB, captured, client_mesh(told, &believed), tune);
        let (context, drain) = client.listens();
        tokio::spawn(outbound::serve(context, listener, drain));
        Self { outbound, inbound, client, server, stranger }
    }
}

/// Workload `id` with these applications, and the addresses at which its sidecar takes their traffic.
fn behind_sidecars(
    authority: &Authority,
    id: &str,
    applications: &[SocketAddr],
    told: &Told,
) -> (Sidecar, Vec<SocketAddr>) {
    let bind = |application: &SocketAddr| {
        let listener = listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
        (listener.local_addr().unwrap(), *application, listener)
    };
    let bound: Vec<_> = applications.iter().map(bind).collect();
    let captured = bound.iter().map(|(address, application, _)| (*address, *application)).collect();
    let mesh = server_mesh(id, told, applications);
    let mut sidecar = sidecar(authority, id, captured, mesh, told.tune);
    let serve = |(address, _, listener)| {
        let (context, drain) = sidecar.listens();
        tokio::spawn(inbound::serve(context, listener, drain));
        address
    };
    let addresses = bound.into_iter().map(serve).collect();
    (sidecar, addresses)
}

impl Sidecar {
    /// What one more listener is served with.
    pub(super) fn listens(&mut self) -> (Arc<Context>, drain::Drain) {
        let (trigger, drain) = drain::channel();
        self.triggers.push(trigger);
        (Context::new(Arc::clone(&self.shared)), drain)
    }

    /// The control plane says how plaintext is met from now on.
    pub(super) fn told(&self, mtls: MtlsMode) {
        self.told_otherwise(|workload| {
            workload.default_mtls = mtls;
            workload.ports.iter_mut().for_each(|port| port.mtls = mtls);
        });
    }

    /// The control plane says something else of the workload from now on.
    pub(super) fn told_otherwise(&self, change: impl FnOnce(&mut Workload)) {
        let now = self.shared.store.current();
        let mut workload = now.workload.as_deref().unwrap().clone();
        change(&mut workload);
        let (generation, listeners) = (now.generation + 1, now.listeners.clone());
        let workload = Some(Arc::new(workload));
        self.publisher.publish(Mesh { generation, workload, listeners, ..Mesh::default() });
    }

    /// The control plane knows nothing any more of what was dialled.
    pub(super) fn forgets(&self) {
        let now = self.shared.store.current();
        let (generation, workload) = (now.generation + 1, now.workload.clone());
        self.publisher.publish(Mesh { generation, workload, ..Mesh::default() });
    }

    /// Nobody reads the access log any more, however long it becomes.
    pub(super) fn forget_records(&mut self) {
        self.records.close();
    }

    /// What Prometheus would read.
    pub(super) fn metrics(&self) -> String {
        self.registry.render()
    }

    /// What it would read if it wanted messages.
    pub(super) fn messages(&self) -> Bytes {
        let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let scrape = http::Request::get("/metrics").header("accept", accept).body(Bytes::new());
        self.registry.scrape(&scrape.unwrap()).into_body()
    }

    /// The next line of the access log.
    pub(super) async fn record(&mut self) -> Value {
        let next = tokio::time::timeout(Duration::from_secs(10), self.records.recv());
        next.await.expect("no record within 10 s").unwrap()
    }
}

pub(super) fn sidecar(
    authority: &Authority,
    id: &str,
    captured: HashMap<SocketAddr, SocketAddr>,
    mesh: Mesh,
    tune: fn(&mut context::Settings),
) -> Sidecar {
    let (store, publisher, _questions) = Store::new();
    publisher.publish(mesh);
    let (lines, records) = mpsc::channel(1000);
    let mut settings = context::Settings {
        capture: Capture::new(move |stream| {
            let local = stream.local_addr()?;
            captured.get(&local).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        }),
        application_source: None,
        access_log_sample: 1,
        ..context::Settings::default()
    };
    tune(&mut settings);
    let lines = Lines::to(Parsed { lines, rest: Vec::new() });
    let registry = Registry::default();
    let metrics = Metrics::new(&registry);
    register_clusters(&registry, store.clone());
    let shared = Shared::new(store, authority.certs(id), lines, metrics, settings);
    Sidecar { records, shared, registry, publisher, triggers: Vec::new() }
}

/// What the client's proxy was told.
pub(super) fn client_mesh(told: Told, inbound: &[SocketAddr]) -> Mesh {
    let meshed = inbound.iter().map(|address| (address, Some(CART.parse().unwrap())));
    let plain = told.plain.iter().map(|address| (address, None));
    let endpoints = meshed.chain(plain).map(|(address, identity)| endpoint(*address, identity));
    let endpoints = Endpoints { name: CLUSTER.to_owned(), endpoints: endpoints.collect() };
    let settings = Settings {
        name: CLUSTER.to_owned(),
        service: Some(service(CLUSTER)),
        protocol: told.protocol,
        upstream_protocol: told.upstream_protocol,
        balance: Balance::RoundRobin,
        limits: told.limits,
        ejection: told.ejection,
        connect_timeout: Duration::from_secs(5),
        origin: Origin::default(),
        setters: told.setters,
        released: told.released,
    };
    let address: SocketAddr = SERVICE.parse().unwrap();
    let listener = Listener {
        name: SERVICE.to_owned(),
        address,
        protocol: told.protocol,
        service: None,
        route: Some(CLUSTER.to_owned()),
        backends: vec![backend()],
        by_name: told.by_name,
        only_named: told.only_named,
        idle: told.idle,
        origin: Origin::default(),
        setters: Vec::new(),
    };
    let route = RouteConfiguration { name: CLUSTER.to_owned(), rules: told.rules };
    let others = told.others.iter().map(|(name, address)| {
        let service = Some(service(name));
        let settings = Settings { name: (*name).to_owned(), service, ..settings.clone() };
        let name = settings.name.clone();
        let endpoints = Endpoints { name: name.clone(), endpoints: vec![endpoint(*address, None)] };
        (name, Arc::new(Cluster::new(settings, endpoints)))
    });
    let mut clusters: HashMap<_, _> = others.collect();
    clusters.insert(CLUSTER.to_owned(), Arc::new(Cluster::new(settings, endpoints)));
    let destination = Destination {
        names: Names::of(&listener),
        listener,
        route: Some(Arc::new(route)),
        clusters,
        used: LastUsed::new(0),
    };
    Mesh {
        generation: 1,
        workload: Some(Arc::new(workload(WEB, Vec::new(), MtlsMode::Permissive))),
        listeners: HashMap::from([(address, Lookup::Known(Arc::new(destination)))]),
        ..Mesh::default()
    }
}

/// The Service port that the cluster of this name, `service/NAMESPACE/NAME/PORT`, stands for.
fn service(cluster: &str) -> ServicePort {
    let [_, namespace, name, port] = cluster.split('/').collect::<Vec<_>>()[..] else {
        panic!("{cluster} is no Service's");
    };
    ServicePort {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: port.parse().unwrap(),
        host: format!("{name}.{namespace}.svc.cluster.local"),
    }
}

/// What the server's proxy was told.
fn server_mesh(id: &str, told: &Told, applications: &[SocketAddr]) -> Mesh {
    let port = |address: &SocketAddr| InboundPort {
        port: address.port(),
        protocol: told.protocol,
        mtls: told.mtls,
        services: vec!["shop/cart".to_owned()],
    };
    let ports = applications.iter().map(port).collect();
    let counted = told.released != Released::No;
    let workload = Workload { counted, ..workload(id, ports, told.mtls) };
    Mesh { generation: 1, workload: Some(Arc::new(workload)), ..Mesh::default() }
}

pub(super) const CLUSTER: &str = "service/shop/cart/80";

pub(super) fn backend() -> Backend {
    Backend { cluster: CLUSTER.to_owned(), weight: 1, filters: Vec::new() }
}

/// The rule that forwards everything.
pub(super) fn forward() -> Rule {
    Rule {
        matches: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(vec![backend()]),
        timeouts: Timeouts::default(),
        retry: None,
        stick: None,
        mirrors: Vec::new(),
        origin: Origin { kind: "Service".into(), ..Origin::default() },
        setters: Vec::new(),
    }
}

pub(super) fn endpoint(address: SocketAddr, identity: Option<SpiffeId>) -> Endpoint {
    Endpoint {
        identity,
        pod: "shop/cart-0".to_owned(),
        workload: "shop/cart".to_owned(),
        revision: address.port().to_string(),
        ..Endpoint::new(address)
    }
}

pub(crate) fn workload(id: &str, ports: Vec<InboundPort>, mtls: MtlsMode) -> Workload {
    Workload {
        name: "shop/pod-0".to_owned(),
        uid: "1".to_owned(),
        identity: id.parse().unwrap(),
        owner_kind: "Pod".to_owned(),
        owner_name: "pod-0".to_owned(),
        revision: String::new(),
        addresses: vec![IpAddr::from([10, 244, 0, 2])],
        ports,
        default_mtls: mtls,
        mesh_ranges: vec!["10.96.0.0/16".parse().unwrap()],
        external_traffic: ExternalTraffic::Pass,
        hold: String::new(),
        trust_domains: vec!["cluster.local".to_owned()],
        cluster_domain: "cluster.local".to_owned(),
        knobs: tulle_xds::model::Knobs::new(),
        setters: Vec::new(),
        access: Vec::new(),
        node: String::new(),
        zone: String::new(),
        telemetry: Box::default(),
        counted: false,
        lanes: Vec::new(),
    }
}

/// A root that issues certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certs(&self, id: &str) -> Certs {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let certs = Certs::new();
        let chain = vec![leaf.der().to_vec()];
        let roots = vec![self.0.der().to_vec()];
        certs.install(&Material { chain, key: key.serialize_der(), roots }).unwrap();
        certs
    }
}

/// An address at which nobody listens.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Sends each line as the JSON that it is, or as a text.
struct Parsed {
    lines: mpsc::Sender<Value>,
    rest: Vec<u8>,
}

impl Write for Parsed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let text = || String::from_utf8_lossy(&line).trim_end().into();
            let record = serde_json::from_slice(&line).unwrap_or_else(|_not_json| text());
            self.lines.blocking_send(record).map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an application saw, shared with its test.
pub(super) type Saw<T> = Arc<Mutex<Vec<T>>>;
