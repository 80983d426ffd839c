//! The control plane is killed with -9, and again whenever it comes back, while callers call.

mod cluster;

use std::{cell::Cell, time::Duration};

use tokio::time::{Instant, sleep};

use super::orders;
use tulle_tests::{
    mesh::{Edit, Mesh, Place, Pod},
    scene::{Failure, Figures, Stage, prove},
};

/// How long the control plane is not allowed to come back, at the least. What restarts it backs off, so that it
/// stays away for about as long again.
const AWAY: Duration = Duration::from_secs(3);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Its program, as the kernel abbreviates the name, and the sidecar's.
const PROGRAMS: [&str; 2] = ["tulle-control-p", "tulle-proxy"];

const NEWCOMER: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: newcomer, namespace: bookstore}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: newcomer, image: 'curlimages/curl:8.16.0', command: [sleep, infinity]}]
";
const EDIT: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: orders, port: 8080}]
  rules:
  - backendRefs: [{name: orders, port: 8080}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-edited, value: meanwhile}]}
";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let control = stage.is_control();
    let doomed = if control { &PROGRAMS[..] } else { &PROGRAMS[..1] };
    let mesh = stage.mesh().await?;
    orders::there(mesh).await?;
    let work = async {
        match mesh.place {
            Place::Machine => without(mesh, doomed).await,
            Place::Cluster => cluster::without(mesh, control).await,
        }
    };
    let (back, mut figures) = Box::pin(orders::load(mesh, "9", work)).await?;
    figures.insert("without_control_plane_s", back.away.as_secs_f64());
    figures.insert("restarted_container_serves_after_s", back.serves.as_secs_f64());
    figures.insert("edit_applies_after_control_plane_may_live_s", back.applies.as_secs_f64());
    Ok(figures)
}

/// How long things took.
struct Back {
    away: Duration,
    serves: Duration,
    applies: Duration,
}

async fn without(mesh: &Mesh, doomed: &[&str]) -> Result<Back, Failure> {
    sleep(Duration::from_secs(2)).await;
    let (caller, reviews) =
        (mesh.pod("bookstore", "caller").await?, mesh.pod("bookstore", "reviews-v1").await?);
    let url = format!("http://{}:9080/reviews/1", reviews.ip.as_deref().unwrap_or_default());
    // What was never asked for before would be refused without a control plane.
    get(mesh, &caller, &url).await?;
    let down = Instant::now();
    let over = Cell::new(false);
    let (killed, serves) = tokio::join!(kill(mesh, doomed, down, &over), async {
        let served = meanwhile(mesh, &caller, &reviews, &url).await;
        over.set(true);
        served
    });
    let (killed, (serves, _edits)) = (killed?, serves?);
    prove(killed > 1, || "the control plane was not there to be killed".into())?;
    let (away, lives) = (down.elapsed(), Instant::now());
    while !edited(mesh, &caller).await? {
        prove(lives.elapsed() < PATIENCE, || "the edit does not apply".into())?;
        sleep(LOOK).await;
    }
    let applies = lives.elapsed();
    while !mesh.pod("bookstore", "newcomer").await?.ready {
        prove(lives.elapsed() < PATIENCE, || "the new pod does not become ready".into())?;
        sleep(LOOK).await;
    }
    Ok(Back { away, serves, applies })
}

/// Kills it whenever it is there, until it is `over`. How often it was.
async fn kill(
    mesh: &Mesh,
    doomed: &[&str],
    since: Instant,
    over: &Cell<bool>,
) -> Result<u32, Failure> {
    let mut times = 0;
    while !over.get() || since.elapsed() < AWAY {
        for program in doomed {
            times += u32::from(mesh.signal("KILL", program).await?);
        }
        sleep(LOOK).await;
    }
    Ok(times)
}

/// What goes on without a control plane, and what waits for one: how long an application that ended took until it
/// served again, and the files that were saved.
async fn meanwhile(
    mesh: &Mesh,
    caller: &Pod,
    reviews: &Pod,
    url: &str,
) -> Result<(Duration, [Edit; 2]), Failure> {
    sleep(Duration::from_millis(500)).await;
    served(mesh, caller, url).await?;
    let edits = [mesh.edit("newcomer.yaml", NEWCOMER)?, mesh.edit("edit.yaml", EDIT)?];
    let serves = restarted(mesh, caller, reviews, url).await?;
    let since = Instant::now();
    loop {
        let newcomer = mesh.pod("bookstore", "newcomer").await?;
        prove(!newcomer.ready, || "a new pod is ready without a control plane".into())?;
        let why = newcomer.waiting.join("; ");
        if why.contains("certificate") && why.contains("control plane") {
            break;
        }
        prove(since.elapsed() < PATIENCE, || format!("a new pod does not say why: {why:?}"))?;
    }
    prove(!edited(mesh, caller).await?, || "an edit applies without a control plane".into())?;
    Ok((serves, edits))
}

async fn served(mesh: &Mesh, caller: &Pod, url: &str) -> Result<(), Failure> {
    let answer = get(mesh, caller, url).await;
    answer.map(drop).map_err(|Failure(why)| Failure(format!("callers are not served: {why}")))
}

/// Ends an application; how long it took until it served again.
async fn restarted(
    mesh: &Mesh,
    caller: &Pod,
    reviews: &Pod,
    url: &str,
) -> Result<Duration, Failure> {
    let before = started(mesh, reviews).await?;
    let ended = Instant::now();
    mesh.exec(reviews, "reviews", &["kill", "-TERM", "1"]).await?;
    while started(mesh, reviews).await.is_ok_and(|now| now == before)
        || get(mesh, caller, url).await.is_err()
    {
        prove(ended.elapsed() < PATIENCE, || "a restarted application does not serve".into())?;
    }
    let serves = ended.elapsed();
    prove(started(mesh, reviews).await? != before, || "the application did not restart".into())?;
    Ok(serves)
}

/// When a container's process was started (proc(5): the 22nd field, in ticks).
async fn started(mesh: &Mesh, pod: &Pod) -> Result<String, Failure> {
    let stat = mesh.exec(pod, "reviews", &["cat", "/proc/1/stat"]).await?;
    Ok(stat.split_whitespace().nth(21).unwrap_or_default().to_owned())
}

async fn edited(mesh: &Mesh, caller: &Pod) -> Result<bool, Failure> {
    let answer = get(mesh, caller, "http://orders:8080/").await?;
    Ok(answer.contains("x-edited: meanwhile"))
}

/// Head and body.
async fn get(mesh: &Mesh, caller: &Pod, url: &str) -> Result<String, Failure> {
    mesh.exec(caller, "caller", &["curl", "-sS", "-f", "-i", "-m", "5", url]).await
}
