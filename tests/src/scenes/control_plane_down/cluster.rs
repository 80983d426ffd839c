//! The same on Kubernetes: its replicas are killed, and none starts until the Deployment is scaled up again.

use super::{AWAY, Back, EDIT, NEWCOMER, PATIENCE, edited, get, restarted, served};
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tulle_tests::{
    mesh::{Edit, Mesh, Pod},
    scene::{Failure, prove, until},
};

/// What the API server says of a webhook that does not answer: the name of ours, which tells what to do.
const REFUSAL: &str = "run-tulle-check";

pub(super) async fn without(mesh: &Mesh, control: bool) -> Result<Back, Failure> {
    sleep(Duration::from_secs(2)).await;
    let caller = mesh.pod("bookstore", "caller").await?;
    let reviews = mesh.pod("bookstore", "reviews-v1").await?;
    let url = format!("http://{}:9080/reviews/1", reviews.ip.as_deref().unwrap_or_default());
    // What was never asked for before would be refused without a control plane.
    get(mesh, &caller, &url).await?;
    let stranger = mesh.pod("outside", "stranger").await?;
    let gone = mesh.take_control_plane(&stranger).await?;
    let down = Instant::now();
    let meanwhile = meanwhile(mesh, control, &caller, &reviews, &url).await;
    if meanwhile.is_ok() {
        sleep_until(down + AWAY).await;
    }
    mesh.give_control_plane(gone).await?;
    if control {
        // For the scenes that follow. Whoever makes pods was refused often, and waits longer each time: a change wakes it.
        let mut tries = 0;
        let back = async || {
            tries += 1;
            let change = format!("tries={tries}");
            let change = ["annotate", "replicaset", "--all", "--overwrite", &change];
            mesh.kubectl(&[&["-n", "bookstore"][..], &change].concat()).await?;
            Ok(mesh.pod("bookstore", "reviews-v1").await.is_ok_and(|pod| pod.ready))
        };
        until("the pod that was deleted has a successor", PATIENCE, back).await?;
    }
    let (serves, _edit) = meanwhile?;
    let (away, lives) = (down.elapsed(), Instant::now());
    until("the edit applies", PATIENCE, async || edited(mesh, &caller).await).await?;
    let applies = lives.elapsed();
    let mut newcomer = None;
    until("a pod that was refused comes", PATIENCE, async || {
        newcomer = mesh.edit("newcomer.yaml", NEWCOMER).ok();
        Ok(newcomer.is_some())
    })
    .await?;
    let ready = async || Ok(mesh.pod("bookstore", "newcomer").await?.ready);
    until("the new pod becomes ready", PATIENCE, ready).await?;
    Ok(Back { away, serves, applies })
}

/// What goes on without a control plane, and what is refused or waits for one: how long an application that ended took
/// until it served again, and the edit.
async fn meanwhile(
    mesh: &Mesh,
    control: bool,
    caller: &Pod,
    reviews: &Pod,
    url: &str,
) -> Result<(Duration, Edit), Failure> {
    if control {
        // With its pod the sidecar goes, and all that it knows; no other comes.
        let now = ["delete", "pod", &reviews.name, "--grace-period=1", "--wait"];
        mesh.kubectl(&[&["-n", "bookstore"][..], &now].concat()).await?;
    }
    served(mesh, caller, url).await?;
    match mesh.edit("newcomer.yaml", NEWCOMER) {
        Ok(_) => return Err(Failure("a new pod came without a control plane".into())),
        Err(Failure(why)) => {
            prove(why.contains(REFUSAL), || format!("a new pod is not told why: {why}"))?;
        }
    }
    let edit = mesh.edit("edit.yaml", EDIT)?;
    let serves = restarted(mesh, caller, reviews, url).await?;
    prove(!edited(mesh, caller).await?, || "an edit applies without a control plane".into())?;
    Ok((serves, edit))
}
