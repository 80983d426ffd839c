//! YAML text → JSON value, strictly and within bounds; and the way back from a field to its line.

mod lines;

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

pub(super) use self::lines::lines_of;

/// A text that is not one YAML document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Line in the text, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

/// Nodes of a document: 10 MiB of manifests have about so many. The parser keeps all of them, some
/// 300 bytes each.
const MAX_NODES: usize = 500_000;

/// As deep as the parser goes.
const MAX_DEPTH: usize = 128;

/// Reads a document. JSON is YAML, so this reads both.
///
/// # Errors
/// Syntax errors, the same key twice in one mapping (YAML 1.2, 3.2.1.3), aliases that blow the
/// document up, and what would take long or much memory to find out.
pub(super) fn read(text: &str) -> Result<Value, Unreadable> {
    measure(text)?;
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

/// Refuses what the parser would need much time or memory for: it keeps every node, and of what is
/// inside of `[` or `{` each token costs it a step for each of them that is open, before it looks at
/// the first value. Counts bytes that may begin a node, in texts too.
fn measure(text: &str) -> Result<(), Unreadable> {
    let (mut nodes, mut opened, mut line) = (0_usize, 0_usize, 1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => (nodes, opened) = (nodes + 1, opened + 1),
            b',' => nodes += 1,
            // An item or a key, unless something else follows at once: an address, a time, a dash.
            b'-' | b':' | b'?' => {
                let next = text.as_bytes().get(at + 1);
                nodes += usize::from(next.is_none_or(|next| !next.is_ascii_alphanumeric()));
            }
            b'\n' => line += 1,
            _ => {}
        }
        if nodes > MAX_NODES {
            let reason =
                format!("more than {MAX_NODES} items and fields in one document; split it");
            return Err(Unreadable { line: Some(line), reason });
        }
    }
    // Few documents have so many, and even fewer of them are bad ones.
    if opened > 4 * MAX_DEPTH { lines::check_depth(text) } else { Ok(()) }
}

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

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Each of these took the parser more than six seconds or a gigabyte, most of them both.
    #[test]
    fn refuses_in_a_moment_what_would_take_long() {
        for (piece, said) in [
            ("[", "items and fields"),
            ("{\"a\": ", "items and fields"),
            ("- ", "items and fields"),
            ("-\n", "items and fields"),
            ("? ", "items and fields"),
            ("a,", "items and fields"),
            ("? - : ", "items and fields"),
        ] {
            let text = piece.repeat(crate::files::MAX_FILE / piece.len());
            let started = tokio::time::Instant::now();
            let refused = read(&text).unwrap_err();
            assert!(refused.reason.contains(said), "{piece:?}: {refused:?}");
            // A second without optimisation; the rest is for busy machines.
            assert!(started.elapsed().as_secs() < 20, "{piece:?}: {:?}", started.elapsed());
        }
    }

    /// Depth costs the parser the square of it; a quarter of a million levels took minutes.
    #[test]
    fn refuses_depth_in_a_moment() {
        for piece in ["[", "{a: ", "[\"]\",", "{? ["] {
            let text = piece.repeat(MAX_NODES / 3);
            let started = tokio::time::Instant::now();
            assert!(read(&text).is_err(), "{piece:?}");
            assert!(started.elapsed().as_secs() < 20, "{piece:?}: {:?}", started.elapsed());
        }
        assert!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
    }

    #[test]
    fn large_but_honest_documents_are_read() {
        let object = "- apiVersion: v1\n  kind: Service\n  metadata: {name: a, namespace: b}\n  \
                      spec:\n    clusterIP: 10.0.0.1\n    ports:\n    - port: 80\n";
        let list = object.repeat(10_000);
        assert_eq!(read(&list).unwrap().as_array().map(Vec::len), Some(10_000));
        // Scripts in ConfigMaps open more than they close.
        assert!(read(&format!("a: |\n{}", "  if [[ -n $x ; then\n".repeat(1000))).is_ok());
    }

    #[test]
    fn anchors_are_welcome() {
        let value = read("base: &b {x: 1}\nuse: *b\n").unwrap();
        assert_eq!(value, serde_json::json!({"base": {"x": 1}, "use": {"x": 1}}));
    }
}
