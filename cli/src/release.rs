//! `tulle release`: where releases are, and what shall become of them.

mod live;
mod picture;
mod words;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http::Request;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::{ReleaseView, ReleasesView};

use crate::{
    observe::{Error, Format, Source, Whom, colored, label},
    table::{Cell, Column, Table, Tone},
};

/// Exit codes of `get --exit`.
const ROLLED_BACK: u8 = 3;
const PAUSED: u8 = 4;
/// How long a verb waits until all proxies do what it says.
const IN_FORCE: Duration = Duration::from_secs(10);
/// Between two looks at that.
const SOON: Duration = Duration::from_millis(100);

/// Where releases are, and what shall become of them: also spelled `tulle canary`.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle release list                          all of them\n  \
    tulle release get reviews -w                one, drawn anew every second\n  \
    tulle release get reviews -w --exit         in CI: 0 it went through, 3 rolled back, 4 paused\n  \
    tulle release step reviews --to 25          the step of 25 % at once\n  \
    tulle release rollback reviews --reason '…' nothing more to the new version\n  \
    tulle release why reviews                   what each gate says, in words")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All releases.
    #[command(after_help = "Examples:\n  tulle release list -n shop")]
    List(List),
    /// One release: versions, step, gates, pods, callers.
    #[command(
        after_help = "Examples:\n  tulle release get reviews -w\n  tulle release get shop/reviews -w --exit"
    )]
    Get(Get),
    /// Try the version again that was rolled back.
    #[command(after_help = "Examples:\n  tulle release start reviews")]
    Start(Do),
    /// No further step until somebody says so; red gates still roll back.
    #[command(after_help = "Examples:\n  tulle release pause reviews")]
    Pause(Do),
    /// Go on; also says yes where a step waits to be approved.
    #[command(after_help = "Examples:\n  tulle release resume reviews --revision 84f6")]
    Resume(Do),
    /// The next step at once, or a later one.
    #[command(
        after_help = "Examples:\n  tulle release step reviews\n  tulle release step reviews --to 25"
    )]
    Step(Step),
    /// The new version replaces the old one.
    #[command(
        after_help = "Examples:\n  tulle release promote reviews\n  tulle release promote reviews --now"
    )]
    Promote(Promote),
    /// Nothing more to the new version.
    #[command(
        visible_alias = "abort",
        after_help = "Examples:\n  tulle release rollback reviews --reason 'wrong prices'"
    )]
    Rollback(Rollback),
    /// Why it is where it is, in words.
    #[command(after_help = "Examples:\n  tulle release why reviews")]
    Why(Named),
    /// What happened, the newest first, and who wanted it.
    #[command(after_help = "Examples:\n  tulle release history reviews")]
    History(Named),
    /// Print the YAML of a Release with all that can be said, to begin with.
    #[command(after_help = "Examples:\n  tulle release template > release.yaml")]
    Template,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

/// Which one.
#[derive(Debug, clap::Args)]
struct Named {
    /// NAME, or NAMESPACE/NAME.
    #[arg(value_name = "NAME")]
    release: String,
    /// Where it is. Without it all namespaces are looked through.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
struct Get {
    #[command(flatten)]
    named: Named,
    /// Stay, and draw it anew every second; keys steer it.
    #[arg(short, long)]
    watch: bool,
    /// With -w: end when the release does. Exit code 0: it went through, 3: it was rolled back, 4: it is paused.
    #[arg(long, requires = "watch")]
    exit: bool,
}

#[derive(Debug, clap::Args)]
struct Do {
    #[command(flatten)]
    named: Named,
    /// Only if it is this version that is being released.
    #[arg(long, value_name = "HASH")]
    revision: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Step {
    #[command(flatten)]
    of: Do,
    /// The step that has this weight, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    to: Option<u8>,
}

#[derive(Debug, clap::Args)]
struct Promote {
    #[command(flatten)]
    of: Do,
    /// Although a gate does not say that it is good.
    #[arg(long)]
    now: bool,
}

#[derive(Debug, clap::Args)]
struct Rollback {
    #[command(flatten)]
    of: Do,
    /// Why, for who reads the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// A wish, and what belongs to it.
#[derive(Debug, Clone, Default)]
struct Wish<'a> {
    verb: &'static str,
    revision: Option<&'a str>,
    to: Option<u8>,
    now: bool,
    reason: &'a str,
}

/// Does it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.command {
            Command::List(list) => list.print().await,
            Command::Get(get) => get.print().await,
            Command::Start(it) => it.wish(Wish { verb: "start", ..Wish::default() }).await,
            Command::Pause(it) => it.wish(Wish { verb: "pause", ..Wish::default() }).await,
            Command::Resume(it) => it.wish(Wish { verb: "resume", ..Wish::default() }).await,
            Command::Step(Step { of, to }) => {
                of.wish(Wish { verb: "step", to: *to, ..Wish::default() }).await
            }
            Command::Promote(Promote { of, now }) => {
                of.wish(Wish { verb: "promote", now: *now, ..Wish::default() }).await
            }
            Command::Rollback(Rollback { of, reason }) => {
                of.wish(Wish { verb: "rollback", reason, ..Wish::default() }).await
            }
            Command::Why(named) => named.print(words::why).await,
            Command::History(named) => named.print(words::history).await,
            Command::Template => say(words::TEMPLATE),
        }
    })
}

