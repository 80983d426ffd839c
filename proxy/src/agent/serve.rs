//! The process.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tokio::{sync::watch, time::timeout};
use tonic::transport::Server;
use tulle_redirect::rules::{SOURCE_V4, SOURCE_V6};
use tulle_runtime::{
    drain,
    http::{Handler, Names, TIME, serve_tcp, serve_unix, text},
    log::{self, Filter},
    metrics::Registry,
    ready::Readiness,
    signal,
    socket::bind_private,
};
use tulle_xds::sds::{Newest, SdsService};

use super::{
    BadFolder, Options, bootstrap,
    draining::Draining,
    files::{self, Folder},
    relay::Relay,
    secrets::{self, Metrics},
    socket::Socket,
};
use crate::{
    admin::{self, json_answer},
    config::Config,
    net::listen::bind,
    probe::{Application, Probe, Probes},
    tls::{Certs, enroll::Enrolment},
};

/// When files that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum AgentError {
    #[error("nothing to do: name at least one of --sds, --files and --ads")]
    Nothing,
    #[error(transparent)]
    Log(#[from] log::BadFilter),
    #[error(transparent)]
    Folder(#[from] BadFolder),
    #[error("cannot listen on {}: {error}; is its folder mounted and writable?", .path.display())]
    Socket { path: PathBuf, error: io::Error },
    #[error(
        "cannot listen on {address}: {error}; is another proxy running in this pod, or its port taken?"
    )]
    Listen { address: std::net::SocketAddr, error: io::Error },
    #[error("cannot write {}: {error}; is its folder mounted and writable?", .file.display())]
    Bootstrap { file: PathBuf, error: io::Error },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Runs until SIGTERM. Files stay: the application may outlive the agent for a while.
///
/// # Errors
/// What keeps it from starting. After that it goes on: what is missing shows in `/ready`.
pub fn run(config: Config, options: &Options) -> Result<(), AgentError> {
    let filter = log::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(serve(config, options, filter)))
}

async fn serve(config: Config, options: &Options, filter: Filter) -> Result<(), AgentError> {
    if options.sds.is_none() && options.files.is_none() && options.ads.is_none() {
        return Err(AgentError::Nothing);
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pod = config.pod.full_name(), "starting");
    let terminated = tokio::spawn(signal::terminate());
    let (readiness, registry, certs) = (Readiness::new(), Registry::of_process(), Certs::new());
    let starting = readiness.block("start");
    let metrics = Metrics::new(&registry);
    let envoy = options.sds.as_deref().map(bootstrap::envoy_admin);
    let draining = envoy.map(|envoy| Draining::new(envoy, config.drain_time));
    let admin =
        Admin { readiness: readiness.clone(), registry, certs: certs.clone(), filter, draining };
    let _admin_ends_last = serve_admin(&config, &admin)?;

    let (newest, secrets) = watch::channel(None);
    if let Some(folder) = &options.files {
        let folder = Folder::open(folder)?;
        tokio::spawn(keep_written(folder, secrets.clone(), readiness.clone()));
    }
    if let Some(path) = &options.sds {
        let socket =
            Socket::bind(path).map_err(|error| AgentError::Socket { path: path.clone(), error })?;
        serve_secrets(socket, secrets.clone());
    }
    if let Some(port) = options.ads {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let listener = bind(address).map_err(|error| AgentError::Listen { address, error })?;
        let control_plane = config.control_plane.clone();
        tokio::spawn(Relay { control_plane, certs: certs.clone() }.run(listener));
    }
    write_bootstraps(&config, options)?;
    let enrolment = Enrolment {
        control_plane: config.control_plane.clone(),
        token_file: config.token_file.clone(),
        certs: certs.clone(),
        hand_over: Some(Box::new(move |material| {
            newest.send_replace(Some(Arc::new(secrets::pem(material))));
        })),
    };
    tokio::spawn(enrolment.run(readiness.block("certificate")));
    tokio::spawn(secrets::watch_over(secrets, certs, metrics, readiness));
    drop(starting);
    terminated.await.map_err(io::Error::other)??;
    tracing::info!("ended");
    Ok(())
}

fn serve_secrets(socket: Socket, secrets: Newest) {
    let service = SdsService::new(secrets).into_server();
    let server = Server::builder().add_service(service);
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(socket.connections()).await {
            tracing::error!(%error, "secrets are not served any more; restart");
        }
    });
}

/// Writes each new certificate, again and again until it is written. Until the first one is, and while
/// the newest is not, that blocks the readiness.
async fn keep_written(folder: Folder, mut secrets: Newest, readiness: Readiness) {
    let mut blocker = Some(readiness.block("files"));
    loop {
        let newest = secrets.borrow_and_update().clone();
        let written = newest.map(|newest| folder.write(&newest));
        match &written {
            None => {}
            Some(Ok(())) => blocker = None,
            Some(Err(error)) => {
                tracing::error!(%error, "the certificate's files are not the newest");
                blocker.get_or_insert_with(|| readiness.block("files")).because(error);
            }
        }
        let wait = if matches!(written, Some(Err(_))) { AGAIN } else { Duration::MAX };
        if let Ok(Err(_ended)) = timeout(wait, secrets.changed()).await {
            return;
        }
    }
}

