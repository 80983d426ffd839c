//! The bookstore with stock Envoy as its sidecars, but for one version of one service and one caller:
//! what our control plane tells Envoy is proven by where requests go and who is refused.

mod addresses;
mod refusal;
mod release;
mod scale;

use std::time::Duration;

use super::split;
use tokio::time::{Instant, sleep};

use tulle_tests::{
    mesh::{DataPlane, Mesh, Pod},
    scene::{Failure, Figures, Stage, prove},
};

/// How long a change of policy may take here.
const PATIENCE: Duration = Duration::from_secs(20);
/// A caller of one's own.
const CALLER: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  namespace: bookstore
  annotations: {tulle.dev/data-plane: PROGRAM}
spec:
  serviceAccountName: client
  terminationGracePeriodSeconds: 1
  containers:
  - name: client
    image: curlimages/curl:8.16.0
    command: [sleep, infinity]
";
/// In what Envoy is started with: the beginning of its own part, and before that the other variant.
const DELTA: &str = "{\"layered_runtime\":";
const STATE: &str =
    "{\"dynamic_resources\":{\"ads_config\":{\"api_type\":\"GRPC\"}},\"layered_runtime\":";
/// Where Envoy's admin pages are.
const ADMIN: &str = "TULLE_ADMIN_SOCKET=/run/tulle/envoy-admin.sock";
const STRICT: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: MeshTLS
metadata: {name: strict, namespace: bookstore}
spec: {mode: Strict}
";

const MIRROR: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirror, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews-v1, port: 9080}]
  rules:
  - filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: reviews-v2, port: 9080}}
    backendRefs: [{name: reviews-v1, port: 9080}]
";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    stage.data_plane = DataPlane::Envoy;
    let mut figures = split::run(stage).await?;
    let mesh = stage.mesh().await?;
    let yaml = |name, program| CALLER.replace("NAME", name).replace("PROGRAM", program);
    let _ours = mesh.edit("ours.yaml", &yaml("ours", "tulle"))?;
    // The same Envoy, told in the other variant of the protocol.
    let injected = mesh.inject(&yaml("whole", "envoy")).await?;
    let whole = injected.replacen(DELTA, STATE, 1);
    prove(whole != injected, || format!("there is no {DELTA} in what was injected:\n{injected}"))?;
    let _whole = mesh.edit("whole.yaml", &whole)?;
    let narrow = refusal::narrow(&mesh.inject(&yaml("narrow", "envoy")).await?)?;
    let _narrow = mesh.edit("narrow.yaml", &narrow)?;
    let ours = ready(mesh, "ours").await?;
    let whole = ready(mesh, "whole").await?;
    let narrow = ready(mesh, "narrow").await?;
    let envoy = mesh.pod("bookstore", "client").await?;
    let stranger = mesh.pod("outside", "stranger").await?;
    let versions = ["reviews-v1", "reviews-v2"];
    let url = |service: &str| format!("http://{service}.bookstore:9080/reviews/1");

    // To Envoy and to our own, from Envoy, from our own, and from outside of the mesh.
    for version in versions {
        for caller in [&envoy, &whole, &ours, &stranger] {
            get(mesh, caller, &url(version)).await?;
        }
    }
    // Copies, that Envoy counts and our own logs.
    let mirror = mesh.edit("mirror.yaml", MIRROR)?;
    for caller in [&envoy, &whole] {
        copies(mesh, caller).await?;
    }
    let is_copy = |line: &serde_json::Value| line["mirror"] == true && line["status"] == 200;
    get(mesh, &ours, &url("reviews-v1")).await?;
    mesh.logged(&ours, "tulle-proxy", is_copy).await?;
    drop(mirror);
    let strict = mesh.edit("strict.yaml", STRICT)?;
    let saved = Instant::now();
    for version in versions {
        while get(mesh, &stranger, &url(version)).await.is_ok() {
            prove(saved.elapsed() < PATIENCE, || {
                format!("strict, and a stranger still gets to {version}")
            })?;
        }
    }
    figures.insert("strict_in_force_after_s", saved.elapsed().as_secs_f64());
    // Only mTLS is left. Long enough for the kubelet to give a pod up, were its probes refused.
    sleep(Duration::from_secs(4)).await;
    for version in versions {
        for caller in [&envoy, &whole, &ours] {
            get(mesh, caller, &url(version)).await?;
        }
    }
    addresses::reached(mesh, &envoy, &stranger).await?;
    logged(mesh, &envoy).await?;
    drop(strict);
    while get(mesh, &stranger, &url("reviews-v1")).await.is_err() {
        prove(saved.elapsed() < 2 * PATIENCE, || "no longer strict, and still refused".into())?;
    }

    figures.insert("share_of_v2_in_a_step_percent", release::obeyed(mesh, [&envoy, &whole]).await?);
    figures.insert("answers_while_pods_came_and_went", scale::unnoticed(mesh).await?);
    // A Service that goes, and comes back: Envoy forgets and learns it.
    let reviews = std::fs::read_to_string(mesh.path("reviews.yaml"))?;
    let without = reviews.replace(
        "name: reviews-v2\n  namespace: bookstore\nspec:\n  selector:",
        "name: gone\n  namespace: bookstore\nspec:\n  selector:",
    );
    prove(without != reviews, || "there is no Service reviews-v2 to rename".into())?;
    std::fs::write(mesh.path("reviews.yaml"), without)?;
    for caller in [&envoy, &whole] {
        until(mesh, caller, &url("gone"), true).await?;
        until(mesh, caller, &url("reviews-v2"), false).await?;
    }
    std::fs::write(mesh.path("reviews.yaml"), reviews)?;
    for caller in [&envoy, &whole] {
        until(mesh, caller, &url("reviews-v2"), true).await?;
    }
    accepted(mesh, &envoy, true).await?;
    accepted(mesh, &whole, false).await?;
    refusal::told(mesh, &narrow, &ours).await?;
    Ok(figures)
}

