//! A release that is drawn anew every second, and steered by keys.

use std::{io, io::IsTerminal as _, io::Write as _, process::ExitCode, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tulle_control_plane::steer::ReleaseView;

use super::{Wish, look, picture, send, show, verdict};
use crate::observe::{Error, Format, Screen, Source, keys};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What a key wants, and whether it is asked again before it is done.
fn wanted(key: u8) -> Option<(Wish<'static>, bool)> {
    let (verb, again) = match key {
        b'p' => ("pause", false),
        b'g' => ("resume", false),
        b's' => ("step", false),
        b'P' => ("promote", true),
        b'r' => ("rollback", true),
        _ => return None,
    };
    Some((Wish { verb, ..Wish::default() }, again))
}

/// Until somebody types `q`, or with `ends` until the release has ended; what became of it is the exit code.
pub(super) async fn follow(
    source: &Source,
    mut release: ReleaseView,
    format: Format,
    ends: bool,
) -> Result<ExitCode, Error> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let drawn = matches!(format, Format::Table | Format::Wide) && io::stdout().is_terminal();
    let screen = drawn.then(Screen::open).transpose()?;
    let mut typed = keys(drawn);
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut asked, mut last) = (String::new(), None::<Wish<'_>>, String::new());
    loop {
        let hint = match &asked {
            Some(wish) => format!("{} {}? y does it", wish.verb, release.canary),
            None if said.is_empty() => {
                "p pauses, g goes on, s next step, P promotes, r rolls back, q quits".to_owned()
            }
            None => said.clone(),
        };
        match &screen {
            Some(screen) => {
                screen.draw(&picture::draw(&release, picture::Style::of_terminal()), &hint)?;
            }
            None => {
                let line = show(&release, format, line)?;
                // Who reads a log wants to know what has changed.
                if line != last {
                    io::stdout().lock().write_all(line.as_bytes())?;
                    last = line;
                }
            }
        }
        if let Some(code) = verdict(release.phase).filter(|_| ends) {
            drop(screen);
            return Ok(code);
        }
        tokio::select! {
            _ = ticks.tick() => {
                let mut all = look(source, Some(&release.namespace), Some(&release.name)).await?;
                let gone = || Error::Usage(format!("Release {} is gone", release.name));
                release = all.items.pop().ok_or_else(gone)?;
            }
            Some(key) = typed.recv() => match (key, asked.take()) {
                (b'y', Some(wish)) => said = done(source, &release, &wish).await,
                (b'q' | b'Q', None) => return Ok(ExitCode::SUCCESS),
                (key, _) => match wanted(key) {
                    Some((wish, true)) => asked = Some(wish),
                    Some((wish, false)) => said = done(source, &release, &wish).await,
                    None => said.clear(),
                },
            },
            _interrupt = interrupted.recv() => return Ok(ExitCode::SUCCESS),
            _terminate = terminated.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn done(source: &Source, release: &ReleaseView, wish: &Wish<'_>) -> String {
    let wish = Wish { revision: Some(&release.canary), ..wish.clone() };
    match send(source, release, &wish).await {
        Ok(now) => format!("{}: {:?}", wish.verb, now.phase),
        Err(why) => why.to_string(),
    }
}

/// For a log.
fn line(release: &ReleaseView) -> String {
    let gates: Vec<_> = release
        .gates
        .iter()
        .map(|gate| format!("{} {}", gate.gate, gate.state.to_lowercase()))
        .collect();
    let step = format!("step {} of {}", release.step, release.steps.len());
    let weight = picture::percent(release.share);
    let (phase, reason) = (release.phase, &release.reason);
    format!("{phase:?}  {step}  {weight}  {}  {reason}\n", gates.join(", "))
}
