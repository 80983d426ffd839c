//! `tulle-control-plane`.

use std::process::ExitCode;

use clap::Parser;
use tulle_control_plane::{config::Config, run};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = tulle_runtime::log::init(&config.log) {
        return fail(&error);
    }
    let outcome = serve(config).await;
    tulle_runtime::log::flush();
    outcome
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
