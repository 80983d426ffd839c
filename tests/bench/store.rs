//! What the control plane remembers of a large mesh's traffic: the memory it takes, the work of taking it in, and how long the
//! slowest questions take. In one process, by a clock of its own: two hours of reports, in which every edge is busy.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tulle_control_plane::{
    roster::Pods,
    telemetry::{
        Ask, Counted, Known, Of, Reporting, Store, Workload,
        query::Answer,
        view::{self, TREND, TREND_POINT},
    },
    world::objects::Name,
};
use tulle_proto::telemetry::v1::{
    Counts, Direction, Edge, EdgeCounts, Histogram, ReportRequest, Requests, Security, Tries,
};
use tulle_runtime::pages;
use tulle_tests::scene::Failure;

use crate::{
    Size,
    row::{Row, Subject},
};

/// Workloads, each of which calls so many others, by so many rules: 5,000 edges and 15,000 rules, and each edge is told by both
/// of its ends.
const WORKLOADS: u64 = 1000;
const CALLS: u64 = 5;
const RULES: u64 = 3;
/// Between reports, in seconds, and for how long they come.
const INTERVAL: u64 = 10;
const HISTORY: u64 = 7200;
/// Requests of a rule between two reports.
const REQUESTS: u32 = 10;
/// What the store may take, and a question.
const MOST_MEGABYTES: f64 = 128.0;
const MOST_MILLISECONDS: f64 = 50.0;
/// Half of what a replica says at once.
const MOST_OF_A_MESSAGE: f64 = 32.0;

