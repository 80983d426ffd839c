//! `tulle release list` and `history`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use tulle_control_plane::{
    release::Entry,
    steer::{ReleaseView, ReleasesView},
};

use super::{
    canvas::{Canvas, date, is_under_way, span, tone, weight},
    desk::Desk,
};
use crate::{
    observe::{Error, Format, Which, Whom, label},
    table::{Cell, Column, Table, Tone},
};

/// Releases, and where each one is.
///
/// WEIGHT: what the new version gets of the requests, by the pods that it has. FORCE: proxies that do so, of all that call it. FOR:
/// since its step, its pause or its end began.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release list           all that you may see\n  \
    tulle release list -n shop\n  \
    tulle release list -o json | jq '.items[] | select(.phase == \"Held\")'")]
pub(super) struct Args {
    /// Only this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

/// What happened, and who wanted it: the last twenty things, the newest last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release history reviews -n shop\n  \
    tulle release history shop/reviews -o json")]
pub(super) struct History {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Whom,
}

const COLUMNS: [Column; 9] = [
    Column::text("NAMESPACE", 3),
    Column::text("NAME", 0),
    Column::text("PHASE", 0),
    Column::text("CANARY", 4),
    Column::text("STABLE", 5),
    Column::numbers("STEP", 2),
    Column::numbers("WEIGHT", 1),
    Column::numbers("FORCE", 6),
    Column::numbers("FOR", 7),
];
/// Reasons are as long as they are.
const REASON: Column = Column::text("REASON", 0);

impl Args {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let desk = Desk::find(&self.whom.place).await?;
        let all = desk.all(self.namespace.as_deref()).await?;
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(&all)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(&all)?,
            Format::Table | Format::Wide => table(&all, Canvas::of(self.whom.output, &desk)),
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// For people. Reasons stand behind the rest if there is room for them, and in `wide`.
pub(super) fn table(all: &ReleasesView, canvas: Canvas) -> String {
    if all.items.is_empty() {
        return "there are no releases; `tulle release template` prints one\n".to_owned();
    }
    let columns: Vec<_> = COLUMNS.into_iter().chain(canvas.wide.then_some(REASON)).collect();
    let width = (!canvas.wide).then_some(canvas.width);
    let mut table = Table::within(&columns, width, canvas.colored);
    for view in &all.items {
        let reason = canvas.wide.then(|| view.reason.clone().into());
        table.push(row(view, canvas.now).into_iter().chain(reason).collect());
    }
    table.to_string()
}

fn row(view: &ReleaseView, now: u64) -> [Cell; 9] {
    let under_way = is_under_way(view);
    let step = (under_way && view.step > 0).then(|| format!("{}/{}", view.step, view.steps.len()));
    let gets = under_way.then(|| weight(view.share));
    let force = (view.of > 0).then(|| format!("{}/{}", view.on, view.of));
    let since = (view.since > 0).then(|| span(now.saturating_sub(view.since)));
    [
        view.namespace.clone().into(),
        view.name.clone().into(),
        Cell::new(&format!("{:?}", view.phase), tone(view.phase)),
        view.canary.clone().into(),
        view.stable.clone().into(),
        step.unwrap_or_default().into(),
        Cell::new(
            &gets.unwrap_or_default(),
            if view.capped { Tone::Doubtful } else { Tone::Plain },
        ),
        Cell::new(
            &force.unwrap_or_default(),
            if view.in_force { Tone::Plain } else { Tone::Doubtful },
        ),
        since.unwrap_or_default().into(),
    ]
}

impl History {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let asked = self.which.asked()?;
        let view = Desk::find(&self.whom.place).await?.one(&asked).await?;
        let text = match self.whom.output {
            Format::Json => serde_json::to_string_pretty(&view.history)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(&view.history)?,
            Format::Table | Format::Wide => log(&view.history),
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The newest last, as in a log.
pub(super) fn log(history: &[Entry]) -> String {
    if history.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let mut table = Table::new(&["AT (UTC)", "WHO", "WHAT", "WHY"]);
    for Entry { at, who, did, why } in history.iter().rev() {
        table.row([date(*at), who.clone(), did.clone(), why.clone()]);
    }
    table.to_string()
}