fn write_bootstraps(config: &Config, options: &Options) -> Result<(), AgentError> {
    let write = |file: &PathBuf, json: &serde_json::Value| {
        files::write_whole(file, &format!("{json:#}\n"))
            .map_err(|error| AgentError::Bootstrap { file: file.clone(), error })
    };
    if let (Some(file), Some(sds)) = (&options.envoy_bootstrap, &options.sds) {
        write(file, &bootstrap::envoy(config, sds))?;
    }
    if let (Some(file), Some(ads), Some(files)) =
        (&options.grpc_bootstrap, options.ads, &options.files)
    {
        write(file, &bootstrap::grpc(config, ads, files))?;
    }
    Ok(())
}

/// What the servers answer from.
#[derive(Debug, Clone)]
struct Admin {
    readiness: Readiness,
    registry: Registry,
    certs: Certs,
    filter: Filter,
    /// Of the Envoy beside us, if there is one.
    draining: Option<Draining>,
}

/// What answers on one of the pod's addresses.
#[derive(Debug)]
struct Status {
    admin: Admin,
    probes: Probes,
    /// The application at this address, beside an Envoy that its traffic is redirected to.
    application: Application,
}

impl Status {
    fn probe(&self, request: &Request<Bytes>) -> Option<&Probe> {
        let get = request.method() == Method::GET;
        get.then(|| self.probes.find(request.uri().path()))?
    }
}

impl Handler for Status {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let Some(probe) = self.probe(&request) else {
            return self.admin.status(&request);
        };
        match probe.hold() {
            Some(most) => {
                if let Some(draining) = &self.admin.draining {
                    draining.start();
                    // At the latest then.
                    let _in_time = timeout(most, draining.finished()).await.is_ok();
                }
                text(StatusCode::OK, "held\n")
            }
            None => probe.answer(&self.application, &request).await,
        }
    }

    /// A probe knows its own.
    fn limit(&self, request: &Request<Bytes>) -> Duration {
        self.probe(request).map_or(TIME, |_probe| Duration::MAX)
    }
}

impl Admin {
    /// Answers on the pod's addresses, but for probes.
    fn status(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ready") => admin::ready(&self.readiness.pending()),
            (&Method::GET | &Method::HEAD, "/started") => admin::ready(&self.readiness.starting()),
            (&Method::GET, "/metrics") => self.registry.scrape(request),
            _ => text(StatusCode::NOT_FOUND, "there is GET /ready, /started and /metrics\n"),
        }
    }

    /// Answers on the Unix socket.
    fn control(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/debug/certs") => json_answer(&serde_json::json!(self.certs.info())),
            (&Method::GET | &Method::POST, "/drain") => self.drain(request.method()),
            (&Method::PUT, "/log") => admin::set_filter(&self.filter, request.body()),
            (&Method::GET, "/ready" | "/started" | "/metrics") => self.status(request),
            _ => text(
                StatusCode::NOT_FOUND,
                "there is GET /ready, /started, /metrics, /debug/certs and /drain, POST /drain, and PUT /log \
                 with a filter such as `debug`\n",
            ),
        }
    }

    /// How far the draining is; a POST begins it. Where there is nothing to drain, it is over.
    fn drain(&self, method: &Method) -> Response<Bytes> {
        let Some(draining) = &self.draining else {
            return json_answer(&serde_json::json!("drained"));
        };
        if method == Method::POST {
            draining.start();
        }
        json_answer(&serde_json::json!(draining.state().as_str()))
    }
}

/// Serves readiness, metrics and the admin socket until what it returns is dropped.
fn serve_admin(config: &Config, admin: &Admin) -> Result<drain::Trigger, AgentError> {
    let (trigger, drain) = drain::channel();
    let names = Names::within([config.pod.namespace.clone()]);
    for ip in &config.pod.addresses {
        let address = (*ip, config.ports.status).into();
        let listener = bind(address).map_err(|error| AgentError::Listen { address, error })?;
        let source = match ip {
            IpAddr::V4(_) => SOURCE_V4.into(),
            IpAddr::V6(_) => SOURCE_V6.into(),
        };
        let status = Status {
            admin: admin.clone(),
            probes: config.probes.clone(),
            application: Application { address: *ip, source: Some(source) },
        };
        tokio::spawn(serve_tcp(listener, status, names.clone(), drain.clone()));
    }
    let path = config.admin_socket.clone();
    let listener = bind_private(&path).map_err(|error| AgentError::Socket { path, error })?;
    let admin = admin.clone();
    let handler = move |request| std::future::ready(admin.control(&request));
    tokio::spawn(serve_unix(listener, handler, drain));
    Ok(trigger)
}
