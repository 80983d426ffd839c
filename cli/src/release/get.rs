//! `tulle release get`: a release at a glance, once or until it has ended.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use tulle_control_plane::steer::ReleaseView;

use super::{canvas::Canvas, desk::Desk, follow, live, screen};
use crate::observe::{Asked, Error, Format, Which, Whom, units::duration};

/// A release at a glance: its steps, what speaks against the new version, who calls it.
///
/// Gates compare the new version with the one before, request by request. EVIDENCE is how much speaks against the new version: a
/// version that is no worse than it may be gets to 31 in at most one of 31 releases (by errors, which are looked at twice, in two), and to the number that is proof hardly ever.
/// amber: no step ends. red: it gets nothing more. Bars of evidence grow with its logarithm. In the curves a dot is a time of which
/// nothing is known.
///
/// With -w keys say what somebody wants: p pauses or goes on (as g does), s begins the next step, P promotes, r rolls back, w says why. Without
/// a terminal, or with --exit in a pipeline, what changes is printed line by line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release get reviews                   once\n  \
    tulle release get shop/reviews -w           until you type q\n  \
    tulle release get reviews -n shop -o json | jq .gates\n  \
    kubectl apply -f reviews.yaml && tulle release get reviews -w --exit --begin 1m --timeout 1h\n\n\
    Exit codes with --exit: 0 promoted (or there is nothing to release), 3 rolled back or held,\n\
    4 paused, 1 anything else: not ended within --timeout, or it cannot be looked at.")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Stay, and draw it anew every second.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    pub(super) until: Until,
    #[command(flatten)]
    whom: Whom,
}

/// When watching ends by itself.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct Until {
    /// End when the release has, or is paused: the exit code says how. If none is under way, end at once, by how the last one
    /// ended.
    #[arg(long, requires = "watch")]
    pub(super) exit: bool,
    /// With --exit: if none is under way, wait so long for one to begin.
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "exit")]
    pub(super) begin: Option<Duration>,
    /// With --exit: how long to wait at most.
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "exit")]
    pub(super) timeout: Option<Duration>,
}

impl Args {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let asked = self.which.asked()?;
        let desk = Desk::find(&self.whom.place).await?;
        let shown = Shown { format: self.whom.output, desk: &desk };
        if !self.watch {
            let view = desk.one(&asked).await?;
            io::stdout().lock().write_all(shown.text(&view)?.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut course = follow::Course::new(self.until);
        let first = course.seen(&desk, &asked).await?;
        let asked = Asked::of(&first);
        match shown.is_drawn() && io::stdout().is_terminal() {
            true => Box::pin(live::stay(&asked, shown, course, first)).await,
            false => Box::pin(follow::print(&asked, shown, course, first)).await,
        }
    }
}

/// How it is shown.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) format: Format,
    pub(super) desk: &'a Desk,
}

impl Shown<'_> {
    /// Whether it is for people.
    pub(super) fn is_drawn(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    pub(super) fn canvas(self) -> Canvas {
        Canvas::of(self.format, self.desk)
    }

    pub(super) fn text(self, view: &ReleaseView) -> Result<String, Error> {
        Ok(match self.format {
            Format::Json => serde_json::to_string_pretty(view)? + "\n",
            Format::Yaml => serde_yaml_ng::to_string(view)?,
            Format::Table | Format::Wide => screen::draw(view, self.canvas()),
        })
    }
}
