//! `tulle-proxy run`: the process.
//!
//! ```text
//!  this thread     enrolment, xDS, mesh, admin          one current-thread runtime
//!  worker threads  outbound and inbound connections     one current-thread runtime each
//! ```
//!
//! Workers share a port by `SO_REUSEPORT` and nothing of a connection. What is slow or rare (a
//! certificate, a dump, a scrape) never runs on their threads.

mod draining;

pub use draining::{DrainState, Draining, HOLD, Load};

use std::{
    io,
    mem::replace,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{join_all, pending},
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::sleep,
};
use tonic::transport::Channel;
use tulle_runtime::{
    drain::{self, Drain},
    http::{Names, serve_tcp, serve_unix},
    log::{self, Lines},
    metrics::Registry,
    pages,
    ready::Readiness,
    signal,
    socket::bind_private,
};
use tulle_xds::{client, model::Features, protocol::Node};

use crate::{
    admin::{Admin, Status},
    config::{Config, Ports},
    context::{Context, Settings, Shared},
    dns::{Dns, Resolvers},
    inbound,
    mesh::{Store, Sync},
    net::listen::bind,
    outbound,
    probe::Application,
    telemetry::{self, Export, Metrics, Pace, Told},
    tls::{
        Certs,
        control_plane::{As, Connection, ControlPlane},
        enroll::Enrolment,
        expiry,
    },
};

/// How long requests in flight may take to end. Kubernetes grants a pod 30 s by default.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// How long the last access log lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long after its first certificate a proxy gives back pages for the first time; each time after that it waits ten times
/// as long.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Up to this.
const LAST_REST: Duration = Duration::from_secs(3600);
/// Processor time that a proxy at rest uses within a second, at most.
const AT_REST: Duration = Duration::from_millis(1);

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum RunError {
    #[error(transparent)]
    Log(#[from] log::BadFilter),
    #[error(
        "cannot listen on {address}: {error}; is another proxy running in this pod, or is the address not (yet) the pod's?"
    )]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot listen on the admin socket {}: {error}; is its folder mounted and writable?", .path.display())]
    AdminSocket { path: PathBuf, error: io::Error },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error(
        "cannot read /etc/resolv.conf, whose resolvers are asked what the mesh does not know: {0}"
    )]
    Resolvers(io::Error),
    #[error("a worker thread ended before it listened")]
    Worker,
}

/// Runs until SIGTERM and the end of what is in flight.
///
/// # Errors
/// What keeps it from starting. Once it listens it goes on: what is missing then shows in `/ready`.
pub fn run(config: Config) -> Result<(), RunError> {
    let filter = log::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(serve(config, filter)))
}

async fn serve(config: Config, filter: log::Filter) -> Result<(), RunError> {
    let (version, pod) = (env!("CARGO_PKG_VERSION"), config.pod.full_name());
    tracing::info!(version, pod, workers = config.workers, "starting");
    // Before anything else, so that no signal ends the process half-way.
    let terminated = tokio::spawn(signal::terminate());
    let readiness = Readiness::new();
    let listening = readiness.block("listeners");
    let registry = Registry::of_process();
    let (store, certs, connections) = learn(&config, &readiness, Told::new(&registry));
    serve_dns(&config, &store, telemetry::Dns::new(&registry)).await?;
    let metrics = Metrics::new(&registry);
    let (last, to_the_last) = watch::channel(());
    let reports =
        tokio::spawn(metrics.reporter(certs.clone(), store.clone()).run(connections, to_the_last));
    let addresses = config.pod.addresses.clone();
    let (lines, settings) = (Lines::stdout(), Settings { addresses, ..config.settings.clone() });
    let shared = Shared::new(store.clone(), certs.clone(), lines.clone(), metrics, settings);
    telemetry::count_refusals(&registry, shared.connections.clone(), lines.clone());
    telemetry::register_clusters(&registry, store.clone());
    let (told_all, tells) = oneshot::channel::<()>();
    let export = Export::new(store.clone(), shared.metrics.clone(), Pace::default());
    let export = tokio::spawn(Box::pin(export.run(tells.map(drop))));
    let (mut inbound, inbound_drain) = drain::channel();
    let (mut outbound, outbound_drain) = drain::channel();
    let hold = config.drain_time.or_else(|| config.probes.hold()).unwrap_or(HOLD);
    let draining = Draining::new(readiness.clone(), hold);
    let admin =
        Admin { readiness, metrics: registry, store, certs, draining: draining.clone(), filter };
    let _admin_ends_last = serve_admin(&config, admin, &shared.settings())?;

    let (end, ended) = watch::channel(());
    let drains = (outbound_drain, inbound_drain);
    let workers = work(&config, &shared, drains, ended).await?;
    drop(listening);
    tokio::spawn(rest(shared.certs.clone()));

    let drains = draining.clone().run(&inbound, || shared.locals.load());
    let signal = tokio::select! {
        biased;
        signal = terminated => signal.map_err(io::Error::other)?,
        never = drains.then(|()| pending()) => never,
    };
    signal?;
    tracing::info!(deadline = ?DRAIN_DEADLINE, "told to end, draining");
    draining.start();
    draining.finish();
    inbound.start();
    outbound.start();
    let both = async {
        outbound.finished().await;
        inbound.finished().await;
    };
    if tokio::time::timeout(DRAIN_DEADLINE, both).await.is_err() {
        tracing::warn!(
            inbound = shared.connections.inbound.open(),
            outbound = shared.connections.outbound.open(),
            "the deadline has passed, closing the rest"
        );
    }
    drop(end);
    let join = tokio::task::spawn_blocking(move || workers.into_iter().all(|w| w.join().is_ok()));
    if !join.await.unwrap_or(false) {
        tracing::error!("a worker thread panicked");
    }
    drop(last);
    if reports.await.is_err() {
        tracing::error!("the task that reports panicked");
    }
    // No request is under way any more.
    drop(told_all);
    if export.await.is_err() {
        tracing::error!("the task that sends telemetry panicked");
    }
    lines.flush(LAST_LINES);
    tracing::info!("ended");
    Ok(())
}

