use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::telemetry::Hub;

fn workload(name: &str) -> Workload {
    Workload { namespace: "shop".to_owned(), kind: "Deployment".to_owned(), name: name.to_owned() }
}

fn version(revision: &str) -> Version {
    let [namespace, workload, revision] = ["shop", "cart", revision].map(str::to_owned);
    Version { namespace, workload, revision }
}

fn teller(name: &str, inbound: bool) -> Teller {
    Teller { namespace: "shop".to_owned(), name: name.to_owned(), inbound }
}

fn took(values: &[f64]) -> Histogram {
    let mut histogram = Histogram::default();
    values.iter().for_each(|value| histogram.observe(*value));
    histogram
}

fn arm(all: u64, bad: u64) -> Arm {
    Arm { all, bad, took: took(&[0.1; 200][..usize::try_from(all).unwrap().min(200)]) }
}

/// What came of attempts at (outbound) or from (inbound) this workload of `shop`.
fn attempts(direction: proto::Direction, peer: &str, revision: &str, arm: &Arm) -> proto::Attempts {
    proto::Attempts {
        direction: direction.into(),
        peer_namespace: "shop".to_owned(),
        peer: peer.to_owned(),
        revision: revision.to_owned(),
        all: arm.all,
        bad: arm.bad,
        took: Took { histogram: arm.took.clone(), nanoseconds: 0 }.message(),
    }
}

fn outbound(revision: &str, arm: &Arm) -> proto::Attempts {
    attempts(proto::Direction::Outbound, "cart", revision, arm)
}

fn report(number: u64, attempts: Vec<proto::Attempts>) -> proto::ReportRequest {
    proto::ReportRequest { process: 7, number, attempts, ..proto::ReportRequest::default() }
}

fn say(to: &mut Versions, of: (&str, &str), attempts: Vec<proto::Attempts>, at: u64) {
    let read = Attempts::read((&workload(of.0), of.1), &report(1, attempts));
    to.add(read, Duration::from_secs(at));
}

fn told(by: &Versions, at: u64) -> BTreeMap<(Version, Teller), Arm> {
    let (arms, _) = by.of(("shop", "cart"), Duration::from_secs(at));
    arms.into_iter().map(|(version, teller, arm)| ((version, teller), arm)).collect()
}

#[test]
fn callers_and_the_versions_own_sidecars_tell_the_same_differently() {
    let mut versions = Versions::default();
    say(&mut versions, ("web", "w1"), vec![outbound("a", &arm(3, 1))], 0);
    say(
        &mut versions,
        ("web", "w2"),
        vec![outbound("a", &arm(2, 0)), outbound("b", &arm(1, 1))],
        1,
    );
    // The sidecar's pod says of which version it is, and not what it says.
    let inbound = attempts(proto::Direction::Inbound, "web", "x", &arm(4, 2));
    say(&mut versions, ("cart", "b"), vec![inbound], 1);
    // Nothing of it is about `cart`.
    let other = attempts(proto::Direction::Outbound, "other", "a", &arm(9, 9));
    say(&mut versions, ("web", "w1"), vec![other, outbound("c", &arm(0, 0))], 1);
    let expected = [
        ((version("a"), teller("web", false)), arm(5, 1)),
        ((version("b"), teller("web", false)), arm(1, 1)),
        ((version("b"), teller("web", true)), arm(4, 2)),
    ];
    assert_eq!(told(&versions, 1), expected.into());
    let callers = |at| versions.of(("shop", "cart"), Duration::from_secs(at)).1;
    assert_eq!(callers(60), [teller("web", false).peer()]);
    assert_eq!(callers(61), []);
}

