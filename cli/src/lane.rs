//! `tulle lane`: branches of some services beside everybody's, and whether requests stay in them.
//!
//! ```text
//! list, check ──► GET /telemetry/lanes ──► a table, [ verdict ]: which hop loses it
//! open, close: YAML, or with --apply the object itself, as whom the cluster knows the user
//! ```

mod change;
mod check;
mod list;
mod verdict;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tulle_control_plane::console::{LANES, LaneView, LanesView};

use crate::observe::{Error, Source};

/// Requests that take other versions of some services, wherever these are called.
///
/// A Lane says who enters, and which pods are its own; everybody else's requests never come to these. It goes on from hop to hop as
/// long as applications forward `baggage`, or `traceparent` alone.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle lane open pr-1234 -n shop | kubectl apply -f -\n  \
    tulle lane list                    which there are, with their pods and requests\n  \
    tulle lane check pr-1234 -n shop   which hop loses it, and what to do\n  \
    tulle lane close pr-1234 -n shop   how to end it, and what becomes of its pods")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Open(change::Open),
    Close(change::Close),
    Check(check::Args),
}

/// Does it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(async {
        match &args.command {
            Command::List(args) => Box::pin(args.run()).await,
            Command::Open(args) => Box::pin(args.run()).await,
            Command::Close(args) => Box::pin(args.run()).await,
            Command::Check(args) => Box::pin(args.run()).await,
        }
    }))
}

/// What the control plane knows of the lanes of a namespace, or of all; of this name, or of any.
async fn ask(
    source: &Source,
    (namespace, name): (Option<&str>, Option<&str>),
    window: Duration,
    watch: bool,
) -> Result<LanesView, Error> {
    let window = window.as_secs();
    let mut path = format!("{LANES}?window={window}&watch={watch}");
    for (key, value) in [("namespace", namespace), ("name", name)] {
        // Names need no escapes.
        path += &value.map(|value| format!("&{key}={value}")).unwrap_or_default();
    }
    Ok(serde_json::from_str(&source.get(&path).await?)?)
}

/// How somebody sends a request into it: a line for each of its entries, or what it says if no line can.
fn ways_in(lane: &LaneView) -> Vec<String> {
    let service = lane.services.first().map_or("SERVICE", |service| service.name.as_str());
    let ways = lane.entry.iter().map(|entry| {
        let all = entry.headers.iter().chain(&entry.query);
        if let Some(one) = all.into_iter().find(|one| one.regex) {
            return format!("a request whose {} matches {}", one.name, one.value);
        }
        let headers = entry.headers.iter().map(|one| format!("-H '{}: {}' ", one.name, one.value));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(entry.query.iter().map(|one| (&one.name, &one.value)));
        let query = Some(query.finish()).filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let headers: String = headers.collect();
        format!("curl {headers}'http://{service}.{}/{query}'", lane.namespace)
    });
    ways.collect()
}

#[cfg(test)]
mod tests;