/// Starts what is told to this proxy: certificates, and the mesh once there is one. Each blocks
/// `readiness` until it is there. Also tells which connection it comes by.
fn learn(config: &Config, readiness: &Readiness, metrics: Told) -> (Store, Certs, Connection) {
    let certs = Certs::new();
    let (connected, connections) = watch::channel(None);
    let (client, handle, events) = client::Client::new(client::ClientConfig {
        node: Node {
            id: config.pod.full_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: Features::default(),
        },
        connect: connector(config.control_plane.clone(), certs.clone(), connected),
    });
    let enrolment = Enrolment {
        control_plane: config.control_plane.clone(),
        token_file: config.token_file.clone(),
        certs: certs.clone(),
        hand_over: None,
    };
    tokio::spawn(enrolment.run(readiness.block("certificate")));
    tokio::spawn(expiry::watch(certs.clone(), readiness.clone(), metrics.clone()));
    let (store, sync) = Sync::new(handle, events, readiness, metrics);
    tokio::spawn(sync.run());
    let enrolled = certs.clone();
    // Without a certificate there is nothing to connect with, and no failure worth a line.
    tokio::spawn(async move {
        enrolled.installed().await;
        client.run().await;
    });
    (store, certs, connections)
}

/// Gives back what a proxy at rest does not need: first what only its start did, and then, ever more seldom, what it has
/// used for a while. Whatever comes next gets its code back from the page cache, at a fault each 64 KiB.
async fn rest(certs: Certs) {
    certs.installed().await;
    let mut pause = FIRST_REST;
    loop {
        sleep(pause).await;
        let mut used = pages::cpu_time();
        loop {
            sleep(Duration::from_secs(1)).await;
            let before = replace(&mut used, pages::cpu_time());
            if used - before <= AT_REST {
                break;
            }
        }
        match pages::forget_code() {
            Ok(bytes) => tracing::debug!(bytes, "pages of code given back"),
            Err(error) => return tracing::debug!(%error, "pages of code stay"),
        }
        pause = (pause * 10).min(LAST_REST);
    }
}

/// Answers DNS, if that is redirected here.
async fn serve_dns(
    config: &Config,
    store: &Store,
    metrics: telemetry::Dns,
) -> Result<(), RunError> {
    let Some(port) = config.ports.dns else {
        return Ok(());
    };
    let resolvers = Resolvers::of_this_pod().map_err(RunError::Resolvers)?;
    let dns = Dns::new(store.clone(), metrics, &config.pod.addresses);
    let served = dns.serve(port, &resolvers).await;
    served.map_err(|(address, error)| RunError::Listen { address, error })
}

/// Starts the workers; returns once all of them listen.
async fn work(
    config: &Config,
    shared: &Arc<Shared>,
    drains: (Drain, Drain),
    ended: watch::Receiver<()>,
) -> Result<Vec<thread::JoinHandle<()>>, RunError> {
    let addresses = Addresses::of(config);
    let mut workers = Vec::new();
    for _ in 0..config.workers.get() {
        let worker = Worker {
            shared: Arc::clone(shared),
            addresses: addresses.clone(),
            drains: drains.clone(),
            ended: ended.clone(),
        };
        workers.push(worker.start().await?);
    }
    tracing::info!(?addresses, "listening");
    Ok(workers)
}

/// Fresh connections for xDS, each with the certificate of the moment. What else there is to say goes by the same one.
fn connector(
    control_plane: ControlPlane,
    certs: Certs,
    connected: watch::Sender<Option<Channel>>,
) -> client::Connect {
    let to = Arc::new((control_plane, certs, connected));
    Arc::new(move || {
        let to = Arc::clone(&to);
        async move {
            let (control_plane, certs, connected) = &*to;
            let channel = Box::pin(control_plane.connect(certs, As::Workload)).await?;
            connected.send_replace(Some(channel.clone()));
            Ok(channel)
        }
        .boxed()
    })
}

