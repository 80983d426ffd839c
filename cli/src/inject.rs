//! `tulle inject`: the same YAML with sidecars, as the webhook would make it.
//!
//! Documents that do not change come out as they went in, to the byte. In those that change only
//! what is added differs (comments inside of them are lost: YAML libraries do not keep them).

mod document;
mod installed;

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use serde_yaml_ng::Value;
use tulle_control_plane::inject::{
    self as sidecar, BadInjection, Injection, Plan, ProbeKey, Settings,
};

use crate::cluster::Reach;
use document::{Document, PodPart};
use installed::Installed;

/// Add the sidecar to the pods in Kubernetes YAML.
///
/// Reads YAML with any number of documents, and writes it with a sidecar in every Pod and pod
/// template (Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, also inside a List).
/// Everything else passes through unchanged. Where the input holds the Namespace, its label
/// `tulle.dev/inject` decides; where it does not, pods get a sidecar. A pod's own label always wins.
/// No cluster is asked unless --from-cluster says so: the same input gives the same output anywhere.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle inject -f deploy.yaml | kubectl apply -f -\n  \
    kubectl get deploy reviews -o yaml | tulle inject -f -\n  \
    tulle inject -f deploy.yaml --from-cluster              exactly what the webhook would add\n  \
    tulle inject -f deploy.yaml --control-plane mesh.example.org:15010 > injected.yaml\n\n\
    Exit codes: 0 done (pods that were left alone are named on stderr), 1 not all of the input could \
    be understood or injected; then nothing is written.")]
pub(crate) struct Args {
    /// File to read, `-` for stdin. Can be given several times.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Inject also where a Namespace in the input is not labelled.
    #[arg(long)]
    inject_all: bool,
    /// As the cluster's own injector would: with the settings of the installation there, and its
    /// namespaces' labels where the input holds no such Namespace. Other options win.
    #[arg(long)]
    from_cluster: bool,
    /// Namespace of the control plane there.
    #[arg(long, value_name = "NAMESPACE", default_value = "tulle-system")]
    mesh_namespace: String,
    #[command(flatten)]
    reach: Reach,
    /// File with the settings of an installation, as its ConfigMap `tulle-injection` has it. Other
    /// options win.
    #[arg(long, value_name = "FILE", conflicts_with = "from_cluster")]
    injection: Option<PathBuf>,
    /// Registry, and path in it, of the images tulle-proxy and tulle-redirect.
    #[arg(long, value_name = "REGISTRY")]
    image_registry: Option<String>,
    /// Tag of the images (default: the version of this program).
    #[arg(long, value_name = "TAG")]
    image_tag: Option<String>,
    /// When Kubernetes fetches the images.
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Address of the control plane, as pods resolve it.
    #[arg(long, value_name = "HOST:PORT")]
    control_plane: Option<String>,
    /// Let sidecars answer DNS for names of the cluster. A pod's annotation `tulle.dev/dns` wins.
    #[arg(long)]
    dns: bool,
    /// File with a secret of 16 bytes or more, that the paths of rewritten probes are made from.
    /// With the same file the same input gives the same output; without it, a pod template with
    /// probes differs each time, so that applying it rolls the pods out anew.
    #[arg(long, value_name = "FILE")]
    probe_key_file: Option<PathBuf>,
}

