//! Lines that are no wider than whoever looks can see, and figures as they stand in them.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, UtcOffset};
use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::ReleaseView;
use tulle_xds::text::printable;

use super::desk::Desk;
use crate::{
    observe::{Format, colored},
    table::{Tone, terminal_width},
};

/// As wide as text is where nobody looks, and where there would be room for more.
const WIDTH: usize = 100;

/// Something that stays on one line.
pub(super) type Piece = (String, Tone);

/// What is drawn on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canvas {
    /// Of a line.
    pub(super) width: usize,
    /// All there is, and not only what is needed.
    pub(super) wide: bool,
    pub(super) colored: bool,
    /// In seconds since 1970.
    pub(super) now: u64,
    /// There is no Kubernetes.
    pub(super) local: bool,
}

impl Canvas {
    /// For whoever looks at the standard output.
    pub(super) fn of(format: Format, desk: &Desk) -> Self {
        let (wide, local) = (format == Format::Wide, desk.is_local());
        let width = terminal_width().unwrap_or(WIDTH).min(120);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        Self { width, wide, colored: colored(), now, local }
    }

    /// In this tone.
    pub(super) fn paint(self, text: &str, tone: Tone) -> String {
        tone.paint(text, self.colored)
    }

    /// Pieces one after the other, each whole on a line if it fits. `head` stands before the first line, and as much room before
    /// the rest.
    pub(super) fn flow(self, head: &str, pieces: &[Piece]) -> String {
        let room = self.room(head);
        let whole = |piece: &str| piece.chars().count() <= room;
        let parts = pieces.iter().flat_map(|(piece, tone)| {
            let words: Vec<_> = match whole(piece) {
                true => vec![piece.as_str()],
                false => piece.split_whitespace().collect(),
            };
            let gap = |at| if at == 0 { "   " } else { " " };
            let part = |(at, word): (usize, &str)| (gap(at), word.to_owned(), *tone);
            words.into_iter().enumerate().map(part).collect::<Vec<_>>()
        });
        self.lines(head, parts)
    }

    /// Sentences.
    pub(super) fn text(self, head: &str, text: &str, tone: Tone) -> String {
        self.lines(head, words(text).map(|word| (" ", word, tone)))
    }

    /// Sentences behind a word of its own tone.
    pub(super) fn said(self, (first, tone): Piece, text: &str) -> String {
        let words = words(text).map(|word| (" ", word, Tone::Plain));
        self.lines("", [(" ", first, tone)].into_iter().chain(words))
    }

    /// For what stands behind `head`.
    fn room(self, head: &str) -> usize {
        self.width.saturating_sub(head.chars().count()).max(1)
    }

    /// Parts, each with what stands before it on the same line. What is longer than a line is broken.
    fn lines(
        self,
        head: &str,
        parts: impl Iterator<Item = (&'static str, String, Tone)>,
    ) -> String {
        let room = self.room(head);
        let indent = " ".repeat(head.chars().count());
        let (mut text, mut at) = (head.to_owned(), 0);
        // What has the same tone is painted at once.
        let (mut run, mut of) = (String::new(), Tone::Plain);
        for (gap, part, tone) in parts {
            let part: Vec<_> = printable(&part).chars().collect();
            for piece in part.chunks(room) {
                let breaks = at > 0 && at + gap.len() + piece.len() > room;
                if breaks || tone != of {
                    text += &self.paint(&std::mem::take(&mut run), of);
                }
                let before = match at {
                    0 => String::new(),
                    _ if breaks => format!("\n{indent}"),
                    _ => gap.to_owned(),
                };
                at = if breaks || at == 0 { 0 } else { at + gap.len() } + piece.len();
                of = tone;
                if run.is_empty() {
                    text += &before;
                } else {
                    run += &before;
                }
                run.extend(piece);
            }
        }
        text += &self.paint(&run, of);
        text.split('\n').map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

/// Words, of which none is a lonely percent sign.
fn words(text: &str) -> impl Iterator<Item = String> {
    let parts: Vec<_> = text.split_whitespace().collect();
    let mut words: Vec<String> = Vec::new();
    for part in parts {
        match words.last_mut() {
            Some(last) if part.starts_with('%') => *last += &format!(" {part}"),
            _ => words.push(part.to_owned()),
        }
    }
    words.into_iter()
}

/// What a phase looks like.
pub(super) fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Idle | Phase::Waiting => Tone::Plain,
        Phase::Progressing | Phase::Promoting | Phase::Promoted => Tone::Good,
        Phase::Paused => Tone::Doubtful,
        Phase::Held | Phase::RolledBack => Tone::Bad,
    }
}

/// Whether a release is under way.
pub(super) fn is_under_way(view: &ReleaseView) -> bool {
    match view.phase {
        Phase::Waiting | Phase::Progressing | Phase::Paused | Phase::Promoting => true,
        Phase::Idle | Phase::Promoted | Phase::Held | Phase::RolledBack => false,
    }
}

/// `shop/reviews`.
pub(super) fn title(view: &ReleaseView) -> String {
    format!("{}/{}", view.namespace, view.name)
}

/// `45s`, `1m29`, `2m`, `1h05`, `2d03h`.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) if rest == 0 => format!("{minutes}m"),
        (0, 0, _) => format!("{minutes}m{rest:02}"),
        (0, _, 0) => format!("{hours}h"),
        (0, _, _) => format!("{hours}h{minutes:02}"),
        (_, 0, _) => format!("{days}d"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// `1,840`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Of a weight: `5 %`, `0.25 %`.
pub(super) fn weight(percent: f64) -> String {
    let text = format!("{percent:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

/// Of a share, 0 to 1: `0 %`, `0.11 %`, `12.5 %`.
pub(super) fn share(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        percent @ ..9.995 => format!("{percent:.2} %"),
        percent @ ..99.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// The time of day, of Greenwich as all times of the mesh are: `19:03:40`.
pub(super) fn clock(at: u64) -> String {
    let (hour, minute, second) = moment(at).to_hms();
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// `2026-11-22 19:03:40`.
pub(super) fn date(at: u64) -> String {
    format!("{} {}", moment(at).date(), clock(at))
}

fn moment(at: u64) -> OffsetDateTime {
    let at = i64::try_from(at).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.to_offset(UtcOffset::UTC)
}
