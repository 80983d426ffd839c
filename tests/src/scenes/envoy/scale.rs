//! Pods behind Envoy come and go under load, and nobody notices: callers learn of them, and what goes drains.

use std::{fs, time::Duration};

use tokio::{join, time::sleep};
use tulle_tests::{
    load::{Caller, float},
    mesh::Mesh,
    scene::{Failure, prove, until},
};

use super::PATIENCE;

const HEAD: &str = "  name: reviews-v1\n  namespace: bookstore\nspec:\n  replicas: 1\n";
const URL: &str = "http://reviews-v1.bookstore:9080/reviews/1";
/// So many answers tell all pods' names.
const ASKED: usize = 40;

/// From one to three and back. How many answers there were; fails if one was none.
pub(super) async fn unnoticed(mesh: &Mesh) -> Result<f64, Failure> {
    let caller = Caller::client(mesh).await?;
    let one = fs::read_to_string(mesh.path("reviews.yaml"))?;
    let three = one.replacen(HEAD, &HEAD.replace("replicas: 1", "replicas: 3"), 1);
    prove(one != three, || format!("there is no {HEAD:?} in reviews.yaml"))?;
    let load = ["-t", "0", "-c", "4", "-qps", "200", "-keepalive=false", URL];
    let scaled = async {
        let scaled = async {
            fs::write(mesh.path("reviews.yaml"), &three)?;
            pods(mesh, 3).await?;
            answer(mesh, &caller, 3).await?;
            fs::write(mesh.path("reviews.yaml"), &one)?;
            pods(mesh, 1).await
        };
        let scaled = scaled.await;
        // What came a moment after the end is counted, too.
        sleep(Duration::from_millis(300)).await;
        caller.interrupt("fortio").await?;
        scaled
    };
    let (counted, scaled) = join!(caller.fortio("envoy-scale", &load), scaled);
    let counted = counted?;
    scaled?;
    let bad = counted.but(&["200"]);
    prove(bad.is_empty() && counted.all() > 100, || format!("while pods came and went: {bad:?}"))?;
    Ok(float(counted.all()))
}

/// Waits until there are so many, and all are ready.
async fn pods(mesh: &Mesh, wanted: usize) -> Result<(), Failure> {
    until("pods of reviews-v1", 2 * PATIENCE, async || {
        let pods = mesh.status().await?.pods;
        let of_v1 = pods.into_iter().filter(|pod| pod.name.starts_with("reviews-v1-"));
        let ready: Vec<_> = of_v1.map(|pod| pod.ready).collect();
        Ok(ready.len() == wanted && ready.iter().all(|ready| *ready))
    })
    .await
}

/// Waits until so many different pods answer: each says which it is.
async fn answer(mesh: &Mesh, caller: &Caller<'_>, wanted: usize) -> Result<(), Failure> {
    let many = format!("for i in $(seq {ASKED}); do curl -sS -f -m 5 {URL}; echo; done");
    until("answers of all pods", 2 * PATIENCE, async || {
        let said = mesh.exec(caller.pod(), "client", &["sh", "-c", &many]).await?;
        let pods: std::collections::BTreeSet<&str> = said
            .lines()
            .filter_map(|line| line.split("reviews-v1-").nth(1)?.split('"').next())
            .collect();
        Ok(pods.len() == wanted)
    })
    .await
}
