//! What the commands that look at traffic share: whom they ask, how they print, how they stay.
//!
//! All of them ask the control plane (`/telemetry/…`): of `tulle local` on its admin socket, of a cluster on its port for people,
//! as whom the cluster knows the user.

mod live;
mod source;
pub(crate) mod units;
mod which;

use std::{error, io, io::IsTerminal as _, io::Write as _, process::ExitCode, time::Duration};

use clap::ValueEnum;
use serde::Serialize;
use tulle_control_plane::telemetry::{api::is_name, view::View};

use crate::cluster::tunnel;

pub(crate) use self::{
    live::{Screen, keys},
    source::{Source, Where},
    which::{Asked, Which},
};

/// What all of them can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Look {
    /// What time figures are of: 30s, 5m, 2h; more, up to 31d, where the control plane has a Prometheus to ask.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    window: Option<Duration>,
    #[command(flatten)]
    whom: Whom,
}

/// Whom to ask, and how to print what is said.
#[derive(Debug, clap::Args)]
pub(crate) struct Whom {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// More of them.
    Wide,
    /// As the control plane says it.
    Json,
    /// The same in YAML.
    Yaml,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The control plane could not be asked.
    #[error("cannot ask the control plane of `tulle local` on {socket}")]
    Local {
        /// Its socket.
        socket: String,
        /// Why.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// It refused the question.
    #[error("the control plane says: {0}")]
    Refused(String),
    /// It cannot answer right now.
    #[error("the control plane says: {0}")]
    Away(String),
    /// Its answer is none that we know: most likely another version.
    #[error("the control plane answered what this version of tulle does not understand: {0}")]
    Answer(#[from] serde_json::Error),
    /// There is no cluster.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::Unreachable),
    /// The cluster does not do what it was asked.
    #[error("the API server says: {0}")]
    Api(String),
    /// There is no way to it.
    #[error(transparent)]
    Tunnel(#[from] tunnel::Error),
    /// The YAML cannot be written.
    #[error(transparent)]
    Yaml(#[from] serde_yaml_ng::Error),
    /// Stdout is gone, or there is no runtime.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is nothing of that name; there may be soon.
    #[error("{0}")]
    Absent(String),
}

/// Something to look at.
pub(crate) trait Page {
    /// What the control plane answers.
    type Item: Serialize + serde::de::DeserializeOwned;

    /// The path to ask for, without window and watching.
    fn path(&self) -> String;

    /// Whether the path asks for no more than what is shown: only then sidecars report every second for it.
    fn is_narrow(&self) -> bool {
        true
    }

    /// Whether this is one of those that are asked for: what the control plane does not tell apart.
    fn keep(&self, _item: &Self::Item) -> bool {
        true
    }

    /// For people.
    fn table(&self, view: &View<Self::Item>, style: Style) -> String;
}

/// How a table looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// All columns.
    pub(crate) wide: bool,
    /// In colors.
    pub(crate) colored: bool,
}

impl Look {
    /// Prints the page once, or until somebody has seen enough.
    pub(crate) fn print<P: Page>(&self, page: &P, stay: bool) -> Result<ExitCode, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let longest = Duration::from_secs(7200);
        if stay && self.window.is_some_and(|window| window > longest) {
            let told = "--window: what took longer than two hours is not drawn anew each second; leave -w out, or top has --once";
            return Err(Error::Usage(told.to_owned()));
        }
        runtime.block_on(async {
            let source = Source::find(&self.whom.place).await?;
            match stay {
                true => Box::pin(live::follow(self, page, &source)).await?,
                false => {
                    let text = self.text(page, &source, false).await?;
                    io::stdout().lock().write_all(text.as_bytes())?;
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    async fn text<P: Page>(&self, page: &P, source: &Source, watch: bool) -> Result<String, Error> {
        let (path, watch) = (page.path(), watch && page.is_narrow());
        let window = self.window(watch).as_secs();
        let join = if path.contains('?') { '&' } else { '?' };
        let asked = source.get(&format!("{path}{join}window={window}&watch={watch}")).await?;
        let mut view: View<P::Item> = serde_json::from_str(&asked)?;
        view.items.retain(|item| page.keep(item));
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(&view)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(&view)?,
            Format::Table | Format::Wide => {
                let style = Style { wide: self.whom.output == Format::Wide, colored: colored() };
                page.table(&view, style) + &doubts(&view)
            }
        };
        Ok(text)
    }

    /// What figures are of: a minute, or where they are looked at every second ten of these.
    fn window(&self, watch: bool) -> Duration {
        let usual = Duration::from_secs(if watch { 10 } else { 60 });
        self.window.unwrap_or(usual)
    }
}

/// A name of Kubernetes, as it is typed.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match !text.is_empty() && is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("it is no name of Kubernetes".to_owned()),
    }
}

/// What keeps the answer from being whole.
fn doubts<T>(view: &View<T>) -> String {
    let View { window, whole, unheard, shortened, items: _ } = view;
    let mut text = String::new();
    if *window < 1.0 {
        text += "nothing is known of that time: sidecars report within ten seconds of the control plane's start\n";
    }
    if !unheard.is_empty() {
        let who = unheard.join(", ");
        text += &format!("incomplete: {who} did not say what it knows\n");
    }
    if whole < window {
        text += &format!(
            "known in part: a replica of the control plane began {whole:.0} s ago; what only one that is gone was told before is missing\n"
        );
    }
    if *shortened {
        text += "history shortened: the control plane forgot some of the past for want of memory\n";
    }
    text
}

/// Whether colors are wanted: <https://no-color.org>.
pub(crate) fn colored() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_is_said() {
        let view = |window, whole, unheard: &[&str], shortened| View::<u8> {
            window,
            whole,
            items: Vec::new(),
            unheard: unheard.iter().map(ToString::to_string).collect(),
            shortened,
        };
        for (view, said) in [
            (view(60.0, 60.0, &[], false), &[][..]),
            (view(0.0, 4.0, &[], false), &["nothing is known of that time"]),
            (view(60.0, 25.4, &[], false), &["a replica of the control plane began 25 s ago"]),
            (view(60.0, 90.0, &["b", "c"], true), &["b, c did not say", "history shortened"]),
        ] {
            let text = doubts(&view);
            assert_eq!(text.lines().count(), said.len(), "{text}");
            assert!(said.iter().all(|said| text.contains(said)), "{text}");
        }
    }
}
