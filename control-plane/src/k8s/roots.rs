//! Writes the ConfigMap `tulle-roots` into each namespace whose pods need it: the roots by which they know the control plane.
//! Our own namespace's is another matter: `overlap`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::{
    sync::watch,
    time::{Instant, interval_at},
};

use super::{MANAGER, Pause, not_found};
use crate::{ca::root::Root, output::Report};

pub(super) const NAME: &str = "tulle-roots";
pub(super) const KEY: &str = "roots.pem";

/// Nobody watches all ConfigMaps of the cluster for this: what was deleted or changed by others is put right by then.
const AGAIN: Duration = Duration::from_secs(60);

/// Writes what differs from what was written last, while `leads`, until the sender is gone.
pub(super) async fn write(
    (client, own): (Client, String),
    mut reports: watch::Receiver<Report>,
    mut root: watch::Receiver<Arc<Root>>,
    mut leads: watch::Receiver<bool>,
) {
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    let mut pause = Pause::default();
    let mut again = interval_at(Instant::now() + AGAIN, AGAIN);
    while reports.wait_for(|report| report.complete).await.is_ok() {
        if leads.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        let mut namespaces = reports.borrow_and_update().namespaces.clone();
        namespaces.remove(&own);
        let pem = root.borrow_and_update().trusted_pem();
        written.retain(|namespace, _| namespaces.contains(namespace));
        let mut failed = false;
        for namespace in namespaces {
            if written.get(&namespace) == Some(&pem) {
                continue;
            }
            match apply(&client, &namespace, &pem).await {
                Ok(_) => drop(written.insert(namespace, pem.clone())),
                // The namespace is on its way out.
                Err(error) if not_found(&error) => {}
                Err(kube::Error::Api(status)) if status.code == 403 && is_ending(&status) => {}
                Err(error) => {
                    tracing::warn!(namespace, %error, "ConfigMap {NAME} cannot be written; its pods wait for it");
                    failed = true;
                }
            }
        }
        if !failed {
            pause.reset();
        }
        tokio::select! {
            changed = reports.changed() => if changed.is_err() { return },
            changed = root.changed() => if changed.is_err() { return },
            () = pause.wait(), if failed => {}
            _at = again.tick() => written.clear(),
        }
    }
}

async fn apply(client: &Client, namespace: &str, pem: &str) -> kube::Result<ConfigMap> {
    let labels = [("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(KEY.to_owned(), pem.to_owned())])),
        ..ConfigMap::default()
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    api.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&map)).await
}

fn is_ending(status: &kube::core::Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes.is_some_and(|causes| causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}
