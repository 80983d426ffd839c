//! Pods that ask for a sidecar, could have one, and run without it: each is told once, as an Event of the pod.
//!
//! That they are is by somebody's choice (the webhook's `failurePolicy: Ignore` while no control plane answered) or by accident
//! (the label came after the pod), and nothing else would show it where `kubectl describe pod` is looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, PodSpec},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::watch, time::sleep};

use super::{MANAGER, conflict};
use crate::{
    inject::{self, LABEL, Webhook},
    world::objects::{Kind, Name, ObjectRef},
};

const REASON: &str = "NotInjected";
const NOTE: &str = "it runs without a sidecar, and so outside of the mesh: it was created while no control plane answered the webhook, or \
                    before its namespace asked for sidecars. Pods that take its place get one: restart its Deployment, or whatever it is of";

/// When one could not be told.
const AGAIN: Duration = Duration::from_secs(10);

/// Those pods, with their uids. The source says which they are. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Bare(Arc<watch::Sender<BTreeMap<Name, String>>>);

/// What the source has seen of pods and namespaces, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// Namespaces that ask for sidecars.
    enabled: BTreeSet<String>,
    pods: BTreeMap<Name, Pod>,
    bare: Bare,
    changed: bool,
}

#[derive(Debug, PartialEq)]
struct Pod {
    uid: String,
    /// Whether its own label asks for a sidecar, whatever its namespace does.
    itself: bool,
}

impl Pods {
    pub(super) fn new(bare: Bare) -> Self {
        Self { bare, ..Self::default() }
    }

    pub(super) fn set(&mut self, reference: &ObjectRef, value: &Value) {
        match reference.kind {
            Kind::Namespace => {
                let name = reference.name.name.to_string();
                self.changed |= match value["metadata"]["labels"][LABEL] == "enabled" {
                    true => self.enabled.insert(name),
                    false => self.enabled.remove(&name),
                };
            }
            Kind::Pod => {
                self.changed |= match lacking(value) {
                    Some(pod) if self.pods.get(&reference.name) == Some(&pod) => false,
                    Some(pod) => {
                        self.pods.insert(reference.name.clone(), pod);
                        true
                    }
                    None => self.pods.remove(&reference.name).is_some(),
                };
            }
            _ => {}
        }
    }

    pub(super) fn remove(&mut self, reference: &ObjectRef) {
        self.changed |= match reference.kind {
            Kind::Namespace => self.enabled.remove(&*reference.name.name),
            Kind::Pod => self.pods.remove(&reference.name).is_some(),
            _ => false,
        };
    }

    /// Says which they are now.
    pub(super) fn tell(&mut self) {
        if std::mem::take(&mut self.changed) {
            let asks =
                |name: &Name, pod: &Pod| pod.itself || self.enabled.contains(&*name.namespace);
            let bare = self.pods.iter().filter(|(name, pod)| asks(name, pod));
            let bare = bare.map(|(name, pod)| (name.clone(), pod.uid.clone())).collect();
            self.bare.0.send_replace(bare);
        }
    }
}

