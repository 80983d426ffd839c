use proptest::{collection::vec, prelude::*};

use super::*;

fn request(kind: Kind, names: &[&str], answered: Option<(&str, Option<&str>)>) -> StateRequest {
    let answer = answered.map(|(nonce, error)| Answer {
        nonce: nonce.to_owned(),
        error: error.map(ToOwned::to_owned),
    });
    StateRequest { kind, names: names.iter().map(|name| (*name).to_owned()).collect(), answer }
}

fn present(content: u8) -> Published {
    Published::Present { version: Version::new(content.to_string()), bytes: vec![content].into() }
}

fn names(response: &StateResponse) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

#[test]
fn listeners_and_clusters_come_whole_and_what_is_left_out_is_gone() {
    let mut session = StateSession::new("shop/cart-1");
    session.request(request(Kind::Cluster, &["a", "b"], None)).unwrap();
    let first = session.next_response(|_, _| present(1)).unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    session.request(request(Kind::Cluster, &["a", "b"], Some((&first.nonce, None)))).unwrap();
    assert_eq!(session.next_response(|_, _| present(1)), None, "an ACK gets no response");

    session.changed(Kind::Cluster, "b");
    let look = |_, name: &str| if name == "b" { present(2) } else { present(1) };
    let second = session.next_response(look).unwrap();
    assert_eq!(names(&second), ["a", "b"], "the one that did not change too");
    assert_ne!(second.version, first.version);
    session.request(request(Kind::Cluster, &["a", "b"], Some((&second.nonce, None)))).unwrap();

    session.changed(Kind::Cluster, "b");
    let gone = |_, name: &str| if name == "b" { Published::Absent } else { present(1) };
    assert_eq!(names(&session.next_response(gone).unwrap()), ["a"]);
}

#[test]
fn a_whole_state_waits_until_all_of_it_is_known() {
    let mut session = StateSession::new("shop/cart-1");
    session.request(request(Kind::Listener, &["a", "b"], None)).unwrap();
    let half = |_, name: &str| if name == "b" { Published::Unknown } else { present(1) };
    assert_eq!(session.next_response(half), None);
    session.changed(Kind::Listener, "b");
    let none = |_, name: &str| if name == "b" { Published::Absent } else { present(1) };
    assert_eq!(names(&session.next_response(none).unwrap()), ["a"]);
}

#[test]
fn a_listener_that_does_not_exist_is_an_empty_state() {
    let mut session = StateSession::new("shop/cart-1");
    session.request(request(Kind::Listener, &["a"], None)).unwrap();
    let response = session.next_response(|_, _| Published::Absent).unwrap();
    assert!(response.resources.is_empty());
}

/// A client that has been told of a route, the cluster that it led to, and another one.
fn with_a_route() -> StateSession {
    let mut session = StateSession::new("shop/cart-1");
    let wanted: [(Kind, &[&str]); 3] =
        [(Kind::Route, &["r"]), (Kind::Cluster, &["old", "other"]), (Kind::Endpoints, &["old"])];
    for (kind, named) in wanted {
        session.request(request(kind, named, None)).unwrap();
        let told = session.next_response(|_, _| present(1)).unwrap();
        session.request(request(kind, named, Some((&told.nonce, None)))).unwrap();
    }
    session
}

/// The route leads elsewhere, so that the cluster is gone with its endpoints; the other one changed.
fn rerouted(kind: Kind, name: &str) -> Published {
    match (kind, name) {
        (Kind::Cluster | Kind::Endpoints, "old") => Published::Absent,
        _ => present(2),
    }
}

