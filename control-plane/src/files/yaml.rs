//! YAML text → JSON value, strictly and within bounds; and the way back from a field to its line.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::convert::{Field, Step};

/// A text that is not one YAML document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Line in the text, from 1.
    pub(super) line: Option<usize>,
    /// What is wrong.
    pub(super) reason: String,
}

/// Reads a document. JSON is YAML, so this reads both.
///
/// # Errors
/// Syntax errors, the same key twice in one mapping (YAML 1.2, 3.2.1.3), and aliases that blow the
/// document up.
pub(super) fn read(text: &str) -> Result<Value, Unreadable> {
    let budget = Budget {
        // Without aliases a node takes two bytes at least (`[a,a]`), and all texts together no more
        // than the document. The constants leave room for what anchors are meant for.
        nodes: Cell::new(text.len() / 2 + 100_000),
        bytes: Cell::new(text.len() * 2 + (1 << 20)),
    };
    Strict(&budget).deserialize(serde_yaml_ng::Deserializer::from_str(text)).map_err(|error| {
        Unreadable {
            line: error.location().map(|location| location.line()),
            reason: without_location(&error.to_string()),
        }
    })
}

/// The line, from 1, on which `field` stands in the document `text`; of a field that is not there,
/// the line of what it would be in.
pub(super) fn line_of(text: &str, field: &Field) -> Option<usize> {
    (0..=field.steps().len()).rev().find_map(|depth| {
        let steps = field.steps().get(..depth)?;
        let seek = Seek { steps, at_key: false };
        // Arriving is an error, because errors are what carries a location.
        let error = seek.deserialize(serde_yaml_ng::Deserializer::from_str(text)).err()?;
        let arrived = error.to_string().contains(ARRIVED);
        error.location().filter(|_| arrived).map(|location| location.line())
    })
}

/// No field of Kubernetes contains this text.
const ARRIVED: &str = "\u{1}arrived\u{1}";

fn without_location(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// What a document may still grow by.
struct Budget {
    nodes: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    fn spend<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = (self.nodes.get().checked_sub(1), self.bytes.get().checked_sub(bytes));
        let (Some(nodes), Some(bytes)) = left else {
            return Err(E::custom(
                "aliases make this document many times larger than its text; write it out",
            ));
        };
        self.nodes.set(nodes);
        self.bytes.set(bytes);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Strict<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can express")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.spend(0).map(|()| Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(0).map(|()| value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(0).map(|()| value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(0)?;
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("not a number that JSON can express"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.0.spend(key.len())?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("field {key:?} is there twice")));
            }
            let value = access.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Walks along `steps` and fails where they end: at the key itself if the last step is one, so that
/// the error has the key's line and not that of its value.
#[derive(Clone, Copy)]
struct Seek<'a> {
    steps: &'a [Step],
    at_key: bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.at_key {
            return deserializer.deserialize_str(self);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.steps.is_empty() { ARRIVED } else { "another step" })
    }

    // A scalar is refused by the default methods with "expected ARRIVED" if the steps end here.

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let here = self.steps.is_empty()
            || self.at_key && matches!(self.steps, [Step::Key(key)] if key == text);
        if here { Err(E::custom(ARRIVED)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else {
            return Err(A::Error::custom(ARRIVED));
        };
        let Step::Index(index) = step else {
            return drain(access);
        };
        for _ in 0..*index {
            if access.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        access.next_element_seed(Seek { steps: rest, at_key: false })?;
        drain(access)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else {
            return Err(A::Error::custom(ARRIVED));
        };
        if rest.is_empty() {
            while access.next_key_seed(Seek { steps: self.steps, at_key: true })?.is_some() {
                access.next_value::<IgnoredAny>()?;
            }
            return Ok(());
        }
        while let Some(key) = access.next_key::<String>()? {
            if matches!(step, Step::Key(step) if *step == key) {
                access.next_value_seed(Seek { steps: rest, at_key: false })?;
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

fn drain<'de, A: SeqAccess<'de>>(mut access: A) -> Result<(), A::Error> {
    while access.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: Service\nspec:\n  ports:\n    - name: a\n      port: 1\n    - port: 2\n      colour: red\n";

    #[test]
    fn finds_lines() {
        let line = |steps: &[Step]| line_of(TEXT, &Field::from(steps.to_vec()));
        let key = |text: &str| Step::Key(text.to_owned());
        assert_eq!(line(&[key("kind")]), Some(1));
        assert_eq!(line(&[key("spec")]), Some(2));
        assert_eq!(line(&[key("spec"), key("ports"), Step::Index(0), key("port")]), Some(5));
        assert_eq!(line(&[key("spec"), key("ports"), Step::Index(1), key("colour")]), Some(7));
        assert_eq!(line(&[key("spec"), key("ports"), Step::Index(1)]), Some(6));
        // Not there: where it would be.
        assert_eq!(line(&[key("spec"), key("selector")]), Some(2));
    }

    #[test]
    fn refuses_the_same_key_twice() {
        let refused = read("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert!(refused.reason.contains("\"a\" is there twice"), "{refused:?}");
    }

    #[test]
    fn keys_are_texts() {
        assert_eq!(read("{1: x, true: y}").unwrap(), serde_json::json!({"1": "x", "true": "y"}));
    }

    #[test]
    fn refuses_alias_bombs() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            let list = [below.as_str(); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        let refused = read(&bomb).unwrap_err();
        assert!(
            refused.reason.contains("aliases") || refused.reason.contains("repetition"),
            "{refused:?}"
        );
    }

    #[test]
    fn anchors_are_welcome() {
        let value = read("base: &b {x: 1}\nuse: *b\n").unwrap();
        assert_eq!(value, serde_json::json!({"base": {"x": 1}, "use": {"x": 1}}));
    }
}