/// A pod that has no sidecar, and would get one if it were created now and its namespace asked for it.
fn lacking(value: &Value) -> Option<Pod> {
    let ended = matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if ended || !value["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    // Most of them: nothing more is read of those.
    if !value["metadata"]["annotations"][inject::INJECTED].is_null() {
        return None;
    }
    let (metadata, spec): (ObjectMeta, PodSpec) = (part(value, "metadata")?, part(value, "spec")?);
    let asks = |namespace: &str| {
        let labels = BTreeMap::from([(LABEL.to_owned(), namespace.to_owned())]);
        inject::lacks(&metadata, &spec, &labels)
    };
    let uid = metadata.uid.clone().unwrap_or_default();
    asks("enabled").then(|| Pod { uid, itself: asks("disabled") })
}

fn part<T: DeserializeOwned>(value: &Value, key: &str) -> Option<T> {
    T::deserialize(value.get(key)?).ok()
}

/// Tells each of them while this replica `leads`, until nobody says who does.
pub(super) async fn write(
    (client, namespace, replica): (Client, String, String),
    webhook: Option<Webhook>,
    bare: Bare,
    mut leads: watch::Receiver<bool>,
) {
    // Without a webhook nobody is injected.
    let Some(webhook) = webhook else { return };
    let mut bare = bare.0.subscribe();
    let mut told = BTreeSet::new();
    while leads.wait_for(|leads| *leads).await.is_ok() {
        let pods = bare.borrow_and_update().clone();
        told.retain(|uid| pods.values().any(|pod| pod == uid));
        let mut failed = false;
        for (name, uid) in pods {
            let spared = webhook.spared(&namespace).any(|spared| *spared == *name.namespace);
            if spared || told.contains(&uid) {
                continue;
            }
            match tell(&client, &name, &uid, &replica).await {
                // Told already, by us or by whoever led before.
                Err(error) if !conflict(&error) => {
                    tracing::debug!(pod = %name, %error, "an Event could not be written");
                    failed = true;
                }
                _ => drop(told.insert(uid)),
            }
        }
        tokio::select! {
            changed = bare.changed() => if changed.is_err() { return },
            changed = leads.changed() => if changed.is_err() { return },
            () = sleep(AGAIN), if failed => {}
        }
    }
}

async fn tell(client: &Client, pod: &Name, uid: &str, replica: &str) -> kube::Result<Event> {
    let api = Api::namespaced(client.clone(), &pod.namespace);
    api.create(&PostParams::default(), &event(pod, uid, replica)).await
}

/// Its name is of the pod's uid: there is one, whoever writes it.
fn event(pod: &Name, uid: &str, replica: &str) -> Event {
    let text = |text: &str| Some(text.to_owned());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("tulle-not-injected-{uid}")),
            namespace: text(&pod.namespace),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: text(MANAGER),
        reporting_instance: text(replica),
        action: text("Inject"),
        reason: text(REASON),
        type_: text("Warning"),
        note: text(NOTE),
        regarding: Some(ObjectReference {
            api_version: text("v1"),
            kind: text("Pod"),
            namespace: text(&pod.namespace),
            name: text(&pod.name),
            uid: text(uid),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reference(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
        ObjectRef { kind, name: Name::new(namespace, name) }
    }

    fn label(value: &str) -> Value {
        json!({"metadata": {"labels": {LABEL: value}}})
    }

    /// The pod `shop/web`, with this added.
    fn pod(more: Value) -> Value {
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
            "spec": {"containers": [{"name": "app"}]},
            "status": {"phase": "Running"},
        });
        for (part, fields) in more.as_object().unwrap() {
            let into = pod[part].as_object_mut().unwrap();
            into.extend(fields.as_object().unwrap().clone());
        }
        pod
    }

    #[test]
    fn who_asks_for_a_sidecar_and_has_none() {
        let injected = json!({"annotations": {inject::INJECTED: "1"}});
        // the namespace's label, what the pod has, and whether it is told
        for (namespace, more, expected) in [
            ("enabled", json!({}), true),
            ("disabled", json!({}), false),
            ("other", json!({}), false),
            ("enabled", label("disabled"), false),
            ("disabled", label("enabled"), true),
            ("enabled", json!({"metadata": injected}), false),
            ("enabled", json!({"spec": {"initContainers": [{"name": inject::PROXY}]}}), false),
            ("enabled", json!({"spec": {"hostNetwork": true}}), false),
            ("enabled", json!({"spec": {"os": {"name": "windows"}}}), false),
            ("enabled", json!({"spec": {"containers": [{"name": "istio-proxy"}]}}), false),
            ("enabled", json!({"status": {"phase": "Succeeded"}}), false),
            ("enabled", json!({"status": {"phase": "Pending"}}), true),
            ("enabled", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), false),
            // It would be refused: that it is there at all is what is to be told.
            ("enabled", json!({"spec": {"securityContext": {"runAsUser": 5050}}}), true),
        ] {
            let mut pods = Pods::default();
            pods.set(&reference(Kind::Pod, "shop", "web"), &pod(more.clone()));
            pods.set(&reference(Kind::Namespace, "", "shop"), &label(namespace));
            pods.tell();
            let told = pods.bare.0.borrow().values().cloned().collect::<Vec<_>>();
            let wanted = if expected { vec!["u-1"] } else { vec![] };
            assert_eq!(told, wanted, "namespace {namespace}, pod {more}");
        }
    }

    #[test]
    fn only_news_are_told() {
        let mut pods = Pods::default();
        let mut bare = pods.bare.0.subscribe();
        let mut told = |pods: &mut Pods| {
            pods.tell();
            let changed = bare.has_changed().unwrap();
            let uids = bare.borrow_and_update().values().cloned().collect::<Vec<_>>();
            changed.then(|| uids.join(" "))
        };
        let (namespace, web) =
            (reference(Kind::Namespace, "", "shop"), reference(Kind::Pod, "shop", "web"));
        pods.set(&namespace, &label("enabled"));
        pods.set(&web, &pod(json!({})));
        assert_eq!(told(&mut pods).as_deref(), Some("u-1"));
        pods.set(&web, &pod(json!({"status": {"reason": "anything"}})));
        assert_eq!(told(&mut pods), None);
        // Another one in its place, as of a StatefulSet.
        pods.set(&web, &pod(json!({"metadata": {"uid": "u-2"}})));
        assert_eq!(told(&mut pods).as_deref(), Some("u-2"));
        pods.set(&namespace, &label("disabled"));
        assert_eq!(told(&mut pods).as_deref(), Some(""));
        pods.set(&namespace, &label("enabled"));
        assert_eq!(told(&mut pods).as_deref(), Some("u-2"));
        pods.remove(&web);
        assert_eq!(told(&mut pods).as_deref(), Some(""));
    }

    #[test]
    fn an_event_is_of_the_pods_uid() {
        let event = event(&Name::new("shop", "web"), "u-1", "replica");
        assert_eq!(event.metadata.name.as_deref(), Some("tulle-not-injected-u-1"));
        assert_eq!(event.regarding.unwrap().uid.as_deref(), Some("u-1"));
        assert!(NOTE.len() < 1024 && !NOTE.contains("  "));
    }
}
