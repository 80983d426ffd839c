//! Wires everything together, and takes it apart again.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::transport::Server;
use tulle_proto::{
    ca::v1::certificate_service_server::CertificateServiceServer,
    replica::v1::replica_service_server::ReplicaServiceServer,
};
use tulle_runtime::{
    drain::{self, Drain, Trigger},
    http::{Names, serve_tcp, serve_unix},
    metrics::Registry,
    ready::Readiness,
    socket::bind_private,
};
use tulle_xds::{cache::Cache, server::AdsService};

use crate::{
    admin::Admin,
    authorize::Pods,
    ca::{
        attest::{Attestor, Verify},
        issue::Authority,
        keys::TokenKeys,
        overlap::Terms,
        root::RootError,
        roots::Roots,
        server_certificate::{self, ServerCertificate, ServerCertificateError},
        service::{Certificates, MAX_REQUEST},
        signed::SignedTokens,
    },
    compile::Settings,
    config::Config,
    files::{self, WatchError},
    inject::{self, BadInjection},
    k8s::{AuthorityError, Bare, Book, Cluster, NoCluster},
    metrics::{Metrics, Pushes},
    output::{self, Directory, Report},
    publish::{Outlets, Publisher},
    replicas::{self, Others, Replica, Tellings},
    roster::Roster,
    server::{
        self, Incoming, Limits, TlsError,
        webhook::{self, Webhook},
    },
    source::Batch,
    status::{self, Contributions},
};

/// How long a replica of a cluster goes on as before once it is asked to stop: until the nodes, and with them the API server, know
/// that its Service leads elsewhere. A webhook that refused connections meanwhile would be pods refused.
const LINGER: Duration = Duration::from_secs(5);
/// How long open streams have to end after that.
const DRAIN: Duration = Duration::from_secs(5);
/// HTTP/2 pings, so that a proxy whose node vanished does not stay in the list of streams.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// For a request of one answer (a certificate's) to come and to be answered.
const ANSWER: Duration = Duration::from_secs(10);

/// What a client without certificate may have open on its connection: it asks one question.
const STRANGERS_STREAMS: u32 = 4;
/// What it may have sent that was not read yet, in bytes.
const STRANGERS_WINDOW: u32 = 64 << 10;

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where the gRPC port listens.
    pub listen: SocketAddr,
    /// Where the status port listens.
    pub status: SocketAddr,
    /// Whether everything was read.
    pub readiness: Readiness,
    tasks: JoinSet<()>,
    trigger: Trigger,
    linger: Duration,
}

