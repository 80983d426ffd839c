//! `tulle install`, `tulle upgrade` and `tulle uninstall`: the control plane in a cluster.
//!
//! ```text
//!  -f, --set ──► choose ──► [ Values ] ──► objects ──► changes ──► server-side apply ──► rollout
//! ```
//!
//! `deploy/chart` makes the same objects of the same values. Everything is written by server-side
//! apply under one name, so that what others set on our objects stays theirs.

mod changes;
mod check;
mod choose;
mod gateway;
mod monitors;
mod objects;
mod once;
mod rollout;
mod uninstall;
mod values;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tulle_api::Duration;

use crate::cluster::{self, Reach, found, objects_like};
use changes::Change;
use choose::{Choice, Chosen};
use objects::title;

pub(crate) use gateway::kinds as gateway_kinds;
pub(crate) use objects::cni::{NAME as CNI, NAMESPACE as CNI_NAMESPACE};
#[cfg(test)]
pub(crate) use objects::merge;
pub(crate) use objects::{CONSOLE, INJECTION, INJECTOR, NAME, crds as kinds, roles, service};
pub(crate) use once::argument;
pub(crate) use rollout::of_pod as reasons;
pub(crate) use uninstall::{Args as Uninstall, run as uninstall};
pub(crate) use values::VERSION;

/// Under which name the API server keeps what we set.
const MANAGER: &str = "tulle";

/// Install Tulle into a cluster.
///
/// Applies the objects that `helm template deploy/chart` would make, and waits until the control plane
/// serves. Gateway API's kinds are brought where the cluster has none; those that are there stay as
/// they are. Doing it again with other values is an upgrade.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle install\n  \
    tulle install --set controlPlane.replicas=3 --set image.registry=registry.example.org/tulle\n  \
    tulle install -f values.yaml --dry-run > tulle.yaml      what would be applied, without a cluster\n\n\
    Exit codes: 0 the control plane serves, 1 it does not (the reason is on stderr).")]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Print the objects as YAML, and speak to no cluster.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    how: How,
}

/// Bring an installation to this version, or to other values.
///
/// First says what will change, field by field, then applies it and waits until the control plane
/// serves. Values are those of -f and --set over the defaults: give the ones that you installed with. The
/// trust domain and the cluster domain change only if they are among these.
/// Sidecars keep their version until their pods start anew.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle upgrade -f values.yaml --dry-run                   what would change\n  \
    tulle upgrade -f values.yaml\n\n\
    Exit codes: 0 the control plane serves, 1 it does not (the reason is on stderr).")]
pub(crate) struct Upgrade {
    #[command(flatten)]
    choice: Choice,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    how: How,
}

/// Where to, and how.
#[derive(Debug, clap::Args)]
struct How {
    /// Namespace of the control plane; made if it is not there.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "tulle-system")]
    namespace: String,
    /// How long to wait until the control plane serves.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Duration,
    /// Do not wait until the control plane serves.
    #[arg(long)]
    no_wait: bool,
    /// Take over fields that somebody else has set (kubectl edit, an autoscaler).
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Why it is not installed as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The values are wrong.
    #[error(transparent)]
    Values(#[from] choose::BadValues),
    /// There is no cluster.
    #[error(transparent)]
    Unreachable(#[from] cluster::Unreachable),
    /// The API server refused something.
    #[error("{what}: {}", cluster::chain(source))]
    Refused {
        /// What was tried.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Somebody else has set a field.
    #[error("{what}: {message}; --force-conflicts takes such fields over")]
    Conflict {
        /// Which object.
        what: String,
        /// Who, and which fields.
        message: String,
    },
    /// Helm owns the objects.
    #[error(
        "Helm installed Tulle here, as release {release}: use `helm {command} {release} -n {namespace}`"
    )]
    Helm {
        /// Its name.
        release: String,
        /// What to tell Helm.
        command: &'static str,
        /// Where it is.
        namespace: String,
    },
    /// A cluster has one mesh: its webhook, roles and kinds are not in a namespace.
    #[error(
        "Tulle is in namespace {found} of this cluster, not in {asked}: use --namespace {found}"
    )]
    Elsewhere {
        /// Where it is.
        found: String,
        /// Where it was said to be.
        asked: String,
    },
    /// There is nothing to upgrade or to remove.
    #[error(
        "there is no Tulle in namespace {0}: --namespace says where it is; `tulle install` installs it"
    )]
    Absent(String),
    /// The control plane does not serve in time.
    #[error("the control plane does not serve after {after}:\n{reasons}")]
    NotServing {
        /// How long was waited.
        after: Duration,
        /// What is known of its pods.
        reasons: String,
    },
    /// Our kinds would be refused there.
    #[error(
        "the cluster is Kubernetes {0}, and Tulle needs 1.{OLDEST} or newer: upgrade the cluster"
    )]
    TooOld(String),
    /// The values want what the cluster has no kind for.
    #[error(
        "podMonitor.enabled: the cluster has no PodMonitors: install the Prometheus operator's kinds first, or leave this value out"
    )]
    NoMonitors,
    /// A watch ended.
    #[error("waiting for it: {0}")]
    Waiting(String),
    /// What is chosen once would change unasked.
    #[error("{0}")]
    Once(String),
    /// Something is asked to go and is not gone.
    #[error(
        "not gone after {after}, and everything else is:\n  {what}\nIt goes by itself as soon as the nodes of its pods answer, or are \
         deleted: kubectl get nodes; kubectl get pods -A -o wide"
    )]
    Stays {
        /// What that is.
        what: String,
        /// How long was waited for each.
        after: Duration,
    },
    /// Pods would be left with sidecars.
    #[error("{0}")]
    Sidecars(String),
    /// Stdout is gone, or there is no runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The oldest minor version of Kubernetes 1 that takes our objects: the rules of MeshConfig know address ranges