#[test]
fn what_a_route_led_to_stays_until_the_client_has_answered_to_the_route_that_changed() {
    for (error, wanted) in [
        (None, &["old", "other"][..]),
        // It keeps its route, but nobody waits for it any longer.
        (Some("no such thing"), &["old", "other"]),
        // It has followed the route already.
        (None, &["other"]),
    ] {
        let mut session = with_a_route();
        for (kind, name) in [(Kind::Route, "r"), (Kind::Endpoints, "old"), (Kind::Cluster, "old")] {
            session.changed(kind, name);
        }
        session.changed(Kind::Cluster, "other");
        // Another cluster does not wait.
        let clusters = session.next_response(rerouted).unwrap();
        assert_eq!(names(&clusters), ["old", "other"]);
        let versions = clusters.resources.iter().map(|r| r.version.as_str());
        assert_eq!(versions.collect::<Vec<_>>(), ["1", "2"]);
        let route = session.next_response(rerouted).unwrap();
        assert_eq!(names(&route), ["r"]);
        let answered = Some((clusters.nonce.as_str(), None));
        session.request(request(Kind::Cluster, &["old", "other"], answered)).unwrap();
        assert_eq!(session.next_response(rerouted), None, "the route is not answered");
        session.request(request(Kind::Cluster, wanted, answered)).unwrap();
        // These words are no answer: all is sent again, and no less than before.
        let again = session.next_response(rerouted).unwrap();
        assert_eq!(names(&again), wanted, "{error:?}");
        let answered = Some((again.nonce.as_str(), None));
        session.request(request(Kind::Cluster, wanted, answered)).unwrap();
        assert_eq!(session.next_response(rerouted), None, "{error:?}: they come to an end");

        let answered = Some((route.nonce.as_str(), error));
        session.request(request(Kind::Route, &["r"], answered)).unwrap();
        let mut last = session.next_response(rerouted);
        if wanted.contains(&"old") {
            let gone = last.expect("that it is gone");
            assert_eq!((gone.kind, names(&gone)), (Kind::Cluster, vec!["other"]));
            let answered = Some((gone.nonce.as_str(), None));
            session.request(request(Kind::Cluster, wanted, answered)).unwrap();
            last = session.next_response(rerouted);
        }
        assert_eq!(last, None, "{error:?} {wanted:?}");
    }
}

#[test]
fn a_cluster_that_comes_back_before_the_client_heard_that_it_was_gone_is_no_news() {
    let mut session = with_a_route();
    session.changed(Kind::Route, "r");
    session.changed(Kind::Cluster, "old");
    let gone = |kind, name: &str| match kind {
        Kind::Route => present(2),
        _ => {
            if name == "old" {
                Published::Absent
            } else {
                present(1)
            }
        }
    };
    let route = session.next_response(gone).unwrap();
    assert_eq!((route.kind, session.next_response(gone)), (Kind::Route, None));
    session.changed(Kind::Cluster, "old");
    let back = |kind, _: &str| present(if kind == Kind::Route { 2 } else { 1 });
    assert_eq!(session.next_response(back), None);
    session.request(request(Kind::Route, &["r"], Some((&route.nonce, None)))).unwrap();
    assert_eq!(session.next_response(back), None);
}

#[test]
fn endpoints_come_one_by_one_and_never_as_removals() {
    let mut session = StateSession::new("shop/cart-1");
    session.request(request(Kind::Endpoints, &["a", "b"], None)).unwrap();
    let first = session.next_response(|_, _| present(1)).unwrap();
    session.request(request(Kind::Endpoints, &["a", "b"], Some((&first.nonce, None)))).unwrap();
    session.changed(Kind::Endpoints, "a");
    assert_eq!(session.next_response(|_, _| Published::Absent), None);
    session.changed(Kind::Endpoints, "a");
    assert_eq!(names(&session.next_response(|_, _| present(3)).unwrap()), ["a"]);
}

#[test]
fn a_stale_nonce_answers_nothing_and_a_rejection_is_kept() {
    let mut session = StateSession::new("shop/cart-1");
    session.request(request(Kind::Route, &["a"], None)).unwrap();
    let first = session.next_response(|_, _| present(1)).unwrap();
    let stale = request(Kind::Route, &["a"], Some(("77", Some("no vhost in a"))));
    assert_eq!(session.request(stale).unwrap(), Changes::default());
    assert!(session.status()[0].waiting);
    let nack = request(Kind::Route, &["a"], Some((&first.nonce, Some("no vhost in a"))));
    let rejected = session.request(nack).unwrap().rejected;
    assert_eq!(rejected, [("a".to_owned(), "no vhost in a".to_owned())]);
    assert_eq!(session.status()[0].names[0].rejected.as_deref(), Some("no vhost in a"));
    assert_eq!(session.next_response(|_, _| present(1)), None, "not again on this stream");
}

#[test]
fn what_is_dropped_and_wanted_again_is_sent_again_even_by_requests_out_of_date() {
    let mut session = StateSession::new("shop/cart-1");
    session.request(request(Kind::Endpoints, &["a"], None)).unwrap();
    let first = session.next_response(|_, _| present(1)).unwrap();
    let answered = Some((first.nonce.as_str(), None));
    session.request(request(Kind::Endpoints, &["a", "b"], answered)).unwrap();
    let second = session.next_response(|_, _| present(1)).unwrap();
    assert_eq!(names(&second), ["b"]);
    // Both before the second response is read.
    session.request(request(Kind::Endpoints, &[], answered)).unwrap();
    session.request(request(Kind::Endpoints, &["a"], answered)).unwrap();
    assert_eq!(session.next_response(|_, _| present(1)), None, "one in flight");
    let answered = Some((second.nonce.as_str(), None));
    session.request(request(Kind::Endpoints, &["a"], answered)).unwrap();
    assert_eq!(names(&session.next_response(|_, _| present(1)).unwrap()), ["a"]);
}

