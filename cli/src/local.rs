//! `tulle local`: a mesh of real processes on this machine, without Kubernetes.
//!
//! It plays kubelet and controllers, and nothing else: what Deployments, Services and pods ask for, it
//! does with processes of this machine, each pod in namespaces of its own. The control plane is a pod
//! like the others; it reads the user's directory and the objects written here, and knows nothing of
//! being local.
//!
//! ```text
//! up ── unshare ── init (first process of the mesh's network, process and mount namespaces) ── runtime
//!                    directory → objects → controllers ─┐
//!                         pods' news, commands ─────────┴► cluster ─► pod ─► container ─► processes
//!                                                             └► publish: objects/, nft, DNS, status
//! status, logs, exec, forward, down ── control socket ──┘
//! ```
//!
//! **Invariants.** The whole mesh lives in one outer network, process and mount namespace, so the
//! kernel removes it when `up` dies, however that happens. `controllers` are functions: no process, no
//! clock, no file. `runtime/cluster` is the only writer of what is wanted; `pod` the only one that
//! starts processes in pods. A field without effect is named, never ignored.

mod admission;
mod client;
mod config;
mod control;
mod controllers;
mod directory;
mod dns;
mod honoured;
mod init;
mod network;
mod objects;
mod overview;
mod pod;
mod progress;
mod runtime;
mod state;
mod system;
mod token;
mod up;
mod verdict;

use std::{
    future::Future,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Subcommand, ValueEnum};
use tulle_control_plane::{inject::DataPlane, release::AllowedHost, telemetry::Prometheus};

use self::{
    client::{ClientError, Ports},
    network::Families,
    pod::launch::{Launch, StartError},
    runtime::RuntimeError,
    up::UpError,
};

/// Run a mesh of processes on this machine, without Kubernetes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a mesh from a directory of Kubernetes YAML; edits apply as they are saved.
    Up(UpArgs),
    /// Show pods, services, and everything that is not as it should be.
    Status(StatusArgs),
    /// Print what a container wrote.
    Logs(LogsArgs),
    /// Run a command in a container.
    Exec(ExecArgs),
    /// Open a pod's or a Service's port at an address of this machine, for example for a browser.
    Forward(ForwardArgs),
    /// End a mesh and remove everything of it.
    #[command(after_help = "Examples:\n  \
        tulle local down")]
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// The first process of the mesh's namespaces.
    #[command(hide = true)]
    Init {
        #[command(flatten)]
        name: Name,
    },
    /// The mesh itself, in its namespaces.
    #[command(hide = true)]
    Runtime {
        #[command(flatten)]
        name: Name,
    },
    /// The first process of a pod: holds its namespaces.
    #[command(hide = true)]
    Pause {
        #[arg(long)]
        hostname: String,
    },
    /// Becomes a container's command.
    #[command(hide = true)]
    Container {
        /// How to start it.
        launch: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Name of the mesh; several may run side by side.
    #[arg(long, default_value = MESH, value_parser = mesh_name)]
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle local up deploy/samples/bookstore\n  \
    tulle local up deploy/samples/bookstore --detach     and come back when everything is ready")]
struct UpArgs {
    /// Directory with Kubernetes YAML.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    name: Name,
    /// The sidecar: `tulle`, or `envoy` for stock Envoy with the same YAML. A pod's annotation
    /// tulle.dev/data-plane chooses for that pod.
    #[arg(long, value_name = "PROGRAM", default_value = "tulle")]
    data_plane: DataPlane,
    /// IP versions of pods and Services, the primary one first.
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        value_name = "FAMILIES",
        default_value = "ipv4,ipv6"
    )]
    ip_families: Families,
    /// How long a certificate is valid; it is renewed at half of that.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    certificate_lifetime: tulle_api::Duration,
    /// A Prometheus that scrapes the mesh, http://HOST:PORT as the control plane's pod reaches it: asked about what is longer ago
    /// than the control plane remembers, and what queries of releases ask.
    #[arg(long, value_name = "URL")]
    prometheus: Option<Prometheus>,
    /// Directory that says how it is asked, in files as Prometheus' own configuration has them: `ca_file`; `credentials_file`, or
    /// `username_file` and `password_file`. They are read at each question.
    #[arg(long, value_name = "DIR", requires = "prometheus")]
    prometheus_credentials: Option<PathBuf>,
    /// Hosts whose webhooks releases may call, as the control plane's pod knows them: a name, `*.` and a suffix, or an address;
    /// with a port unless that is 80 or 443. Repeatable.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    release_hosts: Vec<AllowedHost>,
    /// Leave the mesh running in the background.
    #[arg(long)]
    detach: bool,
    /// With --detach, return at once instead of when everything is ready.
    #[arg(long, requires = "detach")]
    no_wait: bool,
    /// Seconds to wait for everything to be ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

