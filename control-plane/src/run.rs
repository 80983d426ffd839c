//! Wires everything together, and takes it apart again.

mod ends;
mod serve;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tulle_runtime::{
    drain::{self, Trigger},
    metrics::Registry,
    ready::Readiness,
};
use tulle_xds::{cache::Cache, server::AdsService};

use self::ends::Ends;
use crate::{
    admin::{Admin, Question},
    authorize::Pods,
    ca::{
        attest::{Attestor, Verify},
        issue::Authority,
        keys::TokenKeys,
        overlap::Terms,
        root::RootError,
        roots::Roots,
        server_certificate::{self, ServerCertificate, ServerCertificateError},
        service::Certificates,
        signed::SignedTokens,
    },
    compile::Settings,
    config::Config,
    console::{Console, Surveyed},
    files::WatchError,
    inject::{self, BadInjection},
    k8s::{AuthorityError, Cluster, NoCluster},
    metrics::{Metrics, Pushes},
    output::Report,
    publish::{Outlets, Publisher},
    replicas::{Connections, Others, Replica, Surveyor, Tellings},
    roster::Roster,
    server::{self, Limits, TlsError},
    status::{self, Contributions},
    steer::{Desk, Gauges, Releases},
    telemetry::{self, Hub, Query},
};

/// How long a replica of a cluster goes on as before once it is asked to stop: until the nodes, and with them the API server, know
/// that its Service leads elsewhere. A webhook that refused connections meanwhile would be pods refused.
const LINGER: Duration = Duration::from_secs(5);
/// How long open streams have to end after that.
const DRAIN: Duration = Duration::from_secs(5);
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
    let (readiness, (registry, metrics)) = (Readiness::new(), registry());
    let mut tasks = JoinSet::new();

    let cluster = cluster(&config).await?;
    let roots = roots(&config, cluster.as_ref()).await?;
    let injection = injection(&config)?;
    let authority = Authority::new(roots.clone(), config.certificate_lifetime.get());
    let (certificate, tls) = certificate(&config, (&roots, &authority), &mut tasks)?;
    let (listener, listen) = serve::bind(config.listen).await?;
    let (status_listener, status) = serve::bind(config.status).await?;

    let (report, reports) = watch::channel(Report::default());
    let (cache, interest) = Cache::new();
    let (roster, contributions) = (Roster::default(), Contributions::default());
    let others = others(cluster.as_ref(), &roster);
    let pods = pods(&config, &roster);
    let ads = AdsService::until(cache.clone(), Arc::new(pods.clone()), drain.told());
    registry.register(|registry| registry.register_collector(Box::new(Pushes(ads.pushed()))));
    let (statuses, told) = follow(
        reports.clone(),
        status::Sources {
            contributions: contributions.clone(),
            cache: cache.clone(),
            ads: ads.clone(),
            metrics: Arc::clone(&metrics),
            others: others.clone(),
        },
        &mut tasks,
    );
    let outlets = (cache.clone(), roster.clone(), contributions.clone(), report);
    let publisher = publisher(&config, outlets, &metrics);
    let (world, questions) = mpsc::channel(1);
    let blocker = readiness.block("reading all objects");
    let ends = Ends {
        statuses: statuses.clone(),
        roots: (roots, terms(&config)),
        webhook: injection.as_ref().map(|injection| injection.webhook.clone()),
        readiness: readiness.clone(),
        drain: drain.clone(),
    };
    let hub = hub(&registry, &mut tasks);
    let surveyor = Surveyor { ads: ads.clone(), roster: roster.clone(), hub: hub.clone(), told };
    let (releases, wishes) = Releases::new();
    let of_cluster = (others, &authority, surveyor.clone(), releases.clone());
    let replica = cluster.as_ref().map(|cluster| replica(&config, cluster, of_cluster));
    let begun = ends.begin(&config, cluster.clone().zip(replica.clone()), &mut tasks)?;
    let looks = (world.clone(), reports, surveyor.clone(), replica.clone(), gauges(&registry));
    let (batches, desk) = begun.steer(&config, looks, (releases, wishes), &mut tasks);
    let console = console(&config, (surveyor, &world), (&replica, &statuses), desk);
    tasks.spawn(publisher.run(batches, interest, questions, blocker));
    let asked = (injection, cluster.clone().zip(Some(console.clone())));
    serve::https(&config, asked, certificate, (&metrics, &drain), &mut tasks).await?;
    let services = serve::Services {
        certificates: certificates(&config, cluster.as_ref(), &roster, (authority, &metrics)),
        ads,
        telemetry: telemetry::service(hub, pods, drain.clone()),
        replicas: replica.as_ref().map(Replica::service),
    };
    let stages = (readiness.clone(), drain.clone());
    let incoming = server::incoming(listener, tls, Limits::default(), metrics, stages);
    services.serve(incoming, &drain, &mut tasks);
    let admin = Arc::new(Admin {
        readiness: readiness.clone(),
        registry,
        world,
        cache,
        contributions,
        console,
    });
    serve::admin(&config, admin, status_listener, drain, &mut tasks)?;
    tracing::info!(%listen, %status, "started");
    Ok(ControlPlane { listen, status, readiness, tasks, trigger, linger: linger(&config) })
}

