//! JSON value → Kubernetes type, with every field that the type does not know named.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tulle_api::Validate;

use super::{Fault, Field, Step};

/// What to do about a field that the type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Name it and go on without.
    Note,
    /// Refuse the object.
    Refuse,
}

/// Reads `value` as a `T`. `None` if it is none: the fault then says which field and why.
pub(super) fn read<T: DeserializeOwned + Serialize>(
    value: &Value,
    unknown: Unknown,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    // Nobody keeps track of where it reads until something is wrong there.
    let read = T::deserialize(value).or_else(|_| serde_path_to_error::deserialize(value));
    let typed: T = match read {
        Ok(typed) => typed,
        Err(error) => {
            faults.push(Fault::fatal(field(error.path()), error.inner().to_string()));
            return None;
        }
    };
    // The types ignore what they do not know, so what they would write tells what they took in.
    let understood = serde_json::to_value(&typed).unwrap_or_default();
    // They also take a list for their fields in order, which no Kubernetes object means.
    if let Some(field) = list_for_fields(value, &understood, &At::Whole) {
        faults.push(Fault::fatal(field, "is a list where fields with names are expected"));
        return None;
    }
    unknown_fields(value, &understood, &At::Whole, &mut |field, value| {
        // Our own types leave out what is empty, and refuse what they do not know by themselves.
        if unknown == Unknown::Refuse && is_empty(value) {
            return;
        }
        faults.push(match unknown {
            Unknown::Note => Fault::note(field, "unknown field; it has no effect"),
            Unknown::Refuse => Fault::fatal(field, "unknown field; remove it or correct its name"),
        });
    });
    Some(typed)
}

/// Reads a policy of ours with everything that its type and its own rules ask for.
pub(super) fn read_ours<T: DeserializeOwned + Serialize + Validate>(
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    // A status is ours to write, never to read; one of a newer control plane must not cost the policy.
    let mut bare = Cow::Borrowed(value);
    if value.get("status").is_some() {
        bare.to_mut().as_object_mut().map(|object| object.remove("status"));
    }
    let typed: T = read(&bare, Unknown::Refuse, faults)?;
    let problems = typed.problems().into_iter();
    faults.extend(problems.map(|p| Fault::fatal(Field::from(p.field.as_str()), p.reason)));
    Some(typed)
}

/// Where a walk stands: it becomes a [`Field`] only where there is something to say.
enum At<'a> {
    Whole,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl At<'_> {
    fn field(&self) -> Field {
        match self {
            At::Whole => Field::default(),
            At::Key(outer, key) => outer.field().key(key),
            At::Index(outer, index) => outer.field().index(*index),
        }
    }
}

fn unknown_fields(raw: &Value, typed: &Value, at: &At<'_>, report: &mut impl FnMut(Field, &Value)) {
    match (raw, typed) {
        (Value::Object(raw), Value::Object(typed)) => {
            for (key, value) in raw.iter().filter(|(_, value)| !value.is_null()) {
                let at = At::Key(at, key);
                match typed.get(key) {
                    Some(typed) => unknown_fields(value, typed, &at, report),
                    None => report(at.field(), value),
                }
            }
        }
        (Value::Array(raw), Value::Array(typed)) => {
            for (index, (raw, typed)) in raw.iter().zip(typed).enumerate() {
                unknown_fields(raw, typed, &At::Index(at, index), report);
            }
        }
        _ => {}
    }
}

fn list_for_fields(raw: &Value, typed: &Value, at: &At<'_>) -> Option<Field> {
    match (raw, typed) {
        (Value::Array(_), Value::Object(_)) => Some(at.field()),
        (Value::Object(raw), Value::Object(typed)) => raw
            .iter()
            .find_map(|(key, value)| list_for_fields(value, typed.get(key)?, &At::Key(at, key))),
        (Value::Array(raw), Value::Array(typed)) => {
            let mut items = raw.iter().zip(typed).enumerate();
            items.find_map(|(index, (raw, typed))| {
                list_for_fields(raw, typed, &At::Index(at, index))
            })
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn field(path: &serde_path_to_error::Path) -> Field {
    use serde_path_to_error::Segment;
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    steps.collect::<Vec<_>>().into()
}