#[test]
fn what_proxies_make_up_is_bounded() {
    let mut versions = Versions::default();
    let one = arm(1, 0);
    let many = |from: usize| (from..from + 300).map(|n| outbound(&n.to_string(), &one)).collect();
    say(&mut versions, ("web", ""), many(0), 0);
    assert_eq!((versions.len(), versions.lost()), (MOST_OF_A_TELLER, 156), "256 were read");
    for workload in 0..20 {
        say(&mut versions, (&format!("w{workload}"), ""), many(workload * 100), 0);
    }
    assert_eq!((versions.of.len(), versions.len()), (MOST_VERSIONS, 1100));
    for caller in 0..300 {
        let peer = caller.to_string();
        let inbound = attempts(proto::Direction::Inbound, &peer, "", &one);
        say(&mut versions, ("cart", "0"), vec![inbound], 0);
    }
    assert_eq!(versions.of[&version("0")].len(), MOST_TELLERS);

    // It ends on a terminal, and whatever buckets there are takes bounded room.
    let mut versions = Versions::default();
    for n in -100..100_i16 {
        let far = Histogram::from_parts(SCALE, 0, vec![(n * 80, 1)]).unwrap();
        let arm = Arm { all: 1, bad: 7, took: far };
        say(&mut versions, ("web", ""), vec![outbound("a\u{1b}[31m\n", &arm)], 0);
    }
    let [((version, _), arm)] = &told(&versions, 0).into_iter().collect::<Vec<_>>()[..] else {
        panic!()
    };
    assert_eq!((version.revision.as_str(), arm.all, arm.bad), ("a[31m", 200, 200));
    assert_eq!((arm.took.count(), arm.took.buckets().len()), (200, 5));
}

#[test]
fn durations_that_make_no_sense_are_left_out_and_counted() {
    let mut versions = Versions::default();
    let mut odd = outbound("a", &arm(2, 1));
    odd.took.as_mut().unwrap().counts.clear();
    say(&mut versions, ("web", ""), vec![odd], 0);
    let [arm] = &told(&versions, 0).into_values().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((arm.all, arm.bad, arm.took.count(), versions.unread()), (2, 1, 0, 1));
}

