use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    roster::Pods,
    telemetry::{
        Direction, Edge, Known, Of, Outcome, Peer, Reporting, Row, Security, Totals, Workload,
    },
    world::objects::Name,
};

const WINDOW: Duration = Duration::from_secs(60);

fn workload(name: &str) -> Workload {
    Workload { namespace: "shop".to_owned(), kind: "Deployment".to_owned(), name: name.to_owned() }
}

/// `who` says that so many requests went to or came from `peer`, of which some failed.
fn says(who: &str, direction: Direction, peer: &str, (requests, failed): (u64, u64)) -> Row {
    let namespace = if peer == "internet" { "" } else { "shop" };
    let service = match direction {
        Direction::Inbound => (String::new(), 0),
        Direction::Outbound => ("cart.shop.svc.cluster.local".to_owned(), 80),
    };
    let outcome = |status, error: &str| Outcome { status, grpc: None, error: error.to_owned() };
    let totals = Totals {
        requests: vec![(outcome(200, ""), requests - failed), (outcome(504, "timeout"), failed)],
        tries: vec![("ok".to_owned(), requests - failed), ("retried".to_owned(), 2 * failed)],
        ..Totals::default()
    };
    Row {
        edge: Edge {
            workload: workload(who),
            direction,
            peer: Peer { namespace: namespace.to_owned(), name: peer.to_owned() },
            server: service,
            security: if peer == "internet" { Security::Plaintext } else { Security::Mtls },
        }
        .into(),
        route: String::new(),
        points: vec![totals],
        covers: 60,
    }
}

fn answer(rows: Vec<Row>, reporting: &[&str], all: &[&str]) -> Answer {
    let reporting =
        reporting.iter().map(|name| Reporting { workload: workload(name), proxies: 1 }).collect();
    let since = Duration::from_secs(600);
    Answer {
        known: Known { rows: rows.into(), reporting, shortened: false, since, whole: since },
        workloads: all
            .iter()
            .map(|name| (workload(name), Pods { all: 2, ..Pods::default() }))
            .collect(),
        unheard: vec!["tulle-system/b".to_owned()],
    }
}

/// A caller and a server with sidecars, each of which tells of the same requests; the server is called from outside as well, and
/// a workload without sidecar by the caller.
fn shop() -> Answer {
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    let rows = vec![
        says("web", outbound, "cart", (600, 60)),
        says("cart", inbound, "web", (600, 0)),
        says("cart", inbound, "internet", (60, 0)),
        says("web", outbound, "old", (120, 120)),
    ];
    answer(rows, &["web", "cart"], &["web", "cart", "old", "idle"])
}

#[test]
fn a_workloads_figures_are_its_own_or_else_its_callers() {
    let view = stat(&shop(), &shop(), WINDOW);
    assert_eq!(view.unheard, ["tulle-system/b"]);
    let line = |item: &WorkloadView| {
        let Signals { rps, ok, mtls, .. } = item.signals;
        (
            item.name.clone(),
            rps,
            ok,
            mtls.map(f64::round),
            item.callers,
            item.callees,
            item.reporting,
        )
    };
    let expected = [
        ("web".to_owned(), 0.0, None, None, 0, 2, 1),
        ("cart".to_owned(), 11.0, Some(100.0), Some(91.0), 2, 0, 1),
        ("old".to_owned(), 2.0, Some(0.0), Some(100.0), 1, 0, 0),
        ("idle".to_owned(), 0.0, None, None, 0, 0, 0),
    ];
    assert_eq!(view.items.iter().map(line).collect::<Vec<_>>(), expected);
    assert_eq!((view.items[1].trend.len(), view.items[1].pods), (1, 2));
}

#[test]
fn of_the_time_before_the_control_plane_a_trend_says_nothing() {
    let mut early = says("cart", Direction::Inbound, "web", (0, 0));
    early.points = (0..TREND).map(|_| early.points[0].clone()).collect();
    early.points[14] = says("cart", Direction::Inbound, "web", (120, 0)).points[0].clone();
    let mut trend = answer(vec![early], &["cart"], &["cart"]);
    let mut known = |seconds| {
        trend.known.since = Duration::from_secs(seconds);
        let view = stat(&shop(), &trend, WINDOW);
        view.items.iter().find(|item| item.name == "cart").unwrap().trend.clone()
    };
    let mut expected = vec![None; 13];
    expected.extend([Some(0.0), Some(2.0)]);
    assert_eq!(known(179), expected, "of the third minute not all has passed yet");
    assert_eq!(known(59), [None; 15]);
    assert_eq!(known(3600).iter().flatten().count(), 15);
}

