use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::task::yield_now;
use tulle_xds::{cache::Cache, server::AdsService};

use super::*;
use crate::{
    authorize::Pods,
    problem::{Effect, Problem},
    release::Webhook,
    replicas::Tellings,
    status,
    telemetry::Hub,
};

fn surveyor(roster: &Roster) -> Surveyor {
    let pods = Pods { roster: roster.clone(), trust_domain: "cluster.local".to_owned() };
    Surveyor {
        ads: AdsService::new(Cache::new().0, Arc::new(pods)),
        roster: roster.clone(),
        hub: Hub::default(),
        told: watch::channel(Arc::default()).1,
    }
}

fn look() -> Call {
    Call::Look { namespace: String::new(), name: String::new() }
}

/// What it shows, once it shows something.
async fn shown(releases: &Releases) -> ReleasesView {
    loop {
        match releases.ask(look()).await {
            Err(Unfulfilled::NoLeader(_)) => clock::sleep(SECOND / 10).await,
            answer => return answer.unwrap(),
        }
    }
}

/// Writes nothing down, and says so.
struct Refuses(Mutex<u32>);

#[tonic::async_trait]
impl Keep for Refuses {
    async fn keep(&self, _: &Name, _: &Kept) -> Result<(), NotKept> {
        *self.0.lock() += 1;
        Err(NotKept::Failed("no".to_owned()))
    }
}

/// A world that holds the mesh's release alone.
fn sources(mesh: &Mesh, keep: Arc<Refuses>) -> Sources {
    let (world, mut questions) = mpsc::channel::<Question>(4);
    let release = Arc::new(mesh.release.clone());
    tokio::spawn(async move {
        let mut there = crate::world::World::default();
        there.apply(Event::Apply(Object::Release(release)), &mut Default::default());
        while let Some(question) = questions.recv().await {
            question(&there);
        }
    });
    let asker = Asker::new(None, Vec::new(), None);
    let problem = Problem {
        file: PathBuf::new(),
        line: None,
        document: None,
        object: "Release shop/cart".to_owned(),
        field: "spec.steps[1].weight".to_owned(),
        reason: "too small".to_owned(),
        effect: Effect::Rejected,
        about: Some(mesh.release.reference()),
    };
    let report = Report { problems: vec![problem], ..Report::default() };
    Sources {
        world,
        report: watch::channel(report).1,
        surveyor: surveyor(&mesh.roster),
        replica: None,
        keep,
        asker,
        gauges: Gauges::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_says_so_and_what_is_not_written_is_not_done() {
    let mut mesh = Mesh::new(false);
    let mut course = Course::default();
    course.template("old", 0);
    course.template("new", 1);
    mesh.release.course = Some(Arc::new(course));
    let keep = Arc::new(Refuses(Mutex::new(0)));
    let sources = sources(&mesh, Arc::<Refuses>::clone(&keep));
    let ((releases, wishes), (lead, leads)) = (Releases::new(), watch::channel(false));
    tokio::spawn(Steer::new(sources, wishes, leads).run());
    assert!(matches!(releases.ask(look()).await, Err(Unfulfilled::NoLeader(_))));
    lead.send_replace(true);
    let wish = |name: &str, verb| Wish {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        revision: String::new(),
        who: "alice".to_owned(),
        verb,
    };
    let pause = || Call::Do(wish("cart", crate::release::Verb::Pause));
    assert!(matches!(releases.ask(pause()).await, Err(Unfulfilled::NotKept(_))));
    let view = shown(&releases).await;
    assert_eq!(view.items[0].phase, Phase::Waiting, "it is not paused");
    let wrong = "Release shop/cart: spec.steps[1].weight: too small";
    assert_eq!(view.items[0].problems, [wrong], "its last edit is not in force");
    let unknown = Call::Do(wish("nobody", crate::release::Verb::Pause));
    assert!(matches!(releases.ask(unknown).await, Err(Unfulfilled::Unknown(_))));
    let start = Call::Do(wish("cart", crate::release::Verb::Start));
    assert!(matches!(releases.ask(start).await, Err(Unfulfilled::Refused(_))));
    assert!(*keep.0.lock() >= 1);
}

#[tokio::test]
async fn what_was_answered_while_another_one_led_is_no_answer() {
    let mut mesh = Mesh::new(false);
    mesh.release.plan.gates.webhooks = vec![Webhook {
        name: "gate".to_owned(),
        url: "http://gate".to_owned(),
        every: Duration::from_secs(1),
        failures: 1,
    }];
    let course = Course { phase: Phase::Progressing, step: Some(1), ..Course::default() };
    let (_, wishes) = Releases::new();
    let leads = watch::channel(true).1;
    let sources = sources(&mesh, Arc::new(Refuses(Mutex::new(0))));
    let mut steer = Steer::new(sources, wishes, leads);
    // Nobody is allowed to be asked: that is answered at once.
    let mut asked = async |now, rests: bool| {
        let asker = &mut steer.sources.asker;
        asker.follow([(&mesh.release, &course)], now);
        for _ in 0..100 {
            yield_now().await;
        }
        if rests {
            steer.rest();
        }
        steer.sources.asker.answers(&mesh.release.name).len()
    };
    assert_eq!((asked(1000, false).await, asked(1001, true).await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_until_it_is_in_force_does_not_wait_for_the_next_second() {
    let mesh = Mesh::new(false);
    let (telling, told) = watch::channel(Arc::<Tellings>::default());
    let mut sources = sources(&mesh, Arc::new(Refuses(Mutex::new(0))));
    sources.surveyor.told = told;
    let (releases, wishes) = Releases::new();
    tokio::spawn(Steer::new(sources, wishes, watch::channel(true).1).run());
    let on = async || {
        let view = shown(&releases).await;
        view.items.first().map(|release| (release.on, release.of))
    };
    for on_so_far in 0..=2 {
        let force = status::Force { on: on_so_far, of: 2, ..status::Force::default() };
        let said = status::Told { force, ..status::Told::default() };
        telling.send_replace(Arc::new([(mesh.release.reference(), said)].into()));
        assert_eq!(on().await, Some((on_so_far, 2)));
    }
}

/// Who follows a release asks whoever leads now: that there is none would end what waits for it.
#[tokio::test(start_paused = true)]
async fn who_has_led_for_a_moment_does_not_show_that_there_is_nothing() {
    let sources = sources(&Mesh::new(false), Arc::new(Refuses(Mutex::new(0))));
    let (releases, wishes) = Releases::new();
    let (lead, leads) = watch::channel(false);
    tokio::spawn(Steer::new(sources, wishes, leads).run());
    assert!(matches!(releases.ask(look()).await, Err(Unfulfilled::NoLeader(_))));
    lead.send_replace(true);
    assert_eq!(shown(&releases).await.items.len(), 1);
}
