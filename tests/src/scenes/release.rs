//! New versions of a service under load: a good one goes through, and nobody notices; one that fails half of its requests is
//! rolled back by itself, as is a slow one; one is rolled back by somebody; one is for those alone who ask for it. Nobody touches
//! anything but the Deployment's YAML, and the Release's.

use std::time::Duration;

use tokio::{
    join,
    time::{Instant, sleep},
};
use tulle_api::ReleasePhase as Phase;
use tulle_tests::{
    load::{Caller, Counted, float},
    mesh::{Mesh, Place, Release},
    scene::{Failure, Figures, Stage, prove, say, until},
};

const YAML: &str = include_str!("release/cart.yaml");
/// Of the Release: its steps, and what stands there when a version is for some; its gate for durations, and the same in force.
/// On a machine that does so much else at once some more slow ones say little; half a second for each does.
const STEPS: &str = "  - {weight: 10, for: 3s}\n  - {weight: 25, for: 3s}\n";
const FOR_SOME: &str =
    "  - {weight: 0, for: 1h, match: [{headers: [{name: x-beta, value: \"1\"}]}]}\n";
const NO_LATENCY: &str = "latency: {disabled: true}";
const LATENCY: &str = "latency: {tolerate: 100%, warmup: 0s}";
/// How long pods, and a whole release, may take here.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the control plane may take to know the Release, and to steer it.
const STARTING: Duration = Duration::from_secs(20);
/// A version that fails half of its requests is noticed by this many, at most: some seconds of its share.
const HIT: u64 = 150;
/// What a rollback that somebody wants may take until it is in force. A second is the target; machines differ.
const AT_ONCE: f64 = 3.0;
/// How long is looked at whether nothing comes any more.
const AFTER: Duration = Duration::from_secs(3);

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let client = Caller::client(mesh).await?;
    deploy(mesh, 1, "0")?;
    until("all three pods of `cart` serve", PATIENCE, async || {
        let all = mesh.status().await?.pods;
        Ok(all.iter().filter(|pod| pod.name.starts_with("cart-") && pod.ready).count() == 3)
    })
    .await?;
    comes_to(mesh, Phase::Idle).await?;

    let begun = Instant::now();
    let (good, calls) = Box::pin(load(mesh, &client, "13-good", async {
        deploy(mesh, 2, "0")?;
        comes_to(mesh, Phase::Promoted).await
    }))
    .await?;
    let took = begun.elapsed().as_secs_f64();
    let failed = calls.but(&["200"]);
    prove(failed.is_empty(), || format!("while a good version came: {}", failed.join(", ")))?;
    say(format!(
        "a good version went through in {took:.0} s: {}, and none of {} requests failed",
        good.reason,
        calls.all()
    ));

    let (held, calls) = Box::pin(load(mesh, &client, "13-bad", async {
        deploy(mesh, 3, "0.5")?;
        let held = comes_to(mesh, Phase::Held).await?;
        sleep(AFTER).await;
        Ok(held)
    }))
    .await?;
    let (hit, other) = (calls.of(&["500"]), calls.but(&["200", "500"]));
    prove(other.is_empty(), || format!("while a bad version came: {}", other.join(", ")))?;
    prove(hit > 0, || "the bad version never got a request".into())?;
    prove(hit <= HIT, || format!("{hit} requests failed before it was rolled back"))?;
    let gate = held.reason.contains("errors");
    prove(gate, || format!("it is not said why it was rolled back: {}", held.reason))?;
    say(format!("a bad one failed {hit} of {} requests, then {}", calls.all(), held.reason));
    let (_, calls) = load(mesh, &client, "13-held", sleep_well(AFTER)).await?;
    let failed = calls.but(&["200"]);
    prove(failed.is_empty(), || format!("it still gets something: {}", failed.join(", ")))?;

    deploy(mesh, 2, "0")?;
    comes_to(mesh, Phase::RolledBack).await?;
    let ((aborted, in_force), calls) = Box::pin(load(mesh, &client, "13-abort", async {
        deploy(mesh, 4, "0")?;
        until("the first step", PATIENCE, async || Ok(get(mesh).await?.step > 0)).await?;
        let begun = Instant::now();
        let said = mesh.ask(&["release", "rollback", "bookstore/cart", "--reason", "demo"]).await?;
        prove(said.contains("in force on"), || said.clone())?;
        Ok((get(mesh).await?, begun.elapsed().as_secs_f64()))
    }))
    .await?;
    let failed = calls.but(&["200"]);
    prove(failed.is_empty(), || format!("while somebody rolled back: {}", failed.join(", ")))?;
    prove(aborted.phase == Phase::Held && aborted.reason.contains("demo"), || {
        format!("{aborted:?}")
    })?;
    prove(in_force < AT_ONCE, || format!("a rollback was in force after {in_force:.2} s"))?;
    say(format!(
        "somebody's rollback was in force after {in_force:.2} s, with the command's own start"
    ));
    deploy(mesh, 2, "0")?;
    comes_to(mesh, Phase::RolledBack).await?;
    Box::pin(slow(mesh, &client)).await?;
    Box::pin(for_some(mesh, &client)).await?;
    Ok(Figures::from([
        ("good_took_s", took),
        ("bad_hit", float(hit)),
        ("rollback_in_force_s", in_force),
    ]))
}