fn say(text: &str) -> Result<ExitCode, Error> {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

impl List {
    async fn print(&self) -> Result<ExitCode, Error> {
        let source = Source::find(&self.whom.place).await?;
        let mut all = look(&source, self.namespace.as_deref(), None).await?;
        all.items.sort_by_key(|one| !is_under_way(one.phase));
        say(&show(&all, self.whom.output, |all| match all.items.is_empty() {
            true => "there are no Releases; `tulle release template` prints one to begin with\n"
                .to_owned(),
            false => table(&all.items, colored()),
        })?)
    }
}

fn table(releases: &[ReleaseView], colored: bool) -> String {
    const COLUMNS: [Column; 8] = [
        Column::text("NAMESPACE", 3),
        Column::text("NAME", 0),
        Column::text("PHASE", 0),
        Column::text("VERSION", 2),
        Column::text("STEP", 1),
        Column::numbers("WEIGHT", 0),
        Column::text("IN FORCE", 4),
        Column::text("REASON", 5),
    ];
    let mut table = Table::of(&COLUMNS, colored);
    for one in releases {
        let tone = if is_bad(one.phase) { Tone::Bad } else { Tone::Plain };
        let plain = |text: &str| Cell::new(text, Tone::Plain);
        let weight = match is_under_way(one.phase) {
            true => picture::percent(one.share),
            false => String::new(),
        };
        let step = match one.step {
            0 => String::new(),
            step => format!("{step}/{}", one.steps.len()),
        };
        table.push(vec![
            plain(&one.namespace),
            plain(&one.name),
            Cell::new(&format!("{:?}", one.phase), tone),
            plain(&versions(one)),
            plain(&step),
            plain(&weight),
            plain(&format!("{}/{}", one.on, one.of)),
            plain(&one.reason),
        ]);
    }
    table.to_string()
}

fn versions(release: &ReleaseView) -> String {
    match release.canary.as_str() {
        "" => release.stable.clone(),
        canary => format!("{} -> {canary}", release.stable),
    }
}

fn is_under_way(phase: Phase) -> bool {
    matches!(phase, Phase::Waiting | Phase::Progressing | Phase::Paused | Phase::Promoting)
}

fn is_bad(phase: Phase) -> bool {
    matches!(phase, Phase::Paused | Phase::Held)
}

/// Those of a namespace and a name, if these are said; of a name with what happened in the last minutes.
async fn look(
    source: &Source,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<ReleasesView, Error> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let said = [("namespace", namespace), ("name", name)];
    for (key, value) in said.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
        query.append_pair(key, value);
    }
    let path = format!("/releases?{}", query.finish());
    Ok(serde_json::from_str(&source.get(&path).await?)?)
}

fn show<T: Serialize>(
    value: &T,
    format: Format,
    for_people: impl FnOnce(&T) -> String,
) -> Result<String, Error> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
        Format::Yaml => serde_yaml_ng::to_string(value)?,
        Format::Table | Format::Wide => for_people(value),
    })
}

