//! Runs the mesh for real on this machine, scene by scene: each does something that a user would,
//! measures it, and says pass or fail. `make demo` and `make test` both run it.

mod scenes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use tokio::time::Instant;
use tulle_tests::{
    mesh::Place,
    scene::{Outcome, Stage},
};

/// Runs the scenes of the demo.
#[derive(Debug, Parser)]
struct Args {
    /// Only these scenes, `1,2`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Each scene without the mesh's part of it: passes only if every one fails for the want of that.
    #[arg(long)]
    control: bool,
    /// With stock Envoy as the sidecars: another list of scenes.
    #[arg(long, conflicts_with = "network")]
    envoy: bool,
    /// What the network does: another list of scenes.
    #[arg(long)]
    network: bool,
    /// The runtime is killed: another list of scenes.
    #[arg(long, conflicts_with_all = ["envoy", "network", "control"])]
    crash: bool,
    /// In the Kubernetes cluster of KUBECONFIG, where Tulle is installed.
    #[arg(long, conflicts_with_all = ["envoy", "network", "crash"])]
    kubernetes: bool,
    /// Fewer requests: for programs that are built to be debugged, and so are slow.
    #[arg(long)]
    small: bool,
    /// MiB of the largest upload.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    upload: u32,
    /// Also writes the results to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to keep what load generators say, and pictures: beside the results, or else beside this program, if not given.
    #[arg(long)]
    raw: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "what it is for")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let beside = || args.json.as_ref().map(|json| json.with_extension("raw"));
    let raw = args.raw.clone().or_else(beside);
    let raw = raw.unwrap_or_else(|| tulle_tests::mesh::binaries().join("scenes.raw"));
    match Stage::new(&raw) {
        Ok(mut stage) => {
            (stage.small, stage.upload) = (args.small, args.upload);
            if args.kubernetes {
                stage.place = Place::Cluster;
            }
            play(&args, stage, &raw).await
        }
        Err(error) => {
            eprintln!("{}: {error}", raw.display());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what it is for")]
async fn play(args: &Args, mut stage: Stage, raw: &Path) -> ExitCode {
    if args.control {
        println!("CONTROL: each scene does without what the mesh does for it, and must fail.");
    }
    let wanted = |number| args.only.is_empty() || args.only.contains(&number);
    let mut outcomes = Vec::new();
    let all = match (args.envoy, args.network, args.crash) {
        (true, _, _) => scenes::ENVOY,
        (_, true, _) => scenes::NETWORK,
        (_, _, true) => scenes::CRASH,
        _ => scenes::ALL,
    };
    for scene in all.iter().filter(|scene| wanted(scene.number)) {
        println!("\n{:>2}. {}\n    {}", scene.number, scene.name, scene.does);
        let without = args.control.then_some(scene.part);
        if let Some(part) = without {
            println!("    control: {part}");
        }
        stage.do_without(without);
        let start = Instant::now();
        let result = (scene.run)(&mut stage).await;
        let outcome = Outcome::new(scene.number, scene.name, start.elapsed(), result, without);
        println!("{outcome}");
        outcomes.push(outcome);
    }
    println!(
        "\n    The end: everything is taken down; the machine is compared with what it was before."
    );
    let start = Instant::now();
    let left = stage.strike().await;
    let outcome = Outcome::new(0, "nothing is left behind", start.elapsed(), left, None);
    println!("{outcome}");
    outcomes.push(outcome);
    finish(args, &outcomes, raw)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]
fn finish(args: &Args, outcomes: &[Outcome], raw: &Path) -> ExitCode {
    println!("\nWhat the load generators said, and pictures: {}\n", raw.display());
    for outcome in outcomes {
        println!("{}", outcome.row());
    }
    println!("{:>18.1} s  in all", Outcome::total(outcomes));
    if let Some(path) = &args.json
        && let Err(error) = fs::write(path, Outcome::json(outcomes))
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let passed = outcomes.iter().filter(|outcome| outcome.as_it_must()).count();
    let failed = outcomes.len() - passed;
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