fn publisher(
    config: &Config,
    (cache, roster, contributions, report): (Cache, Roster, Contributions, watch::Sender<Report>),
    metrics: &Arc<Metrics>,
) -> Publisher {
    let outlets = Outlets { cache, roster, report, contributions };
    Publisher::new(settings(config), config.debounce.get(), outlets, Arc::clone(metrics))
}

/// What is counted, and where it is shown.
fn registry() -> (Registry, Arc<Metrics>) {
    let (registry, metrics) = (Registry::of_process(), Arc::new(Metrics::default()));
    registry.register(|registry| metrics.register(registry));
    (registry, metrics)
}

/// What people look at.
fn console(
    config: &Config,
    (surveyor, world): (Surveyor, &mpsc::Sender<Question>),
    (replica, report): (&Option<Replica>, &watch::Receiver<Report>),
    desk: Desk,
) -> Console {
    let query = Query {
        hub: surveyor.hub.clone(),
        roster: surveyor.roster.clone(),
        replica: replica.clone(),
        prometheus: config
            .prometheus
            .clone()
            .map(|prometheus| prometheus.with_credentials(config.prometheus_credentials.clone())),
    };
    let (world, report) = (world.clone(), report.clone());
    Console { query, surveyor, world, desk, report, surveyed: Surveyed::default() }
}

/// Adds statuses to reports; also yields what other replicas are told.
fn follow(
    reports: watch::Receiver<Report>,
    sources: status::Sources,
    tasks: &mut JoinSet<()>,
) -> (watch::Receiver<Report>, watch::Receiver<Arc<Tellings>>) {
    let (with_status, statuses) = watch::channel(Report::default());
    let (own, told) = watch::channel(Arc::default());
    tasks.spawn(status::follow(reports, (with_status, own), sources));
    (statuses, told)
}

/// What this control plane proves to its clients, kept true to the roots and renewed in time; and the TLS side of it.
fn certificate(
    config: &Config,
    (roots, authority): (&Roots, &Authority),
    tasks: &mut JoinSet<()>,
) -> Result<(Arc<ServerCertificate>, server::Tls), StartError> {
    let certificate = ServerCertificate::new(authority.clone(), names(config))?;
    let (current, tls) = watch::channel(server::tls(&roots.current(), Arc::clone(&certificate))?);
    tasks.spawn(server::follow(roots.watch(), Arc::clone(&certificate), current));
    let renewed = Arc::clone(&certificate);
    tasks.spawn(async move { renewed.renew().await });
    Ok((certificate, tls))
}

/// What proxies report.
fn hub(registry: &Registry, tasks: &mut JoinSet<()>) -> Hub {
    let hub = Hub::default();
    registry.register(|registry| registry.register_collector(Box::new(hub.clone())));
    tasks.spawn(hub.clone().run());
    hub
}

/// Where releases are.
fn gauges(registry: &Registry) -> Gauges {
    let gauges = Gauges::default();
    registry.register(|registry| registry.register_collector(Box::new(gauges.clone())));
    gauges
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

/// The settings of injection, if there are to be any.
fn injection(config: &Config) -> Result<Option<inject::Injection>, BadInjection> {
    let Some(path) = &config.injection else { return Ok(None) };
    let (injection, warnings) = inject::read(path)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Some(injection))
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

/// Who may open streams.
fn pods(config: &Config, roster: &Roster) -> Pods {
    Pods { roster: roster.clone(), trust_domain: config.trust_domain.clone() }
}

/// What other replicas say; of directories there are none.
fn others(cluster: Option<&Cluster>, roster: &Roster) -> Others {
    let others = cluster.map(|cluster| Others::than(cluster.pod(), roster.clone()));
    others.unwrap_or_default()
}

fn replica(
    config: &Config,
    cluster: &Cluster,
    (others, authority, surveyor, releases): (Others, &Authority, Surveyor, Releases),
) -> Replica {
    Replica {
        others,
        roster: surveyor.roster.clone(),
        pod: cluster.pod(),
        trust_domain: config.trust_domain.clone(),
        authority: authority.clone(),
        port: config.listen.port(),
        name: names(config).remove(0),
        surveyor,
        releases,
        connections: Connections::default(),
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
    roster: &Roster,
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
    let attestor =
        Attestor { tokens, trust_domain: config.trust_domain.clone(), roster: roster.clone() };
    Certificates { attestor, authority, metrics: Arc::clone(metrics) }
}
