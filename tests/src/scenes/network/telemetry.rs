//! Telemetry: the log of running sidecars has other lines as soon as somebody saves that it shall.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tulle_tests::scene::{Failure, Figures, Stage, prove};

use super::{Shop, at, ip};

/// How long a change may take, with the request that shows it.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

fn telemetry(name: &str, spec: &str) -> String {
    format!(
        "\
apiVersion: tulle.dev/v1alpha1
kind: Telemetry
metadata: {{name: {name}, namespace: shop}}
spec:
{spec}"
    )
}

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let page = [format!("http://{}", at(ip(&shop.web), 8080))];
    shop.ask(&shop.client, &page).await?;
    let is_get = |line: &Value| line["method"] == "GET" && line["tenant"].is_null();
    shop.mesh.logged(&shop.web, "tulle-proxy", is_get).await?;

    // Envoy's text of one workload, another's log is as it was.
    let envoy =
        telemetry("log-of-web", "  selector: {matchLabels: {app: web}}\n  logs: {format: Envoy}\n");
    let saved = Instant::now();
    let edit = shop.mesh.edit("telemetry.yaml", &envoy)?;
    let first = until(&shop, &page, |lines| {
        lines.iter().any(|line| line.contains("] \"GET / HTTP/1.1\" 200 - 0 "))
    })
    .await?;
    shop.mesh.logged(&shop.client, "tulle-proxy", is_get).await?;
    in_force(&shop, "log-of-web").await?;

    // A field more, of every workload; the most specific one's format stays until it is gone.
    let tenant = telemetry(
        "log-of-all",
        "  logs:\n    format: JSON\n    fields: [{name: tenant, value: \"source.workload + '@' + request.host\"}]\n",
    );
    shop.mesh.save("telemetry-all.yaml", &tenant)?;
    drop(edit);
    let told = |line: &Value| {
        line["direction"] == "inbound"
            && line["tenant"].as_str().is_some_and(|tenant| tenant.starts_with("client@"))
    };
    until(&shop, &page, |lines| {
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).any(|line| told(&line))
    })
    .await?;

    // A filter: what it does not want is not there, and what it wants is.
    shop.mesh.save(
        "telemetry-all.yaml",
        &telemetry("log-of-all", "  logs: {filter: request.path == '/wanted'}\n"),
    )?;
    in_force(&shop, "log-of-all").await?;
    let before = shop.mesh.logs(&shop.web, "tulle-proxy").await?.lines().count();
    for _ in 0..20 {
        shop.ask(&shop.client, &page).await?;
    }
    shop.ask(&shop.client, &[format!("{}/wanted", page[0])]).await?;
    let wanted = |line: &Value| line["path"] == "/wanted" && line["direction"] == "inbound";
    shop.mesh.logged(&shop.web, "tulle-proxy", wanted).await?;
    let log = shop.mesh.logs(&shop.web, "tulle-proxy").await?;
    let new: Vec<_> = log.lines().skip(before).filter(|line| !line.contains("/wanted")).collect();
    prove(new.is_empty(), || format!("lines that the filter does not want: {new:?}"))?;
    let mut figures = Figures::new();
    figures.insert("log_changed_after_s", (first - saved).as_secs_f64());
    Ok(figures)
}

/// Asks until the log of what is asked shows it; when that was.
async fn until(
    shop: &Shop<'_>,
    page: &[String],
    shows: impl Fn(&[&str]) -> bool,
) -> Result<Instant, Failure> {
    let begun = Instant::now();
    loop {
        shop.ask(&shop.client, page).await?;
        let log = shop.mesh.logs(&shop.web, "tulle-proxy").await?;
        let lines: Vec<&str> = log.lines().collect();
        if shows(&lines) {
            return Ok(Instant::now());
        }
        prove(begun.elapsed() < PATIENCE, || {
            format!("the log goes on as it was: {:?}", lines.last())
        })?;
        sleep(LOOK).await;
    }
}

/// Its status says that whoever it is about has it.
async fn in_force(shop: &Shop<'_>, name: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let objects = shop.mesh.status().await?.objects;
        let object = objects.iter().find(|object| object.name == name);
        if object.is_some_and(|o| o.in_force.on == o.in_force.of && o.in_force.of > 0) {
            return Ok(());
        }
        prove(begun.elapsed() < PATIENCE, || format!("{name} is not in force: {objects:?}"))?;
        sleep(LOOK).await;
    }
}
