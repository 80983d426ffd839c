use super::{verdict::mentions, *};
use crate::protocol::{Answer, MAX_NACK, MAX_PAYLOAD};

fn request(names: &[&str]) -> Request {
    Request {
        kind: Kind::Cluster,
        node: None,
        subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        unsubscribe: Vec::new(),
        versions: Vec::new(),
        answer: None,
    }
}

fn answer(nonce: &str, error: Option<&str>) -> Request {
    let error = error.map(ToOwned::to_owned);
    Request { answer: Some(Answer { nonce: nonce.to_owned(), error }), ..request(&[]) }
}

fn present(size: usize) -> Published {
    Published::Present { version: Version::new("v1"), bytes: vec![0; size].into() }
}

fn names(response: &Response) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

#[test]
fn an_acknowledgement_gets_no_response() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a", "b"])).unwrap();
    let first = session.next_response(|_, _| present(1)).unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    session.request(answer(&first.nonce, None)).unwrap();
    assert_eq!(session.next_response(|_, _| present(1)), None);
    assert!(session.status()[0].names.iter().all(|name| name.accepted == name.sent));
}

#[test]
fn what_a_route_led_to_goes_after_the_route_has_changed() {
    let mut session = Session::new("shop/cart-1");
    let kinds = [Kind::Route, Kind::Cluster, Kind::Endpoints];
    let of = |kind, request: Request| Request { kind, ..request };
    for kind in kinds {
        session.request(of(kind, request(&["a"]))).unwrap();
        let told = session.next_response(|_, _| present(1)).unwrap();
        session.request(of(kind, answer(&told.nonce, None))).unwrap();
    }
    kinds.into_iter().for_each(|kind| session.changed(kind, "a"));
    let look = |kind, _: &str| match kind {
        Kind::Route => Published::Present { version: Version::new("v2"), bytes: "b".into() },
        _ => Published::Absent,
    };
    let route = session.next_response(look).unwrap();
    assert_eq!((route.kind, names(&route)), (Kind::Route, vec!["a"]));
    assert_eq!(session.next_response(look), None, "it has not answered");
    session.request(of(Kind::Route, answer(&route.nonce, None))).unwrap();
    let mut gone = Vec::new();
    while let Some(told) = session.next_response(look) {
        assert_eq!(told.removed, ["a"]);
        gone.push(told.kind);
    }
    assert_eq!(gone, [Kind::Cluster, Kind::Endpoints]);
}

#[test]
fn a_second_subscription_is_answered_even_if_nothing_changed() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a", "none"])).unwrap();
    let look = |_, name: &str| {
        if name == "a" { present(1) } else { Published::Absent }
    };
    let first = session.next_response(look).unwrap();
    session.request(answer(&first.nonce, None)).unwrap();
    let changes = session.request(request(&["a", "none"])).unwrap();
    assert_eq!(changes, Changes::default(), "nothing new to look at");
    let again = session.next_response(look).unwrap();
    assert_eq!(names(&again), ["a"]);
    assert_eq!(again.removed, ["none"]);
}

#[test]
fn what_the_publisher_has_not_said_waits() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a"])).unwrap();
    assert_eq!(session.next_response(|_, _| Published::Unknown), None);
    session.changed(Kind::Cluster, "a");
    assert_eq!(session.next_response(|_, _| Published::Absent).unwrap().removed, ["a"]);
}

#[test]
fn versions_of_the_client_spare_it_what_it_has() {
    let mut session = Session::new("shop/cart-1");
    let version = |name: &str, text: &str| (name.to_owned(), Version::new(text));
    let versions = vec![version("same", "v1"), version("old", "v0"), version("gone", "v1")];
    session.request(Request { versions, ..request(&["same", "old", "gone", "new"]) }).unwrap();
    let look = |_, name: &str| {
        if name == "gone" { Published::Absent } else { present(1) }
    };
    let response = session.next_response(look).unwrap();
    assert_eq!(names(&response), ["new", "old"]);
    assert_eq!(response.removed, ["gone"]);
}

#[test]
fn a_message_stays_below_the_limit_and_the_rest_follows_the_answer() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a", "b", "c", "d"])).unwrap();
    // Even one that is too large for any message is sent, alone.
    let look = |_, name: &str| present(if name == "d" { MAX_PAYLOAD + 1 } else { 2 << 20 });
    for expected in ["a", "b", "c", "d"] {
        let response = session.next_response(look).unwrap();
        assert_eq!(names(&response), [expected]);
        assert_eq!(session.next_response(look), None, "one at a time");
        session.request(answer(&response.nonce, None)).unwrap();
    }
    assert_eq!(session.next_response(look), None);
}

#[test]
fn kinds_come_in_their_order() {
    let mut session = Session::new("shop/cart-1");
    for kind in Kind::ALL.into_iter().rev() {
        session.request(Request { kind, ..request(&["shop/cart-1"]) }).unwrap();
    }
    let next = || session.next_response(|_, _| present(1)).map(|r| r.kind);
    let order: Vec<_> = std::iter::from_fn(next).collect();
    assert_eq!(order, Kind::ALL);
}

