//! A service of two pods that ends as rudely as a service can, and load on it: POST and gRPC by
//! fortio, gRPC streams by Python's grpcio, none of which tries anything twice. Each POST comes on a
//! connection of its own: on one that it knows, fortio would try a second time.

use std::time::Duration;

use serde::Deserialize;
use tokio::{
    join,
    time::{Instant, sleep},
};

use tulle_tests::{
    load::{self, Caller},
    mesh::{Mesh, Place, Pod},
    scene::{Failure, Figures, prove},
};

const YAML: &str = include_str!("orders/orders.yaml");
const STREAMS: &str = "/etc/orders/streams.py";
/// How long a step of a Deployment may take here.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Streams {
    ended: u64,
    failures: Vec<String>,
}

/// Puts the service's YAML there, its template in the given round, and waits until its pods are
/// of that round.
pub(super) async fn deploy(mesh: &Mesh, round: u32) -> Result<(), Failure> {
    let before = pods(mesh).await.unwrap_or_default();
    let yaml = YAML.replace("\"ROUND\"", &format!("\"{round}\""));
    mesh.save("orders.yaml", &yaml)?;
    let old: Vec<&str> = before.iter().map(|pod| pod.name.as_str()).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = pods(mesh).await?;
        let new = now.iter().filter(|pod| pod.ready && !old.contains(&pod.name.as_str())).count();
        let caller = mesh.pod("bookstore", "caller").await.is_ok_and(|pod| pod.ready);
        if caller && new == 2 && now.len() == 2 {
            return Ok(());
        }
        prove(Instant::now() < deadline, || format!("not rolled after {PATIENCE:?}: {now:?}"))?;
        sleep(Duration::from_millis(100)).await;
    }
}

/// The service is there, in whatever round.
pub(super) async fn there(mesh: &Mesh) -> Result<(), Failure> {
    match pods(mesh).await?.len() {
        0 => deploy(mesh, 0).await,
        _ => Ok(()),
    }
}

async fn pods(mesh: &Mesh) -> Result<Vec<Pod>, Failure> {
    let all = mesh.status().await?.pods;
    Ok(all.into_iter().filter(|p| p.name.starts_with("orders-")).collect())
}

/// Calls the service while `work` is done, and says how often that went well; fails if it ever did not. `scene` names
/// what is kept of it.
pub(super) async fn load<T>(
    mesh: &Mesh,
    scene: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<(T, Figures), Failure> {
    let caller = Caller::new(mesh, "bookstore", "caller", "caller").await?;
    let label = |what: &str| format!("{scene}-{what}");
    // Until they are interrupted.
    let common = ["-t", "0", "-c", "4"];
    // As many as leave processors to a cluster, too, which has to do what is waited for.
    let (posts, calls) = match mesh.place {
        Place::Machine => ("300", "100"),
        Place::Cluster => ("40", "20"),
    };
    let http = ["-qps", posts, "-keepalive=false", "-payload", "an order", "http://orders:8080/"];
    let grpc = ["-qps", calls, "-grpc", "orders.bookstore.svc.cluster.local:8079"];
    let (posts, calls) = ([&common[..], &http].concat(), [&common[..], &grpc].concat());
    let (labels, watch) = (["posts", "calls", "streams"].map(label), ["python3", STREAMS]);
    let (posts, calls, streams, done) = join!(
        caller.fortio(&labels[0], &posts),
        caller.fortio(&labels[1], &calls),
        caller.run(&labels[2], &watch),
        async {
            let done = work.await;
            caller.interrupt("fortio").await?;
            caller.interrupt("python3").await?;
            done
        },
    );
    let (done, posts, calls) = (done?, posts?, calls?);
    let Streams { ended, failures } = load::json(&streams?)?;
    let mut figures = Figures::new();
    let mut bad = Vec::new();
    for (what, good, others) in [
        ("posts", posts.of(&["200"]), posts.but(&["200"])),
        ("calls", calls.of(&["SERVING"]), calls.but(&["SERVING"])),
        ("streams", ended, failures),
    ] {
        figures.insert(what, load::float(good));
        bad.extend(others.into_iter().map(|why| format!("{what}: {why}")));
        prove(good > 10, || format!("only {good} {what} went well"))?;
    }
    figures.insert("posts_per_second", posts.rate());
    figures.insert("one_post_in_a_hundred_took_ms", posts.latency(99.0).unwrap_or_default());
    prove(bad.is_empty(), || format!("failed requests:\n{}", bad.join("\n")))?;
    figures.insert("failed", 0.0);
    Ok((done, figures))
}
