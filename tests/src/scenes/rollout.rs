//! A Deployment is rolled twice under load. Its application closes its ports at once when it is told to
//! end, and has no preStop hook of its own.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::orders;
use crate::scene::{Failure, Figures, Stage, prove};

/// How long callers call. Two rollouts take half of it.
const SECONDS: u32 = 30;

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    orders::deploy(mesh, 1).await?;
    let begun = Instant::now();
    let rolls = async {
        let mut took = Vec::new();
        for round in [2, 3] {
            sleep(Duration::from_secs(2)).await;
            let start = Instant::now();
            orders::deploy(mesh, round).await?;
            took.push(start.elapsed().as_secs_f64());
        }
        let late = begun.elapsed() > Duration::from_secs(SECONDS.into());
        prove(!late, || format!("the load was over before the rollouts: {took:?}"))?;
        Ok::<_, Failure>(took)
    };
    let (figures, took) = tokio::join!(orders::load(mesh, "8", SECONDS), rolls);
    let took = took?;
    let mut figures = figures?;
    figures.insert("first_rollout_s", took[0]);
    figures.insert("second_rollout_s", took[1]);
    Ok(figures)
}
