//! `tulle proxy`: what one sidecar knows, as its data path reads it.

mod config;
mod table;

use std::{error, io, io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::Value;
use tulle_control_plane::inject::PROXY;

use crate::local;

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
}

/// Print the configuration that is in force, and which object set it.
///
/// A sidecar asks only for what its pod has used: a Service that was never called is not there.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle proxy config bookstore/client-6b8f-x2x9k              everything\n  \
    tulle proxy config bookstore/client-6b8f-x2x9k endpoints    who may get requests, and who has some\n  \
    tulle proxy config bookstore/client-6b8f-x2x9k -o json      as the proxy says it")]
struct ConfigArgs {
    /// The pod, `NAMESPACE/NAME` or `NAME`, as `tulle local status` lists it.
    #[arg(value_name = "POD")]
    pod: String,
    /// Only this part.
    section: Option<Section>,
    /// Name of the mesh, if it was started with one.
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
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
    /// Stdout is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Asks the sidecar and prints the answer.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let Command::Config(args) = &args.command;
    let mut dump = match ask(args, "/debug/config") {
        Ok(dump) => dump,
        Err(error) => return envoy(args).map_err(|_other| error),
    };
    if matches!(args.section, None | Some(Section::Certs)) {
        dump["certificate"] = ask(args, "/debug/certs")?;
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
fn envoy(args: &ConfigArgs) -> Result<ExitCode, Error> {
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
    let dump = ask_with(args, &["env", ENVOY_SOCKET, "tulle-proxy", "ctl", path])?;
    io::stdout().lock().write_all(format!("{dump:#}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Where Envoy's admin pages are, for `tulle-proxy ctl`.
const ENVOY_SOCKET: &str = "TULLE_ADMIN_SOCKET=/run/tulle/envoy-admin.sock";

fn ask(args: &ConfigArgs, path: &str) -> Result<Value, Error> {
    ask_with(args, &["tulle-proxy", "ctl", path])
}

fn ask_with(args: &ConfigArgs, command: &[&str]) -> Result<Value, Error> {
    let pod = &args.pod;
    let answer = local::exec_output(&args.name, pod, PROXY, command)
        .map_err(|source| Error::Ask { pod: pod.clone(), source: Box::new(source) })?;
    serde_json::from_str(&answer).map_err(|source| Error::Answer { pod: pod.clone(), source })
}