/// A version that answers all right, and late.
async fn slow(mesh: &Mesh, client: &Caller<'_>) -> Result<(), Failure> {
    let judged = yaml(5, "0", "0.5").replace(NO_LATENCY, LATENCY);
    let (held, calls) = Box::pin(load(mesh, client, "13-slow", async {
        mesh.save("cart.yaml", &judged)?;
        comes_to(mesh, Phase::Held).await
    }))
    .await?;
    let failed = calls.but(&["200"]);
    prove(failed.is_empty(), || format!("while a slow version came: {}", failed.join(", ")))?;
    let gate = held.reason.contains("latency");
    prove(gate, || format!("it is not said why it was rolled back: {}", held.reason))?;
    say(format!("a slow one answered all, and {}", held.reason));
    deploy(mesh, 2, "0")?;
    comes_to(mesh, Phase::RolledBack).await.map(drop)
}

/// A version for those alone who say by a header that they want it, until somebody lets it take over.
async fn for_some(mesh: &Mesh, client: &Caller<'_>) -> Result<(), Failure> {
    mesh.save("cart.yaml", &yaml(6, "0", "0").replace(STEPS, FOR_SOME))?;
    until("the step", PATIENCE, async || Ok(get(mesh).await?.step > 0)).await?;
    let asked = async |header: &str| {
        let argv = ["curl", "-sS", "-m", "5", "-H", header, "http://cart/?[1-60]"];
        client.run("13-some", &argv).await
    };
    let all = |version: &str| version.repeat(60);
    let (some, others) = (asked("x-beta: 1").await?, asked("x-beta: 0").await?);
    prove(some == all("6"), || format!("those who want it got {some}"))?;
    prove(others == all("2"), || format!("the others got {others}"))?;
    mesh.ask(&["release", "promote", "bookstore/cart"]).await?;
    comes_to(mesh, Phase::Promoted).await?;
    let others = asked("x-beta: 0").await?;
    prove(others == all("6"), || format!("when it had taken over they got {others}"))?;
    say("a version was for those alone who asked for it by a header; then for everybody");
    Ok(())
}

/// A version of the service, which fails and waits as it shall.
fn yaml(version: u32, fails: &str, waits: &str) -> String {
    YAML.replace("VERSION, value: \"1\"", &format!("VERSION, value: \"{version}\""))
        .replace("FAILS, value: \"0\"", &format!("FAILS, value: \"{fails}\""))
        .replace("WAITS, value: \"0\"", &format!("WAITS, value: \"{waits}\""))
}

fn deploy(mesh: &Mesh, version: u32, fails: &str) -> Result<(), Failure> {
    mesh.save("cart.yaml", &yaml(version, fails, "0"))
}

async fn get(mesh: &Mesh) -> Result<Release, Failure> {
    mesh.release("bookstore/cart").await
}

/// Waits until it is in this phase; what is said of it then.
async fn comes_to(mesh: &Mesh, phase: Phase) -> Result<Release, Failure> {
    let since = Instant::now();
    loop {
        // Right after the control plane's start nobody steers yet.
        let found = get(mesh).await;
        let patience = match &found {
            Ok(release) if release.phase == phase => return found,
            Ok(_) => PATIENCE,
            Err(_) => STARTING,
        };
        prove(since.elapsed() < patience, || {
            format!("not {phase:?} after {patience:?}: {found:?}")
        })?;
        sleep(Duration::from_millis(200)).await;
    }
}

async fn sleep_well(time: Duration) -> Result<(), Failure> {
    sleep(time).await;
    Ok(())
}

/// Calls the service while `work` is done: POSTs, each on a connection of its own, so that nobody tries anything twice.
async fn load<T>(
    mesh: &Mesh,
    client: &Caller<'_>,
    label: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<(T, Counted), Failure> {
    let rate = match mesh.place {
        Place::Machine => "200",
        Place::Cluster => "60",
    };
    let args =
        ["-t", "0", "-c", "4", "-qps", rate, "-keepalive=false", "-payload", "x", "http://cart/"];
    let (counted, done) = join!(client.fortio(label, &args), async {
        let done = work.await;
        client.interrupt("fortio").await?;
        done
    });
    Ok((done?, counted?))
}
