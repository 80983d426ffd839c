//! The record of the mesh's roots, in our own namespace's ConfigMap `tulle-roots`: which are trusted until when, and which one
//! signs. The holder of the Lease writes it, by what the Secret holds and the time; all replicas follow it.
//!
//! No key is ever in it. Whoever deletes it ends the trust in whatever the Secret does not hold, at once.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use time::OffsetDateTime;
use tokio::{sync::watch, time::sleep};

use super::{
    MANAGER, Pause,
    authority::{SECRET, material},
    named,
    roots::{KEY, NAME},
};
use crate::ca::{
    overlap::{Record, Terms},
    root::{Material, Root},
    roots::Roots,
};

/// Beside the roots themselves, which are as in every other namespace.
const RECORD: &str = "roots.json";

/// How often the time is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The record as it is now; none where there is none yet, or it cannot be read, which is said.
pub(super) async fn read(client: &Client, namespace: &str) -> kube::Result<Record> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_opt(NAME).await?.as_ref().and_then(record).unwrap_or_default())
}

/// Follows Secret and record, for ever.
pub(super) async fn follow(
    (client, watching): (Client, Client),
    namespace: String,
    (roots, terms): (Roots, Terms),
    leads: watch::Receiver<bool>,
) {
    let secrets: Api<Secret> = Api::namespaced(watching.clone(), &namespace);
    let followed: Api<ConfigMap> = Api::namespaced(watching, &namespace);
    let (secret, seen_secret) = watch::channel(None);
    let (map, seen_map) = watch::channel(None);
    let keeper = Keeper {
        maps: Api::namespaced(client, &namespace),
        roots,
        terms,
        material: None,
        wanted: None,
        map: None,
        record: Record::default(),
    };
    tokio::join!(
        named::follow(secrets, SECRET, secret),
        named::follow(followed, NAME, map),
        keeper.run(seen_secret, seen_map, leads),
    );
}

struct Keeper {
    maps: Api<ConfigMap>,
    roots: Roots,
    terms: Terms,
    /// What the Secret holds, and what that makes.
    material: Option<Material>,
    wanted: Option<Root>,
    map: Option<ConfigMap>,
    /// The last one that could be read.
    record: Record,
}

impl Keeper {
    async fn run(
        mut self,
        mut secret: watch::Receiver<Option<Secret>>,
        mut map: watch::Receiver<Option<ConfigMap>>,
        mut leads: watch::Receiver<bool>,
    ) {
        // Both must be known first: a root without the record of those before it would be trusted alone.
        if secret.changed().await.is_err() || map.changed().await.is_err() {
            return;
        }
        secret.mark_changed();
        map.mark_changed();
        let mut pause = Pause::default();
        loop {
            if secret.has_changed().unwrap_or_default() {
                let secret = secret.borrow_and_update().clone();
                self.take_secret(secret);
            }
            if map.has_changed().unwrap_or_default() {
                let map = map.borrow_and_update().clone();
                self.take_map(map);
            }
            self.put_in_force();
            let leading = *leads.borrow();
            let failed = leading && !self.write().await;
            if !failed {
                pause.reset();
            }
            tokio::select! {
                changed = secret.changed() => if changed.is_err() { return } else { secret.mark_changed() },
                changed = map.changed() => if changed.is_err() { return } else { map.mark_changed() },
                // Once the election has ended nobody leads here any more.
                Ok(()) = leads.changed() => {}
                () = pause.wait(), if failed => {}
                () = sleep(LOOK), if leading && !failed => {}
            }
        }
    }

    /// What makes no root changes nothing.
    fn take_secret(&mut self, secret: Option<Secret>) {
        let Some(secret) = secret else {
            tracing::error!(
                "Secret {SECRET} was deleted: the root stays in force until the last replica ends, and is lost then"
            );
            return;
        };
        let read = material(secret).and_then(|material| {
            if self.material.as_ref() != Some(&material) {
                self.wanted = Some(Root::from_pem(&material, self.roots.current().trust_domain())?);
                self.material = Some(material);
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::error!(%error, "the last root stays in force");
        }
    }

    fn take_map(&mut self, map: Option<ConfigMap>) {
        match &map {
            Some(map) => self.record = record(map).unwrap_or_else(|| self.record.clone()),
            None => self.record = Record::default(),
        }
        self.map = map;
    }

    fn put_in_force(&self) {
        if let Some(wanted) = &self.wanted {
            let last = self.roots.current();
            self.roots.replace(self.record.in_force(&last, wanted, OffsetDateTime::now_utc()));
        }
    }

    /// Writes what the time and the Secret make of the record, if that is another one; whether it is written.
    async fn write(&mut self) -> bool {
        let Some(wanted) = &self.wanted else {
            return true;
        };
        let next = self.record.next(wanted, OffsetDateTime::now_utc(), self.terms);
        let data = data(&next);
        if self.map.as_ref().and_then(|map| map.data.as_ref()) == Some(&data) {
            return true;
        }
        let version = self.map.as_ref().and_then(|map| map.metadata.resource_version.clone());
        let labels = [("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())];
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(BTreeMap::from(labels)),
                // Refused if another replica was faster.
                resource_version: version,
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(MANAGER).force();
        match self.maps.patch(NAME, &params, &Patch::Apply(&map)).await {
            Ok(map) => {
                tracing::info!(roots = %next, "the record of roots has changed");
                self.map = Some(map);
                self.record = next;
                self.put_in_force();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "ConfigMap {NAME} with the record of roots cannot be written; a new root waits for it");
                false
            }
        }
    }
}

/// `None` if it has a record that cannot be read.
fn record(map: &ConfigMap) -> Option<Record> {
    let Some(text) = map.data.as_ref().and_then(|data| data.get(RECORD)) else {
        return Some(Record::default());
    };
    let read = Record::read(text).inspect_err(|reason| {
        tracing::error!(
            reason,
            "ConfigMap {NAME}: {RECORD} cannot be read; what was in force before stays"
        );
    });
    read.ok()
}

fn data(record: &Record) -> BTreeMap<String, String> {
    BTreeMap::from([
        (KEY.to_owned(), record.trusted_pem()),
        (RECORD.to_owned(), record.text() + "\n"),
    ])
}