/// Why the control plane cannot run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error("root certificate: {0}")]
    Root(#[from] RootError),
    #[error(transparent)]
    ServerCertificate(#[from] ServerCertificateError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Cluster(#[from] NoCluster),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Injection(#[from] BadInjection),
    #[error("thread for the cluster's objects: {0}")]
    Thread(#[from] io::Error),
    #[error("listening on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("admin socket {}: {error}", .path.display())]
    AdminSocket { path: PathBuf, error: io::Error },
}

/// Starts everything.
///
/// # Errors
/// If the root cannot be had or a port cannot be listened on.
pub async fn start(config: Config) -> Result<ControlPlane, StartError> {
    let (trigger, drain) = drain::channel();
    let (readiness, registry) = (Readiness::new(), Registry::default());
    let metrics = Arc::new(Metrics::default());
    registry.register(|registry| metrics.register(registry));
    let mut tasks = JoinSet::new();

    let cluster = cluster(&config).await?;
    let roots = roots(&config, cluster.as_ref()).await?;
    let injection = injection(&config)?;
    let authority = Authority::new(roots.clone(), config.certificate_lifetime.get());
    let certificate = ServerCertificate::new(authority.clone(), names(&config))?;
    let (current, tls) = watch::channel(server::tls(&roots.current(), Arc::clone(&certificate))?);
    tasks.spawn(server::follow(roots.watch(), Arc::clone(&certificate), current));
    let (listener, listen) = bind(config.listen).await?;
    let (status_listener, status) = bind(config.status).await?;

    let (report, reports) = watch::channel(Report::default());
    let (cache, interest) = Cache::new();
    let (roster, contributions) = (Roster::default(), Contributions::default());
    let others = others(cluster.as_ref(), &roster);
    let ads = ads(cache.clone(), &config, roster.clone(), &drain);
    registry.register(|registry| registry.register_collector(Box::new(Pushes(ads.pushed()))));
    let (with_status, statuses) = watch::channel(Report::default());
    let sources = status::Sources {
        contributions: contributions.clone(),
        cache: cache.clone(),
        ads: ads.clone(),
        metrics: Arc::clone(&metrics),
        others: others.clone(),
    };
    let (own, told) = watch::channel(Arc::default());
    tasks.spawn(status::follow(reports, (with_status, own), sources));
    let outlets = Outlets {
        cache: cache.clone(),
        roster: roster.clone(),
        report,
        contributions: contributions.clone(),
    };
    let debounce = config.debounce.get();
    let publisher = Publisher::new(settings(&config), debounce, outlets, Arc::clone(&metrics));
    let blocker = readiness.block("reading all objects");
    let ends = Ends {
        statuses: statuses.clone(),
        roots: (roots, terms(&config)),
        webhook: injection.as_ref().map(|injection| injection.webhook.clone()),
        readiness: readiness.clone(),
        drain: drain.clone(),
    };
    let mut replicas = None;
    let batches = match cluster.clone() {
        Some(cluster) => {
            let replica = replica(&config, &cluster, (others, &roster, &authority, &ads));
            replicas = Some(replica.service());
            ends.of_cluster(cluster, (replica, told), &mut tasks)?
        }
        None => ends.of_directories(&config, &mut tasks)?,
    };
    let (world, questions) = mpsc::channel(1);
    tasks.spawn(publisher.run(batches, interest, questions, blocker));
    if let Some(injection) = injection {
        let certificate = Arc::clone(&certificate);
        serve_webhook(&config, &injection, certificate, (&metrics, &drain), &mut tasks).await?;
    }
    tasks.spawn(async move { certificate.renew().await });

    let certificates = certificates(&config, cluster.as_ref(), roster, (authority, &metrics));
    let stages = (readiness.clone(), drain.clone());
    let incoming = server::incoming(listener, tls, Limits::default(), metrics, stages);
    serve_grpc(incoming, (certificates, ads.clone(), replicas), &drain, &mut tasks);
    let admin = Arc::new(Admin {
        readiness: readiness.clone(),
        registry,
        world,
        cache,
        contributions,
        ads,
        report: statuses,
    });
    serve_admin(&config, admin, status_listener, drain, &mut tasks)?;
    tracing::info!(%listen, %status, "started");
    Ok(ControlPlane { listen, status, readiness, tasks, trigger, linger: linger(&config) })
}

fn linger(config: &Config) -> Duration {
    if config.kubernetes { LINGER } else { Duration::ZERO }
}

impl ControlPlane {
    /// Runs until `stop`, and a little longer in a cluster, then lets open streams end.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) {
        stop.await;
        tracing::info!("stopping");
        sleep(self.linger).await;
        self.trigger.start();
        if timeout(DRAIN, self.trigger.finished()).await.is_err() {
            tracing::warn!("some streams did not end in time");
        }
        self.tasks.shutdown().await;
    }
}

/// Where objects come from, and where what follows from them is written to.
struct Ends {
    statuses: watch::Receiver<Report>,
    roots: (Roots, Terms),
    webhook: Option<inject::Webhook>,
    readiness: Readiness,
    drain: Drain,
}

impl Ends {
    fn of_cluster(
        self,
        cluster: Cluster,
        (replica, tellings): (Replica, watch::Receiver<Arc<Tellings>>),
        tasks: &mut JoinSet<()>,
    ) -> Result<mpsc::Receiver<Batch>, StartError> {
        let Self { statuses, roots, webhook, readiness, drain } = self;
        let noted = (Book::default(), Bare::default());
        let batches = cluster.source(noted.clone(), readiness)?;
        let leader = replica.start(tellings, tasks);
        tasks.spawn(cluster.write((statuses, webhook), roots, noted, (leader, replica), drain));
        Ok(batches)
    }

    fn of_directories(
        self,
        config: &Config,
        tasks: &mut JoinSet<()>,
    ) -> Result<mpsc::Receiver<Batch>, StartError> {
        let Self { statuses, roots: (roots, _), .. } = self;
        if let Some(path) = config.output.clone() {
            let directory = Directory::new(path, roots.watch());
            tasks.spawn(output::run(statuses, roots.watch(), directory));
        }
        tasks.spawn(roots.follow(config.ca_directory.clone().unwrap_or_default()));
        Ok(files::watch(&config.directory, config.output.as_deref())?)
    }
}

/// The gRPC port. Whoever has shown no certificate is served apart: the same services, and less of
/// everything.
fn serve_grpc(
    incoming: Incoming,
    (certificates, ads, replicas): (
        Certificates,
        AdsService,
        Option<ReplicaServiceServer<replicas::Listener>>,
    ),
    drain: &Drain,
    tasks: &mut JoinSet<()>,
) {
    let certificates =
        CertificateServiceServer::new(certificates).max_decoding_message_size(MAX_REQUEST);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .timeout(ANSWER);
    let proven = server.clone().max_concurrent_streams(64);
    let strangers = server
        .max_concurrent_streams(STRANGERS_STREAMS)
        .initial_stream_window_size(STRANGERS_WINDOW)
        .initial_connection_window_size(STRANGERS_WINDOW);
    for (mut server, connections) in [(proven, incoming.proven), (strangers, incoming.strangers)] {
        let router = server
            .add_service(certificates.clone())
            .add_service(ads.clone().into_server())
            .add_optional_service(replicas.clone());
        let in_flight = drain.clone();
        tasks.spawn(async move {
            let stop = in_flight.told();
            let served = Box::pin(router.serve_with_incoming_shutdown(connections, stop)).await;
            if let Err(error) = served {
                tracing::error!(%error, "the gRPC server has ended");
            }
            drop(in_flight);
        });
    }
}

/// The settings of injection, if there are to be any.
fn injection(config: &Config) -> Result<Option<inject::Injection>, BadInjection> {
    let Some(path) = &config.injection else { return Ok(None) };
    let (injection, warnings) = inject::read(path)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Some(injection))
}