/// Why there is no output.
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
    /// The probe key is too short.
    #[error(
        "{file}: {} bytes or more are needed; make it with: head -c 32 /dev/urandom > {file}",
        ProbeKey::LEAST
    )]
    ProbeKey {
        /// Its file.
        file: String,
    },
    /// The settings of the installation cannot be.
    #[error(transparent)]
    Injection(#[from] BadInjection),
    /// The cluster says nothing.
    #[error(transparent)]
    Cluster(#[from] installed::Error),
    /// Documents that cannot be injected; each line names file, document and object.
    #[error("{}", .0.join("\nerror: "))]
    Documents(Vec<String>),
    /// Stdout or stderr is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Reads, injects, writes.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut sources = Vec::new();
    for path in &args.files {
        let file =
            if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
        let text = read(path).map_err(|source| Error::Read { file: file.clone(), source })?;
        sources.push((file, text));
    }
    let Installed { injection, warnings, namespaces } = if args.from_cluster {
        installed::read(&args.reach, &args.mesh_namespace)?
    } else {
        let read = args.injection.as_deref().map(sidecar::read).transpose()?;
        let (injection, warnings) = read.unwrap_or_default();
        Installed { injection, warnings, namespaces: BTreeMap::new() }
    };
    let settings = settings(args, &injection, probe_key(args)?);
    let output = transform(&sources, args, settings, namespaces).map_err(Error::Documents)?;
    let mut stderr = io::stderr().lock();
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    for note in warnings.chain(output.notes.iter().cloned()) {
        writeln!(stderr, "{note}")?;
    }
    io::stdout().lock().write_all(output.yaml.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> io::Result<String> {
    if path != Path::new("-") {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

#[derive(Debug, Default)]
struct Output {
    yaml: String,
    /// Warnings, and pods that were left alone.
    notes: Vec<String>,
}

/// All of the input to all of the output, or everything that is wrong with it.
fn transform(
    sources: &[(String, String)],
    args: &Args,
    settings: Settings,
    mut namespaces: BTreeMap<String, BTreeMap<String, String>>,
) -> Result<Output, Vec<String>> {
    let (documents, mut errors) = document::parse(sources);
    namespaces.extend(labels_of_namespaces(&documents));
    let context = Context {
        settings,
        namespaces,
        namespace: args.namespace.clone(),
        inject_all: args.inject_all,
    };
    let mut output = Output::default();
    for document in documents {
        let mut value = document.value.clone();
        let mut changed = false;
        for mut part in document::pod_parts(&mut value, &args.namespace) {
            match context.inject(&mut part) {
                Ok(Outcome { injected, notes }) => {
                    changed |= injected;
                    let name = format!("{}: {}", document.place, part.object);
                    output
                        .notes
                        .extend(notes.iter().map(|(kind, note)| format!("{kind}: {name}: {note}")));
                }
                Err(reason) => {
                    errors.push(format!("{}: {}: {reason}", document.place, part.object));
                }
            }
        }
        let text = if changed { serialize(&value, &mut errors) } else { document.text };
        append(&mut output.yaml, &text);
    }
    if errors.is_empty() { Ok(output) } else { Err(errors) }
}

/// Random without a file: a key that everybody knows would be none.
fn probe_key(args: &Args) -> Result<ProbeKey, Error> {
    let Some(path) = &args.probe_key_file else {
        return Ok(ProbeKey::random());
    };
    let file = path.display().to_string();
    let secret = fs::read(path).map_err(|source| Error::Read { file: file.clone(), source })?;
    ProbeKey::from_secret(&secret).ok_or(Error::ProbeKey { file })
}

/// What the installation says, and over it what the command line says.
fn settings(args: &Args, installed: &Injection, probe_key: ProbeKey) -> Settings {
    let mut settings = installed.settings();
    if args.image_registry.is_some() || args.image_tag.is_some() {
        settings = settings.images(args.image_registry.as_deref(), args.image_tag.as_deref());
    }
    Settings {
        control_plane: args.control_plane.clone().unwrap_or(settings.control_plane),
        image_pull_policy: args.image_pull_policy.clone().or(settings.image_pull_policy),
        dns: args.dns || settings.dns,
        probe_key,
        ..settings
    }
}

/// Labels of the Namespaces in the input, by name.
fn labels_of_namespaces(documents: &[Document]) -> BTreeMap<String, BTreeMap<String, String>> {
    let labels = |namespace: &Value| -> Option<_> {
        let name = namespace.get("metadata")?.get("name")?.as_str()?.to_owned();
        let labels = namespace.get("metadata")?.get("labels").cloned().unwrap_or_default();
        Some((name, serde_yaml_ng::from_value(labels).unwrap_or_default()))
    };
    documents
        .iter()
        .flat_map(|d| document::objects_of_kind(&d.value, "v1", "Namespace"))
        .filter_map(labels)
        .collect()
}

struct Context {
    settings: Settings,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    namespace: String,
    inject_all: bool,
}

struct Outcome {
    injected: bool,
    /// `note` or `warning`, and its text.
    notes: Vec<(&'static str, String)>,
}

impl Context {
    fn inject(&self, part: &mut PodPart<'_>) -> Result<Outcome, String> {
        let metadata = part.read("metadata")?;
        let spec = part.read("spec")?;
        let namespace = part.namespace.as_deref().unwrap_or(&self.namespace);
        let enabled = BTreeMap::from([(sidecar::LABEL.to_owned(), "enabled".to_owned())]);
        let labels = match self.namespaces.get(namespace) {
            Some(labels) if !self.inject_all => labels,
            _ => &enabled,
        };
        match sidecar::plan(&metadata, &spec, labels, &self.settings).map_err(|e| e.to_string())? {
            Plan::Skip(skip) => Ok(Outcome {
                injected: false,
                notes: vec![("note", format!("not injected: {skip}"))],
            }),
            Plan::Inject(additions) => {
                part.add(&additions)?;
                let warnings = additions.warnings.into_iter();
                Ok(Outcome { injected: true, notes: warnings.map(|w| ("warning", w)).collect() })
            }
        }
    }
}

fn serialize(value: &Value, errors: &mut Vec<String>) -> String {
    tulle_api::yaml::to_string(value).unwrap_or_else(|error| {
        errors.push(error.to_string());
        String::new()
    })
}

fn append(yaml: &mut String, document: &str) {
    if !yaml.is_empty() {
        yaml.push_str("---\n");
    }
    yaml.push_str(document);
    if !document.ends_with('\n') {
        yaml.push('\n');
    }
}

#[cfg(test)]
mod tests;
