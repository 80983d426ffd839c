//! Writes the webhook into the MutatingWebhookConfiguration that an installation has made empty for it: by which certificate
//! the API server knows us, and which pods it asks about. Until then no pod is asked about, and none is refused.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::{MANAGER, Pause, not_found};
use crate::{
    ca::root::Root,
    inject::{LABEL, Webhook},
    server::webhook::{ENABLED, SINGLE},
};

/// Name of the configuration.
const NAME: &str = "tulle-injector";
/// What the API server says when nobody answers it: `failed calling webhook "…"`. So the name says what to do.
const WEBHOOK: &str = "if-this-fails-run-tulle-check.inject.tulle.dev";
const SERVICE: &str = "tulle-control-plane";

/// What others changed is put right by then.
const AGAIN: Duration = Duration::from_secs(60);

/// Keeps it written while `leads`.
pub(super) async fn write(
    client: Client,
    namespace: String,
    mut root: watch::Receiver<Arc<Root>>,
    settings: Option<Webhook>,
    mut leads: watch::Receiver<bool>,
) {
    let Some(settings) = settings else {
        return;
    };
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut pause = Pause::default();
    while leads.wait_for(|leads| *leads).await.is_ok() {
        let configuration = configuration(&namespace, &root.borrow_and_update(), &settings);
        let params = PatchParams::apply(MANAGER).force();
        // An apply would make it, and nobody would remove it then: it belongs to the installation.
        let there = api.get_opt(NAME).await;
        let written = match there {
            Ok(Some(_)) => api.patch(NAME, &params, &Patch::Apply(&configuration)).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match written {
            Ok(Some(_)) => pause.reset(),
            Ok(None) => tracing::warn!(
                "MutatingWebhookConfiguration {NAME} is not there: no pod is injected"
            ),
            Err(error) if not_found(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "MutatingWebhookConfiguration {NAME} cannot be written; trying again");
                pause.wait().await;
                continue;
            }
        }
        tokio::select! {
            changed = root.changed() => if changed.is_err() { return },
            changed = leads.changed() => if changed.is_err() { return },
            () = sleep(AGAIN) => {}
        }
    }
}

/// The configuration of a control plane in `namespace`. Two webhooks of one name cannot be: one asks for what namespaces want,
/// the other for single pods elsewhere.
pub fn configuration(namespace: &str, root: &Root, settings: &Webhook) -> Value {
    let spared: Vec<&str> = settings.spared(namespace).collect();
    let not_spared = json!({
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": spared,
    });
    let webhook = |prefix: &str, path: &str, namespaces: Value, pods: Value| {
        json!({
            "name": format!("{prefix}{WEBHOOK}"),
            "clientConfig": {
                "service": {"name": SERVICE, "namespace": namespace, "path": path, "port": 443},
                "caBundle": STANDARD.encode(root.trusted_pem()),
            },
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"], "scope": "Namespaced",
            }],
            "namespaceSelector": {"matchExpressions": [not_spared, namespaces]},
            "objectSelector": {"matchExpressions": [pods]},
            "failurePolicy": settings.failure_policy,
            "matchPolicy": "Equivalent",
            // Containers that other webhooks add after us have probes too.
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": settings.timeout_seconds,
            "admissionReviewVersions": ["v1"],
        })
    };
    let is = |operator: &str, value: &str| json!({"key": LABEL, "operator": operator, "values": [value]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            webhook("", ENABLED, is("In", "enabled"), is("NotIn", "disabled")),
            webhook("pod.", SINGLE, is("NotIn", "enabled"), json!({"key": LABEL, "operator": "Exists"})),
        ],
    })
}