#[test]
fn an_answer_without_names_rejects_all_and_a_stale_one_nothing() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a", "b"])).unwrap();
    let response = session.next_response(|_, _| present(1)).unwrap();
    let stale = session.request(answer("99", Some("no"))).unwrap();
    assert_eq!(stale.rejected, []);
    let text = "x".repeat(2 * MAX_NACK);
    let all = session.request(answer(&response.nonce, Some(&text))).unwrap();
    assert_eq!(all.rejected.len(), 2);
    assert!(all.rejected.iter().all(|(_, reason)| reason.len() == MAX_NACK));
    assert_eq!(session.next_response(|_, _| present(1)), None, "not again on this stream");
}

#[test]
fn prose_rejects_what_it_mentions() {
    let long = "service/shop/a/8080";
    let text = "Error adding/updating cluster(s) service/shop/a/8080: no such policy";
    assert!(mentions(text, long));
    assert!(!mentions(text, "service/shop/a/80"));
    assert!(!mentions(text, "shop/a/8080"));

    let mut session = Session::new("shop/cart-1");
    session.request(request(&["service/shop/a/80", long])).unwrap();
    let response = session.next_response(|_, _| present(1)).unwrap();
    let changes = session.request(answer(&response.nonce, Some(text))).unwrap();
    assert_eq!(changes.rejected, [(long.to_owned(), text.to_owned())]);
}

#[test]
fn what_a_terminal_would_obey_is_escaped_in_a_reason() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a"])).unwrap();
    let response = session.next_response(|_, _| present(1)).unwrap();
    let error = Some("\u{1b}]0;gotcha\u{7}in two\nlines");
    let changes = session.request(answer(&response.nonce, error)).unwrap();
    let reason = "\\u{1b}]0;gotcha\\u{7}in two\\nlines";
    assert_eq!(changes.rejected, [("a".to_owned(), reason.to_owned())]);
    assert_eq!(session.status()[0].names[0].rejected.as_deref(), Some(reason));
}

#[test]
fn unsubscribing_from_what_was_never_subscribed_is_harmless() {
    let mut session = Session::new("shop/cart-1");
    session.request(request(&["a"])).unwrap();
    let unsubscribe = vec!["never".to_owned(), "a".to_owned(), "a".to_owned()];
    let changes = session.request(Request { unsubscribe, ..request(&[]) }).unwrap();
    assert_eq!(changes.unsubscribed, ["a"]);
    assert_eq!(session.subscriptions, 0);
    assert_eq!(session.next_response(|_, _| present(1)), None);
}

#[test]
fn violations_end_the_stream() {
    let mut session = Session::new("shop/cart-1");
    assert_eq!(session.request(request(&[])), Err(Violation::Wildcard(Kind::Cluster)));
    assert_eq!(session.request(request(&["*"])), Err(Violation::Wildcard(Kind::Cluster)));
    let long = "x".repeat(MAX_NAME + 1);
    assert_eq!(session.request(request(&[&long])), Err(Violation::LongName(MAX_NAME + 1)));
    let many = (0..=MAX_SUBSCRIPTIONS).map(|n| n.to_string()).collect();
    let too_many = Request { subscribe: many, ..request(&[]) };
    assert_eq!(session.request(too_many), Err(Violation::TooMany));
}

#[test]
fn the_workload_of_another_pod_does_not_exist() {
    let mut session = Session::new("shop/cart-1");
    let both = Request { kind: Kind::Workload, ..request(&["shop/cart-1", "bank/vault-0"]) };
    let changes = session.request(both).unwrap();
    assert_eq!(changes.subscribed, ["shop/cart-1"]);
    assert_eq!(changes.refused, ["bank/vault-0"]);
    let response = session.next_response(|_, _| present(1)).unwrap();
    assert_eq!(names(&response), ["shop/cart-1"]);
    assert_eq!(response.removed, ["bank/vault-0"]);
}

#[test]
fn a_cluster_that_is_asked_for_by_name_holds_up_no_listener() {
    let mut session = Session::new("shop/cart-1").with_wildcard(Vec::new());
    session.request(request(&[])).unwrap();
    session.changed(Kind::Cluster, "*");
    let look = |_, _: &str| present(1);
    let first = session.next_response(look).unwrap();
    session.request(answer(&first.nonce, None)).unwrap();
    // It comes with its endpoints in it: none will be asked for.
    session.request(request(&["10.0.0.1:80"])).unwrap();
    let named = session.next_response(look).unwrap();
    assert_eq!(names(&named), ["10.0.0.1:80"]);
    session.request(answer(&named.nonce, None)).unwrap();
    session.request(Request { kind: Kind::Listener, ..request(&[]) }).unwrap();
    session.changed(Kind::Listener, "*");
    session.changed(Kind::Listener, "inbound");
    assert_eq!(names(&session.next_response(look).unwrap()), ["inbound"]);
}
