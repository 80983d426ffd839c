//! A sidecar that runs out of file descriptors.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::{Instant, sleep},
};
use tulle_tests::{
    load::Caller,
    scene::{Failure, Figures, Stage, prove},
};

use super::{Shop, ip};

/// Descriptors that the sidecar has left, and connections that want one.
const LEFT: usize = 20;
const HELD: usize = 60;
/// How long it is watched while it has none.
const WATCHED: Duration = Duration::from_secs(1);
const CALL: &str = "http://web:80/goes-on";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let caller = Caller::of(shop.mesh, shop.client.clone(), "app");
    // One connection, one request at a time: nothing that would need another descriptor.
    let load = caller.fortio("descriptors", &["-c", "1", "-qps", "50", "-t", "60s", CALL]);
    let meanwhile = async {
        let busy = starved(&shop).await;
        caller.interrupt("fortio").await.and(busy)
    };
    let (counted, busy) = tokio::join!(load, meanwhile);
    let (counted, busy) = (counted?, busy?);
    let bad = counted.but(&["200"]);
    prove(bad.is_empty(), || format!("what went on was told {}", bad.join("; ")))?;
    prove(counted.all() > 20, || format!("only {} requests went on", counted.all()))?;
    prove(busy < 0.5, || format!("it was busy {:.0} % of the time", busy * 100.0))?;
    Ok(Figures::from([("busy_percent", busy * 100.0)]))
}

/// Takes all descriptors for a while. The share of that time that the sidecar was busy.
async fn starved(shop: &Shop<'_>) -> Result<f64, Failure> {
    let going_on = |line: &serde_json::Value| line["path"] == "/goes-on";
    shop.mesh.logged(&shop.web, "tulle-proxy", going_on).await?;
    let open = sidecar(shop, &["ls", "/proc/1/fd"]).await?.lines().count();
    let before = sidecar(
        shop,
        &["prlimit", "--pid", "1", "--nofile", "--raw", "--noheadings", "--output", "SOFT"],
    )
    .await?;
    limit(shop, &(open + LEFT).to_string()).await?;
    let port = HELD.to_string();
    let argv = ["python3", "/net/ends.py", "hold", ip(&shop.web), "8080", &port];
    let mut holding = shop.mesh.command(&shop.stranger, "app", &argv);
    holding.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut holding = holding.spawn()?;
    let output = holding.stdout.take().ok_or_else(|| Failure("no output".into()))?;
    let held = BufReader::new(output).lines().next_line().await?;
    prove(held.as_deref() == Some("held"), || format!("connections were not opened: {held:?}"))?;
    let says = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|message| message.contains("limit of open files"))
    };
    shop.mesh.logged(&shop.web, "tulle-proxy", says).await?;
    let (begun, busy) = (Instant::now(), cpu(shop).await?);
    sleep(WATCHED).await;
    let busy = (cpu(shop).await? - busy) / begun.elapsed().as_secs_f64();
    drop(holding.stdin.take());
    holding.wait().await?;
    // With the same limit it has room again.
    shop.told(&shop.stranger, &[("http://web4.shop:80".to_owned(), "200 web 169.254.41.1 -")])
        .await?;
    limit(shop, before.trim()).await?;
    Ok(busy)
}

async fn limit(shop: &Shop<'_>, soft: &str) -> Result<(), Failure> {
    sidecar(shop, &["prlimit", "--pid", "1", &format!("--nofile={soft}:")]).await.map(drop)
}

/// Processor time so far, in seconds.
async fn cpu(shop: &Shop<'_>) -> Result<f64, Failure> {
    tulle_tests::mesh::cpu(&sidecar(shop, &["cat", "/proc/1/stat"]).await?)
}

async fn sidecar(shop: &Shop<'_>, argv: &[&str]) -> Result<String, Failure> {
    shop.mesh.exec(&shop.web, "tulle-proxy", argv).await
}
