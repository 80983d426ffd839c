//! Five mistakes, each in its own YAML: `tulle tap` says of a request that meets one why it ended so, and which object wants that;
//! and `tulle stat` has counted as many requests as the load generator.

use std::time::Duration;

use serde_json::Value;
use tokio::{process::Command, time::Instant};

use tulle_tests::{
    load::{Caller, float},
    mesh::{Mesh, output_of},
    scene::{Failure, Figures, Stage, prove, say, until},
};

const YAML: &str = include_str!("see/see.yaml");
const FAULTS: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: see-lost, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: see-lost, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /known}}]
    backendRefs: [{name: see-lost, port: 80}]
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: see-slow, namespace: bookstore}
spec:
  targetRefs: [{group: '', kind: Service, name: see-slow}]
  timeouts: {request: 100ms}
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: see-narrow, namespace: bookstore}
spec:
  targetRefs: [{group: '', kind: Service, name: see-narrow}]
  limits: {requests: 1}
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: see-sick, namespace: bookstore}
spec:
  targetRefs: [{group: '', kind: Service, name: see-sick}]
  ejection: {consecutive5xx: 2, baseTime: 1s, interval: 500ms, maxPercent: 50}
---
apiVersion: tulle.dev/v1alpha1
kind: MeshTLS
metadata: {name: see-strict, namespace: bookstore}
spec: {mode: Strict}
";
/// How long the pods, an edit and reports may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A request is to be in the store 1.5 s after its end; machines differ, and what is shown is of seconds that are over.
const LATE: f64 = 7.5;
/// What is looked for is what ended within this scene.
const SINCE: &str = "2m";

/// A mistake, and what `tulle tap` has to say.
struct Fault {
    /// The request that meets it: from the client, or from outside of the mesh.
    request: &'static [&'static str],
    from_outside: bool,
    /// Whose sidecar tells, and what is asked of it.
    tap: &'static [&'static str],
    /// In its sentence.
    object: &'static str,
}

const CURL: [&str; 6] = ["curl", "-s", "-m", "5", "-o", "/dev/null"];
const ALL: [Fault; 5] = [
    Fault {
        request: &["http://see-lost/nowhere"],
        from_outside: false,
        tap: &["deploy/client", "--reason", "route_not_found", "--status", "404"],
        object: "HTTPRoute bookstore/see-lost matches GET /nowhere",
    },
    Fault {
        request: &["http://see-slow/slow"],
        from_outside: false,
        tap: &["client", "--reason", "timeout", "--slower", "90ms"],
        object: "TrafficPolicy bookstore/see-slow spec.timeouts.request",
    },
    Fault {
        request: &[
            "--parallel",
            "--parallel-immediate",
            "http://see-narrow/slow",
            "-o",
            "/dev/null",
            "http://see-narrow/slow",
        ],
        from_outside: false,
        tap: &["client", "--reason", "overflow", "--outbound"],
        object: "TrafficPolicy bookstore/see-narrow spec.limits.requests",
    },
    Fault {
        request: &["http://see-sick/fail"],
        from_outside: false,
        tap: &["client", "--to", "see-sick", "--path", "/fail"],
        object: "is left out for a while now, set by TrafficPolicy bookstore/see-sick spec.ejection",
    },
    Fault {
        request: &["http://see.bookstore/"],
        from_outside: true,
        tap: &["deploy/see", "--reason", "denied", "--inbound"],
        object: "MeshTLS bookstore/see-strict forbids it",
    },
];

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let small = stage.small;
    let requests = if small { 300 } else { 2000 };
    let mesh = stage.mesh().await?;
    let (client, stranger) = (Caller::client(mesh).await?, Caller::stranger(mesh).await?);
    mesh.save("see.yaml", YAML)?;
    serves(mesh).await?;
    let counted = client
        .fortio("11-count", &["-n", &requests.to_string(), "-c", "4", "-qps", "0", "http://see/"])
        .await?;
    let seen = stat(mesh, counted.all()).await?;
    say(format!("fortio sent {}, `tulle stat` says {seen}", counted.all()));
    let (median, worst) = known(mesh, &client, if small { 3 } else { 5 }).await?;
    prove(worst < LATE, || format!("a request was known of only {worst:.2} s after its end"))?;
    say(format!("a request is known of {median:.2} s after its end, at worst {worst:.2} s"));

    let _yaml = mesh.edit("see-faults.yaml", FAULTS)?;
    let mut slowest = Duration::ZERO;
    for fault in &ALL {
        let (caller, begun) =
            (if fault.from_outside { &stranger } else { &client }, Instant::now());
        let said = fault.named(mesh, caller).await?;
        slowest = slowest.max(begun.elapsed());
        say(said);
    }
    Ok(Figures::from([
        ("known_after_s", median),
        ("known_after_at_worst_s", worst),
        ("requests", float(counted.all())),
        ("requests_in_stat", float(seen)),
        ("faults_named", float(u64::try_from(ALL.len()).unwrap_or_default())),
        ("slowest_to_be_named_s", slowest.as_secs_f64()),
    ]))
}