#[test]
fn dropped_and_wanted_again_within_one_request_is_sent_again() {
    for kind in [Kind::Cluster, Kind::Endpoints] {
        let mut session = StateSession::new("shop/cart-1");
        session.request(request(kind, &["a"], None)).unwrap();
        let first = session.next_response(|_, _| present(1)).unwrap();
        let answered = Some((first.nonce.as_str(), None));
        session.request(request(kind, &["a"], answered)).unwrap();
        assert_eq!(
            session.next_response(|_, _| present(1)),
            None,
            "{kind:?}: an ACK gets no response"
        );
        session.request(request(kind, &["a"], answered)).unwrap();
        let second = session.next_response(|_, _| present(1)).expect("the same words, but no ACK");
        assert_eq!(names(&second), ["a"], "{kind:?}");
        session.request(request(kind, &["a"], Some((&second.nonce, None)))).unwrap();
        assert_eq!(session.next_response(|_, _| present(1)), None, "{kind:?}: they come to an end");
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    Want(BTreeSet<usize>),
    /// The client drops all it has and wants it again, with one request.
    Renew,
    Publish(usize, Option<u8>),
    Answer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::btree_set(0..NAMES.len(), 0..4).prop_map(Step::Want),
        Just(Step::Renew),
        (0..NAMES.len(), prop::option::of(0..3_u8)).prop_map(|(n, v)| Step::Publish(n, v)),
        Just(Step::Answer),
    ]
}

/// A client as simple as the protocol allows.
#[derive(Default)]
struct Client {
    wanted: BTreeSet<String>,
    has: BTreeMap<String, u8>,
    nonce: Option<String>,
    waiting: Option<StateResponse>,
}

impl Client {
    fn asks(&self, kind: Kind) -> StateRequest {
        let answer = self.nonce.clone().map(|nonce| Answer { nonce, error: None });
        StateRequest { kind, names: self.wanted.clone(), answer }
    }

    fn reads(&mut self, kind: Kind) -> bool {
        let Some(response) = self.waiting.take() else { return false };
        if WHOLE.contains(&kind) {
            self.has.clear();
        }
        self.has.extend(response.resources.into_iter().map(|r| (r.name, r.bytes[0])));
        self.has.retain(|name, _| self.wanted.contains(name));
        self.nonce = Some(response.nonce);
        true
    }
}

proptest! {
    #[test]
    fn the_client_ends_up_with_what_is_published(
        whole in any::<bool>(),
        steps in vec(step(), 0..60),
    ) {
        let kind = if whole { Kind::Cluster } else { Kind::Endpoints };
        let (mut session, mut client) = (StateSession::new("shop/cart-1"), Client::default());
        let mut truth: BTreeMap<String, u8> = BTreeMap::new();
        // The first request names something: one that does not is the wildcard.
        client.wanted = BTreeSet::from(["a".to_owned()]);
        session.request(client.asks(kind)).unwrap();
        let settle = vec![Step::Answer; 8];
        for step in steps.into_iter().chain(settle) {
            match step {
                Step::Want(wanted) => {
                    client.wanted = wanted.into_iter().map(|n| NAMES[n].to_owned()).collect();
                    client.has.retain(|name, _| client.wanted.contains(name));
                    session.request(client.asks(kind)).unwrap();
                }
                Step::Renew => {
                    client.has.clear();
                    session.request(client.asks(kind)).unwrap();
                }
                Step::Publish(n, content) => {
                    match content {
                        Some(content) => truth.insert(NAMES[n].to_owned(), content),
                        None => truth.remove(NAMES[n]),
                    };
                    session.changed(kind, NAMES[n]);
                }
                Step::Answer => {
                    if client.reads(kind) {
                        session.request(client.asks(kind)).unwrap();
                    }
                }
            }
            let look = |_, name: &str| truth.get(name).map_or(Published::Absent, |&c| present(c));
            while let Some(response) = session.next_response(look) {
                prop_assert!(client.waiting.replace(response).is_none(), "one in flight");
            }
        }
        prop_assert!(client.waiting.is_none(), "they never stop talking");
        let expected = truth.iter().filter(|(name, _)| client.wanted.contains(*name));
        let believed = client.has.iter().filter(|(name, _)| whole || truth.contains_key(*name));
        prop_assert!(expected.eq(believed), "{:?} {:?}", client.has, truth);
    }
}
