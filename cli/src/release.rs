//! `tulle release`, also `tulle canary`: how new versions take over, and what people say to it.
//!
//! ```text
//! list, get, why, history ──► [ desk ]: GET /releases ──► [ screen ], [ why ], tables
//! start … rollback        ──► [ desk ]: POST /releases/VERB
//! template, simulate: about what is not there yet
//! ```

mod canvas;
mod desk;
mod follow;
mod gates;
mod get;
mod list;
mod live;
mod screen;
mod simulate;
mod steps;
mod template;
mod verbs;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::observe::Error;

/// Watch releases of new versions, and say that they go on or back.
///
/// A Release says how a workload's next version takes over: step by step, while it does no worse than the one before. Where it
/// does, it gets nothing more. What is said here changes no object that is in Git.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle release template reviews -n shop | kubectl apply -f -\n  \
    tulle release get reviews -w                  what happens, drawn anew every second\n  \
    tulle release why reviews                     the same in sentences, and what to do\n  \
    tulle release rollback reviews --reason 'wrong prices'\n  \
    tulle canary simulate reviews --errors 2% --rps 100   how soon would that be seen?")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Get(Box<get::Args>),
    Why(why::Args),
    History(list::History),
    /// Try a version again that has failed.
    #[command(after_help = "Examples:\n  tulle release start reviews -n shop")]
    Start(verbs::Plain),
    /// Let it take no further step; what speaks against it still ends it.
    #[command(after_help = "Examples:\n  tulle release pause shop/reviews")]
    Pause(verbs::Plain),
    /// Go on where it was paused, or where somebody must approve of it.
    #[command(after_help = "Examples:\n  tulle release resume shop/reviews")]
    Resume(verbs::Plain),
    Step(verbs::Step),
    Promote(verbs::Promote),
    #[command(visible_alias = "abort")]
    Rollback(verbs::Rollback),
    Template(template::Args),
    Simulate(Box<simulate::Args>),
}

/// Does it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(async {
        match &args.command {
            Command::List(args) => Box::pin(args.run()).await,
            Command::Get(args) => Box::pin(args.run()).await,
            Command::Why(args) => Box::pin(args.run()).await,
            Command::History(args) => Box::pin(args.run()).await,
            Command::Start(args) => Box::pin(args.run("start")).await,
            Command::Pause(args) => Box::pin(args.run("pause")).await,
            Command::Resume(args) => Box::pin(args.run("resume")).await,
            Command::Step(args) => Box::pin(args.run()).await,
            Command::Promote(args) => Box::pin(args.run()).await,
            Command::Rollback(args) => Box::pin(args.run()).await,
            Command::Template(args) => args.run(),
            Command::Simulate(args) => Box::pin(args.run()).await,
        }
    }))
}

#[cfg(test)]
mod tests;