/// (`isCIDR`), which came to such rules with this one.
pub(crate) const OLDEST: u32 = 31;

/// Whether a version, as an API server says its own (`v1.36.3`), is too old. What cannot be read is not.
pub(crate) fn too_old(version: &str) -> bool {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor < OLDEST)
}

/// The API server's refusal of `what`.
fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    |source| match source {
        kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict" => {
            Error::Conflict { what, message: status.message.clone() }
        }
        source => Error::Refused { what, source: Box::new(source) },
    }
}

/// Installs.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let Chosen { values, said } = args.choice.read()?;
    let namespace = &args.how.namespace;
    let objects = objects::all(&values, namespace);
    if args.dry_run {
        print(&objects, namespace)?;
        return Ok(ExitCode::SUCCESS);
    }
    block_on(async {
        let client = args.how.reach.client().await?;
        refuse_others(&client, namespace, "upgrade").await?;
        if let Some(live) = control_plane(&client, namespace).await? {
            once::refuse(&live.data, &objects, &said)?;
        }
        Box::pin(bring(&client, &args.how, &objects, false)).await
    })
}

/// Upgrades.
pub(crate) fn upgrade(args: &Upgrade) -> Result<ExitCode, Error> {
    let Chosen { values, said } = args.choice.read()?;
    let namespace = &args.how.namespace;
    let objects = objects::all(&values, namespace);
    block_on(async {
        let client = args.how.reach.client().await?;
        refuse_others(&client, namespace, "upgrade").await?;
        let Some(live) = control_plane(&client, namespace).await? else {
            return Err(Error::Absent(namespace.clone()));
        };
        once::refuse(&live.data, &objects, &said)?;
        Box::pin(bring(&client, &args.how, &objects, args.dry_run)).await
    })
}

fn block_on(future: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// The namespace and `objects` as YAML that kubectl takes too.
fn print(objects: &[Value], name: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "# Beside these, `tulle install` brings where a cluster has none of them:")?;
    for definition in gateway::kinds() {
        let of = gateway::version(&definition);
        writeln!(out, "#   {} {of}", definition["metadata"]["name"].as_str().unwrap_or_default())?;
    }
    for object in std::iter::once(&namespace(name)).chain(objects) {
        writeln!(out, "---")?;
        let yaml = tulle_api::yaml::to_string(object).map_err(io::Error::other)?;
        out.write_all(yaml.as_bytes())?;
    }
    Ok(())
}

/// The control plane's namespace, if nobody has made it yet. The label is why `uninstall` may remove it.
fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/managed-by": MANAGER,
            "app.kubernetes.io/part-of": "tulle",
            "pod-security.kubernetes.io/enforce": "restricted",
        }},
    })
}

/// The control plane's Deployment.
async fn control_plane(client: &Client, namespace: &str) -> Result<Option<DynamicObject>, Error> {
    let like = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace},
    });
    let live = objects_like(client, &like).get(NAME).await;
    found(live).map_err(refused(format!("Deployment {namespace}/{NAME}")))
}