/// Both Envoys of a request tell of it in JSON, and each names the other.
async fn logged(mesh: &Mesh, caller: &Pod) -> Result<(), Failure> {
    let callee = mesh.pod("bookstore", "reviews-v1").await?;
    get(mesh, caller, "http://reviews-v1.bookstore:9080/reviews/7?secret=1").await?;
    for (pod, direction, peer) in [(caller, "outbound", "reviews"), (&callee, "inbound", "client")]
    {
        let peer = format!("spiffe://cluster.local/ns/bookstore/sa/{peer}");
        let fits = |line: &serde_json::Value| {
            let numbers = ["duration_ms", "bytes_sent"].map(|name| line[name].is_number());
            line["direction"] == direction
                && line["path"] == "/reviews/7"
                && (&line["method"], &line["status"]) == (&"GET".into(), &200.into())
                && line["peer"] == peer
                && numbers == [true; 2]
        };
        mesh.logged(pod, "tulle-proxy", fits).await?;
    }
    Ok(())
}

/// Waits for a pod of ours.
async fn ready(mesh: &Mesh, name: &str) -> Result<Pod, Failure> {
    let since = Instant::now();
    loop {
        match mesh.pod("bookstore", name).await {
            Ok(pod) if pod.ready => return Ok(pod),
            other => prove(since.elapsed() < 2 * PATIENCE, || format!("{name}: {other:?}"))?,
        }
    }
}

/// Waits until a caller's Envoy sends copies of what it sends to v1.
async fn copies(mesh: &Mesh, caller: &Pod) -> Result<(), Failure> {
    let stats = "/stats?filter=reviews-v2/9080.*upstream_rq_total";
    let count = async || {
        let argv = ["env", ADMIN, "tulle-proxy", "ctl", stats];
        let text = mesh.exec(caller, "tulle-proxy", &argv).await?;
        let values = text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
        Ok::<u64, Failure>(values.sum())
    };
    let (before, since) = (count().await?, Instant::now());
    while count().await? == before {
        prove(since.elapsed() < PATIENCE, || format!("{} sends no copies", caller.name))?;
        get(mesh, caller, "http://reviews-v1.bookstore:9080/reviews/1").await?;
    }
    Ok(())
}

/// Envoy's own word: which variant it speaks, and that it has rejected nothing.
async fn accepted(mesh: &Mesh, pod: &Pod, delta: bool) -> Result<(), Failure> {
    let ask = |path| ["env", ADMIN, "tulle-proxy", "ctl", path];
    let dump = mesh.exec(pod, "tulle-proxy", &ask("/config_dump")).await?;
    prove(dump.contains("DELTA_GRPC") == delta, || {
        format!(
            "{} speaks the other variant:
{dump}",
            pod.name
        )
    })?;
    let stats = mesh.exec(pod, "tulle-proxy", &ask("/stats?filter=update_rejected")).await?;
    let rejected: Vec<&str> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
    prove(rejected.is_empty() && stats.contains("cds.update_rejected"), || {
        format!("{} has rejected: {rejected:?}", pod.name)
    })
}

/// Waits until the answer is there, or is not.
async fn until(mesh: &Mesh, from: &Pod, url: &str, there: bool) -> Result<(), Failure> {
    let since = Instant::now();
    while get(mesh, from, url).await.is_ok() != there {
        prove(since.elapsed() < PATIENCE, || {
            format!("{url}: still not {there} after {PATIENCE:?}")
        })?;
    }
    Ok(())
}

async fn get(mesh: &Mesh, from: &Pod, url: &str) -> Result<String, Failure> {
    let container = if from.namespace == "outside" { "stranger" } else { "client" };
    mesh.exec(from, container, &["curl", "-sS", "-f", "-m", "5", url]).await
}
