//! `tulle wait`: until what was applied is in force.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration as Span,
};

use clap::Parser;
use kube::{
    Api, Client,
    core::{DynamicObject, GroupVersionKind},
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tulle_api::Duration;
use tulle_control_plane::{files, status::CONTROLLER};

use crate::cluster::{self, Reach, found};

/// Between two looks.
const LOOK: Span = Span::from_millis(250);

/// Wait until the routes and policies in YAML are in force.
///
/// That is: accepted, with everything that they refer to there, and taken by every proxy that uses them, all of it as the
/// objects are now. One that no proxy uses counts as in force. Objects without a status need only be there.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    kubectl apply -f policy.yaml && tulle wait -f policy.yaml\n  \
    kubectl get httproute reviews -o yaml | tulle wait -f - --timeout 5s\n\n\
    Exit codes: 0 all of it is in force, 1 something is not (which and why is on stderr).")]
pub(crate) struct Args {
    /// YAML that was applied, `-` for stdin. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// How long to wait at most.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: Duration,
    #[command(flatten)]
    reach: Reach,
}

/// Why nothing can be waited for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A document is no object.
    #[error("{0}")]
    Document(String),
    /// There is no cluster.
    #[error(transparent)]
    Unreachable(#[from] cluster::Unreachable),
    /// The API server cannot say what a kind is.
    #[error("{object}: {}", cluster::chain(source))]
    Kind {
        /// Which object.
        object: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Stdout or stderr is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Waits.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut objects = Vec::new();
    for path in &args.files {
        objects.extend(read(path)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wait(args, objects))
}

async fn wait(args: &Args, objects: Vec<Value>) -> Result<ExitCode, Error> {
    let client = args.reach.client().await?;
    let end = Instant::now() + args.timeout.get();
    let mut waiting: BTreeMap<String, (Target, Vec<String>)> = BTreeMap::new();
    for object in objects {
        let title = title(&object, &args.namespace);
        let target = Target::new(&client, &object, &args.namespace)
            .await
            .map_err(|source| Error::Kind { object: title.clone(), source: Box::new(source) })?;
        waiting.insert(title, (target, Vec::new()));
    }
    loop {
        for (title, (target, unmet)) in &mut waiting {
            *unmet = match target.get().await {
                Ok(Some(object)) => match unmet_of(&object) {
                    unmet if unmet.is_empty() => {
                        writeln!(io::stdout(), "{title}: {}", said(&object))?;
                        Vec::new()
                    }
                    unmet => unmet,
                },
                Ok(None) => vec!["is not there; was it applied?".to_owned()],
                Err(error) => vec![cluster::chain(&error)],
            };
        }
        waiting.retain(|_, (_, unmet)| !unmet.is_empty());
        if waiting.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= end {
            for (title, (_, unmet)) in &waiting {
                writeln!(
                    io::stderr(),
                    "{title}: not within {}: {}",
                    args.timeout,
                    unmet.join("; ")
                )?;
            }
            return Ok(ExitCode::FAILURE);
        }
        sleep(LOOK).await;
    }
}

/// An object of the cluster.
struct Target {
    api: Api<DynamicObject>,
    name: String,
}

impl Target {
    async fn new(client: &Client, object: &Value, namespace: &str) -> kube::Result<Self> {
        let (group, version) = match text(object, "/apiVersion").split_once('/') {
            Some(both) => both,
            None => ("", text(object, "/apiVersion")),
        };
        let kind = GroupVersionKind::gvk(group, version, text(object, "/kind"));
        let (resource, capabilities) = pinned_kind(client, &kind).await?;
        let own = Some(text(object, "/metadata/namespace")).filter(|own| !own.is_empty());
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                Api::namespaced_with(client.clone(), own.unwrap_or(namespace), &resource)
            }
        };
        Ok(Self { api, name: text(object, "/metadata/name").to_owned() })
    }

    async fn get(&self) -> kube::Result<Option<Value>> {
        let object = found(self.api.get(&self.name).await)?;
        Ok(object.and_then(|object| serde_json::to_value(object).ok()))
    }
}

/// What an object still lacks to be in force as it is now.
fn unmet_of(object: &Value) -> Vec<String> {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let ours = text(object, "/apiVersion").starts_with("tulle.dev/");
    if ours {
        let status = object.get("status").unwrap_or(&Value::Null);
        return lacking(status, &["Accepted", "InForce"], generation);
    }
    // A route of a Gateway is another controller's business.
    let mut references = list(object, "/spec/parentRefs");
    if !references.any(|parent| parent["kind"] == "Service" && parent["group"] == "") {
        return Vec::new();
    }
    let mut parents = own_parents(object).peekable();
    if parents.peek().is_none() {
        return vec!["Tulle has said nothing of it yet".to_owned()];
    }
    let of = |parent| lacking(parent, &["Accepted", "ResolvedRefs", "InForce"], generation);
    parents.flat_map(of).collect()
}

/// What we say of a route.
fn own_parents(object: &Value) -> impl Iterator<Item = &Value> {
    list(object, "/status/parents").filter(|parent| parent["controllerName"] == CONTROLLER)
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Which of these conditions does not hold for this generation, and why.
fn lacking(status: &Value, conditions: &[&str], generation: i64) -> Vec<String> {
    let all = status.get("conditions").and_then(Value::as_array);
    let each = conditions.iter().filter_map(|&wanted| {
        let Some(condition) = all.into_iter().flatten().find(|c| c["type"] == wanted) else {
            return Some(format!("{wanted} is not said yet"));
        };
        if condition["observedGeneration"].as_i64().unwrap_or(0) < generation {
            return Some(format!("{wanted} is not said yet of what it is now"));
        }
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        (condition["status"] != "True").then(|| format!("{wanted} is False ({reason}): {message}"))
    });
    each.collect()
}

/// What the status of an object in force says.
fn said(object: &Value) -> &str {
    let of_parents = own_parents(object).flat_map(|parent| list(parent, "/conditions"));
    let mut conditions = list(object, "/status/conditions").chain(of_parents);
    let force = conditions.find(|condition| condition["type"] == "InForce");
    force.map_or("is there", |force| text(force, "/message"))
}

fn read(path: &Path) -> Result<Vec<Value>, Error> {
    let (file, content) = if path == Path::new("-") {
        let mut content = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut content);
        ("stdin".to_owned(), read.map(|_| content))
    } else {
        (path.display().to_string(), fs::read(path))
    };
    let content = content.map_err(|source| Error::Read { file: file.clone(), source })?;
    let unreadable = |line: Option<usize>, reason: &str| {
        Error::Document(format!("{file}:{}: {reason}", line.unwrap_or(1)))
    };
    let documents = files::values(&content).map_err(|e| unreadable(e.line, &e.reason))?;
    let mut objects = Vec::new();
    for (line, value) in documents {
        let value = value.map_err(|e| unreadable(e.line, &e.reason))?;
        let items = match value.get("items").and_then(Value::as_array) {
            Some(items) if text(&value, "/kind").ends_with("List") => items.clone(),
            _ => vec![value],
        };
        for object in items {
            if ["/apiVersion", "/kind", "/metadata/name"]
                .iter()
                .any(|p| text(&object, p).is_empty())
            {
                let what = "no Kubernetes object: it needs apiVersion, kind and metadata.name";
                return Err(unreadable(Some(line), what));
            }
            objects.push(object);
        }
    }
    Ok(objects)
}

fn title(object: &Value, namespace: &str) -> String {
    let own = match text(object, "/metadata/namespace") {
        "" => namespace,
        own => own,
    };
    format!("{} {own}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(kind: &str, status: &str, generation: i64) -> Value {
        json!({
            "type": kind, "status": status, "observedGeneration": generation,
            "reason": "R", "message": "M",
        })
    }

    fn policy(conditions: &[Value]) -> Value {
        json!({
            "apiVersion": "tulle.dev/v1alpha1", "kind": "TrafficPolicy",
            "metadata": {"name": "p", "generation": 2}, "status": {"conditions": conditions},
        })
    }

    #[test]
    fn only_what_is_said_of_this_generation_counts() {
        let good = [condition("Accepted", "True", 2), condition("InForce", "True", 2)];
        assert_eq!(unmet_of(&policy(&good)), [""; 0]);
        assert_eq!(said(&policy(&good)), "M");
        let old = [condition("Accepted", "True", 2), condition("InForce", "True", 1)];
        assert_eq!(unmet_of(&policy(&old)), ["InForce is not said yet of what it is now"]);
        let bad = [condition("Accepted", "False", 2)];
        assert_eq!(
            unmet_of(&policy(&bad)),
            ["Accepted is False (R): M", "InForce is not said yet"]
        );
    }

    #[test]
    fn of_a_route_what_we_say_counts() {
        let service = json!({"group": "", "kind": "Service", "name": "s"});
        let gateway = json!({"name": "g"});
        let with = |parents: &[&Value], controller: &str, status: &str| {
            let kinds = ["Accepted", "ResolvedRefs", "InForce"];
            let conditions: Vec<_> = kinds.map(|kind| condition(kind, status, 1)).into();
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": {"name": "r", "generation": 1}, "spec": {"parentRefs": parents},
                "status": {"parents": [{"controllerName": controller, "conditions": conditions}]},
            })
        };
        let route =
            |controller: &str, status: &str| with(&[&gateway, &service], controller, status);
        assert_eq!(unmet_of(&route(CONTROLLER, "True")), [""; 0]);
        assert_eq!(said(&route(CONTROLLER, "True")), "M");
        assert_eq!(unmet_of(&route(CONTROLLER, "False")).len(), 3);
        assert!(unmet_of(&route("example.org/other", "True"))[0].contains("said nothing"));
        // Of a route of a Gateway we never say anything.
        for status in ["True", "False"] {
            let theirs = with(&[&gateway], "example.org/other", status);
            assert_eq!((unmet_of(&theirs), said(&theirs)), (Vec::new(), "is there"));
        }
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}});
        assert_eq!((unmet_of(&service), said(&service)), (Vec::new(), "is there"));
    }
}
