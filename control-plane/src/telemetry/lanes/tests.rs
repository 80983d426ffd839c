use super::*;
use crate::{telemetry::Hub, world::objects::Name};

fn workload(name: &str) -> Workload {
    Workload { namespace: "shop".to_owned(), kind: "Deployment".to_owned(), name: name.to_owned() }
}

fn sent(lane: &str, by: proto::LaneBy, requests: u64, alone: u64) -> proto::LaneRequests {
    proto::LaneRequests {
        lane: lane.to_owned(),
        direction: proto::Direction::Outbound.into(),
        peer_namespace: "shop".to_owned(),
        peer: "ratings".to_owned(),
        by: by.into(),
        requests,
        alone,
        host: "ratings.shop".to_owned(),
    }
}

fn report(number: u64, lanes: Vec<proto::LaneRequests>) -> proto::ReportRequest {
    proto::ReportRequest { process: 7, number, lanes, ..proto::ReportRequest::default() }
}

fn say(to: &mut Lanes, by: &str, lanes: Vec<proto::LaneRequests>, at: u64) {
    to.add(Requests::read(&workload(by), &report(1, lanes)), Duration::from_secs(at));
}

fn ask(name: &str, seconds: u64) -> Ask {
    let (namespace, name) = ("shop".to_owned(), name.to_owned());
    Ask { namespace, name, window: Duration::from_secs(seconds) }
}

/// Lane, what says so; requests, those sent alone, the last one's age.
type Row<'a> = (&'a str, By, u64, u64, u64);

fn counts(by: &BTreeMap<Kind, Count>) -> Vec<Row<'_>> {
    let counts = by.iter().map(|(kind, count)| {
        (&*kind.lane, kind.by, count.requests, count.alone, count.last.as_secs())
    });
    counts.collect()
}

#[test]
fn what_comes_counts_in_its_time_and_its_lane() {
    use proto::LaneBy::{Nothing, Traceparent};
    let mut lanes = Lanes::default();
    say(&mut lanes, "web", vec![sent("a", Traceparent, 3, 0), sent("b", Nothing, 1, 9)], 5);
    say(&mut lanes, "web", vec![sent("a", Traceparent, 2, 0)], 61);
    let at = |name: &str, seconds, now| lanes.of(&ask(name, seconds), Duration::from_secs(now));
    assert_eq!(
        counts(&at("", 900, 62)),
        [("a", By::Traceparent, 5, 0, 1), ("b", By::Nothing, 1, 1, 57)]
    );
    assert_eq!(counts(&at("a", 60, 65)), [("a", By::Traceparent, 2, 0, 4)]);
    assert_eq!(counts(&at("a", 60, 600)), [("a", By::Traceparent, 0, 0, 539)], "it rests");
    assert_eq!(
        counts(&lanes.of(&Ask { namespace: "x".to_owned(), ..ask("", 60) }, Duration::ZERO)),
        []
    );
    lanes.sweep(Duration::from_secs(960));
    let at = |seconds| lanes.of(&ask("a", 900), Duration::from_secs(seconds));
    assert_eq!(counts(&at(950)), [("a", By::Traceparent, 0, 0, 889)]);
    lanes.sweep(FORGOTTEN + Duration::from_secs(61));
    assert_eq!((lanes.of.len(), lanes.tells.len()), (0, 0));
}

#[test]
fn what_proxies_make_up_is_bounded() {
    let mut lanes = Lanes::default();
    let made_up = |by: &str| {
        let made_up = (0..1000).map(|n| sent(&format!("{by}{n}"), proto::LaneBy::Entry, 1, 0));
        made_up.collect::<Vec<_>>()
    };
    for _ in 0..3 {
        say(&mut lanes, "web", made_up("x"), 1);
    }
    say(&mut lanes, "web", made_up("y"), 1);
    assert_eq!(lanes.of.len(), MOST_OF_A_WORKLOAD);
    for n in 0..100 {
        say(&mut lanes, &n.to_string(), made_up("x"), 1);
    }
    assert_eq!(lanes.of.len(), MOST);
    lanes.sweep(Duration::from_secs(2));
    assert_eq!(lanes.tells.values().sum::<usize>(), MOST);
    say(&mut lanes, "web", vec![sent("x", proto::LaneBy::Unspecified, 1, 0)], 1);
    assert_eq!(lanes.of.len(), MOST);
}

#[tokio::test(start_paused = true)]
async fn a_report_counts_once_and_replicas_are_added_up() {
    let (hub, other) = (Hub::default(), Hub::default());
    let pod = Name::new("shop", "web-1");
    let told = |requests| report(1, vec![sent("a", proto::LaneBy::Nothing, requests, 1)]);
    hub.take(&pod, (&workload("web"), ""), &told(3));
    hub.take(&pod, (&workload("web"), ""), &told(3));
    tokio::time::advance(Duration::from_secs(4)).await;
    other.take(&pod, (&workload("web"), ""), &told(2));
    let asked = ask("a", 60);
    let mut sum = hub.lanes(&asked, false);
    assert_eq!(counts(&sum.counts), [("a", By::Nothing, 3, 1, 4)]);
    // By way of messages, as replicas say it.
    sum.add(answer(other.tell_lanes(question(&asked, false))));
    assert_eq!(counts(&sum.counts), [("a", By::Nothing, 5, 2, 0)]);
    let elsewhere = Ask { namespace: "bank".to_owned(), ..asked };
    assert_eq!(answer(other.tell_lanes(question(&elsewhere, false))).counts.len(), 0);
}
