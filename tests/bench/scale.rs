//! A control plane that starts in a large mesh: how soon a sidecar that asks for what it needs has
//! its first answer, and what it weighs.

use tokio::time::{Instant, sleep};
use tulle_tests::scene::Failure;

use crate::{
    Size,
    bed::{Bed, LOOK},
    crowd,
    row::{Row, Subject},
};

/// Endpoints of the crowd belong to nobody: what answers is this Service, which nobody has asked for
/// before the control plane comes back.
const FILE: &str = "asked-last.yaml";

pub(crate) async fn run(size: Size) -> Result<Vec<Row>, Failure> {
    let bed = Bed::up(Subject::Tulle).await?;
    let rows = measure(&bed, size).await;
    bed.mesh.down().await?;
    rows
}

async fn measure(bed: &Bed, size: Size) -> Result<Vec<Row>, Failure> {
    let server = bed.server.ip.clone().unwrap_or_default();
    crowd::write(&bed.mesh.path(""), size.services, 0, &server)?;
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        let name = format!("asked-{run}");
        let service = crowd::service(&name, std::slice::from_ref(&server), 8080);
        crowd::save(&bed.mesh.path(""), FILE, &service)?;
        bed.until(|| async { Ok(bed.mesh.status().await?.problems.is_empty()) }).await?;
        let before = bed.control_plane_started().await?;
        bed.mesh.signal("KILL", "tulle-control-p").await?;
        bed.until(|| async {
            Ok(bed.control_plane_started().await.is_ok_and(|now| now != before))
        })
        .await?;
        let started = Instant::now();
        let url = format!("http://{name}.crowd/");
        while !bed.get(&url).await? {
            sleep(LOOK).await;
        }
        times.push(started.elapsed().as_secs_f64());
        memory.push(bed.control_plane_memory().await?);
    }
    let row = |metric, runs: Vec<f64>| Row::new("scale", Subject::Tulle, metric, runs);
    Ok(vec![
        row(("start_to_first_answer_through_a_sidecar", "s"), times).at_most(2.0),
        row(("control_plane", "MiB"), memory).at_most(150.0),
    ])
}
