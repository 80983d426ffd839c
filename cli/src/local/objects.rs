//! What the user declared: YAML documents as typed objects, and what of them is not honoured.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tulle_control_plane::inject::{Slip, slips};

use super::{
    controllers::{Id, selects},
    honoured,
};

/// A document of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// Its content.
    pub(super) value: Value,
    /// Where it stands.
    pub(super) file: PathBuf,
    /// Line of the file it begins on, from 1.
    pub(super) line: usize,
}

/// Something to tell the user about what he wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Note {
    /// `Kind namespace/name`, as far as known.
    pub(super) object: String,
    /// File and line.
    pub(super) place: String,
    /// Path of the field, if it is about one.
    pub(super) field: Option<String>,
    /// What is the matter with it.
    pub(super) message: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.place)?;
        for part in [Some(&self.object), self.field.as_ref()].into_iter().flatten() {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// Everything declared that `tulle local` acts on. Kinds of the control plane are left to it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Objects {
    pub(super) namespaces: BTreeMap<Id, Namespace>,
    pub(super) deployments: BTreeMap<Id, Deployment>,
    pub(super) replica_sets: BTreeMap<Id, ReplicaSet>,
    pub(super) pods: BTreeMap<Id, Pod>,
    pub(super) services: BTreeMap<Id, Service>,
    pub(super) slices: BTreeMap<Id, EndpointSlice>,
    pub(super) config_maps: BTreeMap<Id, ConfigMap>,
    /// Unusable documents: loud, and without effect on others.
    pub(super) problems: Vec<Note>,
    /// Fields and kinds that have no effect here.
    pub(super) notes: Vec<Note>,
}

impl Objects {
    /// Reads documents; of two with the same name the first one holds, as in the control plane. What
    /// cannot be used goes on as it was `before`.
    pub(super) fn read(documents: &[Document], before: &Self) -> Self {
        let mut objects = Self::default();
        for document in documents {
            if let Err(problem) = objects.add(document, before) {
                objects.problems.push(problem);
            }
        }
        objects.notes.sort();
        objects.notes.dedup();
        objects
    }

    fn add(&mut self, document: &Document, before: &Self) -> Result<(), Note> {
        let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or("");
        let version = text("/apiVersion").unwrap_or("");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let Some(name) = text("/metadata/name") else {
            return Err(document.note(kind, "metadata.name is missing"));
        };
        let object = match text("/metadata/namespace") {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        let namespace = match kind {
            "Namespace" => "",
            _ => text("/metadata/namespace").unwrap_or("default"),
        };
        let id = Id::new(namespace, name);
        let entry = Entry { document, object: &object, id };
        match (group, kind) {
            ("", "Namespace") => entry.insert(&mut self.namespaces, &before.namespaces)?,
            ("", "Pod") => entry.insert(&mut self.pods, &before.pods)?,
            ("", "Service") => entry.insert(&mut self.services, &before.services)?,
            ("", "ConfigMap") => entry.insert(&mut self.config_maps, &before.config_maps)?,
            ("apps", "Deployment") => {
                let id = entry.id.clone();
                entry.insert(&mut self.deployments, &before.deployments)?;
                if !self.deployments.get(&id).is_some_and(selects_its_pods) {
                    self.deployments.remove(&id);
                    let old = before.deployments.get(&id).cloned();
                    self.deployments.extend(old.map(|old| (id, old)));
                    let message = "spec.selector does not select the labels of spec.template";
                    return Err(document.note(&object, message));
                }
            }
            ("apps", "ReplicaSet") => entry.insert(&mut self.replica_sets, &before.replica_sets)?,
            ("discovery.k8s.io", "EndpointSlice") => {
                let id = entry.id.clone();
                entry.insert(&mut self.slices, &before.slices)?;
                if let Some(slice) = self.slices.get_mut(&id) {
                    slice.metadata.namespace = Some(id.namespace);
                }
            }
            // A ServiceAccount says nothing that is needed here; the name is in the pod.
            ("", "ServiceAccount") => {}
            ("gateway.networking.k8s.io" | "tulle.dev", _) => return Ok(()),
            _ => {
                self.notes.push(document.note(&object, "this kind has no effect here"));
                return Ok(());
            }
        }
        self.annotations(document, &object, kind);
        let unhonoured = honoured::unhonoured(kind, &document.value).into_iter();
        self.notes.extend(unhonoured.map(|field| Note {
            field: Some(field),
            ..document.note(&object, "has no effect here")
        }));
        Ok(())
    }
}

impl Objects {
    /// What is wrong with annotations of ours on pods and their templates, with where they stand.
    fn annotations(&mut self, document: &Document, object: &str, kind: &str) {
        let path = match kind {
            "Pod" => "metadata.annotations",
            "Deployment" | "ReplicaSet" => "spec.template.metadata.annotations",
            _ => return,
        };
        let value = document.value.pointer(&format!("/{}", path.replace('.', "/")));
        let annotations: BTreeMap<String, String> =
            value.and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default();
        for (name, slip) in slips(annotations.iter()) {
            let field = Some(format!("{path}[{name:?}]"));
            match slip {
                Slip::Refused(text) => {
                    self.problems.push(Note { field, ..document.note(object, &text) });
                }
                Slip::Unknown(text) => {
                    self.notes.push(Note { field, ..document.note(object, &text) });
                }
            }
        }
    }
}

/// What the API server checks of a Deployment: its pods must be found again.
fn selects_its_pods(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| {
        let metadata = spec.template.metadata.as_ref();
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        selects(&spec.selector, &labels)
    })
}

