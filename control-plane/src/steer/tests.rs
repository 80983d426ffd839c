mod asked;
mod looks;
mod two;

use std::collections::BTreeSet;

use tulle_api::ReleasePhase as Phase;
use tulle_runtime::histogram::Histogram;

use super::*;
use crate::{
    release::{Course, Plan, Pods as Counted, Share, Step},
    roster::Roster,
    source::Batch,
    telemetry::{
        edge::Peer,
        versions::{Arm, Teller, Tolds, Version},
    },
    world::{
        Event,
        objects::{Object, Pod, Release},
        release::{Target as Released, Versions},
    },
};

/// In which second a release came to which phase and step.
type Came = (u64, Phase, Option<usize>);

/// What proxies do, second by second, and what they tell of it.
struct Mesh {
    roster: Roster,
    release: Release,
    /// Since the telling replica's program began.
    told: BTreeMap<(String, &'static str), Arm>,
    process: u64,
    /// Half of its requests.
    canary_fails: bool,
    /// So many of the canary's requests a second.
    canary: u64,
    silent: bool,
    /// One of both callers uses it no more, and reports now and then.
    idle: bool,
    done: u32,
}

fn pod(name: &str) -> Pod {
    Pod { labels: [].into(), ..Pod::plain(Name::new("shop", name), "default", name) }
}

impl Mesh {
    fn new(canary_fails: bool) -> Self {
        let roster = Roster::default();
        for name in ["web-1", "web-2"] {
            roster.set(&Name::new("shop", name), Some(&pod(name)), "");
        }
        let step = |percent, lasts| Step {
            weight: Share::percent(percent),
            lasts: Duration::from_secs(lasts),
            ..Step::default()
        };
        let mut plan = Plan { steps: vec![step(5, 10), step(50, 10)], ..Plan::default() };
        plan.gates.min_requests = 50;
        let release = Release {
            name: Name::new("shop", "cart"),
            uid: "u".to_owned(),
            created: String::new(),
            target: Released::Deployment("cart".to_owned()),
            services: Vec::new(),
            plan,
            course: None,
        };
        let told = BTreeMap::new();
        Self {
            roster,
            release,
            told,
            process: 1,
            canary_fails,
            canary: 100,
            silent: false,
            idle: false,
            done: 0,
        }
    }

    /// What is in the world while `template` is wanted.
    fn sight(&self, template: &str, now: u64) -> Sight {
        let course = self.release.course.as_deref();
        let replaced = course.is_some_and(|course| course.lifted) && self.done > 5;
        let pods = |wanted, serving| Counted { wanted, serving, ..Counted::default() };
        let (canary, stable) = match template {
            "old" => (pods(0, 0), pods(4, 4)),
            _ if replaced => (pods(4, 4), pods(4, 0)),
            _ => (pods(4, 4), pods(4, 4)),
        };
        let youngest = now.saturating_sub(600);
        let others = template != "old" && !replaced;
        Sight {
            release: Arc::new(self.release.clone()),
            versions: Versions { canary, stable, youngest, others, ..Versions::default() },
            template: Some(template.to_owned()),
            older: BTreeSet::new(),
            services: BTreeSet::new(),
            idle_because: None,
            problems: Vec::new(),
        }
    }

