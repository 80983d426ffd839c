//! One caller sends four times what a service's limit lets through; somebody else calls the same service.

use std::time::Duration;

use tokio::time::sleep;

use super::stock::Stock;
use tulle_tests::{
    load::{Caller, float},
    scene::{Failure, Figures, Stage, prove, say},
};

const YAML: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: limits, namespace: bookstore}
spec:
  targetRefs: [{group: '', kind: Service, name: stock}]
  limits: {requests: 8}
";
/// Takes 50 ms, and longer where too many ask at once.
const URL: &str = "http://stock:8080/slow";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let stock = Stock::new(mesh).await?;
    let greedy = Caller::client(mesh).await?;
    let modest = Caller::new(mesh, "bookstore", "clerk", "clerk").await?;
    stock.fail(0, 0).await?;
    let _yaml = mesh.edit("limits.yaml", YAML)?;
    let few = |time: &'static str| ["-t", time, "-c", "2", "-qps", "30", URL];
    let alone = modest.fortio("6-alone", &few("2s")).await?;

    let (overrun, beside) = tokio::join!(
        greedy.fortio("6-overrun", &["-t", "5s", "-c", "96", "-qps", "600", URL]),
        async {
            sleep(Duration::from_secs(1)).await;
            modest.fortio("6-beside", &few("3s")).await
        },
    );
    let (overrun, beside) = (overrun?, beside?);
    let (passed, overflowed) = (overrun.of(&["200"]), overrun.of(&["503"]));
    let bad = [overrun.but(&["200", "503"]), alone.but(&["200"]), beside.but(&["200"])].concat();
    prove(bad.is_empty(), || format!("failed requests: {}", bad.join("; ")))?;
    prove(passed > 0 && overflowed > 0, || format!("{passed} passed, {overflowed} overflowed"))?;
    let missing = || Failure("fortio gives no latency".into());
    let [alone, beside] = [alone.latency(50.0), beside.latency(50.0)];
    let (alone, beside) = (alone.ok_or_else(missing)?, beside.ok_or_else(missing)?);
    let (within, refusal) = (overrun.mean_good, overrun.median_error);
    let (within, refusal) = (within.ok_or_else(missing)?, refusal.ok_or_else(missing)?);
    say(format!(
        "{passed} passed in {within:.0} ms on average; {overflowed} got 503 in {refusal:.1} ms"
    ));
    say(format!("another caller: {alone:.0} ms alone, {beside:.0} ms meanwhile (medians)"));
    // Who is refused does not wait for the service, however busy the machine is.
    prove(refusal < within / 2.0, || format!("a refusal took {refusal:.1} ms of {within:.0}"))?;
    for (who, took) in [("what is within the limit", within), ("the other caller", beside)] {
        prove(took < 5.0 * alone, || {
            format!("{who} took {took:.0} ms, alone it was {alone:.0} ms")
        })?;
    }
    let said = |line: &serde_json::Value| line["reason"] == "overflow" && line["status"] == 503;
    mesh.logged(greedy.pod(), "tulle-proxy", said).await?;
    Ok(Figures::from([
        ("passed", float(passed)),
        ("overflowed", float(overflowed)),
        ("overflowed_median_ms", refusal),
        ("within_the_limit_mean_ms", within),
        ("other_caller_alone_median_ms", alone),
        ("other_caller_meanwhile_median_ms", beside),
    ]))
}
