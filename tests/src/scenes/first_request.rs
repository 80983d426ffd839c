//! From nothing but YAML to the first successful request through two sidecars.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use tulle_tests::{
    load,
    scene::{Failure, Figures, Stage, prove},
};

/// A newcomer waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who the sidecars must say that they met.
const CALLER: &str = "spiffe://cluster.local/ns/bookstore/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/bookstore/sa/reviews";

/// What `reviews` answers, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    pod: String,
}

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let start = Instant::now();
    let mesh = stage.begin().await?;
    let answer = loop {
        let asked = async {
            let client = mesh.pod("bookstore", "client").await?;
            mesh.exec(
                &client,
                "client",
                &["curl", "-sS", "-m", "2", "-f", "http://reviews:9080/reviews/1"],
            )
            .await
        };
        match asked.await {
            Ok(answer) => break answer,
            Err(Failure(why)) => {
                prove(start.elapsed() < PATIENCE, || format!("no answer in {PATIENCE:?}: {why}"))?;
            }
        }
        sleep(Duration::from_millis(20)).await;
    };
    let seconds = start.elapsed().as_secs_f64();
    let client = mesh.pod("bookstore", "client").await?;
    let reviews = load::json::<Answer>(&answer)?.pod;
    let reviews = mesh.pod("bookstore", &reviews).await?;
    let request = |line: &serde_json::Value| line["path"] == "/reviews/1" && line["status"] == 200;
    let sent = mesh.logged(&client, "tulle-proxy", request).await?;
    let is = |line: &serde_json::Value, way: &str, peer: &str| {
        line["direction"] == way && line["peer"] == peer
    };
    prove(is(&sent, "outbound", SERVER), || format!("the client's proxy says {sent}"))?;
    let received = mesh.logged(&reviews, "tulle-proxy", request).await?;
    prove(is(&received, "inbound", CALLER), || format!("the server's proxy says {received}"))?;
    mesh.ready().await?;
    Ok(Figures::from([
        ("up_to_first_request_s", seconds),
        ("up_to_all_ready_s", start.elapsed().as_secs_f64()),
    ]))
}