/// Serves readiness, metrics and the admin socket until what it returns is dropped.
fn serve_admin(
    config: &Config,
    admin: Admin,
    settings: &Settings,
) -> Result<drain::Trigger, RunError> {
    let (trigger, drain) = drain::channel();
    let names = Names::within([config.pod.namespace.clone()]);
    for ip in &config.pod.addresses {
        let address = SocketAddr::new(*ip, config.ports.status);
        let listener = bind(address).map_err(|error| RunError::Listen { address, error })?;
        let status = Status {
            admin: admin.clone(),
            probes: config.probes.clone(),
            // At the address that the kubelet chose, as it would itself.
            application: Application { address: *ip, source: settings.source_for(*ip) },
        };
        tokio::spawn(serve_tcp(listener, status, names.clone(), drain.clone()));
    }
    let path = config.admin_socket.clone();
    let listener = bind_private(&path).map_err(|error| RunError::AdminSocket { path, error })?;
    let handler = move |request| std::future::ready(admin.control(&request));
    tokio::spawn(serve_unix(listener, handler, drain));
    Ok(trigger)
}

/// Where workers listen.
#[derive(Debug, Clone)]
struct Addresses {
    outbound: Vec<SocketAddr>,
    inbound: Vec<SocketAddr>,
}

impl Addresses {
    /// Outbound on loopback only: a stranger must not borrow this pod's identity.
    fn of(config: &Config) -> Self {
        let Ports { outbound, inbound, .. } = config.ports;
        let mut loopback: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        if has_ipv6() {
            loopback.push(Ipv6Addr::LOCALHOST.into());
        }
        let on = |ips: &[IpAddr], port| ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        Self { outbound: on(&loopback, outbound), inbound: on(&config.pod.addresses, inbound) }
    }
}

/// Whether `::1` can be bound: not if the kernel or the pod's network has IPv6 switched off.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// One thread of the data path.
struct Worker {
    shared: Arc<Shared>,
    addresses: Addresses,
    drains: (Drain, Drain),
    /// Ends when all shall be closed.
    ended: watch::Receiver<()>,
}

impl Worker {
    /// Returns once it listens.
    async fn start(self) -> Result<thread::JoinHandle<()>, RunError> {
        let (listening, listens) = oneshot::channel();
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(self.work(listening)),
                Err(error) => drop(listening.send(Err(error.into()))),
            }
        })?;
        listens.await.map_err(|_dropped| RunError::Worker)??;
        Ok(thread)
    }

    async fn work(self, listening: oneshot::Sender<Result<(), RunError>>) {
        let Self { shared, addresses, drains: (outbound_drain, inbound_drain), mut ended } = self;
        let bound = bind_all(&addresses.outbound)
            .and_then(|outbound| Ok((outbound, bind_all(&addresses.inbound)?)));
        let (outbound, inbound) = match bound {
            Ok(bound) => bound,
            Err(error) => return drop(listening.send(Err(error))),
        };
        let context = Context::new(shared);
        let serving = outbound
            .into_iter()
            .map(|listener| {
                outbound::serve(Arc::clone(&context), listener, outbound_drain.clone()).boxed()
            })
            .chain(inbound.into_iter().map(|listener| {
                inbound::serve(Arc::clone(&context), listener, inbound_drain.clone()).boxed()
            }))
            .collect::<Vec<_>>();
        drop((outbound_drain, inbound_drain));
        let heard = listening.send(Ok(()));
        if heard.is_ok() {
            join_all(serving).await;
            // What is in flight goes on, in tasks of its own, until the process says that it is over.
            let _over = ended.changed().await.is_err();
        }
    }
}

fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, RunError> {
    let listen = |address: &SocketAddr| {
        bind(*address).map_err(|error| RunError::Listen { address: *address, error })
    };
    addresses.iter().map(listen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_use_what_is_the_pods() {
        let config = Config::for_tests(&[
            ("TULLE_POD_NAME", "web-0"),
            ("TULLE_POD_NAMESPACE", "shop"),
            ("TULLE_POD_UID", "12ab"),
            ("TULLE_POD_IPS", "10.244.0.7,fd00:10:244::7"),
        ]);
        let Addresses { outbound, inbound } = Addresses::of(&config);
        assert!(outbound.iter().all(|address| address.ip().is_loopback()), "{outbound:?}");
        assert!(outbound.contains(&(Ipv4Addr::LOCALHOST, config.ports.outbound).into()));
        let own = |ip: &IpAddr| SocketAddr::new(*ip, config.ports.inbound);
        assert_eq!(inbound, config.pod.addresses.iter().map(own).collect::<Vec<_>>());
    }
}
