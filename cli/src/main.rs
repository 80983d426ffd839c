//! `tulle`: the mesh from a terminal.
//!
//! Each subcommand is one file. Results go to stdout, warnings and errors to stderr. Exit codes: 0
//! done, 1 failed (the reason is on stderr), 2 wrong usage; `tulle local exec` gives the exit code
//! of what it ran, `tulle release get -w --exit` says with 3 and 4 what became of a release, `tulle lane check` with the same
//! what is known of a lane.

mod check;
mod cluster;
mod completion;
mod dashboard;
mod edges;
mod inject;
mod install;
mod lane;
mod local;
mod observe;
mod proxy;
mod release;
mod stat;
mod table;
mod tap;
mod top;
mod wait;

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

/// Tulle, a service mesh.
#[derive(Debug, Parser)]
#[command(
    name = "tulle",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        tulle local up deploy/samples/bookstore    a mesh on this machine, without Kubernetes\n  \
        tulle install                              into the cluster of your KUBECONFIG\n  \
        tulle check                                what is wrong with it, and what to do\n  \
        tulle inject -f deploy.yaml                the same YAML with sidecars\n  \
        tulle wait -f policy.yaml                  until it is in force\n  \
        tulle stat                                 how all workloads do\n  \
        tulle release get reviews -w               how a new version does, and what speaks against it\n  \
        tulle lane check pr-1234 -n shop           which hop loses the requests of a lane\n  \
        tulle dashboard                            the same and more, in a browser\n  \
        tulle tap -n shop payments --failed        what just failed, and why\n  \
        tulle proxy config reviews-v1-6b8f-x2x9k   what one sidecar knows"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a mesh of processes on this machine, without Kubernetes.
    Local(local::Args),
    /// Install Tulle into a cluster.
    Install(install::Args),
    /// Find out whether Tulle is healthy, or can be installed.
    Check(check::Args),
    /// Bring an installation to this version, or to other values.
    Upgrade(install::Upgrade),
    /// Remove Tulle from a cluster.
    Uninstall(install::Uninstall),
    /// Add the sidecar to the pods in Kubernetes YAML.
    Inject(inject::Args),
    /// Wait until routes and policies are in force.
    Wait(wait::Args),
    /// How workloads do: requests, success, latency, mTLS.
    Stat(stat::Args),
    /// Who calls whom, and how.
    Edges(edges::Args),
    /// By which rules a workload or Service is called, as it happens.
    Top(top::Args),
    #[command(visible_alias = "canary")]
    Release(Box<release::Args>),
    Lane(lane::Args),
    /// Open the dashboard in a browser.
    Dashboard(dashboard::Args),
    /// What just happened and what happens: requests and connections, one by one.
    Tap(Box<tap::Args>),
    /// Look into a sidecar.
    Proxy(proxy::Args),
    /// Print the script by which a shell completes commands and options.
    Completion(completion::Args),
    /// Print the version of this program.
    Version,
}

fn main() -> ExitCode {
    let outcome: Result<ExitCode, Box<dyn Error>> = match Cli::parse().command {
        Command::Local(args) => local::run(args).map_err(Into::into),
        Command::Install(args) => install::run(&args).map_err(Into::into),
        Command::Check(args) => check::run(&args).map_err(Into::into),
        Command::Upgrade(args) => install::upgrade(&args).map_err(Into::into),
        Command::Uninstall(args) => install::uninstall(&args).map_err(Into::into),
        Command::Inject(args) => inject::run(&args).map_err(Into::into),
        Command::Wait(args) => wait::run(&args).map_err(Into::into),
        Command::Stat(args) => stat::run(&args).map_err(Into::into),
        Command::Edges(args) => edges::run(&args).map_err(Into::into),
        Command::Top(args) => top::run(&args).map_err(Into::into),
        Command::Release(args) => release::run(&args).map_err(Into::into),
        Command::Lane(args) => lane::run(&args).map_err(Into::into),
        Command::Dashboard(args) => dashboard::run(&args).map_err(Into::into),
        Command::Tap(args) => tap::run(&args).map_err(Into::into),
        Command::Proxy(args) => proxy::run(&args).map_err(Into::into),
        Command::Completion(args) => completion::run(&args, Cli::command()).map_err(Into::into),
        Command::Version => version().map_err(Into::into),
    };
    tulle_runtime::log::flush();
    outcome.unwrap_or_else(|error| fail(&*error))
}

fn version() -> io::Result<ExitCode> {
    writeln!(io::stdout(), "tulle {}", env!("CARGO_PKG_VERSION"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the error and what caused it, each once. A reader who left (`tulle … | head`) is no error.
fn fail(error: &(dyn Error + 'static)) -> ExitCode {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        {
            return ExitCode::SUCCESS;
        }
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&message);
        }
        next = error.source();
    }
    // Nobody is left to tell if stderr is closed too.
    drop(writeln!(io::stderr(), "error: {text}"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
    #[test]
    fn every_command_has_examples() {
        fn walk(path: &str, command: &clap::Command, without: &mut Vec<String>) {
            let mut below = command.get_subcommands().filter(|c| !c.is_hide_set()).peekable();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if below.peek().is_none() && !help.contains("Examples:") {
                without.push(path.to_owned());
            }
            below.for_each(|command| {
                walk(&format!("{path} {}", command.get_name()), command, without);
            });
        }
        let mut without = Vec::new();
        walk("tulle", &Cli::command(), &mut without);
        assert_eq!(without, ["tulle version"]);
    }

    #[test]
    fn shells_complete_what_there_is() {
        for shell in
            [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
        {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tulle", &mut script);
            let script = String::from_utf8(script).expect("text");
            for word in ["check", "completion", "kubeconfig", "status"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
