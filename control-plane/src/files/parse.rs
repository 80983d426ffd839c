//! Text of a file → objects and problems. Pure.

use std::{ops::Range, path::Path, sync::Arc};

use serde_json::Value;

use super::yaml;
pub use super::yaml::Unreadable;
use crate::{
    convert::{self, Fault, Field, Outcome, Step},
    problem::{Effect, FieldLines, Problem},
    world::objects::{Object, ObjectRef},
};

/// Largest file that is read, bytes.
pub(crate) const MAX_FILE: usize = 10 << 20;

/// Most problems of one file that are named: a person reads the first ones.
const MAX_PROBLEMS: usize = 100;

/// Fields of one object whose lines are remembered, and how deep they may be:
/// `spec.rules[0].filters[0].requestMirror.backendRef`.
const MAX_FIELDS: usize = 1000;
const MAX_STEPS: usize = 8;

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
    /// As in [`Place`](crate::problem::Place).
    pub fields: Arc<FieldLines>,
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
            about: None,
        };
        Self { problems: vec![problem], unreadable: true, ..Self::default() }
    }
}

/// Reads the text of the file at `path`. Never fails: what cannot be read is a problem, and hides
/// nothing else in the file.
pub fn parse(path: &Path, text: &[u8]) -> Parsed {
    let documents = match documents(text) {
        Ok(documents) => documents,
        Err(unreadable) => return Parsed::failed(path, unreadable.reason),
    };
    let mut file = File { path, parsed: Parsed::default(), unnamed: 0 };
    for document in &documents {
        file.document(document);
    }
    file.done()
}

/// The line of a document's first content, and what the document says.
pub type AtLine = (usize, Result<Value, Unreadable>);

/// The documents of a file, each by itself: what it says, or why it cannot be read.
///
/// # Errors
/// The whole file cannot be read.
pub fn values(text: &[u8]) -> Result<Vec<AtLine>, Unreadable> {
    let value = |document: &Document<'_>| {
        let value = document.read().map_err(|unreadable| Unreadable {
            line: Some(document.lines_before + unreadable.line.unwrap_or(1)),
            ..unreadable
        });
        (document.first_line(), value)
    };
    Ok(documents(text)?.iter().map(value).collect())
}

/// A document of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Document<'a> {
    text: &'a [u8],
    /// Lines of the file before it.
    lines_before: usize,
    /// From 1.
    number: usize,
}

impl<'a> Document<'a> {
    fn read(&self) -> Result<Value, Unreadable> {
        let text = std::str::from_utf8(self.text).map_err(|error| {
            let valid = self.text.iter().take(error.valid_up_to());
            let line = 1 + valid.filter(|byte| **byte == b'\n').count();
            Unreadable { line: Some(line), reason: "not UTF-8; is it text?".to_owned() }
        })?;
        yaml::read(text)
    }

    /// For what has been read already.
    fn text(&self) -> &'a str {
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    /// The line in the file of its first content.
    fn first_line(&self) -> usize {
        let blank = self.text.split(|byte| *byte == b'\n').take_while(|line| is_blank(line));
        self.lines_before + 1 + blank.count()
    }
}

/// Splits at the lines that begin with `---` (YAML 1.2, 9.1.2: such a line cannot be content), so
/// that a document which does not parse ends where the next one begins.
fn documents(text: &[u8]) -> Result<Vec<Document<'_>>, Unreadable> {
    if text.len() > MAX_FILE {
        let reason = format!("the file is larger than {} MiB; split it", MAX_FILE >> 20);
        return Err(Unreadable { line: None, reason });
    }
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut lines_before, mut at, mut lines) = (0, 0, 0, 0);
    let mut cut = |range: Range<usize>, lines_before| {
        let text = text.get(range).unwrap_or_default();
        let blank = text.split(|byte| *byte == b'\n').all(is_blank);
        let number = documents.len() + 1;
        documents.extend((!blank).then_some(Document { text, lines_before, number }));
    };
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let rest = line.strip_prefix(b"---");
        if rest.is_some_and(|rest| matches!(rest, [] | [b' ' | b'\t' | b'\r' | b'\n', ..])) {
            cut(start..at, lines_before);
            // What follows on the marker's own line belongs to the new document.
            start = at + 3;
            lines_before = lines;
        }
        at += line.len();
        lines += 1;
    }
    cut(start..at, lines_before);
    Ok(documents)
}

