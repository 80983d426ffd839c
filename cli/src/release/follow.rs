//! Follows a release to its end, line by line where nobody looks at a screen.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::ReleaseView;
use tulle_xds::text::printable;

use super::{
    canvas::{clock, is_under_way, title, weight},
    get::{Shown, Until},
};
use crate::observe::{Asked, Error};

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
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
    until: Until,
    since: Instant,
    /// One was under way at some time.
    begun: bool,
    /// Since when nobody answers.
    away: Option<Instant>,
}

impl Course {
    pub(super) fn new(until: Until) -> Self {
        Self { until, since: Instant::now(), begun: false, away: None }
    }

    /// What comes of it that it is so.
    pub(super) fn look(&mut self, view: &ReleaseView) -> Outcome {
        self.away = None;
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

    /// Whether nobody answered at the last look.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// It could not be looked at. What is only away comes back.
    pub(super) fn unseen(&mut self, error: Error) -> Result<(), Error> {
        let passing = matches!(error, Error::Away(_) | Error::Tunnel(_) | Error::Local { .. });
        let since = *self.away.get_or_insert_with(Instant::now);
        match passing && since.elapsed() < AWAY {
            true => Ok(()),
            false => Err(error),
        }
    }
}

/// Prints what changes.
pub(super) async fn print(
    asked: &Asked,
    shown: Shown<'_>,
    until: Until,
) -> Result<ExitCode, Error> {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut course, mut teller) = (Course::new(until), Teller::default());
    let mut looked = false;
    loop {
        ticks.tick().await;
        let view = match shown.desk.one(asked).await {
            Ok(view) => view,
            Err(error) if looked => {
                let told = error.to_string();
                let first = !course.is_away();
                course.unseen(error)?;
                if first {
                    writeln!(io::stderr(), "{told}; trying again")?;
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        looked = true;
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
