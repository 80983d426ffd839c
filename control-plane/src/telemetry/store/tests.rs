use proptest::{collection::vec, prelude::*};

use super::*;
use crate::telemetry::{Direction, Peer, Security, totals::tests::totals};

fn workload(name: &str) -> Workload {
    Workload { namespace: "shop".to_owned(), kind: "Deployment".to_owned(), name: name.to_owned() }
}

pub(in crate::telemetry) fn edge(from: &str, to: &str) -> Edge {
    Edge {
        workload: workload(from),
        direction: Direction::Outbound,
        peer: Peer { namespace: "shop".to_owned(), name: to.to_owned() },
        server: (format!("{to}.shop.svc.cluster.local"), 80),
        security: Security::Mtls,
    }
}

fn requests(times: u64) -> proto::Counts {
    let requests = vec![proto::Requests { status: 200, times, ..Default::default() }];
    proto::Counts { requests, ..Default::default() }
}

fn report(number: u64, of: &[(Edge, &str, u64)]) -> proto::ReportRequest {
    let edges = of.iter().map(|(edge, route, times)| proto::EdgeCounts {
        edge: Some(edge.message(route)),
        counts: Some(requests(*times)),
    });
    proto::ReportRequest {
        process: 7,
        number,
        edges: edges.collect(),
        records: None,
        certificate_ends: 0,
        attempts: Vec::new(),
        lanes: Vec::new(),
    }
}

fn read_of(report: proto::ReportRequest) -> Counted {
    Counted::read(&workload("web"), &report)
}

pub(in crate::telemetry) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(in crate::telemetry) fn take(
    store: &mut Store,
    number: u64,
    of: &[(Edge, &str, u64)],
    at: u64,
) -> bool {
    let pod = Name::new("shop", "web-1");
    store.take((&pod, &workload("web")), read_of(report(number, of)), seconds(at))
}

/// Requests of each point of each row.
fn read(store: &Store, window: u64, points: u32, routes: bool, at: u64) -> Vec<Vec<u64>> {
    let ask = Ask { of: Of::All, window: seconds(window), points, routes, durations: true };
    let mut rows = store.read(&ask, seconds(at));
    rows.sort_by(|one, other| (&one.edge, &one.route).cmp(&(&other.edge, &other.route)));
    rows.iter().map(|row| row.points.iter().map(Totals::requested).collect()).collect()
}

#[test]
fn a_window_ends_with_the_last_slot_that_is_over() {
    let mut store = Store::default();
    let cart = || edge("web", "cart");
    for (number, at) in [(1, 3), (2, 13), (3, 23)] {
        assert!(take(&mut store, number, &[(cart(), "", 10)], at));
    }
    assert_eq!(read(&store, 60, 1, false, 29), [[20]], "two slots of ten seconds are over");
    assert_eq!(read(&store, 60, 1, false, 30), [[30]]);
    assert_eq!(read(&store, 10, 1, false, 30), [[10]]);
    assert_eq!(read(&store, 30, 3, false, 30), [[10, 10, 10]]);
    // By the minute, of which one is over a minute after the beginning.
    assert_eq!(read(&store, 900, 15, false, 60)[0].iter().sum::<u64>(), 30);
    assert_eq!(read(&store, 900, 15, false, 60)[0][14], 30, "the last point is the latest");
    assert_eq!(read(&store, 900, 15, false, 59), [[0; 0]; 0]);
    assert_eq!(read(&store, 60, 1, true, 60), [[30]]);
    // Of two hours nothing is lost, of three nothing is left.
    store.sweep(seconds(7200));
    assert_eq!(read(&store, 7200, 1, false, 7200), [[30]]);
    assert_eq!(read(&store, 3600, 1, true, 7200), [[0; 0]; 0]);
    store.sweep(seconds(7400));
    assert_eq!((store.len(), store.bytes(), store.of.len()), ((0, 0), 0, 0));
}

