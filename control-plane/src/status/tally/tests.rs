use proptest::{collection::vec, prelude::*};
use tulle_xds::{
    cache::View,
    model::{Here, SpiffeId},
    session::NameNews,
};

use super::*;
use crate::{
    status::Contributions,
    world::objects::{Kind as ObjectKind, Name},
};

const NAME: &str = "service/shop/reviews/9080";

fn object(kind: ObjectKind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { kind, name: Name::new(namespace, name) }
}

/// What is published, and how things stand on the streams.
#[derive(Default)]
struct World {
    contributions: Contributions,
    latest: BTreeMap<(Key, String), Version>,
    streams: BTreeMap<u64, BTreeMap<Key, NameStatus>>,
}

impl Facts for World {
    fn contributors(&self, key: &Key, namespace: &str) -> Option<Arc<Contributors>> {
        self.contributions.of(key, namespace)
    }

    fn latest(&self, key: &Key, view: &View) -> Option<Version> {
        self.latest.get(&(key.clone(), view.namespace.to_string())).cloned()
    }

    fn standing(&self, stream: u64, key: &Key) -> Option<NameStatus> {
        self.streams.get(&stream)?.get(key).cloned()
    }
}

fn status(sent: &str, accepted: &str, rejected: Option<&str>) -> NameStatus {
    let version = |text: &str| (!text.is_empty()).then(|| Version::new(text));
    NameStatus {
        name: NAME.to_owned(),
        sent: version(sent),
        accepted: version(accepted),
        rejected: rejected.map(str::to_owned),
    }
}

fn news(pod: &str, names: Vec<NameNews>) -> StreamNews {
    of_dialect(Dialect::Tulle, pod, names)
}

fn of_dialect(dialect: Dialect, pod: &str, names: Vec<NameNews>) -> StreamNews {
    let namespace = pod.split('/').next().unwrap().to_owned();
    let identity = SpiffeId::service_account("cluster.local", &namespace, "a");
    let caller = Caller { pod: pod.to_owned(), namespace, identity, here: Here::default() };
    StreamNews::Changed { caller, dialect, names }
}

/// `shop/reviews` has a producer's route and a policy; callers in `far` have a route of their own.
fn world() -> World {
    let (split, retry) = (
        object(ObjectKind::HttpRoute, "shop", "split"),
        object(ObjectKind::TrafficPolicy, "shop", "retry"),
    );
    let mine = object(ObjectKind::HttpRoute, "far", "mine");
    let shared = Contributors {
        all: [split.clone(), retry].into(),
        rules: vec![None, Some(split)],
        needs: Vec::new(),
    };
    let own =
        Contributors { all: [mine.clone()].into(), rules: vec![Some(mine)], needs: Vec::new() };
    let world = World::default();
    let far: Arc<str> = "far".into();
    world.contributions.set(&Key::new(Kind::Route, NAME), [(None, shared), (Some(far), own)]);
    world
}

fn shown(tally: &Tally) -> Vec<String> {
    let shown = tally.objects.keys().map(|object| {
        let force = tally.force(object).unwrap();
        let reasons: Vec<_> =
            force.rejections.iter().map(|r| format!(" {}: {}", r.proxy, r.reason)).collect();
        let (on, of, waiting) = (force.on, force.of, force.waiting);
        format!("{object} {on}/{of} ({waiting} waiting){}", reasons.concat())
    });
    shown.collect()
}

#[test]
fn counts_the_proxies_that_hold_something_of_an_object() {
    let in_force = ("shop/a", status("2", "2", None));
    let waiting = |pod, sent, accepted| (pod, status(sent, accepted, None));
    let rule = "virtual_hosts[0].routes[1].x: no";
    for (streams, expected) in [
        (vec![], vec![]),
        (
            vec![in_force.clone(), ("far/b", status("f2", "f2", None))],
            vec![
                "HTTPRoute far/mine 1/1 (0 waiting)",
                "HTTPRoute shop/split 1/1 (0 waiting)",
                "TrafficPolicy shop/retry 1/1 (0 waiting)",
            ],
        ),
        // Not sent yet; sent and not answered; an old stream of the same pod.
        (
            vec![
                waiting("shop/b", "1", "1"),
                waiting("shop/c", "2", "1"),
                in_force.clone(),
                waiting("shop/a", "1", "1"),
            ],
            vec![
                "HTTPRoute shop/split 0/3 (3 waiting)",
                "TrafficPolicy shop/retry 0/3 (3 waiting)",
            ],
        ),
        // Nobody knows which object is behind it, or the reason names the rule.
        (
            vec![in_force.clone(), ("shop/b", status("2", "1", Some("no")))],
            vec![
                "HTTPRoute shop/split 1/2 (0 waiting) shop/b: no",
                "TrafficPolicy shop/retry 1/2 (0 waiting) shop/b: no",
            ],
        ),
        (
            vec![in_force, ("shop/b", status("2", "1", Some(rule)))],
            vec![
                "HTTPRoute shop/split 1/2 (0 waiting) shop/b: virtual_hosts[0].routes[1].x: no",
                "TrafficPolicy shop/retry 1/2 (0 waiting)",
            ],
        ),
        // A rejection of what has been replaced since is no answer to the latest.
        (vec![("far/b", status("f1", "", Some("no")))], vec!["HTTPRoute far/mine 0/1 (1 waiting)"]),
    ] {
        let (mut world, mut tally) = (world(), Tally::default());
        for (namespace, version) in [("shop", "2"), ("far", "f2")] {
            let at = (Key::new(Kind::Route, NAME), namespace.to_owned());
            world.latest.insert(at, Version::new(version));
        }
        for (id, (pod, status)) in (0..).zip(&streams) {
            let names = vec![(Kind::Route, NAME.to_owned(), Some(status.clone()))];
            tally.heard(id, news(pod, names), &world);
        }
        assert_eq!(shown(&tally), expected);
        for (id, _) in (0..).zip(&streams) {
            tally.heard(id, StreamNews::Closed, &world);
        }
        assert_eq!(shown(&tally), [""; 0], "nobody is there any more");
        assert!(tally.holdings.is_empty() && tally.rejected.is_empty());
    }
}

