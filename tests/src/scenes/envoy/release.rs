//! A release as stock Envoy obeys it as a caller: it divides requests by the share of the step, and sends nothing more to a version
//! that was rolled back.

use super::PATIENCE;
use tulle_tests::{
    load::{Answers, Caller},
    mesh::{Mesh, Pod},
    scene::{Failure, prove, until},
};

const RELEASE: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: Release
metadata: {name: reviews, namespace: bookstore}
spec:
  target:
    stable: {kind: Deployment, name: reviews-v1}
    canary: {kind: Deployment, name: reviews-v2}
  services: [reviews]
  steps: [{weight: 20, for: 1h}]
  gates: {latency: {disabled: true}}
";
/// Percent of that step.
const SHARE: f64 = 20.0;

/// The share of the new version, in percent, of the caller that was farthest off.
pub(super) async fn obeyed(mesh: &Mesh, callers: [&Pod; 2]) -> Result<f64, Failure> {
    let release = mesh.edit("release.yaml", RELEASE)?;
    until("the step is in force", PATIENCE, async || {
        // Right after it was saved nobody knows it.
        let known = mesh.release("bookstore/reviews").await;
        Ok(known.is_ok_and(|release| release.step == 1 && release.in_force))
    })
    .await?;
    let callers = callers.map(|pod| Caller::of(mesh, pod.clone(), "client"));
    let mut farthest = SHARE;
    for (at, caller) in callers.iter().enumerate() {
        let answers = caller.reviews(&format!("release-{at}"), "4s").await?;
        let (share, _) = Answers::share(&answers, "v2", SHARE)?;
        if (share - SHARE).abs() >= (farthest - SHARE).abs() {
            farthest = share;
        }
    }
    let said = mesh.ask(&["release", "rollback", "bookstore/reviews", "--reason", "test"]).await?;
    prove(said.contains("in force on"), || said.clone())?;
    for (at, caller) in callers.iter().enumerate() {
        let answers = caller.reviews(&format!("rolled-back-{at}"), "2s").await?;
        let (v2, all) = Answers::counted(&answers, "v2");
        prove(v2 == 0, || format!("{v2} of {all} answers are from v2, which was rolled back"))?;
    }
    drop(release);
    Ok(farthest)
}
