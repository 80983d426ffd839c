use super::*;
use crate::model::Here;

fn view(namespace: &str) -> View {
    View::new(Dialect::Tulle, namespace)
}

fn key(name: &str) -> Key {
    Key::new(Kind::Cluster, name)
}

fn bytes(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

#[test]
fn a_change_reaches_only_those_who_subscribed_and_equal_bytes_nobody() {
    let (cache, _interest) = Cache::new();
    let (mut one, mut two) = (cache.subscriber(view("shop")), cache.subscriber(view("shop")));
    one.subscribe(Kind::Cluster, "a");
    two.subscribe(Kind::Cluster, "b");
    assert!(one.take_changed().is_empty(), "nothing is known yet");

    assert!(cache.put(key("a"), bytes("1")));
    assert_eq!(one.take_changed(), BTreeSet::from([(Kind::Cluster, "a".into())]));
    assert!(!cache.put(key("a"), bytes("1")));
    assert!(one.take_changed().is_empty());
    assert!(two.take_changed().is_empty());
    assert!(cache.put(key("a"), None));
    assert_eq!(one.get(Kind::Cluster, "a"), Published::Absent);
}

#[test]
fn nobody_sees_a_route_before_the_news_of_clusters_nor_a_cluster_go_before_that_of_routes() {
    let (cache, _interest) = Cache::new();
    let mut subscriber = cache.subscriber(view("shop"));
    subscriber.subscribe(Kind::Cluster, "a");
    subscriber.subscribe(Kind::Route, "r");
    let route = |content| cache.put(Key::new(Kind::Route, "r"), bytes(content));

    cache.put(key("a"), bytes("1"));
    route("to a");
    assert_eq!(subscriber.get(Kind::Route, "r"), Published::Unknown);
    assert_eq!(subscriber.take_changed().len(), 2);
    assert_ne!(subscriber.get(Kind::Route, "r"), Published::Unknown);

    route("elsewhere");
    cache.put(key("a"), None);
    assert_eq!(subscriber.get(Kind::Cluster, "a"), Published::Unknown);
    assert_eq!(subscriber.take_changed().len(), 2);
    assert_eq!(subscriber.get(Kind::Cluster, "a"), Published::Absent);

    // It is not lost that somebody looked too early.
    cache.put(key("a"), bytes("1"));
    subscriber.get(Kind::Route, "r");
    assert!(subscriber.take_changed().contains(&(Kind::Route, "r".into())));
}

#[test]
fn a_namespace_gets_its_own_version_and_loses_it_without_a_gap() {
    let (cache, _interest) = Cache::new();
    let (mut shop, mut bank) = (cache.subscriber(view("shop")), cache.subscriber(view("bank")));
    shop.subscribe(Kind::Cluster, "a");
    bank.subscribe(Kind::Cluster, "a");
    let own = |content| BTreeMap::from([("bank".into(), bytes(content))]);
    let both = |content| Contents {
        shared: bytes("1"),
        by_namespace: own(content),
        ..Contents::default()
    };

    assert!(cache.put(key("a"), bytes("1")));
    assert_eq!((shop.take_changed().len(), bank.take_changed().len()), (1, 1));
    assert!(cache.put(key("a"), both("2")));
    assert_eq!((shop.take_changed().len(), bank.take_changed().len()), (0, 1));
    assert_ne!(shop.get(Kind::Cluster, "a"), bank.get(Kind::Cluster, "a"));
    assert!(!cache.put(key("a"), both("2")));
    // Its own version says the same as everybody's: there is nothing to tell when it goes.
    cache.put(key("a"), both("1"));
    assert_eq!(bank.take_changed().len(), 1);
    assert!(cache.put(key("a"), bytes("1")));
    assert_eq!((shop.take_changed().len(), bank.take_changed().len()), (0, 0));
    assert_eq!(shop.get(Kind::Cluster, "a"), bank.get(Kind::Cluster, "a"));
}

#[test]
fn a_place_gets_its_own_version_the_node_before_the_zone() {
    let (cache, _interest) = Cache::new();
    let here = |node: &str, zone: &str| Here { node: node.to_owned(), zone: zone.to_owned() };
    let at = |node, zone| View { here: here(node, zone), ..view("shop") };
    let mut near = cache.subscriber(at("n1", "a"));
    near.subscribe(Kind::Cluster, "a");
    let one = |place: &str, content| BTreeMap::from([(place.into(), bytes(content))]);
    let contents = |content| Contents {
        by_node: one("n1", content),
        by_zone: one("a", "zone"),
        ..bytes("shared").into()
    };
    cache.put(key("a"), contents("node"));
    for (view, told) in [
        (at("n1", "a"), "node"),
        (at("n2", "a"), "zone"),
        (at("n2", "b"), "shared"),
        (at("", ""), "shared"),
    ] {
        assert_eq!(cache.get(&key("a"), &view), Published::from(bytes(told)), "{view:?}");
    }
    assert_eq!(near.take_changed().len(), 1);
    cache.put(key("a"), Contents { by_zone: one("a", "other"), ..contents("node") });
    assert!(near.take_changed().is_empty(), "it is told of those on its node");
}

#[test]
fn dialects_do_not_meet() {
    let (cache, mut interest) = Cache::new();
    let mut envoy = cache.subscriber(View::new(Dialect::Envoy, "shop"));
    envoy.subscribe(Kind::Cluster, "a");
    let wanted = Key { dialect: Dialect::Envoy, ..key("a") };
    assert_eq!(interest.try_recv(), Some(Want::Wanted(wanted.clone())));
    assert!(!cache.put(key("a"), bytes("1")), "nobody wants it for our own proxy");
    assert!(cache.put(wanted, bytes("2")));
    assert_eq!(envoy.take_changed().len(), 1);
}

#[test]
fn what_is_known_is_told_to_a_late_subscriber() {
    let (cache, _interest) = Cache::new();
    let mut one = cache.subscriber(view("shop"));
    one.subscribe(Kind::Cluster, "a");
    cache.put(key("a"), bytes("1"));
    let mut two = cache.subscriber(view("shop"));
    two.subscribe(Kind::Cluster, "a");
    assert_eq!(two.take_changed().len(), 1);
}

#[tokio::test]
async fn the_publisher_hears_once_what_is_wanted_and_later_what_is_not() {
    let (cache, mut interest) = Cache::new();
    let mut one = cache.subscriber(view("shop"));
    one.subscribe(Kind::Cluster, "a");
    one.subscribe(Kind::Cluster, "a");
    assert_eq!(interest.recv().await, Want::Wanted(key("a")));
    assert_eq!(interest.try_recv(), None);

    cache.put(key("a"), bytes("1"));
    drop(one);
    cache.drop_unwanted(Instant::now());
    assert!(cache.is_wanted(&key("a")), "it lingers");
    assert_ne!(cache.get(&key("a"), &view("shop")), Published::Unknown);

    // A reconnection within the linger time costs nothing.
    let mut two = cache.subscriber(view("shop"));
    two.subscribe(Kind::Cluster, "a");
    cache.drop_unwanted(Instant::now() + LINGER);
    assert_eq!(interest.try_recv(), None);

    two.unsubscribe(Kind::Cluster, "a");
    cache.drop_unwanted(Instant::now() + LINGER);
    assert_eq!(interest.try_recv(), Some(Want::Unwanted(key("a"))));
    assert!(cache.wanted().is_empty());
    assert!(!cache.put(key("a"), bytes("2")), "nobody wants it");
}

#[test]
fn versions_are_sixteen_digits_of_the_content() {
    let version = content_version(b"a");
    assert_eq!(version.as_str(), "ca978112ca1bbdca");
    assert_ne!(version, content_version(b"b"));
}
