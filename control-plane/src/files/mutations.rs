//! Mutations of valid YAML: each keeps its meaning, or is named.
//!
//! Whether another value (`port: 9081`) is what somebody meant nobody can tell. What can be told:
//! no field is overlooked, no value of a wrong shape is taken for another, no object disappears in
//! silence, and nothing that is wrong with one document touches another.

use std::{path::Path, sync::LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::parse::{Parsed, parse, values};
use crate::{convert::Step, world::objects::Object};

/// An object of each kind, with as many fields as it can sensibly have.
const SAMPLE: &str = include_str!("sample.yaml");

/// Maps whose keys are the user's own, and fields that are for others to read.
const FREE: [&str; 6] =
    ["labels", "annotations", "selector", "kubernetes.io/service-name", "limits", "app"];

static DOCUMENTS: LazyLock<Vec<&str>> =
    LazyLock::new(|| SAMPLE.split("---\n").filter(|text| !text.is_empty()).collect());

static VALUES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let values = values(SAMPLE.as_bytes()).unwrap();
    values.into_iter().map(|(_, value)| value.unwrap()).collect()
});

static ORIGINAL: LazyLock<Vec<Object>> = LazyLock::new(|| objects(&read(SAMPLE.as_bytes())));

fn read(text: &[u8]) -> Parsed {
    parse(Path::new("a.yaml"), text)
}

fn objects(parsed: &Parsed) -> Vec<Object> {
    parsed.objects.iter().map(|located| located.object.clone()).collect()
}

#[test]
fn the_sample_is_right() {
    let parsed = read(SAMPLE.as_bytes());
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.objects.len(), DOCUMENTS.len());
    let mut kinds: Vec<_> = parsed.objects.iter().map(|o| o.object.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 11, "each kind of the world once: {kinds:?}");
}

/// What happens to a text.
#[derive(Debug, Clone)]
enum Edit {
    Replace(u8),
    Insert(u8),
    Delete(usize),
    DropLine,
    RepeatLine,
    Indent,
    Junk(Vec<u8>),
    Token(&'static str),
}

fn edit() -> impl Strategy<Value = Edit> {
    let tokens = [
        "{", "[", "}", "]", ": ", "- ", "&a ", "*a", "!!str ", "\"", "'", "|\n", "? ", "\t", "null",
    ];
    prop_oneof![
        any::<u8>().prop_map(Edit::Replace),
        any::<u8>().prop_map(Edit::Insert),
        (1..40_usize).prop_map(Edit::Delete),
        Just(Edit::DropLine),
        Just(Edit::RepeatLine),
        Just(Edit::Indent),
        prop::collection::vec(any::<u8>(), 1..30).prop_map(Edit::Junk),
        prop::sample::select(tokens.to_vec()).prop_map(Edit::Token),
    ]
}

fn edited(text: &str, at: usize, edit: &Edit) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (before, after) = bytes.split_at(at);
    let line = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = after.iter().position(|byte| *byte == b'\n').map_or(text.len(), |to| at + to + 1);
    match edit {
        Edit::Replace(byte) => [before, &[*byte], &after[1..]].concat(),
        Edit::Insert(byte) => [before, &[*byte], after].concat(),
        Edit::Delete(length) => [before, &after[(*length).min(after.len())..]].concat(),
        Edit::DropLine => [&bytes[..line], &bytes[end..]].concat(),
        Edit::RepeatLine => [&bytes[..end], &bytes[line..]].concat(),
        Edit::Indent => [&bytes[..line], b" ", &bytes[line..]].concat(),
        Edit::Junk(junk) => [before, junk, after].concat(),
        Edit::Token(token) => [before, token.as_bytes(), after].concat(),
    }
}

/// The way to each node below `value`.
fn paths(value: &Value, here: &[Step], found: &mut Vec<Vec<Step>>) {
    let children: Vec<(Step, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (Step::Key(k.clone()), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (Step::Index(i), v)).collect(),
        _ => Vec::new(),
    };
    for (step, child) in children {
        let path = [here, &[step]].concat();
        paths(child, &path, found);
        found.push(path);
    }
}

fn node<'a>(value: &'a mut Value, path: &[Step]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => &mut value[key],
        Step::Index(index) => &mut value[index],
    })
}

