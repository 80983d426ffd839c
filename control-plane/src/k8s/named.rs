//! Follows a single object by its name: the rights to that are `get` and `watch` of that name.

use std::fmt::Debug;

use futures_util::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::timeout};

use super::{
    Pause,
    watch::{SILENCE, in_time},
};

/// Says how the object is now, and each time that it has changed; `None` if it is not there. For ever.
pub(super) async fn follow<T>(api: Api<T>, name: &'static str, now: watch::Sender<Option<T>>)
where
    T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut pause = Pause::default();
    loop {
        if let Err(error) = round(&api, name, &now, &mut pause).await {
            tracing::warn!(%error, "{name} is not followed; trying again");
        }
        pause.wait().await;
    }
}

async fn round<T>(
    api: &Api<T>,
    name: &str,
    now: &watch::Sender<Option<T>>,
    pause: &mut Pause,
) -> kube::Result<()>
where
    T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let there = in_time(api.get_opt(name)).await?;
    let version = there.as_ref().and_then(ResourceExt::resource_version);
    now.send_replace(there);
    pause.reset();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    // From version 0: what there is comes first.
    let watch = api.watch(&params, version.as_deref().unwrap_or("0"));
    let mut events = in_time(watch).await?.boxed();
    // After a long silence it is asked for anew.
    while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                now.send_replace(Some(object));
            }
            WatchEvent::Deleted(_) => drop(now.send_replace(None)),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}