/// Whether there is nothing but space, comments and directives.
fn is_blank(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    matches!(line, [] | [b'#' | b'%', ..] | b"...")
}

struct File<'a> {
    path: &'a Path,
    parsed: Parsed,
    /// Problems beyond [`MAX_PROBLEMS`].
    unnamed: usize,
}

/// What a document says, before anybody looks for lines.
#[derive(Default)]
struct Told {
    objects: Vec<Found>,
    faults: Vec<Faulty>,
    rejected: Vec<ObjectRef>,
}

/// An object in a document.
struct Found {
    at: Field,
    object: Object,
    /// Its fields whose lines may be asked for.
    fields: Vec<Field>,
}

/// A fault, and the object that has it.
struct Faulty {
    /// What it is called.
    title: String,
    about: Option<ObjectRef>,
    fault: Fault,
}

impl File<'_> {
    fn document(&mut self, document: &Document<'_>) {
        let value = match document.read() {
            Ok(Value::Null) => return,
            Ok(value) => value,
            Err(unreadable) => {
                self.parsed.unreadable = true;
                self.problem(Problem {
                    file: self.path.to_owned(),
                    line: Some(document.lines_before + unreadable.line.unwrap_or(1)),
                    document: Some(document.number),
                    object: String::new(),
                    field: String::new(),
                    reason: unreadable.reason,
                    effect: Effect::Rejected,
                    about: None,
                });
                return;
            }
        };
        let mut told = Told::default();
        if value.get("kind").and_then(Value::as_str) == Some("List") {
            told.list(&value);
        } else {
            told.object(&[], &value);
        }
        self.take(document, told);
    }

    /// Takes in what a document says, with its lines.
    fn take(&mut self, document: &Document<'_>, told: Told) {
        let room = MAX_PROBLEMS.saturating_sub(self.parsed.problems.len());
        let objects = told.objects.iter().flat_map(|found| {
            let inner = found.fields.iter().map(|field| field.below(found.at.steps()));
            std::iter::once(found.at.clone()).chain(inner)
        });
        let faults = told.faults.iter().take(room).map(|faulty| faulty.fault.field.clone());
        let fields: Vec<Field> = objects.chain(faults).collect();
        let whole = fields.iter().all(|field| field.steps().is_empty());
        // The second reading can be spared where nothing is asked for.
        let lines = if whole { Vec::new() } else { yaml::lines_of(document.text(), &fields) };
        let first = document.first_line();
        let mut lines = lines.into_iter();
        let mut line = || match lines.next().flatten() {
            Some(line) => document.lines_before + line,
            None => first,
        };
        for Found { object, fields, .. } in told.objects {
            let own = line();
            let fields = fields.iter().map(|field| (field.to_string(), line())).collect();
            let (document, fields) = (document.number, Arc::new(fields));
            self.parsed.objects.push(Located { object, document, line: own, fields });
        }
        for Faulty { title, about, fault } in told.faults {
            self.problem(Problem {
                file: self.path.to_owned(),
                line: Some(line()),
                document: Some(document.number),
                object: title,
                field: fault.field.to_string(),
                reason: fault.reason,
                effect: if fault.applies { Effect::Applied } else { Effect::Rejected },
                about,
            });
        }
        self.parsed.rejected.extend(told.rejected);
    }

    fn problem(&mut self, problem: Problem) {
        if self.parsed.problems.len() < MAX_PROBLEMS {
            self.parsed.problems.push(problem);
        } else {
            self.unnamed += 1;
        }
    }

    fn done(mut self) -> Parsed {
        if self.unnamed > 0 {
            self.parsed.problems.push(Problem {
                file: self.path.to_owned(),
                line: None,
                document: None,
                object: String::new(),
                field: String::new(),
                reason: format!("{} more problems in this file are not named", self.unnamed),
                effect: Effect::Rejected,
                about: None,
            });
        }
        self.parsed
    }
}

