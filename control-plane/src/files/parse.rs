//! Text of a file → objects and problems. Pure.

use std::{path::Path, sync::Arc};

use serde_json::Value;

use super::{text::Text, yaml};
use crate::{
    convert::{self, Fault, Field, Outcome, Step},
    problem::{Effect, Problem},
    world::objects::{Object, ObjectRef},
};

/// Largest file that is read, bytes.
pub(crate) const MAX_FILE: usize = 10 << 20;

/// What one file says.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The objects that apply, in the file's order.
    pub objects: Vec<Located>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Objects that are there but do not apply: what they said before goes on.
    pub rejected: Vec<ObjectRef>,
    /// Whether some part could not be read at all, so that nobody knows what it held: everything
    /// that the file said before goes on, unless it says it anew.
    pub unreadable: bool,
}

/// An object and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The object.
    pub object: Object,
    /// Document in the file, from 1.
    pub document: usize,
    /// Line in the file, from 1.
    pub line: usize,
    /// What it says there.
    pub text: Arc<Text>,
}

impl Parsed {
    /// A file that could not be read.
    pub fn failed(path: &Path, reason: impl Into<String>) -> Self {
        let problem = Problem {
            file: path.to_owned(),
            line: None,
            document: None,
            object: String::new(),
            field: String::new(),
            reason: reason.into(),
            effect: Effect::Rejected,
        };
        Self { problems: vec![problem], unreadable: true, ..Self::default() }
    }
}

/// Reads the text of the file at `path`. Never fails: what cannot be read is a problem, and hides
/// nothing else in the file.
pub fn parse(path: &Path, text: &[u8]) -> Parsed {
    if text.len() > MAX_FILE {
        let reason = format!("the file is larger than {} MiB; split it", MAX_FILE >> 20);
        return Parsed::failed(path, reason);
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = 1 + text.iter().take(error.valid_up_to()).filter(|b| **b == b'\n').count();
            return Parsed::failed(path, format!("not UTF-8 (line {line}); is it a text file?"));
        }
    };
    let mut file = File { path, parsed: Parsed::default() };
    for (index, document) in documents(text).into_iter().enumerate() {
        file.document(&document, index + 1);
    }
    file.parsed
}

/// A document of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Document<'a> {
    text: &'a str,
    /// Lines of the file before it.
    lines_before: usize,
}

/// Splits at the lines that begin with `---` (YAML 1.2, 9.1.2: such a line cannot be content), so
/// that a document which does not parse ends where the next one begins.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut lines_before, mut at, mut lines) = (0, 0, 0, 0);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker.is_some() {
            documents.push((start..at, lines_before));
            // What follows on the marker's own line belongs to the new document.
            start = at + 3;
            lines_before = lines;
        }
        at += line.len();
        lines += 1;
    }
    documents.push((start..at, lines_before));
    let cut = |(range, lines_before)| Some(Document { text: text.get(range)?, lines_before });
    documents.into_iter().filter_map(cut).filter(|document| !is_blank(document.text)).collect()
}

/// Whether there is nothing but space, comments and directives.
fn is_blank(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    lines.all(|line| line.is_empty() || line.starts_with(['#', '%']) || line.trim_end() == "...")
}

struct File<'a> {
    path: &'a Path,
    parsed: Parsed,
}

impl File<'_> {
    fn document(&mut self, document: &Document<'_>, number: usize) {
        match yaml::read(document.text) {
            Ok(Value::Null) => {}
            Ok(value) if value.get("kind").and_then(Value::as_str) == Some("List") => {
                self.list(document, number, &value);
            }
            Ok(value) => self.object(document, number, &[], &value),
            Err(unreadable) => {
                self.parsed.unreadable = true;
                self.parsed.problems.push(Problem {
                    file: self.path.to_owned(),
                    line: Some(document.lines_before + unreadable.line.unwrap_or(1)),
                    document: Some(number),
                    object: String::new(),
                    field: String::new(),
                    reason: unreadable.reason,
                    effect: Effect::Rejected,
                });
            }
        }
    }

    fn list(&mut self, document: &Document<'_>, number: usize, list: &Value) {
        let Some(items) = list.get("items").and_then(Value::as_array) else {
            let fault =
                Fault { field: "items".into(), reason: "is no list".into(), applies: false };
            let problem = self.problem(document, number, &[], "List", fault);
            self.parsed.problems.push(problem);
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let outer = [Step::Key("items".to_owned()), Step::Index(index)];
            self.object(document, number, &outer, item);
        }
    }

    fn object(&mut self, document: &Document<'_>, number: usize, outer: &[Step], value: &Value) {
        let Outcome { title, reference, object, faults } = convert::convert(value);
        let rejected = object.is_none();
        for fault in faults {
            let problem = self.problem(document, number, outer, &title, fault);
            self.parsed.problems.push(problem);
        }
        if let Some(object) = object {
            let line = line_in_file(document, &Field::from(outer.to_vec()));
            let text = if object.reference().kind.refers() {
                Text::new(document.text, document.lines_before, outer)
            } else {
                Text::default()
            };
            let text = Arc::new(text);
            self.parsed.objects.push(Located { object, document: number, line, text });
        }
        self.parsed.rejected.extend(reference.filter(|_| rejected));
    }

    fn problem(
        &self,
        document: &Document<'_>,
        number: usize,
        outer: &[Step],
        title: &str,
        fault: Fault,
    ) -> Problem {
        let field = fault.field.below(outer);
        Problem {
            file: self.path.to_owned(),
            line: Some(line_in_file(document, &field)),
            document: Some(number),
            object: title.to_owned(),
            field: field.to_string(),
            reason: fault.reason,
            effect: if fault.applies { Effect::Applied } else { Effect::Rejected },
        }
    }
}

