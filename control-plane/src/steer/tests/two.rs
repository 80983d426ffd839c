//! Two workloads that the user runs side by side.

use super::*;

fn workload(name: &str) -> (String, String) {
    ("Deployment".to_owned(), name.to_owned())
}

/// A release of these two, of which that which is wanted comes to this course in some seconds.
fn comes_to(before: Option<Course>, (stable, canary): (&str, &str), wanted: &str) -> Course {
    let mut mesh = Mesh::new(false);
    mesh.release.target = Released::Two { stable: workload(stable), canary: workload(canary) };
    mesh.release.course = before.map(Arc::new);
    let mut work = None;
    for now in 10_000..10_003 {
        let answers = mesh.answers(false);
        let older = [canary.to_owned()].into();
        let sight = Sight { older, ..mesh.sight(wanted, now) };
        let work: &mut Work = work.get_or_insert_with(|| Work::new(&sight));
        let force = in_force(mesh.release.course.as_deref());
        work.second(&sight, said(&answers, &mesh, force), now);
        if work.is_due(&sight, now) {
            let kept = work.to_keep(&sight);
            mesh.release.course = Some(Arc::clone(&kept.course));
            work.kept(kept, now);
        }
    }
    Course::clone(mesh.release.course.as_deref().unwrap())
}

#[test]
fn each_takes_over_by_steps_also_if_it_was_stable_once() {
    let course = comes_to(None, ("blue", "green"), "blue");
    assert_eq!((course.phase, &*course.stable, &*course.canary), (Phase::Idle, "blue", ""));
    let course = comes_to(Some(course), ("blue", "green"), "green");
    assert_eq!(
        (course.phase, &*course.stable, &*course.canary),
        (Phase::Progressing, "blue", "green")
    );
    let promoted = Course {
        phase: Phase::Promoted,
        stable: "green".to_owned(),
        trusted: ["blue".to_owned()].into(),
        ..Course::default()
    };
    let course = comes_to(Some(promoted), ("green", "blue"), "blue");
    assert_eq!(
        (course.phase, &*course.stable, &*course.canary),
        (Phase::Progressing, "green", "blue")
    );
}

#[test]
fn of_another_two_what_the_user_calls_stable_is() {
    let promoted =
        Course { phase: Phase::Promoted, stable: "green".to_owned(), ..Course::default() };
    let course = comes_to(Some(promoted), ("red", "white"), "white");
    assert_eq!(
        (course.phase, &*course.stable, &*course.canary),
        (Phase::Progressing, "red", "white")
    );
}
