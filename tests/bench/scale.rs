//! A control plane that starts in a large mesh: how soon a sidecar that asks for what it needs has
//! its first answer, how soon an Envoy that is told everything has accepted it, and what it weighs.

use std::fs;

use serde_json::Value;
use tokio::{join, time::sleep};
use tulle_tests::{
    load::json,
    mesh::Pod,
    scene::{Failure, until},
};

use crate::{
    Size,
    bed::{Bed, LOOK, PATIENCE},
    crowd,
    row::{Row, Subject},
};

/// Endpoints of the crowd belong to nobody: what answers is this Service, which nobody has asked for
/// before the control plane comes back.
const FILE: &str = "asked-last.yaml";
/// A pod behind stock Envoy, which subscribes to all there is.
const ENVOY: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: envoy
  namespace: bench
  annotations: {tulle.dev/data-plane: envoy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: caller, image: debian:12, command: [sleep, infinity]}
";

pub(crate) async fn measure(bed: &Bed, size: Size) -> Result<Vec<Row>, Failure> {
    let server = bed.server.ip.clone().unwrap_or_default();
    crowd::write(&bed.mesh.path(""), size.services, 0, &server)?;
    let _envoy = bed.mesh.edit("envoy.yaml", ENVOY)?;
    let control_plane = bed.mesh.pod("tulle-system", "tulle-control-plane").await?;
    until("the Envoy has accepted all", PATIENCE, async || {
        accepted(bed, &control_plane, size.services).await
    })
    .await?;
    let (mut answers, mut accepts, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..size.runs {
        let name = format!("asked-{run}");
        let service = crowd::service(&name, std::slice::from_ref(&server), 8080);
        bed.mesh.save(FILE, &service)?;
        until("the YAML is good", PATIENCE, async || {
            Ok(bed.mesh.status().await?.problems.is_empty())
        })
        .await?;
        let before = bed.control_plane_started().await?;
        bed.mesh.signal("KILL", "tulle-control-p").await?;
        until("another control plane runs", PATIENCE, async || {
            Ok(bed.control_plane_started().await.is_ok_and(|now| now != before))
        })
        .await?;
        let started = bed.control_plane_started().await?;
        let url = format!("http://{name}.crowd/");
        let answer = async {
            while !bed.get(&url).await? {
                sleep(LOOK).await;
            }
            Ok::<_, Failure>(uptime()? - started)
        };
        let accept = async {
            while !accepted(bed, &control_plane, size.services).await? {
                sleep(5 * LOOK).await;
            }
            Ok::<_, Failure>(uptime()? - started)
        };
        let (answer, accept) = join!(answer, accept);
        answers.push(answer?);
        accepts.push(accept?);
        memory.push(bed.control_plane_memory().await?);
    }
    let row = |metric, runs: Vec<f64>| Row::new("scale", Subject::Tulle, metric, runs);
    Ok(vec![
        row(("start_to_first_answer_through_a_sidecar", "s"), answers).at_most(2.0),
        row(("start_to_all_accepted_by_an_envoy", "s"), accepts).at_most(2.0),
        row(("control_plane", "MiB"), memory).at_most(150.0),
    ])
}

/// Seconds since the machine was started, as the start of a process is given.
fn uptime() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/uptime")?;
    let first = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
    first.ok_or_else(|| Failure(format!("no uptime in {text:?}")))
}

/// Whether the Envoy has accepted what it was sent last, and that is so many Services.
async fn accepted(bed: &Bed, control_plane: &Pod, services: usize) -> Result<bool, Failure> {
    let ask = async |path: &str| {
        let url = format!("http://x{path}");
        let curl = ["curl", "-sf", "--unix-socket", "/tulle/output/admin.sock", &url];
        // One that has just been started has no socket yet.
        bed.mesh.exec(control_plane, "control-plane", &curl).await.unwrap_or_default()
    };
    // The list of all names costs both sides as much as what is measured: only if it may be what is waited for.
    if !ask("/metrics").await.lines().any(|line| line == "tulle_push_pending 0") {
        return Ok(false);
    }
    let streams = ask("/debug/streams").await;
    let streams: Vec<Value> = json(&streams)?;
    let envoy = streams.iter().find(|stream| stream["caller"]["pod"] == "bench/envoy");
    let kinds = envoy.and_then(|envoy| envoy["kinds"].as_array()).map_or(&[][..], Vec::as_slice);
    let names = |kind: &Value| kind["names"].as_array().cloned().unwrap_or_default();
    let settled = |kind: &Value| {
        kind["waiting"] == false && names(kind).iter().all(|name| name["accepted"] == name["sent"])
    };
    let most = kinds.iter().map(|kind| names(kind).len()).max().unwrap_or_default();
    Ok(most >= services && kinds.iter().all(settled))
}