pub(crate) fn measure(size: Size) -> Result<Vec<Row>, Failure> {
    let (workloads, questions) = (WORKLOADS / size.part(), 20 * size.runs);
    let (mut store, mut counts) = (Store::default(), some_counts().into_iter().cycle());
    let begun = pages::cpu_time();
    let mut reports = 0_u64;
    for number in 1..=HISTORY / INTERVAL {
        let now = number * INTERVAL - INTERVAL;
        for workload in 0..workloads {
            let edges = edges_of(workload, workloads).zip(&mut counts);
            let edges =
                edges.map(|(edge, counts)| EdgeCounts { edge: Some(edge), counts: Some(counts) });
            let report = ReportRequest {
                process: 1,
                number,
                edges: edges.collect(),
                records: None,
                certificate_ends: 0,
            };
            let of = (&pod(workload), &named(workload));
            let counted = Counted::read(of.1, &report);
            store.take(of, counted, Duration::from_secs(now));
            reports += 1;
        }
        store.sweep(Duration::from_secs(now));
    }
    let work = pages::cpu_time() - begun;
    let now = Duration::from_secs(HISTORY);
    if store.shortened(now, now) {
        return Err(Failure("it had to forget before its time".to_owned()));
    }
    let per_second = work.as_secs_f64() * 1000.0 / HISTORY as f64;
    let megabytes = store.bytes() as f64 / f64::from(1 << 20);
    let mut rows = vec![
        row(("size of the store", "MiB"), vec![megabytes]).at_most(MOST_MEGABYTES),
        row(("taking in: CPU of a second", "ms"), vec![per_second]),
        row(("taking in: CPU of a report", "us"), vec![work.as_secs_f64() * 1e6 / reports as f64]),
    ];
    // What a page of the dashboard asks each second, and then what none does.
    for (page, (question, work), ask) in [
        (true, ("p99 of stat", "CPU of stat"), ask as fn(&Store, Duration) -> usize),
        (true, ("p99 of edges", "CPU of edges"), edges),
        (true, ("p99 of routes of one", "CPU of routes of one"), routes_of_one),
        (true, ("p99 of a chart of 90 points", "CPU of a chart"), chart),
        (false, ("p99 of routes of all", "CPU of routes of all"), routes),
    ] {
        let cpu = pages::cpu_time();
        let mut took: Vec<_> = (0..questions)
            .map(|_| {
                let begun = Instant::now();
                assert!(ask(&store, now) > 0, "{question}: there is an answer");
                begun.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        let cpu = (pages::cpu_time() - cpu).as_secs_f64() * 1000.0 / questions as f64;
        took.sort_by(f64::total_cmp);
        let p99 = row((question, "ms"), vec![took[(took.len() * 99).div_ceil(100) - 1]]);
        rows.push(if page { p99.at_most(MOST_MILLISECONDS) } else { p99 });
        rows.push(row((work, "ms"), vec![cpu]));
    }
    // What another replica says in one message.
    let trend = Duration::from_secs((TREND * TREND_POINT).into());
    for (answer, ask) in [
        ("message of stat", all(MINUTE)),
        ("message of trends", Ask { points: TREND, durations: false, ..all(trend) }),
        ("message of routes", Ask { routes: true, ..all(MINUTE) }),
        ("message of a chart", chart_of(0)),
    ] {
        let known = known(&store, now, &ask);
        let megabytes = known.message_bytes() as f64 / f64::from(1 << 20);
        rows.push(row((answer, "MiB"), vec![megabytes]).at_most(MOST_OF_A_MESSAGE));
    }
    Ok(rows)
}

fn row(what: (&'static str, &'static str), runs: Vec<f64>) -> Row {
    Row::new("store", Subject::Tulle, what, runs)
}

fn named(number: u64) -> Workload {
    Workload {
        namespace: format!("namespace-{}", number % 20),
        kind: "Deployment".to_owned(),
        name: format!("workload-{number}"),
    }
}

fn pod(number: u64) -> Name {
    let Workload { namespace, name, .. } = named(number);
    Name::new(namespace, format!("{name}-1"))
}

/// What happened on some rule between two reports: durations as servers have them.
fn some_counts() -> Vec<Counts> {
    let mut chance = StdRng::seed_from_u64(1);
    let one = |_| {
        let mut histogram = tulle_runtime::histogram::Histogram::default();
        for _ in 0..REQUESTS {
            // The product of several is near to log-normal.
            let spread: f64 = (0..8).map(|_| chance.random_range(0.65..1.5)).product();
            histogram.observe(0.02 * spread);
        }
        Counts {
            requests: vec![Requests { status: 200, times: REQUESTS.into(), ..Requests::default() }],
            took: Some(Histogram {
                scale: histogram.scale().into(),
                steps: histogram.steps().collect(),
                counts: histogram.buckets().iter().map(|(_, times)| *times).collect(),
                ..Histogram::default()
            }),
            tries: vec![Tries { outcome: "ok".to_owned(), times: REQUESTS.into() }],
            ..Counts::default()
        }
    };
    (0..97).map(one).collect()
}

/// What a workload's one pod tells of.
fn edges_of(workload: u64, workloads: u64) -> impl Iterator<Item = Edge> {
    let edge = move |direction: Direction, peer: u64, rule: u64| {
        let Workload { namespace, name, .. } = named(peer);
        let outbound = direction == Direction::Outbound;
        let host =
            if outbound { format!("{name}.{namespace}.svc.cluster.local") } else { String::new() };
        let route =
            if outbound { format!("HTTPRoute/{namespace}/{name}#{rule}") } else { String::new() };
        Edge {
            direction: direction.into(),
            peer_namespace: namespace,
            peer: name,
            host,
            port: if outbound { 80 } else { 0 },
            route,
            security: Security::Mtls.into(),
        }
    };
    let called = (0..CALLS).flat_map(move |call| {
        (0..RULES)
            .map(move |rule| edge(Direction::Outbound, (workload + 1 + call * 7) % workloads, rule))
    });
    let calling = (0..CALLS).map(move |call| {
        edge(Direction::Inbound, (workload + workloads * CALLS - 1 - call * 7) % workloads, 0)
    });
    called.chain(calling)
}

fn known(store: &Store, now: Duration, ask: &Ask) -> Known {
    let (rows, reporting) = (store.read(ask, now), store.reporting());
    Known { rows, reporting, shortened: false, since: now, whole: now }
}

fn answer(store: &Store, now: Duration, ask: &Ask) -> Answer {
    let known = known(store, now, ask);
    let pods = |one: &Reporting| Pods { all: one.proxies, ..Pods::default() };
    let workloads = known.reporting.iter().map(|one| (one.workload.clone(), pods(one)));
    Answer { workloads: workloads.collect(), known, unheard: Vec::new() }
}

fn all(window: Duration) -> Ask {
    Ask { of: Of::All, window, points: 1, routes: false, durations: true }
}

const MINUTE: Duration = Duration::from_secs(60);

fn ask(store: &Store, now: Duration) -> usize {
    let trend = Duration::from_secs((TREND * TREND_POINT).into());
    let trend = Ask { points: TREND, durations: false, ..all(trend) };
    let view = view::stat(&answer(store, now, &all(MINUTE)), &answer(store, now, &trend), MINUTE);
    serde_json::to_vec(&view).map_or(0, |json| json.len())
}

fn edges(store: &Store, now: Duration) -> usize {
    let view = view::edges(&answer(store, now, &all(MINUTE)), MINUTE);
    serde_json::to_vec(&view).map_or(0, |json| json.len())
}

fn routes(store: &Store, now: Duration) -> usize {
    routes_of(store, now, Of::All)
}

/// As the dashboard's page of one workload asks.
fn routes_of_one(store: &Store, now: Duration) -> usize {
    let Workload { namespace, name, .. } = named(1);
    routes_of(store, now, Of::Named(namespace, name))
}

fn routes_of(store: &Store, now: Duration, of: Of) -> usize {
    let ask = Ask { of, routes: true, ..all(MINUTE) };
    let view = view::routes(&answer(store, now, &ask), &ask.of, MINUTE);
    serde_json::to_vec(&view).map_or(0, |json| json.len())
}

/// Of one workload, a quarter of an hour by ten seconds.
fn chart(store: &Store, now: Duration) -> usize {
    store.read(&chart_of(1), now).len()
}

fn chart_of(workload: u64) -> Ask {
    let Workload { namespace, name, .. } = named(workload);
    Ask { of: Of::Named(namespace, name), points: 90, ..all(Duration::from_secs(900)) }
}
