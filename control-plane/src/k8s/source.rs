//! A source of objects: the API server. What the watches say, as the events that a directory yields too.
//!
//! Runs on a thread of its own, as the directories do: converting thousands of objects would hold up a runtime.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    thread,
};

use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;
use tulle_runtime::ready::Readiness;

use super::{
    bare::{Bare, Pods},
    book::{Book, Page},
    kinds::WATCHED,
    watch::{self, Change},
};
use crate::{
    convert::{self, Outcome},
    parallel,
    problem::{Effect, Problem},
    source::Batch,
    status::Edition,
    world::{
        Event,
        objects::{Kind, Object, ObjectRef},
    },
};

/// Changes that may wait; then the watches do, and the server with them.
const QUEUE: usize = 1024;

/// Starts the watches. The first batch comes when every kind has been listed.
pub(super) fn start(
    (client, namespace): (&Client, &str),
    (book, bare): (Book, Bare),
    readiness: Readiness,
) -> std::io::Result<mpsc::Receiver<Batch>> {
    let (send_change, changes) = mpsc::channel(QUEUE);
    let (batches, receiver) = mpsc::channel(16);
    for watched in WATCHED {
        let (client, changes) = (client.clone(), send_change.clone());
        tokio::spawn(watch::follow(client, watched, changes, readiness.clone()));
    }
    let objects = Objects::new(namespace.to_owned(), book, bare);
    thread::Builder::new()
        .name("kubernetes".to_owned())
        .spawn(move || run(changes, &batches, objects))?;
    Ok(receiver)
}

fn run(mut changes: mpsc::Receiver<Change>, batches: &mpsc::Sender<Batch>, mut objects: Objects) {
    let mut unlisted: BTreeSet<Kind> = WATCHED.iter().map(|watched| watched.kind).collect();
    let mut batch = Batch::default();
    while let Some(first) = changes.blocking_recv() {
        let mut next = Some(first);
        while let Some(change) = next {
            if let Change::All(watched, _) = &change {
                unlisted.remove(&watched.kind);
            }
            objects.take(change, &mut batch);
            next = changes.try_recv().ok();
        }
        if unlisted.is_empty() && objects.tell(&mut batch) {
            let batch = std::mem::take(&mut batch);
            if batches.blocking_send(batch).is_err() {
                return;
            }
        }
    }
}

/// Everything that the server has, as far as it is in force. Pure but for the book.
struct Objects {
    /// The control plane's namespace.
    system: String,
    book: Book,
    pods: Pods,
    /// What was told of each object: what says nothing new is no event.
    in_force: HashMap<ObjectRef, Object>,
    /// Those of them that stand in for what cannot be read.
    closed: BTreeSet<ObjectRef>,
    editions: HashMap<ObjectRef, Edition>,
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
    /// Whether there is something to tell.
    news: bool,
}

impl Objects {
    fn new(system: String, book: Book, bare: Bare) -> Self {
        Self {
            system,
            book,
            pods: Pods::new(bare),
            in_force: HashMap::new(),
            closed: BTreeSet::new(),
            editions: HashMap::new(),
            problems: BTreeMap::new(),
            // The first batch is one even if it is empty: then there is nothing.
            news: true,
        }
    }

    fn take(&mut self, change: Change, batch: &mut Batch) {
        match change {
            Change::Set(value) => {
                let outcome = convert::convert_in(&self.system, &value);
                self.set(&value, outcome, batch);
            }
            Change::Gone(value) => {
                if let Some(reference) = convert::convert_in(&self.system, &value).reference {
                    self.remove(&reference, batch);
                }
            }
            Change::All(watched, values) => {
                let outcomes =
                    parallel::map(&values, |value| convert::convert_in(&self.system, value));
                let mut there = BTreeSet::new();
                for (value, outcome) in values.iter().zip(outcomes) {
                    there.extend(outcome.reference.clone());
                    self.set(value, outcome, batch);
                }
                let known = self.in_force.keys().chain(self.problems.keys());
                let gone = known.filter(|object| object.kind == watched.kind);
                let gone: BTreeSet<_> =
                    gone.filter(|&object| !there.contains(object)).cloned().collect();
                for reference in gone {
                    self.remove(&reference, batch);
                }
            }
        }
    }

