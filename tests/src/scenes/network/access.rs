//! AccessPolicy: who is let in, and what becomes of what is open when it changes.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{Instant, sleep, timeout},
};
use tulle_tests::scene::{Failure, Figures, Stage, prove};

use super::{Shop, at, ip};

const RESET: &str = "ConnectionResetError";
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Nobody in the namespace, but this ServiceAccount at two ports of `web`.
fn policies(account: &str, mode: &str) -> String {
    format!(
        "\
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: deny, namespace: shop}}
spec: {{mode: {mode}}}
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: callers, namespace: shop}}
spec:
  mode: {mode}
  selector: {{matchLabels: {{app: web}}}}
  rules: [{{from: [{{serviceAccount: {account}}}], ports: [8080, 7002]}}]
"
    )
}

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let web = |kind: &str, port| format!("{kind}://{}", at(ip(&shop.web), port));
    let page = [web("http", 8080)];
    for pod in [&shop.client, &shop.loner, &shop.stranger] {
        prove(shop.ask(pod, &page).await?[0].starts_with("200"), || format!("{pod:?} first"))?;
    }

    // A connection that stays, of whom is let in.
    let host = ip(&shop.web);
    let keep = ["python3", "/net/ends.py", "keep", host, "7002"];
    let mut keep = shop.mesh.command(&shop.client, "app", &keep);
    let mut keep = keep.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = keep.stdout.take().ok_or_else(|| Failure("no output".into()))?;
    let mut kept = BufReader::new(output).lines();
    let first = kept.next_line().await?.unwrap_or_default();
    prove(first.starts_with("stays"), || format!("the kept connection was told {first:?}"))?;

    let edit = shop.mesh.edit("access.yaml", &policies("client", "Enforce"))?;
    until("a stranger is refused", || shop.ask(&shop.stranger, &page), "403").await?;
    shop.told(
        &shop.client,
        &[
            (web("http", 8080), "200 web 169.254.41.1 -"),
            ("http://web:80".to_owned(), "200 web 169.254.41.1 -"),
            // Another port, opaque and not.
            (web("tcp", 7000), RESET),
            (web("http", 7070), "403…"),
        ],
    )
    .await?;
    shop.told(&shop.loner, &[(web("http", 8080), "403…"), (web("tcp", 7000), RESET)]).await?;
    // Who has no sidecar is waited for to say something.
    shop.told(&shop.stranger, &[(web("http", 8080), "403…"), (web("http", 7000), RESET)]).await?;
    let denied = |line: &serde_json::Value| {
        line["reason"] == "denied"
            && line["policy"] == "AccessPolicy/shop/callers"
            && line["peer"] == "spiffe://cluster.local/ns/shop/sa/client"
    };
    shop.mesh.logged(&shop.web, "tulle-proxy", denied).await?;
    let untouched = timeout(Duration::from_millis(100), kept.next_line()).await;
    prove(untouched.is_err(), || format!("the kept connection ended: {untouched:?}"))?;
    in_force(&shop).await?;

    // Somebody else: what is open ends.
    drop(edit);
    let edit = shop.mesh.edit("access.yaml", &policies("default", "Enforce"))?;
    let ended = timeout(PATIENCE, kept.next_line()).await;
    let ended = ended.map_err(|_elapsed| Failure("the kept connection goes on".into()))??;
    prove(ended.as_deref() == Some(RESET), || format!("the kept connection ended by {ended:?}"))?;
    until("the other is let in", || shop.ask(&shop.loner, &page), "200").await?;
    shop.told(&shop.client, &[(web("http", 8080), "403…")]).await?;
    // The kubelet asks all the while.
    let status = shop.mesh.status().await?;
    let ready = status.pods.iter().any(|pod| pod.name == shop.web.name && pod.ready);
    prove(ready, || "probes are refused".to_owned())?;

    drop(edit);
    let edit = shop.mesh.edit("access.yaml", &policies("default", "Audit"))?;
    until("audit lets in", || shop.ask(&shop.client, &page), "200").await?;
    let audited = |line: &serde_json::Value| {
        line["status"] == 200 && line["audit"] == "AccessPolicy/shop/callers"
    };
    shop.mesh.logged(&shop.web, "tulle-proxy", audited).await?;
    drop(edit);
    Ok(Figures::new())
}

async fn until<F>(what: &str, ask: impl Fn() -> F, begins: &str) -> Result<(), Failure>
where
    F: Future<Output = Result<Vec<String>, Failure>>,
{
    let begun = Instant::now();
    while !ask().await?[0].starts_with(begins) {
        prove(begun.elapsed() < PATIENCE, || format!("not within {PATIENCE:?}: {what}"))?;
        sleep(LOOK).await;
    }
    Ok(())
}

/// Its status says so, of the one proxy that it is about.
async fn in_force(shop: &Shop<'_>) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let objects = shop.mesh.status().await?.objects;
        let policy = objects.iter().find(|object| object.name == "callers");
        if policy.is_some_and(|policy| (policy.in_force.on, policy.in_force.of) == (1, 1)) {
            return Ok(());
        }
        prove(begun.elapsed() < PATIENCE, || format!("not in force: {objects:?}"))?;
        sleep(LOOK).await;
    }
}