fn is_free(path: &[Step]) -> bool {
    path.iter().any(|step| matches!(step, Step::Key(key) if FREE.contains(&key.as_str())))
}

/// A document of the sample and the way to one of its nodes.
fn place() -> impl Strategy<Value = (usize, Vec<Step>)> {
    (0..VALUES.len(), any::<prop::sample::Index>()).prop_map(|(document, index)| {
        let mut found = Vec::new();
        paths(&VALUES[document], &[], &mut found);
        (document, found.swap_remove(index.index(found.len())))
    })
}

/// JSON is YAML.
fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens to the text of a document: the others say what they said, and it goes on
    /// saying what it said, or says something else that is valid, or is named.
    #[test]
    fn an_edit_stays_in_its_document_and_is_named(
        document in 0..DOCUMENTS.len(),
        at in any::<prop::sample::Index>(),
        edit in edit(),
    ) {
        let own = DOCUMENTS[document];
        let changed = edited(own, at.index(own.len()), &edit);
        // Another marker makes two documents of it: no edit of one document.
        let lines = changed.split(|byte| *byte == b'\n');
        prop_assume!(lines.into_iter().all(|line| !line.starts_with(b"---")));
        let rest = |texts: &[&str]| texts.iter().map(|text| format!("---\n{text}")).collect::<String>();
        let (before, after) = (rest(&DOCUMENTS[..document]), rest(&DOCUMENTS[document + 1..]));
        let whole = [before.as_bytes(), b"---\n", &changed, b"\n", after.as_bytes()].concat();

        let parsed = read(&whole);
        let found = objects(&parsed);
        let original = &*ORIGINAL;
        prop_assert_eq!(&found[..document], &original[..document]);
        let behind = DOCUMENTS.len() - document - 1;
        prop_assert_eq!(&found[found.len() - behind..], &original[document + 1..]);

        let here = before.lines().count() + 1..=before.lines().count() + 2 + changed.len();
        let named = parsed.problems.iter().any(|p| p.line.is_some_and(|line| here.contains(&line)));
        prop_assert!(
            parsed.problems.iter().all(|p| p.line.is_some_and(|line| here.contains(&line))),
            "{:?}", parsed.problems
        );
        let there = found.len() == DOCUMENTS.len();
        // Comments, and the kinds of others (of which nobody here can tell), are nobody's mistake.
        let others = || match values(&changed).unwrap().as_slice() {
            [] => true,
            [(_, Ok(value))] => {
                let group = value["apiVersion"].as_str().unwrap_or_default();
                value.is_null() || group.split('/').next().is_some_and(|group| group.contains('.'))
            }
            _ => false,
        };
        prop_assert!(there || named || others(), "{}", String::from_utf8_lossy(&changed));
    }

    /// No field is overlooked.
    #[test]
    fn a_key_that_nobody_knows_is_named((document, path) in place(), name in "[a-z]{3,8}X") {
        let Some((Step::Key(key), parent)) = path.split_last() else { return Ok(()) };
        prop_assume!(!is_free(&path));
        let mut value = VALUES[document].clone();
        let map = node(&mut value, parent).as_object_mut().unwrap();
        let moved = map.remove(key).unwrap();
        map.insert(name.clone(), moved);
        let parsed = read(&text(&value));
        prop_assert!(!parsed.problems.is_empty(), "{key} is now {name}: {value}");
    }

    /// No value of a wrong shape is taken for another.
    #[test]
    fn a_value_of_another_shape_is_named_or_changes_nothing(
        (document, path) in place(),
        shape in 0..5_usize,
    ) {
        prop_assume!(!is_free(&path));
        let mut value = VALUES[document].clone();
        let spot = node(&mut value, &path);
        let shapes = [json!({"x": 1}), json!([[]]), json!(-1.5), json!(true), json!("\u{7f}")];
        let same = |shape: &Value| std::mem::discriminant(shape) == std::mem::discriminant(spot);
        prop_assume!(!same(&shapes[shape]));
        *spot = shapes[shape].clone();
        let parsed = read(&text(&value));
        let unchanged = objects(&parsed) == ORIGINAL[document..=document];
        prop_assert!(unchanged || !parsed.problems.is_empty(), "{path:?}: {value}");
    }
}
