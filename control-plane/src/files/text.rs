//! The text of an object, kept to find the lines of its fields later: what only the world can tell is wrong with an
//! object is known when its file is read no more.

use super::yaml;
use crate::convert::{Field, Step};

/// A document of a file, and where in it an object is. Empty for objects of which nothing is to be found later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Text {
    document: Box<str>,
    /// Lines of the file before it.
    lines_before: usize,
    /// The way to the object, if it is in a `List`.
    outer: Vec<Step>,
}

impl Text {
    pub(super) fn new(document: &str, lines_before: usize, outer: &[Step]) -> Self {
        Self { document: document.into(), lines_before, outer: outer.to_vec() }
    }

    /// The line, in its file, of a field of the object; of a field that is not there, of what it would be in.
    pub fn line_of(&self, field: &str) -> Option<usize> {
        if self.document.is_empty() {
            return None;
        }
        let field = Field::from(field).below(&self.outer);
        yaml::line_of(&self.document, &field).map(|line| self.lines_before + line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_file() {
        let text = "kind: List\nitems:\n- spec: {}\n- spec:\n    a:\n    - b: 1\n";
        let outer = [Step::Key("items".to_owned()), Step::Index(1)];
        let source = Text::new(text, 10, &outer);
        assert_eq!(source.line_of("spec.a[0].b"), Some(16));
        assert_eq!(source.line_of("spec.a[0].c"), Some(16));
        assert_eq!(Text::default().line_of("spec"), None);
    }
}
