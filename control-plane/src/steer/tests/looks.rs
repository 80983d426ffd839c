use super::*;

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
