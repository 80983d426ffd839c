//! JSON value → Kubernetes type, with every field that the type does not know named.

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
    let typed: T = match serde_path_to_error::deserialize(value) {
        Ok(typed) => typed,
        Err(error) => {
            faults.push(Fault::fatal(field(error.path()), error.inner().to_string()));
            return None;
        }
    };
    // The types ignore what they do not know, so what they would write tells what they took in.
    let understood = serde_json::to_value(&typed).unwrap_or_default();
    // They also take a list for their fields in order, which no Kubernetes object means.
    if let Some(field) = list_for_fields(value, &understood, &Field::default()) {
        faults.push(Fault::fatal(field, "is a list where fields with names are expected"));
        return None;
    }
    unknown_fields(value, &understood, &Field::default(), &mut |field, value| {
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
    let typed: T = read(value, Unknown::Refuse, faults)?;
    let problems = typed.problems().into_iter();
    faults.extend(problems.map(|p| Fault::fatal(Field::from(p.field.as_str()), p.reason)));
    Some(typed)
}

fn unknown_fields(raw: &Value, typed: &Value, at: &Field, report: &mut impl FnMut(Field, &Value)) {
    match (raw, typed) {
        (Value::Object(raw), Value::Object(typed)) => {
            for (key, value) in raw.iter().filter(|(_, value)| !value.is_null()) {
                match typed.get(key) {
                    Some(typed) => unknown_fields(value, typed, &at.key(key), report),
                    None => report(at.key(key), value),
                }
            }
        }
        (Value::Array(raw), Value::Array(typed)) => {
            for (index, (raw, typed)) in raw.iter().zip(typed).enumerate() {
                unknown_fields(raw, typed, &at.index(index), report);
            }
        }
        _ => {}
    }
}

fn list_for_fields(raw: &Value, typed: &Value, at: &Field) -> Option<Field> {
    match (raw, typed) {
        (Value::Array(_), Value::Object(_)) => Some(at.clone()),
        (Value::Object(raw), Value::Object(typed)) => raw
            .iter()
            .find_map(|(key, value)| list_for_fields(value, typed.get(key)?, &at.key(key))),
        (Value::Array(raw), Value::Array(typed)) => {
            let mut items = raw.iter().zip(typed).enumerate();
            items.find_map(|(index, (raw, typed))| list_for_fields(raw, typed, &at.index(index)))
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