    fn set(&mut self, value: &Value, outcome: Outcome, batch: &mut Batch) {
        // The API server holds nothing without a name.
        let Some(reference) = outcome.reference.clone() else {
            return;
        };
        if reference.kind.has_status() {
            let page = Page::of(value);
            let generation = value.pointer("/metadata/generation").and_then(Value::as_i64);
            let edition = Edition {
                uid: page.uid.clone(),
                generation: generation.unwrap_or_default(),
                turn: 0,
            };
            self.book.set(&reference, Some(page));
            if self.editions.get(&reference) != Some(&edition) {
                self.editions.insert(reference.clone(), edition.clone());
                batch.editions.push((reference.clone(), edition));
                self.news = true;
            }
        }
        self.pods.set(&reference, value);
        // What does not apply changes nothing: what the object said before is still in force.
        let good = self.in_force.contains_key(&reference) && !self.closed.contains(&reference);
        let unknown = outcome.object.is_none() && !good;
        let closed = unknown.then(|| convert::closed(&self.system, &reference, value)).flatten();
        match closed {
            Some(_) => self.closed.insert(reference.clone()),
            None => self.closed.remove(&reference),
        };
        let (closed, said) = closed.unzip();
        self.blame(&reference, &outcome, said);
        let Some(object) = outcome.object.or(closed) else {
            return;
        };
        if self.in_force.get(&reference) != Some(&object) {
            self.in_force.insert(reference, object.clone());
            batch.events.push(Event::Apply(object));
            self.news = true;
        }
    }

    fn remove(&mut self, reference: &ObjectRef, batch: &mut Batch) {
        self.book.set(reference, None);
        self.pods.remove(reference);
        self.editions.remove(reference);
        self.closed.remove(reference);
        self.news |= self.problems.remove(reference).is_some();
        if self.in_force.remove(reference).is_some() {
            batch.events.push(Event::Delete(reference.clone()));
            self.news = true;
        }
    }

    /// Notes what is wrong with an object. What applies of one of Kubernetes' own kinds has been accepted by the API
    /// server: a field of it that is new to us is nobody's mistake. `means` is added to each.
    fn blame(&mut self, reference: &ObjectRef, outcome: &Outcome, means: Option<&str>) {
        let faults = outcome.faults.iter();
        let problems: Vec<_> = faults
            .filter(|fault| reference.kind.has_status() || !fault.applies)
            .map(|fault| Problem {
                file: PathBuf::new(),
                line: None,
                document: None,
                object: outcome.title.clone(),
                field: fault.field.to_string(),
                reason: [Some(fault.reason.as_str()), means]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; "),
                effect: if fault.applies { Effect::Applied } else { Effect::Rejected },
                about: Some(reference.clone()),
            })
            .collect();
        if self.problems.get(reference).map_or(&[][..], Vec::as_slice) != problems {
            self.news = true;
            match problems.is_empty() {
                true => drop(self.problems.remove(reference)),
                false => drop(self.problems.insert(reference.clone(), problems)),
            }
        }
    }