#[test]
fn pods_of_grpc_are_counted_apart() {
    let (world, mut tally) = (world(), Tally::default());
    let split = object(ObjectKind::HttpRoute, "shop", "split");
    let from = world.contributions.of(&Key::new(Kind::Route, NAME), "shop").unwrap();
    let of_grpc = Key { dialect: Dialect::Grpc, ..Key::new(Kind::Route, NAME) };
    world.contributions.set(&of_grpc, [(None, Contributors::clone(&from))]);
    let names = || vec![(Kind::Route, NAME.to_owned(), Some(status("", "", None)))];
    tally.heard(1, news("shop/a", names()), &world);
    for stream in [2, 3] {
        tally.heard(stream, of_dialect(Dialect::Grpc, "shop/b", names()), &world);
    }
    let counted = |tally: &Tally| tally.force(&split).map(|force| (force.of, force.grpc));
    assert_eq!(counted(&tally), Some((2, 1)));
    tally.heard(2, StreamNews::Closed, &world);
    assert_eq!(counted(&tally), Some((2, 1)), "it has another stream");
    tally.heard(3, StreamNews::Closed, &world);
    assert_eq!(counted(&tally), Some((1, 0)));
}

#[derive(Debug, Clone)]
enum Step {
    Answers { stream: u64, name: usize, sent: u8, accepted: u8, rejects: bool },
    Leaves { stream: u64, name: usize },
    Closes(u64),
    Publishes { name: usize, version: u8 },
    ComesFrom { name: usize, objects: Vec<usize> },
}

fn step() -> impl Strategy<Value = Step> {
    let (stream, name) = (|| 0..4_u64, || 0..3_usize);
    prop_oneof![
        6 => (stream(), name(), 0..3_u8, 0..3_u8, any::<bool>()).prop_map(
            |(stream, name, sent, accepted, rejects)| Step::Answers {
                stream, name, sent, accepted, rejects
            }
        ),
        1 => (stream(), name()).prop_map(|(stream, name)| Step::Leaves { stream, name }),
        1 => stream().prop_map(Step::Closes),
        3 => (name(), 0..3_u8).prop_map(|(name, version)| Step::Publishes { name, version }),
        2 => (name(), vec(0..3_usize, 0..3))
            .prop_map(|(name, objects)| Step::ComesFrom { name, objects }),
    ]
}

fn key(name: usize) -> Key {
    Key::new(Kind::Route, format!("service/shop/s{name}/80").as_str())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Pods `shop/0` and `shop/1` have two streams each.
    #[test]
    fn what_is_kept_up_is_what_would_be_counted_anew(steps in vec(step(), 0..40)) {
        let (mut world, mut tally) = (World::default(), Tally::default());
        let pod = |stream: u64| format!("shop/{}", stream % 2);
        for step in steps {
            match step {
                Step::Answers { stream, name, sent, accepted, rejects } => {
                    let (sent, accepted) = (sent.to_string(), accepted.to_string());
                    let status = status(&sent, &accepted, rejects.then_some("no"));
                    world.streams.entry(stream).or_default().insert(key(name), status.clone());
                    let names = vec![(Kind::Route, key(name).name.to_string(), Some(status))];
                    tally.heard(stream, news(&pod(stream), names), &world);
                }
                Step::Leaves { stream, name } => {
                    if let Some(names) = world.streams.get_mut(&stream) {
                        names.remove(&key(name));
                        let names = vec![(Kind::Route, key(name).name.to_string(), None)];
                        tally.heard(stream, news(&pod(stream), names), &world);
                    }
                }
                Step::Closes(stream) => {
                    world.streams.remove(&stream);
                    tally.heard(stream, StreamNews::Closed, &world);
                }
                Step::Publishes { name, version } => {
                    let version = Version::new(version.to_string());
                    world.latest.insert((key(name), "shop".to_owned()), version);
                    tally.republished(&key(name), &world);
                }
                Step::ComesFrom { name, objects } => {
                    let object = |n: usize| object(ObjectKind::HttpRoute, "shop", &n.to_string());
                    let all = objects.into_iter().map(object).collect();
                    let from = Contributors { all, ..Contributors::default() };
                    world.contributions.set(&key(name), [(None, from)]);
                    tally.republished(&key(name), &world);
                }
            }
        }
        let mut anew = Tally::default();
        for (stream, names) in &world.streams {
            let names = names.iter().map(|(key, status)| {
                (Kind::Route, key.name.to_string(), Some(status.clone()))
            });
            anew.heard(*stream, news(&pod(*stream), names.collect()), &world);
        }
        prop_assert_eq!(shown(&tally), shown(&anew));
        prop_assert_eq!(&tally.rejected, &anew.rejected);
    }
}