    /// A second of traffic: a tenth of a second each, and what is told of all that happened so far.
    fn answers(&mut self, weighs: bool) -> Answers {
        let mut add = |caller: &str, revision, all: u64, fails: bool| {
            let arm = self.told.entry((caller.to_owned(), revision)).or_default();
            let bad = if fails { all / 2 } else { 0 };
            let mut took = Histogram::default();
            (0..all).for_each(|_| took.observe(0.1));
            arm.merge(&Arm { all, bad, took });
        };
        for caller in ["web", "batch"] {
            add(caller, "old", 200, false);
            if weighs {
                add(caller, "new", self.canary, self.canary_fails);
            }
        }
        let text = str::to_owned;
        let arms = self.told.iter().map(|((caller, revision), arm)| {
            let version = Version {
                namespace: text("shop"),
                workload: text("cart"),
                revision: text(revision),
            };
            let teller = Teller { namespace: text("shop"), name: caller.clone(), inbound: false };
            (version, teller, arm.clone())
        });
        let there = if self.idle { &["web-1"][..] } else { &["web-1", "web-2"] };
        let fresh = there.iter().filter(|_| !self.silent).map(|pod| Name::new("shop", *pod));
        let peers = there.iter().map(|name| Peer { namespace: text("shop"), name: text(name) });
        let tolds = Tolds {
            process: self.process,
            arms: arms.collect(),
            callers: peers.collect(),
            fresh: fresh.collect(),
        };
        let target = (text("shop"), text("cart"));
        let told = vec![(Name::new("m", "a"), HashMap::from([(target, tolds)]))];
        Answers::new(told, BTreeSet::new())
    }
}

fn said<'a>(told: &'a Answers, mesh: &'a Mesh, force: Force) -> Said<'a> {
    Said { told, roster: &mesh.roster, asked: &[], force }
}

/// All proxies do what was written last.
fn in_force(course: Option<&Course>) -> Force {
    let edition = course.map(|course| crate::status::Edition {
        turn: course.turn,
        ..crate::status::Edition::default()
    });
    let force = crate::status::Force { on: 3, of: 3, ..crate::status::Force::default() };
    Force::of(&crate::status::Told { force, edition })
}

/// Where releases of a version come to that fails half of its requests or none, and when; the control plane is killed at these seconds.
fn steps(canary_fails: bool, killed: &[u64]) -> Vec<Came> {
    let mut mesh = Mesh::new(canary_fails);
    let (mut work, mut seen): (Option<Work>, Vec<Came>) = (None, Vec::new());
    for now in 1_000_u64..1_100 {
        let template = if now < 1_003 { "old" } else { "new" };
        if killed.contains(&now) {
            // Another process: what it was told before it began it does not know.
            work = None;
            mesh.told.clear();
            mesh.process += 1;
        }
        let before = mesh.release.course.clone();
        let weighs = before.as_ref().is_some_and(|course| course.weight > Share::NONE);
        mesh.done += u32::from(before.as_ref().is_some_and(|course| course.lifted));
        let answers = mesh.answers(weighs);
        let sight = mesh.sight(template, now);
        let one = work.get_or_insert_with(|| Work::new(&sight));
        one.adopt(&sight, now);
        one.second(&sight, said(&answers, &mesh, in_force(before.as_deref())), now);
        if one.is_due(&sight, now) {
            let kept = one.to_keep(&sight);
            assert_eq!(kept.over, before.as_ref().map_or(0, |course| course.written));
            // Read from what is written, as all replicas do.
            let course: Course = serde_json::from_str(&kept.status.memory).unwrap();
            one.kept(kept, now);
            let at = (now - 1_000, course.phase, course.step);
            if seen.last().is_none_or(|last| (last.1, last.2) != (at.1, at.2)) {
                seen.push(at);
            }
            mesh.release.course = Some(Arc::new(course));
        }
    }
    seen
}

fn without_times(steps: &[Came]) -> Vec<(Phase, Option<usize>)> {
    steps.iter().map(|(_, phase, step)| (*phase, *step)).collect()
}

#[test]
fn a_good_release_goes_through_and_a_bad_one_does_not() {
    let good = steps(false, &[]);
    let expected = [
        (Phase::Idle, None),
        (Phase::Progressing, Some(0)),
        (Phase::Progressing, Some(1)),
        (Phase::Promoting, Some(1)),
        (Phase::Promoted, None),
    ];
    let ways = without_times(&good);
    assert_eq!(ways.iter().filter(|(phase, _)| *phase != Phase::Waiting).count(), ways.len() - 1);
    let ways: Vec<_> = ways.into_iter().filter(|(phase, _)| *phase != Phase::Waiting).collect();
    assert_eq!(ways, expected, "{good:?}");
    let bad = steps(true, &[]);
    let (at, phase, _) = *bad.last().unwrap();
    assert_eq!(phase, Phase::Held, "{bad:?}");
    let (began, ..) = *bad.iter().find(|(_, phase, _)| *phase == Phase::Progressing).unwrap();
    assert!(at - began <= 5, "it took {} s: {bad:?}", at - began);
}

/// Killed in each second: what is decided is the same, and no step is left out or taken twice.
#[test]
fn whoever_goes_on_decides_the_same() {
    for fails in [false, true] {
        let expected = without_times(&steps(fails, &[]));
        for killed in 0..60 {
            let found = steps(fails, &[1_000 + killed]);
            assert_eq!(without_times(&found), expected, "killed in second {killed}: {found:?}");
        }
        let often: Vec<u64> = (1_000..1_060).step_by(7).collect();
        assert_eq!(without_times(&steps(fails, &often)), expected);
    }
}

#[test]
fn who_is_silent_holds_a_step() {
    let mut mesh = Mesh::new(false);
    let mut course = Course::default();
    course.template("old", 0);
    course.template("new", 1);
    mesh.release.course = Some(Arc::new(course));
    let mut observer = seen::Observer::default();
    let mut look = |mesh: &mut Mesh| {
        let answers = mesh.answers(true);
        let course = mesh.release.course.clone().unwrap();
        observer.look(&mesh.release, &course, (&answers, &mesh.roster), 0.99)
    };
    // What was told before somebody looked is of no second.
    let first = look(&mut mesh).seen.unwrap();
    assert!(first.values().all(|seen| seen.errors.is_empty()), "{first:?}");
    let second = look(&mut mesh);
    let callers: Vec<_> = second.seen.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(callers, ["shop/batch", "shop/web"]);
    let web = second.seen.as_ref().unwrap()["shop/web"];
    assert_eq!((web.errors.canary.all, web.errors.stable.all, web.slow.stable.all), (100, 200, 0));
    let edge = second.slow.unwrap();
    assert!((0.1..0.11).contains(&edge), "{edge}");
    mesh.silent = true;
    assert!(look(&mut mesh).seen.is_none());
    mesh.silent = false;
    assert!(look(&mut mesh).seen.is_some());
    // Who calls it no more is not waited for.
    mesh.idle = true;
    assert!(look(&mut mesh).seen.is_none());
    let looks = (0..100).take_while(|_| look(&mut mesh).seen.is_none()).count();
    assert!((30..80).contains(&looks), "{looks}");
    mesh.idle = false;
    // A pod that is gone need not tell anything.
    mesh.roster.set(&Name::new("shop", "web-2"), None, "");
    assert!(look(&mut mesh).seen.is_some());
}

#[test]
fn proxies_that_lag_are_waited_for_half_a_minute() {
    let mut mesh = Mesh::new(false);
    let (since, step) = (1_000, Some(0));
    let (stable, canary) = ("old".to_owned(), "new".to_owned());
    let course =
        Course { phase: Phase::Progressing, stable, canary, step, since, ..Course::default() };
    mesh.release.course = Some(Arc::new(course));
    let mut work = Work::new(&mesh.sight("new", since));
    let spent = (since..since + 40).map(|now| {
        let (answers, sight) = (mesh.answers(true), mesh.sight("new", now));
        let mut lags = in_force(sight.course());
        lags.on -= 1;
        work.second(&sight, said(&answers, &mesh, lags), now);
        work.course.spent
    });
    assert_eq!(spent.filter(|spent| *spent > 0).count(), 10);
}

/// Two that both think that they lead: what one has written the other does not write over.
#[test]
fn what_somebody_else_has_written_is_gone_on_from() {
    let mut mesh = Mesh::new(false);
    let sight = mesh.sight("old", 0);
    let (mut one, mut other) = (Work::new(&sight), Work::new(&sight));
    one.second(&sight, said(&Answers::default(), &mesh, Force::default()), 1);
    let kept = one.to_keep(&sight);
    assert_eq!((kept.over, kept.course.written), (0, 1));
    one.kept(kept.clone(), 1);
    mesh.release.course = Some(kept.course);
    let sight = mesh.sight("new", 2);
    other.adopt(&sight, 2);
    other.second(&sight, said(&Answers::default(), &mesh, Force::default()), 2);
    assert_eq!(other.course.phase, Phase::Waiting);
    let kept = other.to_keep(&sight);
    assert_eq!((kept.over, kept.course.written), (1, 2));
    mesh.release.course = Some(kept.course);
    one.adopt(&mesh.sight("new", 3), 3);
    assert_eq!(one.course.phase, Phase::Waiting);
    // Of an object that was made anew nothing is gone on with.
    mesh.release.uid = "another".to_owned();
    assert!(!one.is_of(&mesh.sight("new", 3)));
}

fn batch(release: &Release) -> Batch {
    let events = vec![Event::Apply(Object::Release(Arc::new(release.clone())))];
    Batch { events, ..Batch::default() }
}

fn course_in(batch: &Batch) -> Option<Arc<Course>> {
    match &batch.events[0] {
        Event::Apply(Object::Release(release)) => release.course.clone(),
        _ => None,
    }
}

#[tokio::test]
async fn a_drawer_remembers() {
    let directory = tempfile::tempdir().unwrap();
    let mesh = Mesh::new(false);
    let name = mesh.release.name.clone();
    let open = || {
        let (drawer, memory) = Memory::new(Some(directory.path().to_owned()));
        let ((files, said), (batches, told)) = (mpsc::channel(4), mpsc::channel(4));
        tokio::spawn(memory.run(said, batches));
        (drawer, files, told)
    };
    let (drawer, files, mut told) = open();
    files.send(batch(&mesh.release)).await.unwrap();
    assert_eq!(course_in(&told.recv().await.unwrap()), None);
    let mut work = Work::new(&mesh.sight("old", 0));
    work.second(&mesh.sight("old", 0), said(&Answers::default(), &mesh, Force::default()), 1);
    let kept = work.to_keep(&mesh.sight("old", 0));
    drawer.keep(&name, &kept).await.unwrap();
    assert_eq!(course_in(&told.recv().await.unwrap()).unwrap().stable, "old");
    // Over what has been written since nothing is written.
    assert_eq!(drawer.keep(&name, &kept).await, Err(NotKept::Changed));
    let nobody = Name::new("shop", "nobody");
    assert_eq!(drawer.keep(&nobody, &kept).await, Err(NotKept::Changed));
    // An edit of the file changes nothing of where it is; nor does another process.
    files.send(batch(&mesh.release)).await.unwrap();
    assert!(course_in(&told.recv().await.unwrap()).is_some());
    let (drawer, files, mut told) = open();
    files.send(batch(&mesh.release)).await.unwrap();
    assert_eq!(course_in(&told.recv().await.unwrap()).unwrap().written, 1);
    // Whoever takes the file away begins anew.
    let reference = mesh.release.reference();
    let gone = Batch { events: vec![Event::Delete(reference)], ..Batch::default() };
    files.send(gone).await.unwrap();
    told.recv().await.unwrap();
    files.send(batch(&mesh.release)).await.unwrap();
    assert_eq!(course_in(&told.recv().await.unwrap()), None);
    drop(drawer);
}
