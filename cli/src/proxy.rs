//! `tulle proxy`: what one sidecar knows, as its data path reads it.

mod config;
mod status;

use std::{error, io, io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::Value;
use tulle_control_plane::inject::PROXY;

use crate::{
    cluster::{Reach, pods},
    local,
};

/// Look into a sidecar.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the configuration that is in force, and which object set it.
    Config(ConfigArgs),
    /// List every sidecar of a cluster, and how it stands.
    Status(StatusArgs),
}

/// List every sidecar of a cluster, and how it stands.
///
/// SYNCED: how many resources it uses, if it has accepted the latest version of all of them; else of how many it has.
/// REJECTED: the first one that it does not understand; what it had before stays in force. `no stream`: no replica of the
/// control plane tells it anything; it serves with what it knows.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle proxy status\n  \
    tulle proxy status -o json | jq '.[] | select(.rejected)'\n\n\
    Exit codes: 0 all are in sync, 1 some are not.")]
struct StatusArgs {
    /// Namespace of the control plane.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "tulle-system")]
    namespace: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    reach: Reach,
}

/// Print the configuration that is in force, and which object set it.
///
/// A sidecar asks only for what its pod has used: a Service that was never called is not there.
///
/// The pod is one of the cluster that KUBECONFIG, --kubeconfig or --context say; without any of them one of `tulle local`, if
/// that runs.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle proxy config bookstore/client-6b8f-x2x9k              everything\n  \
    tulle proxy config bookstore/client-6b8f-x2x9k endpoints    who may get requests, and who has some\n  \
    tulle proxy config bookstore/client-6b8f-x2x9k -o json      as the proxy says it\n  \
    tulle proxy config client --name default                    of `tulle local`, whatever KUBECONFIG says")]
struct ConfigArgs {
    /// The pod, `NAMESPACE/NAME` or `NAME`, or the beginning of it, as `tulle proxy status` and `tulle local status` list it.
    #[arg(value_name = "POD")]
    pod: String,
    /// Only this part.
    section: Option<Section>,
    /// Ask the mesh of `tulle local` that was started under this name, and no cluster.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kubeconfig", "context"])]
    name: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    reach: Reach,
}

/// A part of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Addresses, and what they stand for.
    Listeners,
    /// Rules for HTTP requests.
    Routes,
    /// Where requests can go, and the settings for it.
    Clusters,
    /// The pods behind it.
    Endpoints,
    /// Settings of the sidecar itself that its pod or the MeshConfig say.
    Settings,
    /// The sidecar's own identity and certificate.
    Certs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The pod could not be asked.
    #[error("cannot ask the sidecar of {pod}")]
    Ask {
        /// The pod.
        pod: String,
        /// Why.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// Its answer is no JSON: most likely another version.
    #[error(
        "the sidecar of {pod} answered what this version of tulle does not understand: {source}"
    )]
    Answer {
        /// The pod.
        pod: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The cluster does not help.
    #[error(transparent)]
    Cluster(#[from] pods::Error),
    /// Stdout is gone, or there is no runtime.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Asks, and prints the answer.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.command {
        Command::Config(args) => print_config(args),
        Command::Status(args) => print_status(args),
    }
}

fn print_status(args: &StatusArgs) -> Result<ExitCode, Error> {
    let lines = runtime()?.block_on(async {
        let client = args.reach.client().await.map_err(pods::Error::from)?;
        Box::pin(status::lines(&client, &args.namespace)).await
    })?;
    let text = match args.output {
        Format::Json => format!("{:#}\n", serde_json::json!(lines)),
        Format::Table => status::table(&lines),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    let all = lines.iter().all(status::Line::synced);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_config(args: &ConfigArgs) -> Result<ExitCode, Error> {
    let sidecar = Sidecar::find(args)?;
    let mut dump = match sidecar.ask("/debug/config") {
        Ok(dump) => dump,
        Err(error) => return envoy(args, &sidecar).map_err(|_other| error),
    };
    if matches!(args.section, None | Some(Section::Certs)) {
        dump["certificate"] = sidecar.ask("/debug/certs")?;
    }
    let text = match args.output {
        Format::Json => format!("{dump:#}\n"),
        Format::Table => config::render(&dump, args.section),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what stock Envoy says of itself, if that is the sidecar: each resource with the object that
/// it comes from, in its metadata.
fn envoy(args: &ConfigArgs, sidecar: &Sidecar) -> Result<ExitCode, Error> {
    let path = match args.section {
        None => "/config_dump?include_eds",
        Some(Section::Listeners) => "/config_dump?resource=dynamic_listeners",
        Some(Section::Routes) => "/config_dump?resource=dynamic_route_configs",
        Some(Section::Clusters) => "/config_dump?resource=dynamic_active_clusters",
        Some(Section::Endpoints) => "/config_dump?include_eds&resource=dynamic_endpoint_configs",
        Some(Section::Certs) => "/certs",
        // Of these Envoy has what becomes of `x-forwarded-client-cert`, in its listener.
        Some(Section::Settings) => "/config_dump?resource=dynamic_listeners",
    };
    let dump = sidecar.run(&["env", ENVOY_SOCKET, "tulle-proxy", "ctl", path])?;
    io::stdout().lock().write_all(format!("{dump:#}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Where Envoy's admin pages are, for `tulle-proxy ctl`.
const ENVOY_SOCKET: &str = "TULLE_ADMIN_SOCKET=/run/tulle/envoy-admin.sock";

/// A sidecar, and how it is reached: a program in its container asks it.
enum Sidecar {
    /// Of `tulle local`: the mesh, and the pod.
    Local(String, String),
    /// Of a cluster.
    Cluster(tokio::runtime::Runtime, kube::Client, (String, String)),
}

impl Sidecar {
    fn find(args: &ConfigArgs) -> Result<Self, Error> {
        let pod = args.pod.clone();
        if let Some(mesh) = &args.name {
            return Ok(Self::Local(mesh.clone(), pod));
        }
        if !args.reach.is_said() && local::runs(local::MESH) {
            return Ok(Self::Local(local::MESH.to_owned(), pod));
        }
        let runtime = runtime()?;
        let (client, found) = runtime.block_on(async {
            let client = args.reach.client().await.map_err(pods::Error::from)?;
            let all = pods::injected(&client).await?;
            let found = pods::find(&all, &pod)?.clone();
            Ok::<_, pods::Error>((client, found))
        })?;
        Ok(Self::Cluster(runtime, client, found))
    }

    fn ask(&self, path: &str) -> Result<Value, Error> {
        self.run(&["tulle-proxy", "ctl", path])
    }

    fn run(&self, command: &[&str]) -> Result<Value, Error> {
        let (pod, answer) = match self {
            Self::Local(mesh, pod) => {
                let answer = local::exec_output(mesh, pod, PROXY, command);
                let ask = |source| Error::Ask { pod: pod.clone(), source: Box::new(source) };
                (pod.clone(), answer.map_err(ask)?)
            }
            Self::Cluster(runtime, client, (namespace, name)) => {
                let pod = (namespace.as_str(), name.as_str());
                let answer = runtime.block_on(pods::exec(client, pod, PROXY, command))?;
                (format!("{namespace}/{name}"), answer)
            }
        };
        serde_json::from_str(&answer).map_err(|source| Error::Answer { pod, source })
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
