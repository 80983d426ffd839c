//! Runs the mesh for real on this machine, scene by scene: each does something that a user would,
//! measures it, and says pass or fail. `make demo` and `make test` both run it.

mod mesh;
mod scene;
mod scenes;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use scene::{Outcome, Stage};
use tokio::time::Instant;

/// Runs the scenes of the demo.
#[derive(Debug, Parser)]
struct Args {
    /// Only these scenes, `1,2`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Without the mesh's part: every scene must then fail, and that is what is reported.
    #[arg(long)]
    control: bool,
    /// Also writes the results to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "what it is for")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut stage = Stage::new(args.control);
    let mut outcomes = Vec::new();
    for scene in
        scenes::ALL.iter().filter(|s| args.only.is_empty() || args.only.contains(&s.number))
    {
        println!("\n── scene {}: {}", scene.number, scene.name);
        let start = Instant::now();
        let result = (scene.run)(&mut stage).await;
        let outcome = Outcome::new(scene.number, scene.name, start.elapsed(), result);
        println!("{outcome}");
        outcomes.push(outcome);
    }
    println!("\n── the end: everything is taken down, and what was there before is compared");
    let start = Instant::now();
    let left = stage.strike().await;
    let outcome = Outcome::new(0, "nothing is left behind", start.elapsed(), left);
    println!("{outcome}");
    outcomes.push(outcome);
    finish(&args, &outcomes)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]
fn finish(args: &Args, outcomes: &[Outcome]) -> ExitCode {
    println!();
    for outcome in outcomes {
        println!("{}", outcome.row());
    }
    if let Some(path) = &args.json
        && let Err(error) = fs::write(path, Outcome::json(outcomes))
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let passed = outcomes.iter().filter(|o| o.passed()).count();
    let failed = outcomes.len() - passed;
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