impl UpArgs {
    fn wait(&self) -> bool {
        !self.no_wait
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle local status\n  \
    tulle local status -o json | jq .problems")]
struct StatusArgs {
    #[command(flatten)]
    name: Name,
    /// For programs.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// JSON.
    Json,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle local logs bookstore/client -c tulle-proxy\n  \
    tulle local logs client -f")]
struct LogsArgs {
    /// The pod: its name, or the beginning of it up to a dash, with or without NAMESPACE/.
    pod: String,
    #[command(flatten)]
    name: Name,
    /// The container; by default the pod's first.
    #[arg(short, long)]
    container: Option<String>,
    /// Go on printing what it writes.
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle local exec bookstore/client -c client -- curl -s http://reviews:9080/reviews/1")]
struct ExecArgs {
    /// The pod: its name, or the beginning of it up to a dash, with or without NAMESPACE/.
    pod: String,
    #[command(flatten)]
    name: Name,
    /// The container; by default the pod's first.
    #[arg(short, long)]
    container: Option<String>,
    /// Command and arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle local forward svc/productpage 9080     http://127.0.0.1:9080 is it, until ctrl-C\n  \
    tulle local forward reviews-v1 :9080         at a port that is free")]
struct ForwardArgs {
    /// A pod as for `exec`, or svc/NAME or svc/NAMESPACE/NAME.
    #[arg(value_name = "POD|svc/NAME")]
    target: String,
    #[command(flatten)]
    name: Name,
    /// The port, and before it the one of 127.0.0.1 that leads there, if that is another; `:PORT` takes
    /// one that is free.
    #[arg(value_name = "[LOCAL:]PORT")]
    ports: Ports,
}

/// Why a `tulle local` command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Starting a mesh.
    #[error(transparent)]
    Up(#[from] UpError),
    /// Speaking to a running one.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Being one.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Becoming a container.
    #[error("the container was not started: {0}")]
    Start(#[from] StartError),
    /// The process itself.
    #[error("{doing}: {source}")]
    Process {
        /// While doing this.
        doing: &'static str,
        /// What happened.
        source: io::Error,
    },
}

/// Runs the command.
///
/// # Errors
/// See [`Error`].
pub(crate) fn run(args: Args) -> Result<ExitCode, Error> {
    match args.command {
        Command::Up(args) => block_on(up::up(args)),
        Command::Status(args) => block_on(client::status(&args)),
        Command::Logs(args) => block_on(client::logs(&args)),
        Command::Exec(args) => block_on(client::exec(&args)),
        Command::Forward(args) => block_on(client::forward(&args)),
        Command::Down { name } => block_on(client::down(&name.name)),
        Command::Init { name } => init::run(&name.name).map_err(process("running the mesh")),
        Command::Runtime { name } => block_on(async {
            runtime::run(&name.name).await?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Pause { hostname } => pause(&hostname).map_err(process("holding a pod")),
        Command::Container { launch } => become_container(&launch),
    }
}

/// What a mesh is called that was given no name.
pub(crate) const MESH: &str = "default";

/// Whether a mesh of this name runs.
pub(crate) fn runs(name: &str) -> bool {
    state::State::of(name).socket().exists()
}

/// The admin socket of the control plane of this mesh.
pub(crate) fn control_plane_socket(name: &str) -> PathBuf {
    state::State::of(name).control_plane().join("admin.sock")
}

/// What a command writes to stdout in a container of a mesh; for other commands of `tulle`. `pod` may
/// be the beginning of its name, with or without `NAMESPACE/`.
///
/// # Errors
/// If the mesh, the pod or the container is not there, or the command failed.
pub(crate) fn exec_output(
    name: &str,
    pod: &str,
    container: &str,
    argv: &[&str],
) -> Result<String, Error> {
    let argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
    block_on(async { Ok(client::exec_output(name, pod, container, &argv).await?) })
}

/// One thread does: the work is done by the processes.
///
/// It must be the first thread, too: a process started by `up` ends with the thread that started it.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(process("starting"))?.block_on(work)
}

/// Prepares the pod's namespaces, says so with one byte, and holds them until stdin is closed.
fn pause(hostname: &str) -> io::Result<ExitCode> {
    std::fs::write("/proc/sys/kernel/hostname", hostname)?;
    network::prepare_pod()?;
    io::stdout().write_all(b"+")?;
    io::stdout().flush()?;
    let mut until_closed = Vec::new();
    io::stdin().read_to_end(&mut until_closed)?;
    Ok(ExitCode::SUCCESS)
}

fn become_container(path: &std::path::Path) -> Result<ExitCode, Error> {
    let text = std::fs::read(path).map_err(process("reading the container's description"))?;
    let launch: Launch = serde_json::from_slice(&text)
        .map_err(|error| process("reading the container's description")(error.into()))?;
    match launch.become_container()? {}
}

fn process(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Process { doing, source }
}

/// Names are parts of paths.
fn mesh_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 40 && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err("up to 40 lower-case letters, digits and dashes".to_owned())
    }
}
