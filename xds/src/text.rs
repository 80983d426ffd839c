//! Text that somebody else wrote, on its way into a log or onto a terminal.

use std::{error::Error as _, iter};

use tonic::Status;

/// `text` in at most `limit` bytes, cut at a character's border.
pub fn bounded(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// `text` with what a terminal would obey escaped: control characters, and those that turn the
/// direction of writing.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Code, text and the chain of causes: a TLS failure hides there.
pub fn status(status: &Status) -> String {
    let causes = iter::successors(status.source(), |&error| error.source());
    let text = format!("{:?}: {}", status.code(), status.message());
    causes.fold(text, |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(
            printable("é\u{1b}[31m\r\nb\u{9b}\u{202e}c"),
            "é\\u{1b}[31m\\r\\nb\\u{9b}\\u{202e}c"
        );
    }

    #[test]
    fn a_cut_is_between_characters() {
        assert_eq!((bounded("aé", 2), bounded("aé", 3), bounded("", 2)), ("a", "aé", ""));
    }
}