    /// Completes a batch; whether there is something in it.
    fn tell(&mut self, batch: &mut Batch) -> bool {
        self.pods.tell();
        let news = std::mem::take(&mut self.news);
        if news {
            batch.problems = self.problems.values().flatten().cloned().collect();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::kinds::Watched;

    fn watched(kind: Kind) -> Watched {
        *WATCHED.iter().find(|watched| watched.kind == kind).unwrap()
    }

    fn namespace(name: &str, label: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"l": label}}, "spec": {"ofTomorrow": 1},
        })
    }

    fn config(generation: i64, spec: Value) -> Value {
        json!({
            "apiVersion": "tulle.dev/v1alpha1", "kind": "MeshConfig",
            "metadata": {"name": "default", "uid": "u", "generation": generation}, "spec": spec,
        })
    }

    /// What a change says, as `+name` and `-name`.
    fn said(objects: &mut Objects, change: Change) -> (Vec<String>, Batch) {
        let mut batch = Batch::default();
        objects.take(change, &mut batch);
        let events = batch.events.iter().map(|event| match event {
            Event::Apply(object) => format!("+{}", object.name()),
            Event::Delete(reference) => format!("-{}", reference.name),
        });
        (events.collect(), batch)
    }

    #[test]
    fn a_list_takes_the_place_of_the_one_before() {
        let mut objects = Objects::new("mesh".to_owned(), Book::default(), Bare::default());
        let all = |names: &[(&str, &str)]| {
            let values = names.iter().map(|(name, label)| namespace(name, label)).collect();
            Change::All(watched(Kind::Namespace), values)
        };
        assert_eq!(said(&mut objects, all(&[("a", "1"), ("b", "1")])).0, ["+a", "+b"]);
        assert!(objects.tell(&mut Batch::default()));
        // A relist of the same is no news, and other kinds are not touched by it.
        assert_eq!(said(&mut objects, all(&[("a", "1"), ("b", "1")])).0, [""; 0]);
        assert_eq!(said(&mut objects, Change::All(watched(Kind::Pod), vec![])).0, [""; 0]);
        assert!(!objects.tell(&mut Batch::default()));
        assert_eq!(said(&mut objects, all(&[("a", "2"), ("c", "1")])).0, ["+a", "+c", "-b"]);
        let gone = Change::Gone(Box::new(namespace("a", "2")));
        assert_eq!(said(&mut objects, gone).0, ["-a"]);
    }

    #[test]
    fn what_is_wrong_is_named_and_what_it_said_before_stays() {
        let mut objects = Objects::new("mesh".to_owned(), Book::default(), Bare::default());
        let set = |value| Change::Set(Box::new(value));
        let (events, batch) = said(&mut objects, set(config(1, json!({"dns": "PassOn"}))));
        assert_eq!(events, ["+default"]);
        let object = ObjectRef {
            kind: Kind::MeshConfig,
            name: crate::world::objects::Name::new("", "default"),
        };
        let edition = |generation| Edition { uid: "u".to_owned(), generation, turn: 0 };
        assert_eq!(batch.editions, [(object.clone(), edition(1))]);
        let (events, mut batch) = said(&mut objects, set(config(2, json!({"dnss": 1}))));
        let expected = [(object.clone(), edition(2))];
        assert_eq!((events.len(), batch.editions.as_slice()), (0, &expected[..]));
        assert!(objects.tell(&mut batch));
        let problem = batch.problems.remove(0);
        assert_eq!(problem.effect, Effect::Rejected);
        assert_eq!(problem.about, Some(object));
        let text = "MeshConfig default: spec.dnss: unknown field";
        assert!(problem.to_string().starts_with(text), "{problem}");
        // Of Kubernetes' own kinds a new field is nobody's mistake.
        said(&mut objects, set(namespace("a", "1")));
        said(&mut objects, Change::Gone(Box::new(config(2, json!({"dnss": 1})))));
        let mut batch = Batch::default();
        assert!(objects.tell(&mut batch));
        assert_eq!(batch.problems, []);
    }

    #[test]
    fn a_policy_that_was_never_read_is_closed_and_one_that_was_keeps_what_it_said() {
        let mut objects = Objects::new("mesh".to_owned(), Book::default(), Bare::default());
        let policy = |kind: &str, namespace: &str, spec: Value| {
            let metadata =
                json!({"name": "p", "namespace": namespace, "uid": "u", "generation": 1});
            json!({
                "apiVersion": "tulle.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
            })
        };
        let mut take = |change: fn(Box<Value>) -> Change, value| {
            let mut batch = Batch::default();
            objects.take(change(Box::new(value)), &mut batch);
            objects.tell(&mut batch);
            let said = batch.problems.first().map(ToString::to_string).unwrap_or_default();
            (batch.events.pop().map(|event| format!("{event:?}")).unwrap_or_default(), said)
        };
        for (kind, namespace, spec, stands, means) in [
            (
                "AccessPolicy",
                "shop",
                json!({"new": 1}),
                "scope: Namespace, audit: false, rules: []",
                "nobody in",
            ),
            (
                "AccessPolicy",
                "mesh",
                json!({"new": 1}),
                "scope: Mesh, audit: false, rules: []",
                "nobody in",
            ),
            (
                "AccessPolicy",
                "a",
                json!({"new": 1, "mode": "Audit"}),
                "audit: true, rules: []",
                "nobody in",
            ),
            (
                "MeshTLS",
                "shop",
                json!({"selector": {"matchLabels": {"app": "x"}}, "mode": "Loose"}),
                "scope: Pods({\"app\": \"x\"}), mode: Some(Strict)",
                "it means Strict",
            ),
            (
                "MeshTLS",
                "mesh",
                json!({"selector": {"new": 1}}),
                "scope: Namespace, mode: Some(Strict)",
                "Strict",
            ),
        ] {
            let (event, said) = take(Change::Set, policy(kind, namespace, spec.clone()));
            assert!(event.contains(stands), "{kind} {namespace}: {event}");
            assert!(said.contains(means), "{kind} {namespace}: {said}");
            // The same once more is no news; and it opens as soon as it can be read.
            assert_eq!(
                take(Change::Set, policy(kind, namespace, spec.clone())),
                Default::default()
            );
            let good = match kind {
                "MeshTLS" => json!({"mode": "Permissive"}),
                _ => json!({"rules": [{"from": [{"peers": "All"}]}]}),
            };
            let (event, said) = take(Change::Set, policy(kind, namespace, good.clone()));
            assert!(!event.is_empty() && said.is_empty(), "{event} {said}");
            // What was read once stays.
            let (event, said) = take(Change::Set, policy(kind, namespace, spec));
            assert!(event.is_empty() && !said.contains("as long as"), "{event} {said}");
            take(Change::Gone, policy(kind, namespace, good));
        }
    }
}