/// What is installed into another namespace is not to be taken apart by mistake, and what Helm keeps
/// account of must not change behind its back.
async fn refuse_others(
    client: &Client,
    namespace: &str,
    command: &'static str,
) -> Result<(), Error> {
    let binding =
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"});
    let binding = found(objects_like(client, &binding).get(NAME).await);
    let binding = binding.map_err(refused("the control plane's ClusterRoleBinding"))?;
    let bound = binding.as_ref().and_then(|live| live.data.pointer("/subjects/0/namespace"));
    if let Some(found) = bound.and_then(Value::as_str).filter(|found| *found != namespace) {
        return Err(Error::Elsewhere { found: found.to_owned(), asked: namespace.to_owned() });
    }
    let live = control_plane(client, namespace).await?;
    let annotations = live.and_then(|live| live.metadata.annotations).unwrap_or_default();
    match annotations.get("meta.helm.sh/release-name") {
        Some(release) => {
            Err(Error::Helm { release: release.clone(), command, namespace: namespace.to_owned() })
        }
        None => Ok(()),
    }
}

/// Says what changes, applies it, and waits.
async fn bring(
    client: &Client,
    how: &How,
    objects: &[Value],
    dry_run: bool,
) -> Result<ExitCode, Error> {
    let version = client.apiserver_version().await.map_err(refused("its version"))?.git_version;
    if too_old(&version) {
        return Err(Error::TooOld(version));
    }
    let mut out = io::stdout();
    let monitors = monitors::known(client).await.map_err(refused("the kind PodMonitor"))?;
    if !monitors && objects.iter().any(|object| object["kind"] == monitors::KIND) {
        return Err(Error::NoMonitors);
    }
    let params = PatchParams { force: how.force_conflicts, ..PatchParams::apply(MANAGER) };
    let (kinds, notes) = gateway::missing(client).await.map_err(refused("Gateway API's kinds"))?;
    let wanted = namespace(&how.namespace);
    let name = how.namespace.as_str();
    let there = found(objects_like(client, &wanted).get(name).await)
        .map_err(refused(title(&wanted)))?
        .is_some();
    let mut changes: Vec<_> = kinds.iter().map(|kind| (kind.clone(), Change::Create)).collect();
    if !there {
        changes.push((wanted.clone(), Change::Create));
    }
    for object in objects {
        let change = changes::of(client, object, &params).await.map_err(refused(title(object)))?;
        changes.push((object.clone(), change));
    }
    for object in objects::whatever(name) {
        if !monitors && object["kind"] == monitors::KIND {
            continue;
        }
        let unwanted = !objects.iter().any(|other| title(other) == title(&object));
        if unwanted && changes::is_ours(client, &object).await.map_err(refused(title(&object)))? {
            changes.push((object, Change::Delete));
        }
    }
    for line in
        notes.into_iter().map(|note| format!("  note    {note}")).chain(changes::lines(&changes))
    {
        writeln!(out, "{line}")?;
    }
    if dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    for kind in &kinds {
        gateway::create(client, kind).await.map_err(refused(title(kind)))?;
    }
    if !there {
        create(client, &wanted).await?;
    }
    for (object, change) in &changes {
        let api = objects_like(client, object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let done = match change {
            Change::Delete => found(api.delete(name, &DeleteParams::default()).await).map(drop),
            _ if objects.contains(object) => {
                api.patch(name, &params, &Patch::Apply(object)).await.map(drop)
            }
            _ => Ok(()),
        };
        done.map_err(refused(title(object)))?;
    }
    if how.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "waiting until the control plane serves")?;
    Box::pin(rollout::wait(client, name, how.timeout)).await?;
    for pod in Box::pin(rollout::ended(client, name, how.timeout)).await? {
        writeln!(
            out,
            "note: pod {pod} of before is still ending; it may yet answer the API server as it was told before"
        )?;
    }
    writeln!(out, "the control plane serves")?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an object that somebody else may have made meanwhile.
async fn create(client: &Client, object: &Value) -> Result<(), Error> {
    let typed: DynamicObject = serde_json::from_value(object.clone()).map_err(io::Error::other)?;
    match objects_like(client, object).create(&PostParams::default(), &typed).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        outcome => outcome.map(drop).map_err(refused(title(object))),
    }
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;
