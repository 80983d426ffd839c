//! Where two messages differ, by the names of their fields.

use std::fmt::{self, Debug, Write};

/// So much of a message is looked at. Only a message that is refused anyway comes here, so this
/// bounds what an absurd one costs, not what is accepted.
const MAX_TEXT: usize = 1 << 20;

/// Path of the first field in which `left` and `right` differ: `routes[2].action.timeout`; empty if
/// none was found. Protobuf types have no names of fields at run time except in their `Debug` text, so
/// that is where this reads them.
pub(super) fn first<T: Debug>(left: &T, right: &T) -> String {
    let (left, right) = (text(left), text(right));
    let mut path = Path::default();
    let mut others = right.lines();
    for line in left.lines() {
        let other = others.next();
        if other == Some(line) {
            path.enter(line);
            continue;
        }
        // The other side may have ended a list or struct here, or this one: either way the field
        // is the one that this line begins, or the one that we are in.
        if !line.trim_start().starts_with(['}', ']', ')']) {
            path.enter(line);
        }
        return path.to_string();
    }
    String::new()
}

fn text(value: &impl Debug) -> String {
    let mut text = Bounded(String::new());
    // It stops with an error where it is full.
    match write!(text, "{value:#?}") {
        Ok(()) | Err(fmt::Error) => text.0,
    }
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_TEXT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The fields that enclose the current line of a pretty `Debug` text.
#[derive(Default)]
struct Path(Vec<Level>);

struct Level {
    indent: usize,
    step: Step,
}

enum Step {
    Field(String),
    Element(usize),
    /// A variant, a newtype, the name of a struct: no field of the message.
    Silent,
}

impl Path {
    fn enter(&mut self, line: &str) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.starts_with(['}', ']', ')']) {
            self.leave(indent + 1);
            return;
        }
        let last = self.leave(indent);
        let field = text.split_once(": ").map(|(name, _)| name).filter(|name| is_name(name));
        let in_list = matches!(self.0.last(), Some(Level { step: Step::Field(name), .. }) if name.ends_with('['));
        let step = match (field, last) {
            (Some(name), _) if text.ends_with('[') => Step::Field(format!("{name}[")),
            (Some(name), _) => Step::Field(name.trim_matches('"').to_owned()),
            (None, Some(Step::Element(index))) => Step::Element(index + 1),
            (None, _) if in_list => Step::Element(0),
            (None, _) => Step::Silent,
        };
        self.0.push(Level { indent, step });
    }

    /// Drops what is deeper than or level with `indent`; returns what was level with it.
    fn leave(&mut self, indent: usize) -> Option<Step> {
        let mut level = None;
        while self.0.last().is_some_and(|last| last.indent >= indent) {
            let popped = self.0.pop()?;
            level = (popped.indent == indent).then_some(popped.step);
        }
        level
    }
}

/// Of a field, or of an entry of a map (in quotes).
fn is_name(text: &str) -> bool {
    let quoted = text.len() > 2 && text.starts_with('"') && text.ends_with('"');
    quoted
        || text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'#')
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for level in &self.0 {
            match &level.step {
                Step::Field(name) => {
                    let separator = if first { "" } else { "." };
                    write!(f, "{separator}{}", name.trim_end_matches('['))?;
                    first = false;
                }
                Step::Element(index) => write!(f, "[{index}]")?,
                Step::Silent => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Clone)]
    struct Inner {
        number: u32,
        text: Option<String>,
    }

    #[derive(Debug, Default, Clone)]
    #[expect(dead_code, reason = "read by Debug")]
    struct Outer {
        name: String,
        list: Vec<Inner>,
        one: Option<Inner>,
        last: bool,
    }

    #[test]
    fn the_path_names_fields_and_elements() {
        let inner = Inner { number: 1, text: Some("a: {".to_owned()) };
        let base = Outer { list: vec![inner.clone(); 3], one: Some(inner), ..Outer::default() };

        let mut other = base.clone();
        other.list[1].number = 2;
        assert_eq!(first(&other, &base), "list[1].number");

        let mut other = base.clone();
        other.list[2].text = None;
        assert_eq!(first(&other, &base), "list[2].text");
        assert_eq!(first(&base, &other), "list[2].text");

        let mut other = base.clone();
        other.one = None;
        assert_eq!(first(&base, &other), "one");

        let mut other = base.clone();
        other.list.push(Inner::default());
        assert_eq!(first(&other, &base), "list[3]");

        let mut other = base.clone();
        other.last = true;
        assert_eq!(first(&other, &base), "last");
        assert_eq!(first(&base, &base), "", "nothing differs");
    }
}
