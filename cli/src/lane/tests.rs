use tulle_control_plane::{
    console::{BehindView, EntryView, LaneWorkloadView, PassedView, ValueView},
    telemetry::lanes::By,
};

use super::*;
use crate::{
    lane::verdict::{Sure, code, findings},
    observe::Format,
};

/// Requests to or from a workload of the shop.
fn passed(name: &str, by: By, requests: u64, alone: u64) -> PassedView {
    let namespace = if name == "internet" { "" } else { "shop" };
    // The lane's pods of `ratings` are of a workload of their own.
    let service = name.strip_suffix("-pr-1").unwrap_or(name);
    let service = if namespace.is_empty() { String::new() } else { format!("shop/{service}") };
    let [namespace, name] = [namespace, name].map(str::to_owned);
    PassedView { namespace, name, service, by, requests, alone }
}

fn workload(name: &str, received: Vec<PassedView>, sent: Vec<PassedView>) -> LaneWorkloadView {
    LaneWorkloadView { kind: "Deployment".to_owned(), name: name.to_owned(), received, sent }
}

/// The lane `shop/pr-1`, into which 40 requests have come: web calls reviews, which sends this to ratings.
fn lane(sent: Vec<PassedView>) -> LaneView {
    let value = |name: &str, value: &str| {
        let (name, value) = (name.to_owned(), value.to_owned());
        ValueView { name, value, regex: false }
    };
    let entry = EntryView { headers: vec![value("x-tulle-lane", "pr-1")], query: Vec::new() };
    let within = sent.iter().find(|one| one.by.is_in()).cloned();
    let last = within.as_ref().map_or("ratings", |one| one.name.as_str()).to_owned();
    let got = within.into_iter().map(|one| PassedView { name: "reviews".to_owned(), ..one });
    LaneView {
        namespace: "shop".to_owned(),
        name: "pr-1".to_owned(),
        entry: vec![entry],
        members: [("tulle.dev/lane".to_owned(), "pr-1".to_owned())].into(),
        in_force: 4,
        of: 4,
        services: vec![BehindView { name: "web".to_owned(), pods: 1, ready: 1 }],
        known_by: [(By::Entry, 40), (By::Traceparent, 40)].into(),
        idle: Some(3.0),
        workloads: vec![
            workload(
                "web",
                vec![passed("internet", By::Entry, 40, 0)],
                vec![passed("reviews", By::Traceparent, 40, 0)],
            ),
            workload("reviews", vec![passed("web", By::Baggage, 40, 0)], sent),
            workload(&last, got.collect(), Vec::new()),
        ],
        ..LaneView::default()
    }
}

fn view(items: Vec<LaneView>) -> LanesView {
    LanesView { window: 300.0, items, unheard: Vec::new() }
}

/// How sure the first finding is, what is said, and what a program is told.
fn first(sent: Vec<PassedView>) -> (Option<Sure>, String, u8) {
    let lanes = [lane(sent)];
    let found = findings(&lanes);
    let code = code(&lanes, &found);
    let first = found.into_iter().next();
    let said = first.as_ref().map(|one| format!("{} | {}", one.says, one.remedy));
    (first.map(|one| one.sure), said.unwrap_or_default(), code)
}