async fn serve_webhook(
    config: &Config,
    injection: &inject::Injection,
    certificate: Arc<ServerCertificate>,
    (metrics, drain): (&Arc<Metrics>, &Drain),
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let webhook = Webhook { settings: injection.settings(), metrics: Arc::clone(metrics) };
    let (listener, _) = bind(config.webhook).await?;
    tasks.spawn(webhook.serve(listener, webhook::tls(certificate)?, drain.clone()));
    Ok(())
}

fn names(config: &Config) -> Vec<String> {
    server_certificate::names(&config.namespace, &config.cluster_domain)
}

fn terms(config: &Config) -> Terms {
    let of = |duration: Duration| time::Duration::try_from(duration).unwrap_or(time::Duration::MAX);
    Terms {
        overlap: of(config.root_overlap.get()),
        lifetime: of(config.certificate_lifetime.get()),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        trust_domain: config.trust_domain.clone(),
        cluster_domain: config.cluster_domain.clone(),
        mesh_ranges: config.mesh_range.clone(),
    }
}

/// The status port, and the Unix socket if one is asked for.
fn serve_admin(
    config: &Config,
    admin: Arc<Admin>,
    status: TcpListener,
    drain: Drain,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    if let Some(path) = &config.admin_socket {
        let failed = |error| StartError::AdminSocket { path: path.clone(), error };
        let listener = bind_private(path).map_err(failed)?;
        let admin = Arc::clone(&admin);
        let handler = move |request| Arc::clone(&admin).control(request);
        tasks.spawn(serve_unix(listener, handler, drain.clone()));
    }
    let handler = move |request| std::future::ready(admin.status(&request));
    let own = format!("tulle-control-plane.{}", config.namespace);
    let names = Names::within([own, config.cluster_domain.clone()]);
    tasks.spawn(serve_tcp(status, handler, names, drain));
    Ok(())
}

fn ads(cache: Cache, config: &Config, roster: Roster, drain: &Drain) -> AdsService {
    let pods = Pods { roster, trust_domain: config.trust_domain.clone() };
    AdsService::until(cache, Arc::new(pods), drain.told())
}

/// What other replicas say; of directories there are none.
fn others(cluster: Option<&Cluster>, roster: &Roster) -> Others {
    let others = cluster.map(|cluster| Others::than(cluster.pod(), roster.clone()));
    others.unwrap_or_default()
}

fn replica(
    config: &Config,
    cluster: &Cluster,
    (others, roster, authority, ads): (Others, &Roster, &Authority, &AdsService),
) -> Replica {
    Replica {
        others,
        roster: roster.clone(),
        pod: cluster.pod(),
        trust_domain: config.trust_domain.clone(),
        authority: authority.clone(),
        port: config.listen.port(),
        name: names(config).remove(0),
        ads: ads.clone(),
    }
}

async fn cluster(config: &Config) -> Result<Option<Cluster>, StartError> {
    Ok(match config.kubernetes {
        true => Some(Cluster::connect(config.namespace.clone(), config.pod_name.clone()).await?),
        false => None,
    })
}

async fn roots(config: &Config, cluster: Option<&Cluster>) -> Result<Roots, StartError> {
    match cluster {
        Some(cluster) => Ok(cluster.roots(&config.trust_domain).await?),
        None => {
            let directory = config.ca_directory.as_deref().unwrap_or_else(|| Path::new("."));
            Ok(Roots::load_or_make(directory, &config.trust_domain)?)
        }
    }
}

fn certificates(
    config: &Config,
    cluster: Option<&Cluster>,
    roster: Roster,
    (authority, metrics): (Authority, &Arc<Metrics>),
) -> Certificates {
    let audience = config.token_audience.clone();
    let tokens: Arc<dyn Verify> = match cluster {
        Some(cluster) => Arc::new(cluster.tokens(audience)),
        None => {
            let keys = TokenKeys::new(config.token_keys.clone().unwrap_or_default());
            if let Err(error) = keys.current() {
                tracing::warn!(%error, "no workload can get a certificate until this is put right");
            }
            let issuer = config.token_issuer.clone();
            Arc::new(SignedTokens { keys, issuer, audience })
        }
    };
    let attestor = Attestor { tokens, trust_domain: config.trust_domain.clone(), roster };
    Certificates { attestor, authority, metrics: Arc::clone(metrics) }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = match TcpListener::bind(address).await {
        // A kernel without IPv6 cannot do "everywhere" in the way of both versions.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    let listener = listener.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
