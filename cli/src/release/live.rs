//! A release on a screen that stays, with keys that say what somebody wants.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use futures_util::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::ReleaseView;
use tulle_xds::text::printable;

use super::{
    canvas::{Canvas, is_under_way},
    desk::Desk,
    follow::{Course, Outcome, summary, ticks},
    get::Shown,
    screen, why,
};
use crate::{
    observe::{Asked, Error, Screen, keys},
    table::Tone,
};

/// For so many looks it is told what came of a wish.
const TOLD: u8 = 8;
/// Where there is more than fits.
const MORE: &str = "… more than fits: without -w all is printed";

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Pause,
    Resume,
    Step,
    Promote,
    Rollback,
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Nothing,
    Quit,
    /// This of the release of this version.
    Wish(Wanted, String),
}

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) view: ReleaseView,
    /// Sentences, and not the picture.
    why: bool,
    /// What must be said twice, and of which version.
    asked: Option<(Wanted, String)>,
    /// What came of it, or why nothing can be seen.
    pub(super) said: String,
    /// For how many looks more that is told.
    told: u8,
}

impl Wanted {
    fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Step => "step",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        }
    }
}

impl Page {
    pub(super) fn of(view: ReleaseView) -> Self {
        Self { view, why: false, asked: None, said: String::new(), told: 0 }
    }

    /// This can be seen now.
    pub(super) fn seen(&mut self, view: ReleaseView) {
        self.view = view;
        self.told = self.told.saturating_sub(1);
        if self.told == 0 && self.asked.is_none() {
            self.said.clear();
        }
    }

    fn say(&mut self, said: String) {
        (self.said, self.told) = (said, TOLD);
    }

    /// Somebody has typed this.
    pub(super) fn typed(&mut self, key: u8) -> Typed {
        if let Some((wanted, canary)) = self.asked.take() {
            self.said = String::new();
            return match key {
                b'y' | b'Y' => Typed::Wish(wanted, canary),
                _ => Typed::Nothing,
            };
        }
        let view = &self.view;
        let wanted = match key {
            b'q' | b'Q' => return Typed::Quit,
            b'w' => {
                self.why = !self.why;
                return Typed::Nothing;
            }
            b'p' if view.phase == Phase::Paused => Wanted::Resume,
            b'p' => Wanted::Pause,
            b'g' => Wanted::Resume,
            b's' => Wanted::Step,
            b'P' => Wanted::Promote,
            b'r' => Wanted::Rollback,
            _ => return Typed::Nothing,
        };
        if !is_under_way(view) {
            self.say("no release is under way".to_owned());
            return Typed::Nothing;
        }
        let canary = view.canary.clone();
        self.said = match wanted {
            Wanted::Promote => {
                format!("{canary} takes over at once, whatever the gates say. Sure? [y/n]")
            }
            Wanted::Rollback => format!("{canary} gets nothing more. Sure? [y/n]"),
            // What is undone by another key is not asked twice.
            Wanted::Pause | Wanted::Resume | Wanted::Step => {
                self.say(format!("{} …", wanted.verb()));
                return Typed::Wish(wanted, canary);
            }
        };
        self.asked = Some((wanted, canary));
        Typed::Nothing
    }

    /// What is seen.
    pub(super) fn text(&self, canvas: Canvas) -> String {
        let mut text = match self.why {
            true => why::text(&self.view, canvas),
            false => screen::draw(&self.view, canvas),
        };
        if !self.said.is_empty() {
            let tone = if self.asked.is_some() { Tone::Strong } else { Tone::Doubtful };
            text = format!("{}\n{text}", canvas.text("", &self.said, tone).trim_end());
        }
        text
    }

    /// What can be typed.
    pub(super) fn hint(&self) -> String {
        let view = &self.view;
        let why = if self.why { "[w] the picture" } else { "[w]hy" };
        match (is_under_way(view), view.phase == Phase::Paused) {
            (true, true) => format!("[p] go on  [s]tep  [P]romote now  [r]ollback  {why}  [q]uit"),
            (true, false) => format!("[p]ause  [s]tep  [P]romote now  [r]ollback  {why}  [q]uit"),
            (false, _) => format!("{why}  [q]uit"),
        }
    }
}

/// A wish on its way.
type Wish<'a> = LocalBoxFuture<'a, Result<ReleaseView, Error>>;

/// Until somebody types `q`, or it has ended.
pub(super) async fn stay(
    asked: &Asked,
    shown: Shown<'_>,
    mut course: Course,
    first: ReleaseView,
) -> Result<ExitCode, Error> {
    let desk = shown.desk;
    // From here on it is told of them, and the terminal is put right before it ends.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let screen = Screen::open()?;
    let mut typed = keys(true);
    let (seen, mut looks) = mpsc::channel(1);
    let mut looking = std::pin::pin!(look(desk, asked, seen));
    let mut wishes: FuturesUnordered<Wish<'_>> = FuturesUnordered::new();
    let mut page = Page::of(first);
    let mut outcome = course.look(&page.view);
    let mut left = false;
    while outcome == Outcome::Open && !left {
        screen.draw(&page.text(shown.canvas()), MORE, &page.hint())?;
        tokio::select! {
            () = &mut looking => {}
            Some(look) = looks.recv() => match look {
                Ok(view) => {
                    outcome = course.look(&view);
                    page.seen(view);
                }
                Err(error) => {
                    page.said = format!("what is shown is old: {error}");
                    course.unseen(error)?;
                }
            },
            Some(done) = wishes.next() => match done {
                Ok(view) => {
                    page.say(summary(&view));
                    page.view = view;
                }
                Err(error) => page.say(error.to_string()),
            },
            Some(key) = typed.recv() => match page.typed(key) {
                Typed::Nothing => {}
                Typed::Quit => left = true,
                Typed::Wish(wanted, canary) => wishes.push(Box::pin(wish(desk, asked, wanted, canary))),
            },
            _interrupt = interrupted.recv() => left = true,
            _terminate = terminated.recv() => left = true,
        }
    }
    drop(screen);
    match outcome {
        Outcome::Over(code, told) => {
            io::stdout().lock().write_all(page.text(shown.canvas()).as_bytes())?;
            writeln!(io::stderr(), "{}", printable(&told))?;
            Ok(ExitCode::from(code))
        }
        // Whoever leaves early has not seen the end.
        Outcome::Open if course.until.exit => Ok(ExitCode::FAILURE),
        Outcome::Open => Ok(ExitCode::SUCCESS),
    }
}

/// Looks every second, forever.
async fn look(desk: &Desk, asked: &Asked, seen: mpsc::Sender<Result<ReleaseView, Error>>) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        if seen.send(desk.one(asked).await).await.is_err() {
            return;
        }
    }
}

async fn wish(
    desk: &Desk,
    asked: &Asked,
    wanted: Wanted,
    canary: String,
) -> Result<ReleaseView, Error> {
    let now = if wanted == Wanted::Promote { "true" } else { "" };
    let said = [("revision", canary), ("now", now.to_owned())];
    desk.wish(asked, wanted.verb(), &said).await
}
