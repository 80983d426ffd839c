//! A service of two pods that ends as rudely as a service can, and load on it: POST and gRPC by
//! fortio, gRPC streams by Python's grpcio, none of which tries anything twice. Each POST comes on a
//! connection of its own: on one that it knows, fortio would try a second time.

use std::{collections::BTreeMap, fs, time::Duration};

use serde::Deserialize;
use tokio::{
    join,
    time::{Instant, sleep},
};

use crate::{
    mesh::{Mesh, Pod},
    scene::{Failure, Figures, prove},
};

/// Where `tulle local` shows containers what `deploy/samples/bookstore/programs` has unpacked.
const PROGRAMS: &str = "/opt/tulle/programs/bin";
const YAML: &str = include_str!("orders/orders.yaml");
/// How long a step of a Deployment may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a load generator counted.
#[derive(Debug)]
struct Counted {
    good: f64,
    /// What came instead, and how often.
    bad: Vec<String>,
}

/// `fortio load -json -`, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fortio {
    ret_codes: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Streams {
    ended: u32,
    failures: Vec<String>,
}

/// Puts the service's YAML there, its template in the given round, and waits until its pods are
/// of that round.
pub(super) async fn deploy(mesh: &Mesh, round: u32) -> Result<(), Failure> {
    let before = pods(mesh).await.unwrap_or_default();
    let yaml = YAML.replace("\"ROUND\"", &format!("\"{round}\""));
    fs::write(mesh.path("orders.yaml"), yaml)?;
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

async fn pods(mesh: &Mesh) -> Result<Vec<Pod>, Failure> {
    let all = mesh.status().await?.pods;
    Ok(all.into_iter().filter(|p| p.name.starts_with("orders-")).collect())
}

/// Calls the service for `seconds` and says how often that went well; fails if it ever did not.
pub(super) async fn load(mesh: &Mesh, seconds: u32) -> Result<Figures, Failure> {
    let caller = mesh.pod("bookstore", "caller").await?;
    let (fortio, python) = (format!("{PROGRAMS}/fortio"), format!("{PROGRAMS}/python3"));
    let time = format!("{seconds}s");
    let common = ["load", "-quiet", "-json", "-", "-allow-initial-errors", "-t", &time, "-c", "4"];
    let with = |rest: &[&str]| {
        let words = [&fortio].into_iter().map(String::as_str).chain(common);
        words.chain(rest.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
    };
    let post =
        with(&["-qps", "300", "-keepalive=false", "-payload", "an order", "http://orders:8080/"]);
    let grpc = with(&["-qps", "100", "-grpc", "orders.bookstore.svc.cluster.local:8079"]);
    let streams = [&python, "/etc/orders/streams.py", &seconds.to_string()].map(str::to_owned);
    let (post, grpc, streams) =
        join!(run(mesh, &caller, &post), run(mesh, &caller, &grpc), run(mesh, &caller, &streams),);
    let counted =
        [("posts", fortio_says(&post?, "200")?), ("calls", fortio_says(&grpc?, "SERVING")?)];
    let Streams { ended, failures } = read(&streams?)?;
    let streams = Counted { good: ended.into(), bad: failures };
    let mut figures = Figures::new();
    let mut bad = Vec::new();
    for (what, counted) in counted.into_iter().chain([("streams", streams)]) {
        figures.insert(what, counted.good);
        bad.extend(counted.bad.into_iter().map(|why| format!("{what}: {why}")));
        prove(counted.good > 10.0, || format!("only {} {what} went well", counted.good))?;
    }
    prove(bad.is_empty(), || format!("failed requests:\n{}", bad.join("\n")))?;
    figures.insert("failed", 0.0);
    Ok(figures)
}

async fn run(mesh: &Mesh, caller: &Pod, argv: &[String]) -> Result<String, Failure> {
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    mesh.exec(caller, "caller", &argv).await
}

fn fortio_says(text: &str, good: &str) -> Result<Counted, Failure> {
    let Fortio { mut ret_codes } = read(text)?;
    let count = ret_codes.remove(good).unwrap_or_default();
    let bad = ret_codes.into_iter().map(|(code, count)| format!("{code}, {count} times"));
    Ok(Counted { good: f64::from(u32::try_from(count).unwrap_or(u32::MAX)), bad: bad.collect() })
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure(format!("{error} in {text}")))
}