#[test]
fn what_is_over_is_forgotten_whole_and_makes_room() {
    let mut versions = Versions::default();
    say(&mut versions, ("web", ""), vec![outbound("a", &arm(1, 0))], 0);
    say(&mut versions, ("web", ""), vec![outbound("b", &arm(1, 0))], 1);
    versions.sweep(Duration::from_secs(600));
    assert_eq!((told(&versions, 600).len(), versions.len(), versions.of.len()), (1, 1, 1));
    versions.sweep(Duration::from_secs(601));
    assert_eq!((versions.len(), versions.of.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_report_counts_once_and_who_reports_by_the_second_is_fresh() {
    let hub = Hub::default();
    let pod = |name: &str| Name::new("shop", name);
    let say = |pod: &Name, number, arm: &Arm| {
        hub.take(pod, (&workload("web"), "w1"), &report(number, vec![outbound("a", arm)]));
    };
    let fresh = || hub.versions("shop", "cart").fresh;
    say(&pod("web-1"), 1, &arm(3, 1));
    say(&pod("web-2"), 1, &arm(2, 0));
    assert_eq!(fresh(), [], "how often it reports is not known yet");
    tokio::time::advance(Duration::from_secs(1)).await;
    say(&pod("web-1"), 1, &arm(3, 1));
    assert_eq!(fresh(), [pod("web-1")]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(fresh(), [pod("web-1")]);
    say(&pod("web-2"), 2, &arm(0, 0));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(fresh(), [], "one is silent, the other reports now and then");
    let Tolds { process, arms, callers, .. } = hub.versions("shop", "cart");
    assert_eq!(arms, [(version("a"), teller("web", false), arm(5, 1))]);
    assert_eq!(callers, [teller("web", false).peer()]);
    assert_ne!(process, Hub::default().versions("shop", "cart").process);

    // Another replica is told the same, of each target once.
    let target = |name: &str| ("shop".to_owned(), name.to_owned());
    let targets = [target("cart"), target("none"), target("cart")];
    let mut answer = answer(&targets, hub.tell_versions(question(&targets)));
    assert_eq!(answer.remove(&target("cart")), Some(hub.versions("shop", "cart")));
    assert_eq!(answer.remove(&target("none")), Some(hub.versions("shop", "none")));
    assert_eq!(answer.len(), 0);
}

fn said(process: u64, arms: &[(&str, Teller, Arm)]) -> Tolds {
    let arms =
        arms.iter().map(|(revision, teller, arm)| (version(revision), teller.clone(), arm.clone()));
    Tolds { process, arms: arms.collect(), ..Tolds::default() }
}

#[test]
fn only_what_is_new_of_a_replica_is_a_difference() {
    let (mut differences, [a, b]) = (Differences::default(), ["a", "b"].map(|n| Name::new("m", n)));
    let web = || teller("web", false);
    let mut take = |replica: &Name, process, arm: &Arm| {
        let news = differences.take(replica, said(process, &[("x", web(), arm.clone())]));
        news.into_iter().map(|(.., arm)| (arm.all, arm.bad, arm.took.count())).collect::<Vec<_>>()
    };
    assert_eq!(take(&a, 1, &arm(5, 1)), [], "seen for the first time");
    assert_eq!(take(&a, 1, &arm(5, 1)), []);
    assert_eq!(take(&b, 2, &arm(9, 9)), []);
    assert_eq!(take(&a, 1, &arm(8, 2)), [(3, 1, 3)]);
    assert_eq!(take(&a, 3, &arm(9, 3)), [], "it began anew");
    assert_eq!(take(&a, 3, &arm(10, 3)), [(1, 0, 1)]);
    assert_eq!(take(&a, 3, &arm(2, 0)), [], "it went down");
    assert_eq!(take(&a, 3, &arm(3, 1)), [(1, 1, 1)]);
    let news = differences.take(&b, said(2, &[("y", web(), arm(4, 0))]));
    assert_eq!(news, [(version("y"), web(), arm(4, 0))], "of a version that is new there");
    differences.keep(|replica| *replica == a);
    assert_eq!(differences.take(&b, said(2, &[("y", web(), arm(5, 0))])), []);
}

#[test]
fn who_tells_himself_is_not_told_of_by_those_whom_he_calls() {
    let (mut differences, [a, b]) = (Differences::default(), ["a", "b"].map(|n| Name::new("m", n)));
    let callers = |names: &[&str]| names.iter().map(|name| teller(name, false).peer()).collect();
    let own = |all, names: &[&str]| {
        let arms =
            [("x", teller("web", true), arm(all, 0)), ("x", teller("grpc", true), arm(all, 0))];
        Tolds { callers: callers(names), ..said(1, &arms) }
    };
    differences.take(&a, own(1, &[]));
    differences.take(&b, Tolds { callers: callers(&["web"]), ..said(2, &[]) });
    // What `web` itself says comes to the other replica.
    let news = differences.take(&a, own(3, &[]));
    assert_eq!(news, [(version("x"), teller("grpc", true), arm(2, 0))]);
    differences.take(&b, said(2, &[]));
    assert_eq!(differences.take(&a, own(4, &[])).len(), 2);
    assert_eq!(differences.take(&a, own(5, &["grpc", "web"])), []);
}

proptest! {
    /// Whatever is told when, and whenever somebody asks: differences add up to what came since the first answer.
    #[test]
    fn differences_add_up(
        reports in vec((0..3_usize, 0..3_usize, vec(0.0001..100.0_f64, 0..4), 0..3_i8, any::<bool>()), 0..40)
    ) {
        let mut versions = Versions::default();
        let mut differences = Differences::default();
        let replica = Name::new("m", "a");
        let ask = |versions: &Versions, differences: &mut Differences| {
            let (arms, callers) = versions.of(("shop", "cart"), Duration::ZERO);
            differences.take(&replica, Tolds { process: 1, arms, callers, fresh: Vec::new() })
        };
        ask(&versions, &mut differences);
        let mut sums = BTreeMap::<(Version, Teller), Arm>::new();
        let mut add = |news: Vec<(Version, Teller, Arm)>| {
            for (version, teller, arm) in news {
                sums.entry((version, teller)).or_default().merge(&arm);
            }
        };
        for (revision, caller, values, scale, asked) in reports {
            let mut took = took(&values);
            took.coarsen(scale);
            let all = values.len() as u64;
            let arm = Arm { all, bad: all / 2, took };
            let of = ["web", "shop", "till"][caller];
            say(&mut versions, (of, ""), vec![outbound(&revision.to_string(), &arm)], 0);
            if asked {
                add(ask(&versions, &mut differences));
            }
        }
        add(ask(&versions, &mut differences));
        let mut expected = told(&versions, 0);
        for (key, sum) in &mut sums {
            // Sums of what was finer at first are as coarse as all of it is now.
            let expected = expected.get_mut(key).unwrap();
            sum.took.coarsen(expected.took.scale());
        }
        prop_assert_eq!(sums, expected);
    }
}
