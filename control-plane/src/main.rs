//! `tulle-control-plane`.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use http::Method;
use tulle_control_plane::{config::Config, run};
use tulle_runtime::http::ask;

// Reports and questions are many small pieces: taking in those of a mesh of 1,000 workloads took 19 ms of CPU a second with
// glibc's allocator, and 11 with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Print an answer of the running control plane's admin socket.
#[derive(Debug, Parser)]
#[command(name = "tulle-control-plane ctl")]
struct Ctl {
    /// What to get, for example /debug/streams.
    path: String,
    /// The socket.
    #[arg(long, value_name = "PATH", default_value = "/run/tulle/admin.sock")]
    admin_socket: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    // For `kubectl exec` and `tulle proxy status`: the image has no other program that could ask.
    if env::args_os().nth(1).is_some_and(|first| first == "ctl") {
        return match ctl(&Ctl::parse_from(env::args_os().skip(1))).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&*error),
        };
    }
    let config = Config::parse();
    if let Err(error) = tulle_runtime::log::init(&config.log) {
        return fail(&error);
    }
    let outcome = serve(config).await;
    tulle_runtime::log::flush();
    outcome
}

async fn ctl(ctl: &Ctl) -> Result<(), Box<dyn std::error::Error>> {
    let (status, body) = ask(&ctl.admin_socket, Method::GET, &ctl.path).await?;
    io::stdout().write_all(&body)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("{}: {status}", ctl.path).into()),
    }
}

async fn serve(config: Config) -> ExitCode {
    match Box::pin(run::start(config)).await {
        Ok(control_plane) => {
            let mut outcome = ExitCode::SUCCESS;
            let stop = async {
                if let Err(error) = tulle_runtime::signal::terminate().await {
                    outcome = fail(&error);
                }
            };
            control_plane.run_until(stop).await;
            outcome
        }
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "whoever started it reads this, not a log collector")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    tulle_runtime::log::flush();
    eprintln!("tulle-control-plane: {error}");
    ExitCode::FAILURE
}
