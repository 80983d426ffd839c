//! What the control plane remembers of a large mesh's traffic: the memory it takes, the work of taking it in, and how long the
//! slowest questions take. In one process, by a clock of its own: two hours of reports, in which every edge is busy.

use std::{
    iter,
    time::{Duration, SystemTime},
    vec,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tulle_control_plane::{
    roster::Pods,
    telemetry::{
        Answers, Ask, Counted, Known, Of, Reporting, Store, Workload,
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

/// A mesh that reports, and what its control plane remembers of it.
struct Mesh {
    workloads: u64,
    store: Store,
    answers: Answers,
    /// What happened on edges, without end.
    counts: iter::Cycle<vec::IntoIter<Counts>>,
    /// Seconds since the store began.
    now: u64,
    reports: u64,
}

impl Mesh {
    fn now(&self) -> Duration {
        Duration::from_secs(self.now)
    }

    /// Everybody reports, and then a slot of time is over.
    fn report(&mut self) {
        for workload in 0..self.workloads {
            let edges = edges_of(workload, self.workloads).zip(&mut self.counts);
            let edges =
                edges.map(|(edge, counts)| EdgeCounts { edge: Some(edge), counts: Some(counts) });
            let report = ReportRequest {
                process: 1,
                number: self.now / INTERVAL + 1,
                edges: edges.collect(),
                records: None,
                certificate_ends: 0,
                attempts: Vec::new(),
                lanes: Vec::new(),
            };
            let of = (&pod(workload), &named(workload));
            let counted = Counted::read(of.1, &report);
            self.store.take(of, counted, self.now());
            self.reports += 1;
        }
        self.now += INTERVAL;
        self.store.sweep(self.now());
    }

    fn known(&mut self, ask: &Ask) -> Known {
        let now = self.now();
        let (rows, reporting) = (self.answers.ask(&self.store, ask, now), self.store.reporting());
        Known { rows, reporting, shortened: false, since: now, whole: now }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        let known = self.known(ask);
        let pods = |one: &Reporting| Pods { all: one.proxies, ..Pods::default() };
        let workloads = known.reporting.iter().map(|one| (one.workload.clone(), pods(one)));
        Answer { workloads: workloads.collect(), known, unheard: Vec::new() }
    }
}

/// What is asked.
struct Question {
    /// A page of the dashboard does, each second.
    page: bool,
    /// What is measured: while somebody goes on asking, when nobody asked before, and what that took.
    names: [&'static str; 3],
    /// Bytes of the answer, as JSON.
    ask: fn(&mut Mesh) -> usize,
}

const QUESTIONS: [Question; 5] = [
    Question { page: true, names: ["p99 of stat", "first stat", "CPU of first stat"], ask: stat },
    Question {
        page: true,
        names: ["p99 of edges", "first edges", "CPU of first edges"],
        ask: edges,
    },
    Question {
        page: true,
        names: ["p99 of routes of one", "first routes of one", "CPU of first routes of one"],
        ask: routes_of_one,
    },
    Question {
        page: true,
        names: ["p99 of a chart of 90 points", "first chart", "CPU of first chart"],
        ask: chart,
    },
    Question {
        page: false,
        names: ["p99 of routes of all", "first routes of all", "CPU of first routes of all"],
        ask: routes,
    },
];

pub(crate) fn measure(size: Size) -> Result<Vec<Row>, Failure> {
    let mut mesh = Mesh {
        workloads: WORKLOADS / size.part(),
        store: Store::default(),
        answers: Answers::default(),
        counts: some_counts().into_iter().cycle(),
        now: 0,
        reports: 0,
    };
    let work = cpu(|| (0..HISTORY / INTERVAL).for_each(|_| mesh.report()));
    if mesh.store.shortened(mesh.now(), mesh.now()) {
        return Err(Failure("it had to forget before its time".to_owned()));
    }
    let a_second = row(("taking in: CPU of a second", "ms"), vec![work / HISTORY as f64]);
    let a_report = vec![1000.0 * work / mesh.reports as f64];
    let mut rows = vec![a_second, row(("taking in: CPU of a report", "us"), a_report)];
    let mut renewing = Vec::new();
    for Question { page, names: [again, first, work], ask } in QUESTIONS {
        let timed = |mesh: &mut Mesh| {
            let begun = Instant::now();
            assert!(ask(mesh) > 0, "{again}: there is an answer");
            begun.elapsed().as_secs_f64() * 1000.0
        };
        // Nobody asked before.
        let mut took = Vec::new();
        let cpu = cpu(|| {
            for _ in 0..2 * size.runs {
                mesh.answers = Answers::default();
                took.push(timed(&mut mesh));
            }
        });
        rows.push(row((first, "ms"), took.clone()));
        rows.push(row((work, "ms"), vec![cpu / took.len() as f64]));
        // A page that stays open.
        took.clear();
        for _ in 0..2 * size.runs {
            mesh.report();
            let begun = Instant::now();
            mesh.answers.renew(&mesh.store, mesh.now());
            renewing.push(begun.elapsed().as_secs_f64() * 1000.0);
            took.extend((0..INTERVAL).map(|_| timed(&mut mesh)));
        }
        took.sort_by(f64::total_cmp);
        let p99 = row((again, "ms"), vec![took[(took.len() * 99).div_ceil(100) - 1]]);
        rows.push(if page { p99.at_most(MOST_MILLISECONDS) } else { p99 });
    }
    rows.push(row(("renewing what is asked", "ms"), renewing));
    let bytes = mesh.store.bytes() + mesh.answers.bytes();
    let megabytes = vec![bytes as f64 / f64::from(1 << 20)];
    rows.push(row(("size of the store", "MiB"), megabytes).at_most(MOST_MEGABYTES));
    // What another replica says in one message.
    let trend = Duration::from_secs((TREND * TREND_POINT).into());
    for (answer, ask) in [
        ("message of stat", all(MINUTE)),
        ("message of trends", Ask { points: TREND, durations: false, ..all(trend) }),
        ("message of routes", Ask { routes: true, ..all(MINUTE) }),
        ("message of a chart", chart_of(0)),
    ] {
        let known = mesh.known(&ask);
        let megabytes = known.message_bytes() as f64 / f64::from(1 << 20);
        rows.push(row((answer, "MiB"), vec![megabytes]).at_most(MOST_OF_A_MESSAGE));
    }
    Ok(rows)
}

/// Milliseconds of this process's processors.
fn cpu(work: impl FnOnce()) -> f64 {
    let begun = pages::cpu_time();
    work();
    (pages::cpu_time() - begun).as_secs_f64() * 1000.0
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

fn all(window: Duration) -> Ask {
    Ask { of: Of::All, window, points: 1, routes: false, durations: true }
}

const MINUTE: Duration = Duration::from_secs(60);

fn stat(mesh: &mut Mesh) -> usize {
    let trend = Duration::from_secs((TREND * TREND_POINT).into());
    let trend = mesh.answer(&Ask { points: TREND, durations: false, ..all(trend) });
    bytes(&view::stat(&mesh.answer(&all(MINUTE)), &trend, MINUTE))
}

fn edges(mesh: &mut Mesh) -> usize {
    bytes(&view::edges(&mesh.answer(&all(MINUTE)), MINUTE))
}

fn routes(mesh: &mut Mesh) -> usize {
    routes_of(mesh, Of::All)
}

/// As the dashboard's page of one workload asks.
fn routes_of_one(mesh: &mut Mesh) -> usize {
    let Workload { namespace, name, .. } = named(1);
    routes_of(mesh, Of::Named(namespace, name))
}

fn routes_of(mesh: &mut Mesh, of: Of) -> usize {
    let ask = Ask { of, routes: true, ..all(MINUTE) };
    bytes(&view::routes(&mesh.answer(&ask), &ask.of, MINUTE))
}

/// Of one workload, a quarter of an hour by ten seconds.
fn chart(mesh: &mut Mesh) -> usize {
    let points = mesh.answer(&chart_of(1));
    bytes(&view::chart(&points, (90, 10), SystemTime::UNIX_EPOCH + Duration::from_secs(900)))
}

fn bytes(view: &impl serde::Serialize) -> usize {
    serde_json::to_vec(view).map_or(0, |json| json.len())
}

fn chart_of(workload: u64) -> Ask {
    let Workload { namespace, name, .. } = named(workload);
    Ask { of: Of::Named(namespace, name), points: 90, ..all(Duration::from_secs(900)) }
}