#[test]
fn rules_are_told_apart_from_the_second_one_on() {
    let mut store = Store::default();
    let cart = || edge("web", "cart");
    take(&mut store, 1, &[(cart(), "a", 10)], 3);
    assert_eq!((store.len(), read(&store, 60, 1, true, 60)), ((1, 1), vec![vec![10]]));
    take(&mut store, 2, &[(cart(), "a", 5), (cart(), "b", 7)], 63);
    assert_eq!(store.len(), (1, 2));
    assert_eq!(read(&store, 120, 2, true, 120), [[10, 5], [0, 7]]);
    assert_eq!(read(&store, 120, 1, false, 120), [[22]]);
    // An hour after the last request of the first one the second is alone.
    take(&mut store, 3, &[(cart(), "b", 1)], 3720);
    store.sweep(seconds(3720));
    assert_eq!(read(&store, 3600, 1, true, 3780), [[1]]);
}

#[test]
fn who_is_watched_is_known_by_the_second() {
    let mut store = Store::default();
    let cart = || edge("web", "cart");
    take(&mut store, 1, &[(cart(), "r", 1)], 1);
    assert!(store.watch([workload("web")], seconds(40), seconds(2)));
    assert!(!store.watch([workload("web")], seconds(42), seconds(3)), "it was watched already");
    for at in 3..8 {
        take(&mut store, at, &[(cart(), "r", 2)], at);
    }
    // For a window as long as its seconds are known, from two after the first one on; before that by the ten.
    assert_eq!(read(&store, 4, 1, false, 8), [[0; 0]; 0]);
    assert_eq!(read(&store, 4, 1, false, 10), [[4]]);
    assert_eq!(read(&store, 5, 1, true, 10), [[6]]);
    assert_eq!(read(&store, 8, 1, false, 10), [[11]]);
    // What is the first on its edge is known of as soon as its second is over; where nothing happens any more nothing is told.
    take(&mut store, 8, &[(edge("web", "ratings"), "", 3)], 11);
    assert_eq!(read(&store, 3, 1, false, 12), [[3]]);
    store.sweep(seconds(50));
    assert_eq!(store.watched(&workload("web")), None);
}

#[test]
fn a_report_is_taken_once_and_a_new_process_begins_anew() {
    let mut store = Store::default();
    let of = [(edge("web", "cart"), "", 1)];
    assert!(take(&mut store, 1, &of, 0));
    assert!(!take(&mut store, 1, &of, 1));
    assert!(take(&mut store, 2, &of, 2));
    let pod = Name::new("shop", "web-1");
    assert_eq!((store.taken(&pod, 7), store.taken(&pod, 8)), (2, 0));
    let restarted = proto::ReportRequest { process: 8, ..report(1, &of) };
    assert!(store.take((&pod, &workload("web")), read_of(restarted), seconds(3)));
    assert_eq!(read(&store, 10, 1, false, 10), [[3]]);
    assert_eq!(store.reporting(), [Reporting { workload: workload("web"), proxies: 1 }]);
    store.sweep(seconds(60));
    assert_eq!(store.reporting(), []);
    assert_eq!(store.taken(&pod, 8), 1, "it may only have lost its connection");
}

#[test]
fn names_are_bounded_and_nothing_is_lost() {
    let mut store = Store::default();
    for n in 0..2000 {
        let rule = format!("r{n}");
        take(
            &mut store,
            n + 1,
            &[(edge("web", &format!("x{n}")), &rule, 1), (edge("web", "one"), &rule, 1)],
            0,
        );
    }
    let (edges, _) = store.len();
    assert!(edges <= MOST_OF_A_WORKLOAD + 1, "{edges}");
    let all = |routes| read(&store, 60, 1, routes, 60).iter().flatten().sum::<u64>();
    assert_eq!((all(false), all(true)), (4000, 4000));
    let rules = store.edges[&edge("web", "one")].routes.len();
    assert_eq!(rules, kept::MOST_ROUTES + 1);
}

#[test]
fn past_its_size_it_forgets_the_oldest_of_the_quietest_and_says_so() {
    let mut store = Store::default();
    let (busy, quiet) = (|| edge("web", "busy"), || edge("web", "quiet"));
    for n in 0..100 {
        take(&mut store, n + 1, &[(busy(), "", 1000), (quiet(), "", 1)], n * 60);
    }
    store.sweep(seconds(6000));
    let bytes = store.bytes();
    let before = read(&store, 7200, 1, false, 6000);
    let shortened = |store: &Store, window, at| store.shortened(seconds(window), seconds(at));
    assert!(!shortened(&store, 7200, 6000));
    store.shorten(bytes - 150, seconds(6000));
    assert!(shortened(&store, 7200, 6000) && store.bytes() <= bytes - 150);
    let after = read(&store, 7200, 1, false, 6000);
    assert_eq!(after[0], before[0], "the busy one is whole");
    assert!(after[1][0] < before[1][0]);
    assert_eq!(read(&store, 600, 1, false, 6000)[1], [10], "what is new is there");
    // It says so of a window that reaches so far back, as long as one does.
    assert!(!shortened(&store, 600, 6000));
    assert!(shortened(&store, 7200, 9000) && !shortened(&store, 7200, 13_200));
    store.shorten(0, seconds(6000));
    assert!(store.bytes() < bytes / 2);
    assert!(shortened(&store, 1, 6000) && !shortened(&store, 1, 6001));
}

