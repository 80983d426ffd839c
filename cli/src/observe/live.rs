//! A page that stays, and is drawn anew every second.

use std::{io, io::IsTerminal as _, io::Read as _, io::Write as _, time::Duration};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{Error, Format, Look, Page, Source};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Where there is more than fits.
const MORE: &str = "… more than fits: -n and a name show less, without watching all is printed";

/// Until somebody types `q`, or for a program that reads, until it has read enough: one answer after another.
pub(super) async fn follow<P: Page>(look: &Look, page: &P, source: &Source) -> Result<(), Error> {
    // From here on it is told of them, and the terminal is put right before it ends.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let drawn =
        matches!(look.whom.output, Format::Table | Format::Wide) && io::stdout().is_terminal();
    let screen = drawn.then(Screen::open).transpose()?;
    let mut typed = keys(drawn);
    let mut pages = std::pin::pin!(async {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let text = look.text(page, source, true).await?;
            match &screen {
                Some(screen) => screen.draw(&text, MORE, "q quits")?,
                None => io::stdout().lock().write_all(text.as_bytes())?,
            }
        }
    });
    loop {
        tokio::select! {
            over = &mut pages => return over,
            Some(key) = typed.recv() => if matches!(key, b'q' | b'Q') { return Ok(()) },
            _interrupt = interrupted.recv() => return Ok(()),
            _terminate = terminated.recv() => return Ok(()),
        }
    }
}

/// What somebody types, if there is a terminal to type on.
pub(crate) fn keys(wanted: bool) -> mpsc::Receiver<u8> {
    let (typed, keys) = mpsc::channel(8);
    if wanted && io::stdin().is_terminal() {
        // It waits for a key when the process ends, and ends with it.
        std::thread::spawn(move || {
            let mut key = [0];
            while io::stdin().read_exact(&mut key).is_ok() && typed.blocking_send(key[0]).is_ok() {}
        });
    }
    keys
}

/// The terminal's other screen, with keys as they are typed. However it ends, the terminal is as it was.
pub(crate) struct Screen {
    before: Option<Termios>,
}

impl Screen {
    /// Turns to it.
    pub(crate) fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut now = before.clone();
            now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
        }
        let screen = Self { before };
        io::stdout().lock().write_all(b"\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// From the top, over what is there, so that nothing flickers. Where not all fits, `more` says how it would; the last line
    /// says what can be typed.
    pub(crate) fn draw(&self, text: &str, more: &str, hint: &str) -> io::Result<()> {
        let rows = terminal_size::terminal_size_of(io::stdout());
        let rows = rows.map_or(24, |(_, height)| usize::from(height.0)).max(2);
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.len() >= rows {
            lines.truncate(rows - 2);
            lines.push(more);
        }
        lines.push(hint);
        let drawn: Vec<_> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        let mut stdout = io::stdout().lock();
        stdout.write_all(format!("\x1b[H{}\x1b[J", drawn.join("\r\n")).as_bytes())?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        let shown = stdout.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| stdout.flush());
        let restored =
            self.before.as_ref().map(|before| tcsetattr(io::stdin(), OptionalActions::Now, before));
        if let (Err(error), _) = (shown, restored) {
            tracing::debug!(%error, "the terminal");
        }
    }
}
