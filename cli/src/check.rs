//! `tulle check`: can Tulle be installed, and is it healthy?
//!
//! ```text
//!  gather, probe: all of the I/O ──► [ Snapshot ] ──► checks, pure, a file for each area ──► [ Report ]
//! ```
//!
//! Invariants: a healthy cluster has no finding; nothing is changed (pods are created by dry run alone); one cause is one
//! finding, and what only follows from it is left out.

mod cluster;
mod cni;
mod control_plane;
mod gather;
mod kinds;
mod network;
mod pods;
mod policy;
mod probe;
mod releases;
mod report;
mod rights;
mod snapshot;
mod trust;
mod webhook;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};

use crate::cluster as reach;
pub(crate) use probe::sidecar;
use report::Report;
pub(crate) use snapshot::Sidecar;
use snapshot::Snapshot;

/// Find out whether Tulle is healthy, or can be installed.
///
/// Looks at the cluster, asks the API server what the control plane may do, has it create pods by dry run, and asks control
/// plane and sidecars how they are. Changes nothing. Each finding says what is wrong, where, and what to do.
///
/// `-o json` prints one object: `healthy` (no problem), `version` (of this program), and `findings`, each with `area`,
/// `code` (stable, for scripts), `severity`, `object`, `problem` and `remedy`. A `problem` makes the exit code 1, a `note` tells of
/// something that was chosen, `unchecked` of something that could not be looked at.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle check --pre               before the installation\n  \
    tulle check                     after it, and whenever something is odd\n  \
    tulle check -o json | jq -r '.findings[] | .code + \" \" + .object'\n\n\
    Exit codes: 0 nothing is wrong, 1 something is (or the cluster cannot be reached).")]
pub(crate) struct Args {
    /// Say whether Tulle can be installed.
    #[arg(long)]
    pre: bool,
    /// Namespace of the control plane (default: where the cluster has one, else tulle-system).
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    reach: reach::Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no cluster.
    #[error(transparent)]
    Unreachable(#[from] reach::Unreachable),
    /// It does not answer.
    #[error("the API server does not answer: {0}; does `kubectl version` work?")]
    Silent(String),
    /// Stdout is gone, or there is no runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Checks, and prints what was found.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let snapshot =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let client = args.reach.client().await?;
            let place = (&args.reach, &client);
            Box::pin(gather::snapshot(place, args.namespace.as_deref(), args.pre)).await
        })?;
    let report = match args.pre {
        true => before(&snapshot),
        false => all(&snapshot),
    };
    let text = match args.output {
        Format::Json => format!("{:#}\n", report.json()),
        Format::Text => report.text(io::stdout().is_terminal()),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if report.healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is said of an installation. In an order in which causes come before what follows from them.
fn all(snapshot: &Snapshot) -> Report {
    let mut report = Report::default();
    cluster::check(snapshot, &mut report);
    if !control_plane::installed(snapshot, &mut report) {
        return report;
    }
    kinds::check(snapshot, &mut report);
    rights::check(snapshot, &mut report);
    trust::check(snapshot, &mut report);
    network::check(snapshot, &mut report);
    control_plane::check(snapshot, &mut report);
    webhook::check(snapshot, &mut report);
    cni::check(snapshot, &mut report);
    pods::check(snapshot, &mut report);
    policy::check(snapshot, &mut report);
    releases::check(snapshot, &mut report);
    report
}

/// What is said before there is one.
fn before(snapshot: &Snapshot) -> Report {
    let mut report = Report::default();
    cluster::check(snapshot, &mut report);
    kinds::before(snapshot, &mut report);
    rights::before(snapshot, &mut report);
    report
}

#[cfg(test)]
mod tests;