impl Named {
    /// The one that is meant.
    async fn find(&self, source: &Source) -> Result<ReleaseView, Error> {
        let (namespace, name) = match self.release.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (self.namespace.as_deref(), self.release.as_str()),
        };
        for said in namespace.into_iter().chain([name]) {
            label(said).map_err(|why| Error::Usage(format!("{said:?}: {why}")))?;
        }
        let mut all = look(source, namespace, Some(name)).await?;
        let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
        match all.items.len() {
            0 => Err(Error::Usage(format!(
                "there is no Release {name}{place}; `tulle release list` shows those that you may see"
            ))),
            1 => Ok(all.items.remove(0)),
            _ => {
                let there: Vec<_> = all.items.iter().map(|one| one.namespace.as_str()).collect();
                let there = there.join(", ");
                Err(Error::Usage(format!("there is a Release {name} in {there}: say which by -n")))
            }
        }
    }

    async fn print(&self, words: fn(&ReleaseView) -> String) -> Result<ExitCode, Error> {
        let source = Source::find(&self.whom.place).await?;
        let release = self.find(&source).await?;
        say(&show(&release, self.whom.output, words)?)
    }
}

impl Get {
    async fn print(&self) -> Result<ExitCode, Error> {
        let source = Source::find(&self.named.whom.place).await?;
        let release = self.named.find(&source).await?;
        if self.watch {
            return Box::pin(live::follow(&source, release, self.named.whom.output, self.exit))
                .await;
        }
        let picture = |release: &ReleaseView| picture::draw(release, picture::Style::of_terminal());
        say(&show(&release, self.named.whom.output, picture)?)
    }
}

/// What `--exit` says of a release that has ended or stands still; `None`: it is under way.
fn verdict(phase: Phase) -> Option<ExitCode> {
    match phase {
        Phase::Idle | Phase::Promoted => Some(ExitCode::SUCCESS),
        Phase::Held | Phase::RolledBack => Some(ROLLED_BACK.into()),
        Phase::Paused => Some(PAUSED.into()),
        Phase::Waiting | Phase::Progressing | Phase::Promoting => None,
    }
}

impl Do {
    async fn wish(&self, wish: Wish<'_>) -> Result<ExitCode, Error> {
        let source = Source::find(&self.named.whom.place).await?;
        let release = self.named.find(&source).await?;
        let revision = self.revision.as_deref();
        let begun = Instant::now();
        let mut now = send(&source, &release, &Wish { revision, ..wish }).await?;
        while !now.in_force && begun.elapsed() < IN_FORCE {
            sleep(SOON).await;
            now = self.named.find(&source).await?;
        }
        let force = match now.in_force {
            true => {
                format!("in force on {} proxies after {} ms", now.of, begun.elapsed().as_millis())
            }
            false => format!("on {} of {} proxies so far", now.on, now.of),
        };
        let name = format!("{}/{}", now.namespace, now.name);
        let text = format!("Release {name}: {:?}, {}; {force}\n", now.phase, now.reason);
        say(&show(&now, self.named.whom.output, |_| text)?)
    }
}

/// Sends what somebody wants; what became of the release.
async fn send(
    source: &Source,
    release: &ReleaseView,
    wish: &Wish<'_>,
) -> Result<ReleaseView, Error> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("namespace", &release.namespace).append_pair("name", &release.name);
    if let Some(revision) = wish.revision {
        query.append_pair("revision", revision);
    }
    if let Some(to) = wish.to {
        query.append_pair("to", &to.to_string());
    }
    if wish.now {
        query.append_pair("now", "true");
    }
    if !wish.reason.is_empty() {
        query.append_pair("reason", wish.reason);
    }
    let request = Request::post(format!("/releases/{}?{}", wish.verb, query.finish()));
    let request = request.body(Bytes::new()).map_err(|error| Error::Usage(error.to_string()))?;
    let answer = source.send(request).await?;
    if !answer.status().is_success() {
        let told = String::from_utf8_lossy(answer.body()).trim().to_owned();
        return Err(Error::Refused(told));
    }
    Ok(serde_json::from_slice(answer.body())?)
}

#[cfg(test)]
mod tests;