/// The line of a field in its file; of the whole document, that of its first content.
fn line_in_file(document: &Document<'_>, field: &Field) -> usize {
    let first = || 1 + document.text.lines().take_while(|line| is_blank(line)).count();
    let line = if field.steps().is_empty() { None } else { yaml::line_of(document.text, field) };
    document.lines_before + line.unwrap_or_else(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "# a shop\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata:\n  name: reviews\n  namespace: shop\nspec:\n  \
        clusterIP: 10.96.0.7\n  selector: {app: reviews}\n  ports:\n    - port: 9080\n";

    fn read(text: &str) -> Parsed {
        parse(Path::new("a.yaml"), text.as_bytes())
    }

    #[test]
    fn reads_all_documents() {
        let parsed = read(GOOD);
        assert_eq!(parsed.problems, []);
        let names: Vec<_> =
            parsed.objects.iter().map(|o| o.object.reference().to_string()).collect();
        assert_eq!(names, ["Namespace shop", "Service shop/reviews"]);
        assert_eq!(parsed.objects[1].line, 7);
    }

    #[test]
    fn a_broken_document_hides_no_other() {
        let parsed = read(&GOOD.replace("metadata: {name: shop}", "metadata: {name: shop"));
        assert_eq!(parsed.objects.len(), 1);
        assert!(parsed.unreadable);
        assert_eq!(parsed.problems.len(), 1);
    }

    #[test]
    fn names_unknown_fields_with_their_line() {
        let parsed = read(&GOOD.replace("  selector:", "  selctor:"));
        assert_eq!(
            parsed.problems[0].to_string(),
            "a.yaml:14: Service shop/reviews: spec.selctor: unknown field; it has no effect"
        );
        assert_eq!(parsed.objects.len(), 2, "it applies without the field");
    }

    #[test]
    fn names_values_of_the_wrong_type() {
        let parsed = read(&GOOD.replace("port: 9080", "port: many"));
        let problem = &parsed.problems[0];
        assert_eq!((problem.field.as_str(), problem.line), ("spec.ports[0].port", Some(16)));
        assert_eq!(parsed.rejected[0].to_string(), "Service shop/reviews");
    }

    #[test]
    fn expands_lists() {
        let parsed = read(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  \
             metadata: {name: a}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {nam: b}\n",
        );
        assert_eq!(parsed.objects.len(), 1);
        assert_eq!(parsed.problems[0].field, "items[1].metadata.name");
        assert_eq!(parsed.problems[0].line, Some(9));
    }

    #[test]
    fn what_follows_the_marker_is_content() {
        let parsed = read("--- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n");
        assert_eq!(parsed.objects.len(), 1);
        assert_eq!(parsed.problems, []);
    }

    #[test]
    fn refuses_large_and_binary_files() {
        let large = parse(Path::new("a.yaml"), &vec![b'#'; MAX_FILE + 1]);
        assert!(large.problems[0].reason.contains("larger than 10 MiB"));
        let binary = parse(Path::new("a.yaml"), b"kind: \xff\xfe");
        assert!(binary.problems[0].reason.contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(Path::new("a.yaml"), &bytes);
        }

        #[test]
        fn never_panics_on_text(text in "(---|kind: List|[a-z]+: |- |\n|  |[{}\\[\\]&*!|>%@\"']|\\PC){0,60}") {
            read(&text);
        }

        /// A mutation makes another valid object or is named; no object disappears in silence,
        /// unless it became a comment.
        #[test]
        fn mutations_are_named(at in 0..GOOD.len(), byte in any::<u8>()) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            let parsed = parse(Path::new("a.yaml"), &bytes);
            let comments = bytes.iter().filter(|byte| **byte == b'#').count();
            prop_assert!(
                parsed.objects.len() == 2 || !parsed.problems.is_empty() || comments > 1,
                "{}", String::from_utf8_lossy(&bytes)
            );
        }
    }
}
