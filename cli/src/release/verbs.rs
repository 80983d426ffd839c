//! What people say to a release.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tulle_control_plane::steer::ReleaseView;
use tulle_xds::text::printable;

use super::{canvas::Canvas, desk::Desk, follow::summary, screen};
use crate::observe::{Asked, Error, Format, Which, Whom};

/// So long it may take to be in force; longer than that a proxy is away.
const FORCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What needs no more to be said.
#[derive(Debug, clap::Args)]
pub(super) struct Plain {
    #[command(flatten)]
    of: Of,
}

/// Of which release.
#[derive(Debug, clap::Args)]
struct Of {
    #[command(flatten)]
    which: Which,
    /// Only if this is the version that is being released (as `get` says it); else it is refused.
    #[arg(long, value_name = "VERSION")]
    revision: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

/// Begin the next step at once, although its time has not come or somebody must approve of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release step reviews -n shop             the next one\n  \
    tulle release step reviews -n shop --to 25     the one of 25 %")]
pub(super) struct Step {
    /// The step of this weight, in percent: one that is still to come.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    to: Option<u8>,
    #[command(flatten)]
    of: Of,
}

/// Let the new version take over at once: its pods become ready, the old ones go.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release promote reviews -n shop          if no gate speaks against it\n  \
    tulle release promote reviews -n shop --now    whatever they say")]
pub(super) struct Promote {
    /// Whatever the gates say.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    of: Of,
}

/// Let the new version get nothing more.
///
/// Its pods stay, and do not become ready. The command ends when every proxy does so, and says after which time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release rollback reviews -n shop\n  \
    tulle release abort shop/reviews --reason 'wrong prices'\n\n\
    Exit codes: 0 no proxy sends it anything, 1 it was refused, or some proxies have not taken it within\n\
    10 s.")]
pub(super) struct Rollback {
    /// Why, for those who read its history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    of: Of,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse();
    let number = number.ok().filter(|number| *number <= 100);
    number.ok_or_else(|| "write a percentage, 0 to 100".to_owned())
}

impl Plain {
    pub(super) async fn run(&self, verb: &str) -> Result<ExitCode, Error> {
        self.of.say(verb, &[]).await
    }
}

impl Step {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let to = self.to.map(|to| to.to_string()).unwrap_or_default();
        self.of.say("step", &[("to", to)]).await
    }
}

impl Promote {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let now = if self.now { "true" } else { "" };
        self.of.say("promote", &[("now", now.to_owned())]).await
    }
}

impl Rollback {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let desk = Desk::find(&self.of.whom.place).await?;
        let done = self.of.wish(&desk, "rollback", &[("reason", self.reason.clone())]).await?;
        self.of.print(&done)?;
        if self.of.is_for_people() {
            let undo = screen::undo(&done.view, Canvas::of(self.of.whom.output, &desk));
            io::stdout().lock().write_all(undo.as_bytes())?;
        }
        match done.whole {
            true => Ok(ExitCode::SUCCESS),
            false => {
                let told = "see `tulle proxy status` for those that have not taken it";
                writeln!(io::stderr(), "{told}")?;
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// What came of it.
pub(super) struct Done {
    view: ReleaseView,
    /// All proxies do so.
    pub(super) whole: bool,
    /// How many do, and since when.
    pub(super) told: String,
}

impl Of {
    async fn say(&self, verb: &str, said: &[(&str, String)]) -> Result<ExitCode, Error> {
        let desk = Desk::find(&self.whom.place).await?;
        let done = self.wish(&desk, verb, said).await?;
        self.print(&done)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn wish(&self, desk: &Desk, verb: &str, said: &[(&str, String)]) -> Result<Done, Error> {
        let asked = desk.full(&self.which.asked()?).await?;
        let revision = [("revision", self.revision.clone().unwrap_or_default())];
        let said: Vec<_> = said.iter().cloned().chain(revision).collect();
        let began = Instant::now();
        let view = desk.wish(&asked, verb, &said).await?;
        Ok(in_force(desk, &asked, view, began).await)
    }

    fn is_for_people(&self) -> bool {
        matches!(self.whom.output, Format::Table | Format::Wide)
    }

    fn print(&self, Done { view, told, .. }: &Done) -> Result<(), Error> {
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(view)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(view)?,
            Format::Table | Format::Wide => printable(&format!("{}; {told}", summary(view))) + "\n",
        };
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// Waits until every proxy does what was wanted when it `began`.
pub(super) async fn in_force(
    desk: &Desk,
    asked: &Asked,
    mut view: ReleaseView,
    began: Instant,
) -> Done {
    loop {
        let (on, of, took) = (view.on, view.of, began.elapsed());
        if view.in_force {
            let told = format!("in force on {on}/{of} proxies after {} ms", took.as_millis());
            return Done { view, whole: true, told };
        }
        if took >= FORCE {
            let laggards = match view.laggards.as_slice() {
                [] => String::new(),
                names => format!(", not yet on {}", names.join(", ")),
            };
            let seconds = FORCE.as_secs();
            let told = format!("in force on {on}/{of} proxies within {seconds} s{laggards}");
            return Done { view, whole: false, told };
        }
        sleep(LOOK).await;
        match desk.one(asked).await {
            Ok(now) => view = now,
            Err(Error::Away(_)) => {}
            // It is done, whoever may see it.
            Err(error) => {
                let told = format!("whether it is in force cannot be seen: {error}");
                return Done { view, whole: false, told };
            }
        }
    }
}
