//! What telemetry costs of a request's processor time: everything that can be told (metrics, logs and one trace in a hundred
//! by OTLP, and a scrape) against nothing, by configuration alone, in turns on the same two sidecars; with lines of the access
//! log as there are by default, of what failed and of one request in a thousand, and with one of each request. Instructions,
//! which stand still, are counted by `tests/bench/telemetry`.

use tokio::time::Instant;
use tulle_tests::{load::float, mesh::Pod, scene::Failure, scene::until};

use crate::{
    Size,
    bed::{Bed, PATIENCE, SERVER},
    row::{Row, Subject},
};

const FILE: &str = "telemetry.yaml";

/// What is told, and what a sidecar's configuration says where that holds.
struct Told {
    name: &'static str,
    spec: &'static str,
    in_force: [&'static str; 2],
    /// One request in so many has a line.
    one_in: u32,
}

const NOTHING: Told = Told {
    name: "nothing",
    spec: "{traces: {disabled: true}, logs: {format: None}, metrics: {disabled: true}}",
    in_force: ["\"off\":true", "\"sampling_ppm\":0"],
    one_in: 1000,
};
const EVERYTHING: Told = Told {
    name: "everything",
    spec: "{traces: {sampling: 1%, destinations: [TO]}, logs: {destinations: [TO]}, metrics: {destinations: [TO], interval: 15s}}",
    in_force: ["\"off\":false", "\"sampling_ppm\":10000"],
    one_in: 1000,
};
const ALL_LINES: Told = Told { name: "all-lines", one_in: 1, ..EVERYTHING };
const COLLECTOR: &str = "{endpoint: 'http://collector.bench:4318', protocol: HTTP}";

pub(crate) async fn measure(bed: &Bed, size: Size) -> Result<Vec<Row>, Failure> {
    let (mut seconds, mut more, mut all_lines) = (Vec::new(), Vec::new(), Vec::new());
    // Many short turns: a machine that others use changes its mind within seconds. The first one warms up.
    let size = Size { requests: size.requests / 3, ..size };
    for run in 0..=3 * size.runs {
        let off = once(bed, &NOTHING, size).await?;
        let on = once(bed, &EVERYTHING, size).await?;
        let lines = once(bed, &ALL_LINES, size).await?;
        if run > 0 {
            seconds.push(on);
            more.push(100.0 * (on / off - 1.0));
            all_lines.push(100.0 * (lines / off - 1.0));
        }
    }
    sent(bed).await?;
    let row = |metric, runs| Row::new("telemetry", Subject::Tulle, metric, runs);
    Ok(vec![
        row(("cpu_s_per_million_with_everything", "s"), seconds),
        row(("cpu_more_than_with_nothing", "%"), more).at_most(5.0),
        row(("cpu_more_with_a_line_of_each_request", "%"), all_lines),
    ])
}

/// Processor time of both sidecars, in seconds for a million requests.
async fn once(bed: &Bed, told: &Told, size: Size) -> Result<f64, Failure> {
    let spec = told.spec.replace("TO", COLLECTOR);
    let one_in = told.one_in;
    bed.mesh.save(
        FILE,
        &format!(
            "apiVersion: tulle.dev/v1alpha1\nkind: Telemetry\nmetadata: {{name: told, namespace: bench}}\nspec: {spec}\n---\n\
             apiVersion: tulle.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec: {{proxy: {{accessLogSample: {one_in}}}}}\n"
        ),
    )?;
    let lines = format!("\"accessLogSample\":{one_in}}}");
    for pod in [&bed.caller, &bed.server] {
        until(told.name, PATIENCE, async || {
            let config = bed.mesh.config(pod).await?.to_string();
            Ok(told.in_force.iter().all(|text| config.contains(text)) && config.contains(&lines))
        })
        .await?;
    }
    let requests = size.requests.to_string();
    let begun = Instant::now();
    let before = bed.sidecars_cpu().await?;
    let words = ["--h1", "-c", "64", "-n", &requests, SERVER];
    let load = bed.calls().h2load(&format!("telemetry-{}", told.name), &words).await?;
    for pod in [&bed.caller, &bed.server] {
        bed.scrape(pod).await?;
    }
    let cpu = bed.sidecars_cpu().await? - before;
    let bad = load.but(&["2xx"]);
    if !bad.is_empty() {
        let (all, took) = (load.all(), begun.elapsed());
        return Err(Failure(format!("of {all} requests in {took:?}: {}", bad.join(", "))));
    }
    Ok(cpu * 1e6 / float(load.all()))
}

/// Whether everything was really sent: figures of a sidecar that sends nothing would be good ones.
async fn sent(bed: &Bed) -> Result<(), Failure> {
    for pod in [&bed.caller, &bed.server] {
        for signal in ["spans", "logs", "metrics"] {
            let series = format!("tulle_telemetry_sent_total{{signal=\"{signal}\"}} ");
            until(&format!("{signal} of {}", pod.name), PATIENCE, async || {
                let all = bed.scrape(pod).await?;
                Ok(all.lines().any(|line| line.strip_prefix(&*series).is_some_and(|n| n != "0")))
            })
            .await?;
        }
    }
    Ok(())
}

impl Bed {
    /// What Prometheus would get of a pod's sidecar.
    async fn scrape(&self, pod: &Pod) -> Result<String, Failure> {
        self.mesh.exec(pod, "tulle-proxy", &["tulle-proxy", "ctl", "/metrics"]).await
    }
}
