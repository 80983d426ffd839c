//! What the mesh costs, measured on this machine: `make bench`. Prints a table of figures against
//! their targets. A figure over its target is no failure: machines differ, and CI runs this only to
//! see that it works.
//!
//! Subjects are measured side by side in one run, in turns, and medians are compared: on a busy
//! machine only ratios within a run mean anything, and CPU per request stands still where requests
//! per second do not.

mod bed;
mod change;
mod crowd;
mod memory;
mod release;
mod requests;
mod row;
mod scale;
mod store;
mod telemetry;

use std::{fs, path::PathBuf, process::ExitCode};

use bed::Bed;
use clap::Parser;
use row::{Row, table};
use tulle_tests::scene::{BoxFuture, Failure};

/// As in the control plane, of which one scenario runs parts in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what the mesh costs.
#[derive(Debug, Parser)]
struct Args {
    /// Only these scenarios, `memory,requests`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Also writes the rows to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A tenth of everything: shows that it works, not what it costs.
    #[arg(long)]
    small: bool,
    /// Releases in the cluster of KUBECONFIG, and nothing else. Here a request that failed is a failure.
    #[arg(long, conflicts_with_all = ["only", "small"])]
    kubernetes: bool,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Services that nobody uses, each with four endpoints.
    pub(crate) services: usize,
    /// Services of these that somebody does use.
    pub(crate) used: usize,
    /// Addresses outside of the mesh that an application dials.
    pub(crate) strangers: usize,
    /// Requests of one run of a load generator.
    pub(crate) requests: u32,
    /// Seconds of one run at a fixed rate.
    pub(crate) seconds: u32,
    /// How often each thing is measured.
    pub(crate) runs: usize,
    /// How many releases are simulated.
    pub(crate) seeds: u64,
    /// How many real ones are stopped.
    pub(crate) releases: usize,
}

/// What is measured, by name.
type Scenario = fn(Size) -> BoxFuture<'static, Result<Vec<Row>, Failure>>;

const SCENARIOS: [(&str, Scenario); 7] = [
    ("memory", |size| Box::pin(Bed::once(size, |bed, size| Box::pin(memory::measure(bed, size))))),
    ("scale", |size| Box::pin(Bed::once(size, |bed, size| Box::pin(scale::measure(bed, size))))),
    ("change", |size| Box::pin(Bed::once(size, |bed, size| Box::pin(change::measure(bed, size))))),
    ("requests", |size| Box::pin(requests::run(size))),
    ("telemetry", |size| {
        Box::pin(Bed::once(size, |bed, size| Box::pin(telemetry::measure(bed, size))))
    }),
    ("release", |size| Box::pin(release::measure(size))),
    ("store", |size| Box::pin(async move { store::measure(size) })),
];

/// What is measured in a cluster.
const IN_CLUSTER: (&str, Scenario) = ("release", |_| Box::pin(release::in_cluster()));

impl Size {
    const WHOLE: Self = Self {
        services: 5000,
        used: 50,
        strangers: 100_000,
        requests: 60_000,
        seconds: 8,
        runs: 5,
        seeds: 10_000,
        releases: 20,
    };
    const SMALL: Self = Self {
        services: 200,
        used: 10,
        strangers: 2000,
        requests: 3000,
        seconds: 1,
        runs: 2,
        seeds: 100,
        releases: 1,
    };

    /// It is this part of the whole.
    fn part(self) -> u64 {
        u64::try_from(Self::WHOLE.services / self.services.max(1)).unwrap_or(1)
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let size = if args.small { Size::SMALL } else { Size::WHOLE };
    let known: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = args.only.iter().find(|name| !known.contains(&name.as_str())) {
        eprintln!("there is no scenario {unknown}; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let scenarios = match args.kubernetes {
        true => vec![IN_CLUSTER],
        false => SCENARIOS.into_iter().filter(|(name, _)| wanted(name)).collect(),
    };
    let mut rows = Vec::new();
    let mut failed = 0;
    for (name, scenario) in scenarios {
        println!("\n── {name}");
        match scenario(size).await {
            Ok(found) => {
                println!("{}", table(&found));
                rows.extend(found);
            }
            Err(Failure(why)) => {
                failed += 1;
                println!("   could not be measured: {why}");
            }
        }
    }
    if let Some(path) = &args.json
        && let Err(error) = fs::write(path, row::json(&rows))
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