/// Waits until both pods serve, without a request that anybody counts.
async fn serves(mesh: &Mesh) -> Result<(), Failure> {
    until("both pods of `see` serve", PATIENCE, async || {
        let all = mesh.status().await?.pods;
        let pods: Vec<_> =
            all.iter().filter(|pod| pod.name.starts_with("see-") && pod.ready).collect();
        for pod in &pods {
            let inside = ["curl", "-sS", "-m", "5", "http://127.0.0.1:8083/"];
            if mesh.exec(pod, "see", &inside).await.is_err() {
                return Ok(false);
            }
        }
        Ok(pods.len() == 2)
    })
    .await
}

/// What `tulle stat` counts once it has counted so many: exactly these.
async fn stat(mesh: &Mesh, sent: u64) -> Result<u64, Failure> {
    let look = async || {
        let words = ["stat", "-n", "bookstore", "deploy/see", "--window", "15m", "-o", "json"];
        let said: Value = tulle_tests::load::json(&mesh.ask(&words).await?)?;
        Ok::<_, Failure>(said["items"][0]["signals"]["requests"].as_u64().unwrap_or_default())
    };
    until("`tulle stat` counts them", PATIENCE, async || Ok(look().await? >= sent)).await?;
    let seen = look().await?;
    prove(seen == sent, || format!("{sent} were sent, `tulle stat` says {seen}"))?;
    Ok(seen)
}

/// How long after its end the control plane knows of a request, where somebody looks: the median and the longest of so many.
async fn known(mesh: &Mesh, client: &Caller<'_>, times: usize) -> Result<(f64, f64), Failure> {
    let (_serves, address) = mesh.dashboard().await?;
    let question = "../telemetry/stat?namespace=bookstore&name=see&window=3&watch=true";
    let url = format!("{address}{question}");
    let requests = async || {
        let mut ask = Command::new("curl");
        ask.args(["-sS", "-m", "5", &url]);
        let said: Value = tulle_tests::load::json(&output_of(ask).await?)?;
        Ok::<_, Failure>(said["items"][0]["signals"]["requests"].as_u64().unwrap_or_default())
    };
    let mut took = Vec::new();
    for _ in 0..times {
        until("nothing happens", PATIENCE, async || Ok(requests().await? == 0)).await?;
        client.run("11-known", &[&CURL[..], &["http://see/"]].concat()).await?;
        let ended = Instant::now();
        until("the request is known of", PATIENCE, async || Ok(requests().await? > 0)).await?;
        took.push(ended.elapsed().as_secs_f64());
    }
    took.sort_by(f64::total_cmp);
    let at = |index: usize| took.get(index).copied().unwrap_or_default();
    Ok((at(times / 2), at(times - 1)))
}

impl Fault {
    /// What `tulle tap` says of a request that meets it, as soon as it is in force.
    async fn named(&self, mesh: &Mesh, caller: &Caller<'_>) -> Result<String, Failure> {
        let tap =
            [&["tap", "-n", "bookstore"], self.tap, &["--since", SINCE, "--once", "-o", "json"]];
        let tap = tap.concat();
        let request = [&CURL, self.request].concat();
        let (mut found, mut last) = (None, String::new());
        let named = until("", PATIENCE, async || {
            // Before it is in force it is answered, or not at all.
            let _whatever = caller.run("11-fault", &request).await;
            let said = mesh.ask(&tap).await?;
            let whys = said.lines().filter_map(|line| {
                let record: Value = serde_json::from_str(line).ok()?;
                Some(record["why"].as_str()?.to_owned())
            });
            let whys: Vec<_> = whys.collect();
            last = whys.last().cloned().unwrap_or_default();
            found = whys.into_iter().find(|why| why.contains(self.object));
            Ok(found.is_some())
        });
        named.await.map_err(|Failure(why)| {
            let words = tap.join(" ");
            Failure(format!("`tulle {words}` does not name {:?}, but {last:?}{why}", self.object))
        })?;
        Ok(found.unwrap_or_default())
    }
}
