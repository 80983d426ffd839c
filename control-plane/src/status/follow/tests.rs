use tulle_xds::{
    cache::View,
    model::{Here, SpiffeId},
    server::{Caller, StreamNews},
};

use super::*;
use crate::{
    authorize::Pods,
    roster::Roster,
    world::objects::{Kind as ObjectKind, Name},
};

const ROUTE: &str = "service/shop/reviews/9080";

/// One resource, what it comes from, and its latest version.
struct Published {
    from: ObjectRef,
    latest: &'static str,
}

impl Facts for Published {
    fn contributors(&self, _: &Key, _: &str) -> Option<Arc<Contributors>> {
        let all = [self.from.clone()].into();
        Some(Arc::new(Contributors { all, rules: Vec::new(), needs: Vec::new() }))
    }

    fn latest(&self, _: &Key, _: &View) -> Option<Version> {
        Some(Version::new(self.latest))
    }

    fn standing(&self, _: u64, _: &Key) -> Option<NameStatus> {
        None
    }
}

fn follower() -> Follower {
    let cache = Cache::new().0;
    let pods = Pods { roster: Roster::default(), trust_domain: "cluster.local".to_owned() };
    let sources = Sources {
        contributions: Contributions::default(),
        cache: cache.clone(),
        ads: AdsService::new(cache, Arc::new(pods)),
        metrics: Arc::default(),
        others: Others::default(),
    };
    Follower::new(sources, Instant::now())
}

/// Two proxies have `split()`, and an edit of it is on its way to them.
fn edited() -> Follower {
    let (mut follower, split) = (follower(), split());
    follower.taken(&split, "2", "2");
    follower.settle(Instant::now());
    assert_eq!(follower.says(&split, ("a", 1)), (2, 2, 1));
    follower.changed(Instant::now());
    follower.taken(&split, "2", "3");
    follower
}

impl Follower {
    /// Two proxies have taken a version of what comes from an object.
    fn taken(&mut self, from: &ObjectRef, taken: &str, latest: &'static str) {
        let published = Published { from: from.clone(), latest };
        for stream in [1, 2] {
            let version = Some(Version::new(taken));
            let status = NameStatus {
                name: ROUTE.to_owned(),
                sent: version.clone(),
                accepted: version,
                rejected: None,
            };
            let caller = Caller {
                pod: format!("shop/web-{stream}"),
                namespace: "shop".to_owned(),
                identity: SpiffeId::service_account("cluster.local", "shop", "web"),
                here: Here::default(),
            };
            let names = vec![(Kind::Route, ROUTE.to_owned(), Some(status))];
            let news = StreamNews::Changed { caller, dialect: Dialect::Tulle, names };
            self.tally.heard(stream, news, &published);
        }
        self.untold.append(&mut self.tally.take_changed());
    }

    /// What is said of an object that is this now: on how many of how many proxies, and of which generation.
    fn says(&mut self, object: &ObjectRef, (uid, generation): (&str, i64)) -> (usize, usize, i64) {
        let edition = Some(Edition { uid: uid.to_owned(), generation, turn: 0 });
        let standing = Standing { edition, ..Standing::default() };
        self.say(&[(object.clone(), Arc::new(standing))].into());
        let Told { force, edition } = &self.told[object];
        (force.on, force.of, edition.as_ref().unwrap().generation)
    }
}

fn split() -> ObjectRef {
    ObjectRef { kind: ObjectKind::HttpRoute, name: Name::new("shop", "split") }
}

#[tokio::test]
async fn of_a_new_object_it_is_said_at_once_how_far_it_is() {
    let (mut follower, split) = (follower(), split());
    follower.taken(&split, "1", "2");
    assert_eq!(follower.says(&split, ("a", 1)), (0, 2, 1));
    // Another report, before its change has come through.
    assert_eq!(follower.says(&split, ("a", 1)), (0, 2, 1));
    follower.taken(&split, "2", "2");
    follower.settle(Instant::now());
    assert_eq!(follower.says(&split, ("a", 1)), (2, 2, 1));
    // Nobody uses it.
    let other = ObjectRef { name: Name::new("shop", "other"), ..split };
    assert_eq!(follower.says(&other, ("b", 1)), (0, 0, 1));
}

#[tokio::test]
async fn an_edit_that_is_on_its_way_leaves_what_was_said_of_the_edition_before() {
    let (mut follower, split) = (edited(), split());
    assert_eq!(follower.says(&split, ("a", 2)), (2, 2, 1));
    follower.settle(Instant::now());
    assert_eq!(follower.says(&split, ("a", 2)), (2, 2, 1));
    follower.taken(&split, "3", "3");
    follower.settle(Instant::now());
    assert_eq!(follower.says(&split, ("a", 2)), (2, 2, 2));
}

#[tokio::test]
async fn what_takes_the_place_of_a_deleted_object_is_new() {
    let (mut follower, split) = (edited(), split());
    // Its generation is that of the one before.
    assert_eq!(follower.says(&split, ("b", 1)), (0, 2, 1));
    // The same, where its end was seen.
    follower.say(&BTreeMap::new());
    assert_eq!(follower.says(&split, ("c", 1)), (0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn until_sidecars_are_back_nobody_knows_what_they_have() {
    let mut follower = follower();
    let start = |follower: &mut Follower| follower.gathers = Some(Instant::now() + COME_BACK);
    // A mesh without sidecars, or one whose sidecars are all there.
    start(&mut follower);
    assert!(!follower.gathers(0, Instant::now()));
    assert!(!follower.gathers(2, Instant::now()), "one that comes later is new");
    // Two are missing; that they never come holds nothing up for ever.
    start(&mut follower);
    assert!(follower.gathers(2, Instant::now()));
    assert!(follower.gathers(2, Instant::now() + COME_BACK - FIRST));
    assert!(!follower.gathers(2, Instant::now() + COME_BACK));
}