/// A document on its way to its place.
struct Entry<'a> {
    document: &'a Document,
    object: &'a str,
    id: Id,
}

impl Entry<'_> {
    fn insert<T: DeserializeOwned + Clone>(
        self,
        into: &mut BTreeMap<Id, T>,
        before: &BTreeMap<Id, T>,
    ) -> Result<(), Note> {
        if into.contains_key(&self.id) {
            let message = "is there already: the first one, by file and place in it, is in force";
            return Err(self.document.note(self.object, message));
        }
        let parsed = serde_json::from_value(self.document.value.clone());
        let wrong = |error: serde_json::Error| self.document.note(self.object, &error.to_string());
        match parsed.map_err(wrong) {
            Ok(parsed) => {
                into.insert(self.id, parsed);
                Ok(())
            }
            Err(note) => {
                let old = before.get(&self.id).cloned();
                into.extend(old.map(|old| (self.id, old)));
                Err(note)
            }
        }
    }
}

impl Document {
    fn note(&self, object: &str, message: &str) -> Note {
        Note {
            object: object.to_owned(),
            place: format!("{}:{}", self.file.display(), self.line),
            field: None,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_honoured_is_named() {
        let yaml = "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  hostNetwork: true
  containers: [{name: c, image: x, tty: true}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: j}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: 7}
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
";
        let (documents, _) = super::super::directory::parse("f.yaml".as_ref(), yaml.as_bytes());
        let objects = Objects::read(&documents, &Objects::default());
        assert_eq!(objects.pods.keys().next(), Some(&Id::new("default", "a")));
        let notes: Vec<String> = objects.notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            [
                "f.yaml:8: Job j: this kind has no effect here",
                "f.yaml:1: Pod a: spec.containers[0].tty: has no effect here",
                "f.yaml:1: Pod a: spec.hostNetwork: has no effect here",
            ]
        );
        assert_eq!(objects.problems.len(), 1);
        assert!(objects.problems[0].to_string().starts_with("f.yaml:12: Service s: "));
    }

    #[test]
    fn slips_in_annotations_are_named_where_they_stand() {
        let yaml = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {app: d}}
  template:
    metadata:
      labels: {app: d}
      annotations: {tulle.dev/max-streams: '0', tulle.dev/max-stream: '7', example.org/x: y}
    spec: {containers: []}
";
        let (documents, _) = super::super::directory::parse("f.yaml".as_ref(), yaml.as_bytes());
        let objects = Objects::read(&documents, &Objects::default());
        let at = "f.yaml:1: Deployment d: spec.template.metadata.annotations";
        let text = |notes: &[Note]| notes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(&objects.problems),
            [format!(
                "{at}[\"tulle.dev/max-streams\"]: \"0\": it must be a number from 1 to 10000"
            )]
        );
        let unknown = "annotation tulle.dev/max-stream is unknown and does nothing; is \
                       tulle.dev/max-streams meant?";
        assert_eq!(text(&objects.notes), [format!("{at}[\"tulle.dev/max-stream\"]: {unknown}")]);
    }

    #[test]
    fn nothing_good_is_lost() {
        let service = |port: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: {port}}}\n---\n"
            )
        };
        let read = |yaml: String, before: &Objects| {
            let (documents, _) = super::super::directory::parse("f.yaml".as_ref(), yaml.as_bytes());
            Objects::read(&documents, before)
        };
        let good = read(service("[{port: 1}]"), &Objects::default());
        let broken = read(service("7"), &good);
        assert_eq!((&broken.services, broken.problems.len()), (&good.services, 1));
        let twice = read(service("[{port: 1}]") + &service("[{port: 2}]"), &Objects::default());
        assert_eq!((&twice.services, twice.problems.len()), (&good.services, 1));
        assert_eq!(read(String::new(), &good).services.len(), 0);
    }
}
