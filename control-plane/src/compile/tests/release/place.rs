//! Pods that were let in, that nothing holds, or that are of two releases.

use super::*;

#[test]
fn a_canary_without_sidecar_is_divided_from_nobody() {
    let mut world = shop(course(Phase::Progressing, 5), "http");
    assert_eq!(shares(&world).len(), 2);
    let bare = Pod { meshed: false, ..versioned("new-5", "new", 5) };
    world.apply(Event::Apply(Object::Pod(Arc::new(bare))), &mut Dirty::new());
    assert_eq!(shares(&world), [("service/shop/web/80".to_owned(), 1)]);
}

/// Of the new template, and ready: it was let in.
fn let_in(world: &mut World) {
    let mut pod = versioned("new-5", "new", 5);
    pod.life.ready = true;
    let mut slice = slice("web-2", "web", &pod);
    slice.ports[0].name = "http".to_owned();
    for object in [Object::Pod(Arc::new(pod)), Object::EndpointSlice(Arc::new(slice))] {
        world.apply(Event::Apply(object), &mut Dirty::new());
    }
}

#[test]
fn who_was_let_in_stays_in_and_nobody_else_gets_in() {
    for (phase, held) in [
        (Phase::Waiting, true),
        (Phase::Progressing, true),
        (Phase::Paused, true),
        (Phase::Held, true),
        (Phase::Promoting, false),
    ] {
        let mut world = shop(Course { lifted: true, ..course(phase, 5) }, "http");
        assert_eq!(!hold(&world, "shop/new-5").is_empty(), held, "{phase:?}");
        let_in(&mut world);
        assert_eq!(hold(&world, "shop/new-5"), "", "{phase:?}");
    }
}

#[test]
fn what_nobody_wants_any_more_serves_where_the_others_are_too_few_if_it_was_let_in() {
    // Another template came while `new` took over.
    let newest = Course { canary: "newest".to_owned(), ..course(Phase::Waiting, 0) };
    let mut world = shop(newest, "http");
    assert!(!hold(&world, "shop/new-5").is_empty());
    let_in(&mut world);
    assert_eq!(hold(&world, "shop/new-5"), "");
    let old = ["shop/old-1", "shop/old-2", "shop/old-3", "shop/old-4"];
    let serving = |world: &World| ready(world, STABLE).unwrap();
    assert_eq!(serving(&world), old, "they carry all");
    // The controller has taken one away.
    let gone = ObjectRef { kind: objects::Kind::Pod, name: Name::new("shop", "old-4") };
    let mut dirty = Dirty::new();
    world.apply(Event::Delete(gone), &mut dirty);
    assert!(dirty.contains(&Subject::Service(Name::new("shop", "web"))));
    assert_eq!(serving(&world), ["shop/old-1", "shop/old-2", "shop/old-3", "shop/new-5"]);
    let versions = world.versions(world.release(&Name::new("shop", "web")).unwrap());
    assert_eq!((versions.stable.serving, versions.stable.wanted, versions.helped), (4, 4, true));
}

#[test]
fn as_long_as_a_version_has_no_pods_the_others_serve_in_its_place() {
    let newest = |phase| Course { canary: "newest".to_owned(), ..course(phase, 0) };
    let old = ["shop/old-1", "shop/old-2", "shop/old-3", "shop/old-4"];
    assert_eq!(ready(&shop(newest(Phase::Waiting), "http"), CANARY).unwrap(), old);
    let none: [&str; 0] = [];
    assert_eq!(ready(&shop(newest(Phase::Held), "http"), CANARY).unwrap(), none);
}

#[test]
fn of_two_releases_of_a_workload_the_older_one_counts() {
    let mut world = shop(course(Phase::Progressing, 5), "http");
    let other = Release {
        name: Name::new("shop", "another"),
        created: "2026-01-01T00:00:00Z".to_owned(),
        course: Some(Arc::new(course(Phase::Progressing, 50))),
        ..release(Course::default())
    };
    let other = Arc::new(Release { uid: "v".to_owned(), ..other });
    let own = Release {
        created: "2025-01-01T00:00:00Z".to_owned(),
        ..release(course(Phase::Progressing, 5))
    };
    let before = shares(&world);
    for release in [Arc::new(own), Arc::clone(&other)] {
        world.apply(Event::Apply(Object::Release(release)), &mut Dirty::new());
    }
    assert_eq!(shares(&world), before);
    let (kind, holds, reason, said) = {
        let own = standing(&world, &other.reference()).unwrap().own.into_iter();
        own.map(|(kind, told)| (kind, told.holds, told.reason, told.message)).next().unwrap()
    };
    assert_eq!((kind, holds, reason), ("Accepted", false, "Conflicted"));
    assert!(said.starts_with("Release shop/web is older"), "{said}");
    // It goes: the other one takes its place.
    let gone = ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") };
    world.apply(Event::Delete(gone), &mut Dirty::new());
    assert_ne!(shares(&world), before);
}
