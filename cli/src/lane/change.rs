//! `tulle lane open` and `close`: what is the user's to write. It is printed, and done for him if he says so.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tulle_control_plane::{console::LaneView, world::lane::LANE_LABEL};

use super::{ask, ways_in};
use crate::{
    cluster::{chain, found, objects_like},
    observe::{Error, Source, Where, Which, units},
};

/// Print a Lane, and how requests get into it.
///
/// The YAML goes to stdout, so that it can be piped to kubectl, or saved for Git; the rest to stderr.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle lane open pr-1234 -n shop > lane.yaml\n  \
    tulle lane open pr-1234 -n shop | kubectl apply -f -\n  \
    tulle lane open pr-1234 -n shop --apply     the same, under your own rights")]
pub(super) struct Open {
    #[command(flatten)]
    which: Which,
    /// Make it in the cluster, as whom that knows you.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    place: Where,
}

/// Say how a lane ends, and what becomes of its pods.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle lane close pr-1234 -n shop            what it would mean\n  \
    tulle lane close pr-1234 -n shop --apply    deletes the Lane, under your own rights")]
pub(super) struct Close {
    #[command(flatten)]
    which: Which,
    /// Delete it from the cluster, as whom that knows you.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    place: Where,
}

/// Its namespace and its name. Who says no namespace means `default`, as everywhere where something is made or ended.
fn named(which: &Which) -> Result<(String, String), Error> {
    let asked = which.asked()?;
    Ok((asked.namespace.unwrap_or_else(|| "default".to_owned()), asked.name))
}

fn object(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "tulle.dev/v1alpha1", "kind": "Lane",
        "metadata": {"name": name, "namespace": namespace}, "spec": {},
    })
}

/// Of what is in files nobody but their owner writes.
fn of_files(place: &Where) -> Result<(), Error> {
    match place.local() {
        None => Ok(()),
        Some(mesh) => Err(Error::Usage(format!(
            "--apply: the mesh {mesh} of `tulle local` is made of your files, which nobody else writes; leave it out"
        ))),
    }
}

impl Open {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let (namespace, name) = &named(&self.which)?;
        if self.apply {
            of_files(&self.place)?;
            let object = object(namespace, name);
            let client = self.place.cluster().client().await?;
            let lanes = objects_like(&client, &object);
            let told = serde_json::from_value(object)?;
            let made = lanes.create(&PostParams::default(), &told).await;
            let was = match made {
                Ok(_made) => "is there now",
                Err(kube::Error::Api(status)) if status.code == 409 => "was there already",
                Err(error) => return Err(Error::Api(chain(&error))),
            };
            writeln!(io::stdout(), "Lane {namespace}/{name} {was}")?;
        } else {
            io::stdout().lock().write_all(yaml(namespace, name).as_bytes())?;
        }
        io::stderr().lock().write_all(hints(namespace, name).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The Lane.
pub(super) fn yaml(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: tulle.dev/v1alpha1\nkind: Lane\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec: {{}}\n"
    )
}

fn hints(namespace: &str, name: &str) -> String {
    format!(
        "# its pods: those of namespace {namespace} with the label {LANE_LABEL}: {name}, beside the labels that their Service selects\n\
         # into it:  curl -H 'x-tulle-lane: {name}' http://SERVICE.{namespace}/\n\
         # then:     tulle lane check {name} -n {namespace}\n"
    )
}

impl Close {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let (namespace, name) = &named(&self.which)?;
        if self.apply {
            of_files(&self.place)?;
        }
        let source = Source::find(&self.place).await?;
        let window = Duration::from_secs(60);
        let mut known = ask(&source, (Some(namespace), Some(name)), window, false).await?;
        let Some(lane) = known.items.pop() else {
            let told = format!(
                "there is no Lane {namespace}/{name}; `tulle lane list` says which there are"
            );
            return Err(Error::Usage(told));
        };
        let mut text = fate(&lane);
        if self.apply {
            let client = self.place.cluster().client().await?;
            let lanes = objects_like(&client, &object(namespace, name));
            let gone = found(lanes.delete(name, &DeleteParams::default()).await.map(drop));
            gone.map_err(|error| Error::Api(chain(&error)))?;
            text += &format!("Lane {namespace}/{name} is deleted\n");
        } else if self.place.local().is_some() {
            text += &format!("to end it, take the Lane {namespace}/{name} out of your files\n");
        } else {
            text += &format!("to end it: kubectl delete lane {name} -n {namespace}\n");
        }
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What becomes of its requests and pods without it.
pub(super) fn fate(lane: &LaneView) -> String {
    let LaneView { namespace, name, services, strays, idle, .. } = lane;
    let last = match idle {
        Some(idle) => {
            format!("the last request of it was told of {} ago", units::span(*idle))
        }
        None => "no request of it was told of".to_owned(),
    };
    let mut text = format!("{namespace}/{name}: {last}; without it they go where everybody's go\n");
    let pods: usize = services.iter().map(|one| one.pods).sum::<usize>() + strays.len();
    if pods == 0 {
        return text;
    }
    let behind: Vec<_> =
        services.iter().map(|one| format!("{} of {}", one.pods, one.name)).collect();
    let behind = if behind.is_empty() { "behind no Service".to_owned() } else { behind.join(", ") };
    text += &match lane.members.contains_key(LANE_LABEL) {
        true => {
            format!("its pods ({behind}) get nothing then, as they have the label {LANE_LABEL}\n")
        }
        false => format!(
            "its pods ({behind}) get everybody's requests then, as they have no label {LANE_LABEL}: take them away first\n"
        ),
    };
    text += &ways_in(lane)
        .into_iter()
        .map(|way| format!("until then, into it: {way}\n"))
        .collect::<String>();
    text
}
