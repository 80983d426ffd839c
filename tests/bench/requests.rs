//! What a request costs on its way through two sidecars: processor time, throughput, latency; ours,
//! stock Envoy by the same YAML, and none at all, in turns.

use tulle_tests::{load::float, scene::Failure};

use crate::{
    Size,
    bed::{Bed, SERVER},
    row::{Row, Subject},
};

const SUBJECTS: [Subject; 3] = [Subject::Tulle, Subject::Envoy, Subject::Direct];
/// Requests a second where latency is measured.
const RATE: &str = "2000";

/// How a client speaks. Either has 64 requests under way.
struct Client {
    name: &'static str,
    h2load: &'static [&'static str],
    fortio: &'static [&'static str],
    url: &'static str,
}

const CLIENTS: [Client; 2] = [
    Client { name: "http1", h2load: &["--h1", "-c", "64"], fortio: &[], url: SERVER },
    Client {
        name: "http2",
        h2load: &["-c", "8", "-m", "8"],
        fortio: &["-h2"],
        url: "http://server.bench:8081/",
    },
];

/// What one subject showed, run by run.
#[derive(Debug, Default)]
struct Seen {
    cpu: Vec<f64>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) async fn run(size: Size) -> Result<Vec<Row>, Failure> {
    let mut beds = Vec::new();
    let mut rows = Ok(Vec::new());
    for subject in SUBJECTS {
        match Bed::up(subject).await {
            Ok(bed) => beds.push((subject, bed)),
            Err(failure) => rows = Err(failure),
        }
    }
    if rows.is_ok() {
        rows = measure(&beds, size).await;
    }
    for (_, bed) in beds {
        bed.mesh.down().await?;
    }
    rows
}

async fn measure(beds: &[(Subject, Bed)], size: Size) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (_, bed) in beds {
        say(&bed.effective().await?);
    }
    for client in &CLIENTS {
        let mut seen: Vec<Seen> = beds.iter().map(|_| Seen::default()).collect();
        for run in 0..=size.runs {
            for ((subject, bed), seen) in beds.iter().zip(&mut seen) {
                let one = once(bed, client, size).await.map_err(|Failure(why)| {
                    Failure(format!("{subject:?}, {}: {why}", client.name))
                })?;
                // The first one warms up: connections, caches, what is asked for on demand.
                if run > 0 {
                    seen.take(one);
                }
            }
        }
        rows.extend(share(&seen, client));
        for ((subject, _), seen) in beds.iter().zip(seen) {
            rows.extend(seen.rows(client, *subject));
        }
    }
    for (subject, bed) in beds.iter().filter(|(subject, _)| *subject != Subject::Direct) {
        let memory = bed.sidecar_memory(&bed.caller).await?;
        rows.push(Row::new("requests", *subject, ("sidecar_after_load", "MiB"), vec![memory]));
    }
    Ok(rows)
}

/// Our processor time as a share of Envoy's, run by run.
fn share(seen: &[Seen], client: &Client) -> Option<Row> {
    let of = |wanted| SUBJECTS.iter().zip(seen).find(|(subject, _)| **subject == wanted);
    let ((_, ours), (_, envoy)) = of(Subject::Tulle).zip(of(Subject::Envoy))?;
    let runs = ours.cpu.iter().zip(&envoy.cpu).map(|(ours, envoy)| ours / envoy).collect();
    let metric = ("cpu_as_share_of_envoy", "1");
    Some(Row::new("requests", Subject::Tulle, metric, runs).by(client.name).at_most(0.5))
}

#[expect(clippy::print_stdout, reason = "what was measured is said beside the figures")]
fn say(text: &str) {
    println!("   {text}");
}

/// One run of one subject.
struct Once {
    cpu: f64,
    rate: f64,
    p50: f64,
    p99: f64,
}

async fn once(bed: &Bed, client: &Client, size: Size) -> Result<Once, Failure> {
    let caller = bed.calls();
    let (requests, seconds) = (size.requests.to_string(), format!("{}s", size.seconds));
    let before = bed.sidecars_cpu().await?;
    let most = [client.h2load, &["-n", &requests, client.url]].concat();
    let most = caller.h2load(&format!("{}-most", client.name), &most).await?;
    let cpu = bed.sidecars_cpu().await? - before;
    all_good(most.all(), &most.but(&["2xx"]))?;
    let fixed = [&["-qps", RATE, "-c", "16", "-t", &seconds], client.fortio, &[client.url]];
    let fixed = caller.fortio(&format!("{}-fixed", client.name), &fixed.concat()).await?;
    all_good(fixed.all(), &fixed.but(&["200"]))?;
    let latency = |percent| {
        fixed.latency(percent).ok_or_else(|| Failure(format!("fortio does not say its p{percent}")))
    };
    Ok(Once {
        cpu: cpu * 1e6 / float(most.all()),
        rate: most.rate(),
        p50: latency(50.0)?,
        p99: latency(99.0)?,
    })
}

fn all_good(all: u64, bad: &[String]) -> Result<(), Failure> {
    if bad.is_empty() { Ok(()) } else { Err(Failure(format!("of {all}: {}", bad.join(", ")))) }
}

impl Seen {
    fn take(&mut self, once: Once) {
        let Once { cpu, rate, p50, p99 } = once;
        for (runs, value) in [
            (&mut self.cpu, cpu),
            (&mut self.rate, rate),
            (&mut self.p50, p50),
            (&mut self.p99, p99),
        ] {
            runs.push(value);
        }
    }

    fn rows(self, client: &Client, subject: Subject) -> Vec<Row> {
        let row = |metric, unit, runs| {
            Row::new("requests", subject, (metric, unit), runs).by(client.name)
        };
        let mut rows = vec![
            row("rate_at_saturation", "1/s", self.rate),
            row("latency_p50_at_2000/s", "ms", self.p50),
            row("latency_p99_at_2000/s", "ms", self.p99),
        ];
        if subject != Subject::Direct {
            rows.insert(0, row("cpu_s_per_million", "s", self.cpu));
        }
        rows
    }
}