#[test]
fn where_time_is_cut_edges_are_added_up_to_what_came_to_whom() {
    let mut store = Store::default();
    let inbound = |from: &str| Edge {
        direction: Direction::Inbound,
        peer: Peer { namespace: "shop".to_owned(), name: from.to_owned() },
        ..edge("web", from)
    };
    // Two callers by two rules, and two who are called.
    let calls = [inbound("a"), inbound("b"), edge("web", "cart"), edge("web", "pay")];
    let calls: Vec<_> = calls.into_iter().zip([("", 1), ("r", 2), ("r", 4), ("s", 8)]).collect();
    let of: Vec<_> = calls.iter().map(|(edge, (rule, n))| (edge.clone(), *rule, *n)).collect();
    take(&mut store, 1, &of, 3);
    take(&mut store, 2, &of, 13);
    let told = |points, routes| {
        let rows = read(&store, 60, points, routes, 60);
        rows.iter().map(|row| row.iter().sum::<u64>()).collect::<Vec<_>>()
    };
    assert_eq!((told(1, false), told(6, true).len()), (vec![2, 4, 8, 16], 4));
    let ask = Ask { of: Of::All, window: seconds(60), points: 6, routes: false, durations: true };
    let mut rows = store.read(&ask, seconds(60));
    rows.sort_by(|one, other| one.edge.cmp(&other.edge));
    let told: Vec<_> = rows
        .iter()
        .map(|Row { edge, points, .. }| {
            let requests: Vec<_> = points.iter().map(Totals::requested).collect();
            (edge.workload.name.as_str(), edge.peer.name.as_str(), requests)
        })
        .collect();
    let twice = |n| vec![n, n, 0, 0, 0, 0];
    assert_eq!(told, [("", "cart", twice(4)), ("", "pay", twice(8)), ("web", "", twice(3))]);
}

proptest! {
    #[test]
    fn every_tier_tells_the_same(all in vec((0..40_u64, 0..3_usize, totals()), 1..30)) {
        let mut store = Store::default();
        let names = ["a", "b", "c"];
        let (mut now, mut expected) = (0, Totals::default());
        for (number, (later, which, totals)) in (1..).zip(&all) {
            now += later;
            let (edge, route) = (edge("web", names[*which]).message(names[*which]), totals.message());
            let edges = vec![proto::EdgeCounts { edge: Some(edge), counts: Some(route) }];
            let report = proto::ReportRequest { process: 1, number, edges, records: None, certificate_ends: 0, attempts: Vec::new(), lanes: Vec::new() };
            store.take((&Name::new("shop", "web-1"), &workload("web")), read_of(report), seconds(now));
            store.sweep(seconds(now));
            expected.merge(totals);
        }
        let end = (now / 60 + 1) * 60;
        // All within the quarter of an hour that is kept by the ten.
        prop_assume!(end <= 900);
        for (window, points, routes) in [(900, 1, false), (900, 90, false), (900, 15, false), (3600, 1, false), (3600, 1, true), (3600, 60, true)] {
            let ask = Ask { of: Of::All, window: seconds(window), points, routes, durations: true };
            let mut sum = Totals::default();
            store.read(&ask, seconds(end)).iter().flat_map(|row| &row.points).for_each(|point| sum.merge(point));
            prop_assert_eq!(sum.requested(), expected.requested());
            prop_assert_eq!(sum.bad(), expected.bad());
            prop_assert_eq!(sum.took.histogram.count(), expected.took.histogram.count());
            prop_assert_eq!(sum.flow.sent, expected.flow.sent);
        }
    }
}
