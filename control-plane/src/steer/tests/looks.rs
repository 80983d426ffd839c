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
        let view = releases.ask(look()).await.unwrap();
        view.items.first().map(|release| (release.on, release.of))
    };
    // The first second is looked at at once.
    while on().await.is_none() {
        yield_now().await;
    }
    for on_so_far in 0..=2 {
        let force = status::Force { on: on_so_far, of: 2, ..status::Force::default() };
        let said = status::Told { force, ..status::Told::default() };
        telling.send_replace(Arc::new([(mesh.release.reference(), said)].into()));
        assert_eq!(on().await, Some((on_so_far, 2)));
    }
}
