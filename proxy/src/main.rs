//! The sidecar's program.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use http::Method;
use tokio::time::{Instant, sleep};
use tulle_proxy::{
    agent, config,
    run::{self, DRAIN_DEADLINE},
};
use tulle_redirect::{
    proof,
    rules::{self, Options},
};
use tulle_runtime::{http::ask, log};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often `drain` asks whether it is over.
const POLL: Duration = Duration::from_millis(50);

/// Tulle's data plane: the sidecar of one pod
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve; settings are environment variables TULLE_*
    Run,
    /// Enrol for a data plane that cannot do so itself, Envoy or gRPC; settings as for `run`
    Agent(agent::Options),
    /// Redirect the pod's traffic to the sidecar (needs NET_ADMIN)
    Redirect(Redirect),
    /// End inbound traffic of the running proxy, and wait until it has ended
    Drain,
    /// Print an answer of the running proxy's admin socket
    Ctl {
        /// What to get, for example /debug/config
        path: String,
    },
}

/// How the pod's traffic comes to the sidecar.
#[derive(Debug, clap::Args)]
struct Redirect {
    #[command(flatten)]
    options: Options,
    /// Print the rules for nft, and change nothing
    #[arg(long)]
    print: bool,
    /// Wait until somebody else, tulle-cni, has redirected it, and change nothing (needs no right)
    #[arg(long, conflicts_with = "print")]
    wait: bool,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Action::Run => serve(),
        Action::Agent(options) => config::Config::from_environment()
            .map_err(Failure::from)
            .and_then(|config| agent::run(config, &options).map_err(Failure::from)),
        Action::Redirect(asked) => redirect(&asked),
        Action::Drain => block_on(drain(&config::admin_socket())),
        Action::Ctl { path } => block_on(ctl(&config::admin_socket(), &path)),
    };
    log::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed nobody reads it anyway.
            let _closed = writeln!(io::stderr(), "tulle-proxy: {error}").is_err();
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Failure> {
    Ok(run::run(config::Config::from_environment()?)?)
}

fn redirect(asked: &Redirect) -> Result<(), Failure> {
    if asked.wait {
        return block_on(async { Ok(proof::wait(&asked.options).await?) });
    }
    if asked.print {
        return Ok(io::stdout().write_all(rules::script(&asked.options)?.as_bytes())?);
    }
    Ok(rules::run(&asked.options)?)
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Starts the drain and returns when it is over, or its deadline has passed.
async fn drain(socket: &Path) -> Result<(), Failure> {
    ask(socket, Method::POST, "/drain").await?;
    let deadline = Instant::now() + DRAIN_DEADLINE;
    while Instant::now() < deadline {
        // A proxy that is gone has drained.
        let Ok((_, state)) = ask(socket, Method::GET, "/drain").await else {
            break;
        };
        if state.trim_ascii() == b"\"drained\"" {
            break;
        }
        sleep(POLL).await;
    }
    Ok(())
}

async fn ctl(socket: &Path, path: &str) -> Result<(), Failure> {
    let (status, body) = ask(socket, Method::GET, path).await?;
    io::stdout().write_all(&body)?;
    if !status.is_success() {
        return Err(format!("{path}: {status}").into());
    }
    Ok(())
}
