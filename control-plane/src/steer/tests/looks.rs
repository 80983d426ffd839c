use super::*;
use crate::{replicas::Tellings, status};

#[tokio::test]
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

/// How far it is may stay as it is while what it waits for changes: who reads the object alone learns that, too.
#[test]
fn what_the_object_says_is_what_everybody_sees() {
    let mut mesh = Mesh::new(false);
    let (phase, step) = (Phase::Progressing, Some(0));
    let (stable, canary) = ("old".to_owned(), "new".to_owned());
    let course = Course { phase, stable, canary, step, spent: 1, written: 1, ..Course::default() };
    mesh.release.course = Some(Arc::new(course));
    let mut work = Work::new(&mesh.sight("new", 100));
    let mut written = Vec::new();
    for now in 100..120 {
        let mut sight = mesh.sight("new", now);
        if now >= 110 {
            sight.versions.canary.serving = 0;
        }
        if work.is_due(&sight, now) {
            let kept = work.to_keep(&sight);
            assert_eq!(kept.status.reason, work.view(&sight).reason);
            written.push((now, kept.status.reason.clone()));
            mesh.release.course = Some(Arc::clone(&kept.course));
            work.kept(kept, now);
        }
    }
    let [(100, first), (110, second)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(first, "1 of 10 s of the step");
    assert_eq!(second, "no pod of new serves: the step does not go on");
}

/// Its Deployment was scaled to nothing and back, or made anew: nobody else would serve.
#[test]
fn what_is_held_and_left_alone_takes_over() {
    let (phase, stable, canary) = (Phase::Held, "old".to_owned(), "new".to_owned());
    // It failed in the middle of its promotion.
    let (failed, lifted) = (canary.clone(), true);
    let held = Course { phase, stable, canary, failed, lifted, ..Course::default() };
    for (others, let_in, expected) in
        [(true, 0, Phase::Held), (false, 2, Phase::Held), (false, 0, Phase::Promoted)]
    {
        let mut mesh = Mesh::new(false);
        mesh.release.course = Some(Arc::new(held.clone()));
        let mut sight = mesh.sight("new", 100);
        (sight.versions.others, sight.versions.canary.let_in) = (others, let_in);
        let mut work = Work::new(&sight);
        let answers = mesh.answers(false);
        work.second(&sight, said(&answers, &mesh, Force::default()), 100);
        assert_eq!(work.course.phase, expected, "others: {others}, let in: {let_in}");
        let why = work.course.history.front().map_or("", |entry| &entry.why);
        assert_eq!(why.is_empty(), expected == Phase::Held, "{why}");
    }
}
