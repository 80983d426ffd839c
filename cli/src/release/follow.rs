//! Follows a release to its end, line by line where nobody looks at a screen.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::ReleaseView;
use tulle_xds::text::printable;

use super::{
    canvas::{clock, is_under_way, title, weight},
    desk::Desk,
    get::{Shown, Until},
};
use crate::observe::{Asked, Error};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// So long the control plane may be away: its replicas change now and then while a release is under way.
const AWAY: Duration = Duration::from_secs(60);

/// What watching has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on.
    Open,
    /// It is over: with this exit code, for this reason.
    Over(u8, String),
}

/// Follows one release from look to look.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) until: Until,
    since: Instant,
    ticks: Interval,
    /// It has been seen.
    seen: bool,
    /// One was under way at some time.
    begun: bool,
    /// Since when nobody answers.
    away: Option<Instant>,
}

impl Course {
    pub(super) fn new(until: Until) -> Self {
        let (since, ticks) = (Instant::now(), ticks());
        Self { until, since, ticks, seen: false, begun: false, away: None }
    }

    /// What comes of it that it is so.
    pub(super) fn look(&mut self, view: &ReleaseView) -> Outcome {
        (self.seen, self.away) = (true, None);
        self.begun |= is_under_way(view);
        if !self.until.exit {
            return Outcome::Open;
        }
        let (name, reason) = (title(view), &view.reason);
        let waits = self.until.begin.is_some_and(|begin| self.since.elapsed() < begin);
        if !self.begun && waits {
            return self.in_time(view);
        }
        let code = match view.phase {
            Phase::Idle | Phase::Promoted => 0,
            Phase::Held | Phase::RolledBack => 3,
            Phase::Paused => 4,
            Phase::Waiting | Phase::Progressing | Phase::Promoting => return self.in_time(view),
        };
        let told = match self.begun {
            true => format!("{name} is {:?}: {reason}", view.phase),
            false => format!(
                "no release of {name} is under way; the last one is {:?}: {reason}",
                view.phase
            ),
        };
        Outcome::Over(code, told)
    }

    fn in_time(&self, view: &ReleaseView) -> Outcome {
        match self.until.timeout {
            Some(timeout) if self.since.elapsed() >= timeout => {
                let (name, seconds) = (title(view), timeout.as_secs());
                let told = format!(
                    "{name} has not ended within {seconds} s: it is {:?}: {}",
                    view.phase, view.reason
                );
                Outcome::Over(1, told)
            }
            _ => Outcome::Open,
        }
    }

    /// It could not be looked at. What is only away comes back, and what was applied a moment ago is seen soon; whoever looks with no end
    /// in mind is told at the first look.
    pub(super) fn unseen(&mut self, error: Error) -> Result<(), Error> {
        let since = *self.away.get_or_insert_with(Instant::now);
        let patience = match error {
            Error::Away(_) | Error::Tunnel(_) | Error::Local { .. }
                if self.seen || self.until.exit =>
            {
                AWAY
            }
            Error::Absent(_) if !self.seen => self.until.begin.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if since.elapsed() < patience { Ok(()) } else { Err(error) }
    }

    /// The next look at it: what is away is waited for, which is said once.
    pub(super) async fn seen(&mut self, desk: &Desk, asked: &Asked) -> Result<ReleaseView, Error> {
        loop {
            self.ticks.tick().await;
            let error = match desk.one(asked).await {
                Ok(view) => return Ok(view),
                Err(error) => error,
            };
            let (first, told) = (self.away.is_none(), error.to_string());
            self.unseen(error)?;
            if first {
                writeln!(io::stderr(), "{told}; trying again")?;
            }
        }
    }
}

/// A look each second.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Prints what changes.
pub(super) async fn print(
    asked: &Asked,
    shown: Shown<'_>,
    mut course: Course,
    mut view: ReleaseView,
) -> Result<ExitCode, Error> {
    let mut teller = Teller::default();
    loop {
        let text = if shown.is_drawn() {
            teller.tell(&view, shown.canvas().now)
        } else {
            shown.text(&view)?
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        if let Outcome::Over(code, told) = course.look(&view) {
            // What a program reads is on stdout.
            writeln!(io::stderr(), "{}", printable(&told))?;
            return Ok(ExitCode::from(code));
        }
        view = course.seen(shown.desk, asked).await?;
    }
}

/// Says what is new.
#[derive(Debug, Default)]
pub(super) struct Teller {
    state: Option<(Phase, String, usize)>,
    /// What each gate said.
    gates: Vec<(String, String)>,
}

impl Teller {
    /// A line for each thing.
    pub(super) fn tell(&mut self, view: &ReleaseView, now: u64) -> String {
        let mut text = String::new();
        let state = (view.phase, view.canary.clone(), view.step);
        if self.state.as_ref() != Some(&state) {
            text += &format!("{}  {}\n", clock(now), printable(&summary(view)));
            self.state = Some(state);
        }
        let gates = view.gates.iter().map(|gate| (gate.gate.clone(), gate.state.clone()));
        let gates: Vec<_> = gates.collect();
        for (gate, said) in view.gates.iter().zip(&gates) {
            let before = self.gates.iter().find(|(name, _)| *name == gate.gate);
            let usual = gate.state == "Green";
            if before.map_or(!usual, |before| before != said) {
                let told = format!("{} is {}: {}", gate.gate, gate.state.to_lowercase(), gate.why);
                text += &format!("{}  {}\n", clock(now), printable(&told));
            }
        }
        self.gates = gates;
        text
    }
}

/// In one line.
pub(super) fn summary(view: &ReleaseView) -> String {
    let ReleaseView { phase, canary, stable, reason, step, steps, .. } = view;
    let name = title(view);
    let versions = match (canary.is_empty(), is_under_way(view)) {
        (false, true) => format!(", {canary} replaces {stable}"),
        _ => String::new(),
    };
    let place = match phase {
        Phase::Progressing | Phase::Paused if *step > 0 => {
            format!(", step {step} of {} ({})", steps.len(), weight(view.weight))
        }
        _ => String::new(),
    };
    format!("{name} is {phase:?}{versions}{place}: {reason}")
}
