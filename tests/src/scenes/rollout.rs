//! A Deployment is rolled twice under load. Its application closes its ports at once when it is told to
//! end, and has no preStop hook of its own.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::orders;
use tulle_tests::scene::{Failure, Figures, Stage};

/// How long callers call between two steps.
const PAUSE: Duration = Duration::from_millis(1500);

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    orders::deploy(mesh, 1).await?;
    let rolls = async {
        let mut took = [0.0; 2];
        for (round, took) in (2..).zip(&mut took) {
            sleep(PAUSE).await;
            let start = Instant::now();
            orders::deploy(mesh, round).await?;
            *took = start.elapsed().as_secs_f64();
        }
        sleep(PAUSE).await;
        Ok(took)
    };
    let ([first, second], mut figures) = Box::pin(orders::load(mesh, "8", rolls)).await?;
    figures.insert("first_rollout_s", first);
    figures.insert("second_rollout_s", second);
    Ok(figures)
}
