//! YAML that every parser of Kubernetes reads alike.
//!
//! Ours speaks YAML 1.2 and leaves the text `Off` bare, where kubectl and Helm speak 1.1 and read a
//! boolean.

use serde::Serialize;
use serde_yaml_ng::{Error, Mapping, Value};

/// Around a text that is to be quoted: characters of private use, which the emitter leaves alone.
const MARKS: [char; 2] = ['\u{e000}', '\u{e001}'];

/// `value` as YAML, with texts quoted that YAML 1.1 would take for something else.
///
/// # Errors
/// As [`serde_yaml_ng::to_string`].
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    let value = marked(serde_yaml_ng::to_value(value)?);
    Ok(serde_yaml_ng::to_string(&value)?.replace(MARKS, "\""))
}

fn marked(value: Value) -> Value {
    match value {
        Value::String(text) if is_ambiguous(&text) => {
            Value::String(format!("{}{text}{}", MARKS[0], MARKS[1]))
        }
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(marked).collect()),
        Value::Mapping(fields) => Value::Mapping(
            fields.into_iter().map(|(k, v)| (marked(k), marked(v))).collect::<Mapping>(),
        ),
        other => other,
    }
}

/// Booleans and numbers of YAML 1.1 that are none in 1.2.
fn is_ambiguous(text: &str) -> bool {
    let boolean =
        matches!(text.to_ascii_lowercase().as_str(), "y" | "yes" | "n" | "no" | "on" | "off");
    let digit = |b: u8| b.is_ascii_hexdigit() || b"xXoO_.+-".contains(&b);
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    boolean || (begins && text.contains('_') && text.bytes().all(digit))
}