#[test]
fn who_forwards_nothing_is_named_with_what_to_do() {
    let (sure, said, code) = first(vec![passed("ratings", By::Nothing, 41, 40)]);
    assert_eq!((sure, code), (Some(Sure::Loses), 3));
    for part in [
        "shop/reviews loses it on the way to shop/ratings: it got 40 requests of the lane, and sent 41 there without it, 40 of them while",
        "forwards neither `baggage` nor `traceparent`: let it send on `traceparent`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let (sure, said, _) = first(vec![passed("ratings", By::UnknownTrace, 40, 40)]);
    assert_eq!(sure, Some(Sure::Loses));
    assert!(said.contains("of a trace that reviews began itself"), "{said}");
}

#[test]
fn what_may_be_of_others_is_no_proof() {
    // Others are answered at the same time; some goes on in the lane; a timer sends now and then.
    for sent in [
        vec![passed("ratings", By::Nothing, 400, 0)],
        vec![
            passed("ratings-pr-1", By::Traceparent, 40, 0),
            passed("ratings", By::Nothing, 40, 40),
        ],
        vec![passed("ratings", By::Nothing, 3, 3)],
        vec![passed("ratings", By::Unclear, 9, 0)],
    ] {
        let (sure, said, code) = first(sent.clone());
        assert_eq!((sure, code), (Some(Sure::Perhaps), 4), "{sent:?}");
        assert!(said.contains("They may be of the lane, of other requests"), "{said}");
    }
    let beside =
        vec![passed("ratings-pr-1", By::Traceparent, 40, 0), passed("ratings", By::Nothing, 9, 0)];
    let (sure, said, code) = first(beside);
    assert_eq!((sure, code), (Some(Sure::Note), 0), "as many went on as came: {said}");
    assert!(said.contains("most likely of others"), "{said}");
    let (_, said, _) = first(vec![passed("ratings", By::Nothing, 400, 0)]);
    assert!(said.contains("to be sure, send into the lane while nobody else calls"), "{said}");
}

#[test]
fn a_lane_that_goes_on_is_well_and_one_without_requests_is_not_known() {
    let (sure, said, code) = first(vec![passed("ratings", By::Baggage, 40, 0)]);
    assert_eq!((sure, code), (None, 0), "{said}");
    let nothing =
        LaneView { workloads: Vec::new(), known_by: Default::default(), ..lane(Vec::new()) };
    assert_eq!((findings(std::slice::from_ref(&nothing)), code_of(&nothing)), (Vec::new(), 4));
    let text = check::told(&view(vec![nothing]), &[], false);
    assert!(text.contains("no request of it was seen in the last 5m\n  into it: curl -H 'x-tulle-lane: pr-1' 'http://web.shop/'\n"), "{text}");
}

fn code_of(lane: &LaneView) -> u8 {
    let lanes = [lane.clone()];
    code(&lanes, &findings(&lanes))
}

#[test]
fn who_tells_nothing_and_pods_that_get_nothing_are_noted() {
    let mut lost = lane(vec![passed("ratings", By::Baggage, 40, 0)]);
    lost.workloads.pop();
    lost.services.push(BehindView { name: "ratings".to_owned(), pods: 2, ready: 0 });
    lost.strays.push("old-1".to_owned());
    let mut abroad = passed("vault", By::Baggage, 1, 0);
    abroad.namespace = "bank".to_owned();
    lost.workloads[1].sent.push(abroad);
    let lanes = [lost];
    let found = findings(&lanes);
    let said: String = found.iter().map(|one| format!("{} | {}\n", one.says, one.remedy)).collect();
    for part in [
        "shop/ratings got requests of the lane, and its sidecar does not tell of them",
        "its namespace has no Lane pr-1 that you may see",
        "tulle lane open pr-1 -n bank",
        "no pod of the lane behind shop/ratings is ready: its requests there go to everybody's pods",
        "to these pods of the lane no Service leads: old-1",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!((found.len(), code(&lanes, &found)), (4, 0));
}

#[test]
fn a_check_shows_each_hop() {
    let lanes = vec![lane(vec![passed("ratings", By::Nothing, 41, 40)])];
    let found = findings(&lanes);
    let text = check::told(&view(lanes), &found, false);
    let expected = "\
shop/pr-1, in the last 5m:
WORKLOAD  GOT  SENT TO       IN LANE  BY           IN NONE  ALONE
web        40  shop/reviews       40  traceparent        0      0
reviews    40  shop/ratings        0  -                 41     40
ratings     0  -                   -  -                  -      -

LOST: shop/reviews loses it";
    assert!(text.starts_with(expected), "{text}");
    let well = vec![lane(vec![passed("ratings", By::Baggage, 40, 0)])];
    let text = check::told(&view(well), &[], false);
    assert!(text.ends_with("\nok: no hop loses it\n"), "{text}");
}

#[test]
fn a_list_says_pods_requests_and_what_may_be_lost() {
    let lanes = vec![lane(vec![passed("ratings", By::Nothing, 41, 40)])];
    let text = list::table(&view(lanes), Format::Wide, false);
    let expected = "\
NAMESPACE  NAME  PODS     FORCE  REQ/S  ENTRY  BAGGAGE  STATE  TRACE  LOST?  IDLE  INTO IT
shop       pr-1  web 1/1    4/4    0.3     40        0      0     40     41    3s  curl -H 'x-tulle-lane: pr-1' 'http://web.shop/'
";
    assert_eq!(text, expected);
    let none = list::table(&view(Vec::new()), Format::Table, false);
    assert!(none.contains("tulle lane open NAME"), "{none}");
}

#[test]
fn the_way_in_is_what_the_entry_says() {
    let value =
        |value: &str, regex| ValueView { name: "n".to_owned(), value: value.to_owned(), regex };
    let mut lane = lane(Vec::new());
    lane.entry = vec![
        EntryView { headers: Vec::new(), query: vec![value("a b", false)] },
        EntryView { headers: vec![value("1|2", true)], query: Vec::new() },
    ];
    assert_eq!(ways_in(&lane), ["curl 'http://web.shop/?n=a+b'", "a request whose n matches 1|2"]);
}

#[test]
fn what_is_printed_is_a_lane_and_what_ends_is_said() {
    let printed: serde_json::Value =
        serde_yaml_ng::from_str(&change::yaml("shop", "pr-1")).unwrap();
    let converted = tulle_control_plane::convert::convert(&printed);
    assert!(converted.object.is_some() && converted.faults.is_empty(), "{:?}", converted.faults);
    let mut lane = lane(Vec::new());
    assert!(change::fate(&lane).contains("(1 of web) get nothing then"), "{}", change::fate(&lane));
    lane.members = [("branch".to_owned(), "one".to_owned())].into();
    let fate = change::fate(&lane);
    assert!(
        fate.contains("get everybody's requests then") && fate.contains("take them away first"),
        "{fate}"
    );
}