#[test]
fn what_only_some_replicas_were_there_for_is_marked() {
    let mut row = says("cart", Direction::Inbound, "web", (60, 0));
    row.points = (0..6).map(|_| row.points[0].clone()).collect();
    let mut answer = answer(vec![row], &["cart"], &["cart"]);
    let of = |answer: &Answer| {
        let points = chart(answer, (6, 10), SystemTime::now()).points.into_iter();
        points.map(|point| point.map(|point| point.partial)).collect::<Vec<_>>()
    };
    assert_eq!(of(&answer), [Some(false); 6]);
    answer.known.whole = Duration::from_secs(25);
    let (partial, whole) = (Some(true), Some(false));
    assert_eq!(of(&answer), [partial, partial, partial, partial, whole, whole]);
    let view = edges(&answer, WINDOW);
    assert_eq!((view.window, view.whole), (60.0, 25.0));
}

#[test]
fn what_nobody_counts_is_not_known_and_not_nothing() {
    let known = |answer: &Answer| -> Vec<bool> {
        stat(answer, answer, WINDOW).items.iter().map(|item| item.known).collect()
    };
    let mut answer = shop();
    // web, cart, old, idle: old is told of by its callers, idle by nobody.
    assert_eq!(known(&answer), [true, true, true, false]);
    // Two pods, one sidecar that reports, and a Telemetry for both: what callers saw counts.
    let by = [Name::new("shop", "quiet")].into();
    answer.workloads[0].1 = Pods { all: 2, uncounted: 2, uncounted_by: by };
    answer.workloads[1].1 = answer.workloads[0].1.clone();
    assert_eq!(known(&answer), [false, true, true, false]);
    let cart = &stat(&answer, &answer, WINDOW).items[1];
    assert_eq!((cart.signals.requests, cart.signals.bad, cart.reporting), (600, 60, 1));
    assert_eq!((cart.uncounted, &*cart.uncounted_by), (2, &["shop/quiet".to_owned()][..]));
    // The first slot is not over yet.
    (answer.known.rows, answer.known.since) = (Default::default(), Duration::from_secs(9));
    answer.workloads[0].1 = Pods::default();
    assert_eq!(known(&answer), [false; 4]);
}

#[test]
fn an_edge_is_shown_once_as_its_caller_saw_it() {
    let view = edges(&shop(), WINDOW);
    let line = |item: &EdgeView| {
        let Signals { requests, bad, attempts, .. } = item.signals;
        let (from, to) = (item.from.name.clone(), item.to.name.clone());
        (from, to, requests, bad, attempts, item.security, item.service.is_some())
    };
    let (mtls, plaintext) = (Some(Travels::Mtls), Some(Travels::Plaintext));
    let expected = [
        ("internet".to_owned(), "cart".to_owned(), 60, 0, Some(1.0), plaintext, false),
        ("web".to_owned(), "cart".to_owned(), 600, 60, Some(1.1), mtls, true),
        ("web".to_owned(), "old".to_owned(), 120, 120, Some(2.0), mtls, true),
    ];
    assert_eq!(view.items.iter().map(line).collect::<Vec<_>>(), expected);
    assert_eq!(
        view.items[1].signals.bad_by,
        [BadBy { reason: "timeout".to_owned(), requests: 60 }]
    );
}

#[test]
fn a_rules_backends_add_up_to_it() {
    let of = |name: &str| Of::Named("shop".to_owned(), name.to_owned());
    let view = routes(&shop(), &of("cart"), WINDOW);
    let [by_web, from_outside] = &view.items[..] else { panic!("{view:?}") };
    // Both went to the Service `cart`, whichever workload answered.
    assert_eq!((by_web.signals.requests, by_web.signals.rps), (720, 12.0));
    let backends: Vec<_> =
        by_web.backends.iter().map(|one| (one.to.name.as_str(), one.signals.requests)).collect();
    assert_eq!(backends, [("cart", 600), ("old", 120)]);
    assert_eq!(
        (from_outside.caller.name.as_str(), from_outside.service.as_ref()),
        ("internet", None)
    );
    assert_eq!(routes(&shop(), &of("old"), WINDOW).items.len(), 1);
    assert_eq!(routes(&shop(), &of("nobody"), WINDOW).items, []);
}

#[test]
fn rates_are_of_the_time_that_is_known() {
    let mut early = says("cart", Direction::Inbound, "web", (30, 0));
    early.covers = 10;
    let view = stat(&answer(vec![early], &["cart"], &["cart"]), &answer(vec![], &[], &[]), WINDOW);
    assert_eq!((view.items[0].signals.requests, view.items[0].signals.rps), (30, 3.0));
}