impl Told {
    fn list(&mut self, list: &Value) {
        let Some(items) = list.get("items").and_then(Value::as_array) else {
            let fault =
                Fault { field: "items".into(), reason: "is no list".into(), applies: false };
            self.faults.push(Faulty { title: "List".to_owned(), about: None, fault });
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let outer = [Step::Key("items".to_owned()), Step::Index(index)];
            self.object(&outer, item);
        }
    }

    fn object(&mut self, outer: &[Step], value: &Value) {
        let Outcome { title, reference, object, faults } = convert::convert(value);
        let rejected = object.is_none();
        self.faults.extend(faults.into_iter().map(|fault| Faulty {
            title: title.clone(),
            about: reference.clone(),
            fault: Fault { field: fault.field.below(outer), ..fault },
        }));
        self.objects.extend(object.map(|object| {
            let mut fields = Vec::new();
            // What is wrong with such an object is found out later, when the text is gone.
            if let Some(spec) = value.get("spec").filter(|_| object.kind().refers()) {
                inner(spec, &Field::from("spec"), &mut fields);
            }
            Found { at: Field::from(outer.to_vec()), object, fields }
        }));
        self.rejected.extend(reference.filter(|_| rejected));
    }
}

/// The fields below `value`, as deep as references are, and no more than a route may have.
fn inner(value: &Value, here: &Field, found: &mut Vec<Field>) {
    if found.len() >= MAX_FIELDS || here.steps().len() >= MAX_STEPS {
        return;
    }
    found.push(here.clone());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, v)| inner(v, &here.key(key), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, v)| inner(v, &here.index(at), found));
        }
        _ => {}
    }
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
        assert!(large.unreadable, "what it said before goes on");
    }

    #[test]
    fn fields_that_refer_to_others_keep_their_lines() {
        let parsed = read(
            "kind: HTTPRoute\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: a}\nspec:\n  \
             parentRefs:\n  - {group: '', kind: Service, name: a}\n  rules:\n  - backendRefs:\n    \
             - {name: a, port: 1}\n    - name: b\n      port: 2\n",
        );
        let place = crate::problem::Place {
            file: Path::new("a.yaml").into(),
            document: 1,
            line: parsed.objects[0].line,
            fields: Arc::clone(&parsed.objects[0].fields),
        };
        assert_eq!(place.line_of("spec.rules[0].backendRefs[1]"), 10);
        assert_eq!(place.line_of("spec.rules[0].backendRefs[1].port"), 11);
        assert_eq!(place.line_of("spec.parentRefs[0].sectionName"), 6);
        assert_eq!(place.line_of("metadata.labels"), 1);
    }

    #[test]
    fn junk_hides_nothing_beside_it() {
        let junk = [b"# ours\nkind: \xff\xfe\n", GOOD.as_bytes()].concat();
        let parsed = parse(Path::new("a.yaml"), &junk);
        assert_eq!(parsed.objects.len(), 2);
        assert_eq!(parsed.problems[0].to_string(), "a.yaml:2: not UTF-8; is it text?");
        assert!(parsed.unreadable);
    }

    #[test]
    fn names_a_bounded_number_of_problems_quickly() {
        let started = tokio::time::Instant::now();
        let object =
            |i: usize| format!("- {{apiVersion: v1, kind: Service, metadata: {{nam: a{i}}}}}\n");
        let list: String = (0..3_000).map(object).collect();
        let parsed = read(&format!("apiVersion: v1\nkind: List\nitems:\n{list}"));
        assert_eq!(parsed.problems.len(), MAX_PROBLEMS + 1);
        assert_eq!(parsed.problems[99].line, Some(103), "each has its own line");
        let last = &parsed.problems[MAX_PROBLEMS];
        assert_eq!(last.reason, "2900 more problems in this file are not named");
        // A reading for each problem would take minutes.
        assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
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
