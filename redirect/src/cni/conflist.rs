//! Our entry in a network's configuration list: put at its end and taken out again, in its text, so
//! that all else stays byte by byte as its owner wrote it. Pure.

use std::ops::Range;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::{NAME, call::VERSIONS};

/// The entry. The capabilities are what the runtime shall hand to the plugin.
const ENTRY: &str =
    r#"{"type":"tulle-cni","capabilities":{"io.kubernetes.cri.pod-annotations":true,"dns":true}}"#;

/// Why nothing can be chained to a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAList {
    /// Somebody may be writing it.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// One plugin's own configuration, or something else.
    #[error("it has no list of plugins: only a configuration list (*.conflist) can be chained to")]
    NoPlugins,
    /// Too old to chain.
    #[error("its cniVersion is {0}; chained are those from {first} on", first = VERSIONS[0])]
    Version(String),
}

/// The text with our entry as its last plugin; `None` if it is.
///
/// # Errors
/// [`NotAList`]
pub fn add(text: &str) -> Result<Option<String>, NotAList> {
    let found = plugins(text)?;
    let ours: Vec<_> = found.iter().filter(|plugin| plugin.ours).collect();
    let good = |at: &Range<usize>| text.get(at.clone()) == Some(ENTRY);
    if ours.len() == 1 && found.last().is_some_and(|last| last.ours && good(&last.at)) {
        return Ok(None);
    }
    let without = remove(text)?.unwrap_or_else(|| text.to_owned());
    let found = plugins(&without)?;
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return Err(NotAList::NoPlugins);
    };
    // Indented as the others are.
    let before = without.get(..first.at.start).unwrap_or_default();
    let indent = before.get(before.trim_end().len()..).unwrap_or_default();
    let mut with = without.clone();
    with.insert_str(last.at.end, &format!(",{indent}{ENTRY}"));
    Ok(Some(with))
}

/// The text without our entry; `None` if it has none.
///
/// # Errors
/// [`NotAList`]
pub fn remove(text: &str) -> Result<Option<String>, NotAList> {
    let found = plugins(text)?;
    let mut without = text.to_owned();
    // From behind, so that what is in front stays where it is.
    for (index, plugin) in found.iter().enumerate().rev().filter(|(_, plugin)| plugin.ours) {
        let previous = index.checked_sub(1).and_then(|index| found.get(index));
        let next = found.get(index + 1);
        let cut = match (previous, next) {
            (Some(previous), _) => previous.at.end..plugin.at.end,
            (None, Some(next)) => plugin.at.start..next.at.start,
            (None, None) => plugin.at.clone(),
        };
        without.replace_range(cut, "");
    }
    Ok((without != text).then_some(without))
}

/// A plugin of a list.
struct Plugin {
    /// Where it is in the text.
    at: Range<usize>,
    ours: bool,
}

/// The plugins of a list, in their order.
fn plugins(text: &str) -> Result<Vec<Plugin>, NotAList> {
    let list: Value = serde_json::from_str(text).map_err(|e| NotAList::Json(e.to_string()))?;
    let version = list["cniVersion"].as_str().unwrap_or("0.1.0");
    let Some(values) = list["plugins"].as_array() else { return Err(NotAList::NoPlugins) };
    if !VERSIONS.contains(&version) {
        return Err(NotAList::Version(version.to_owned()));
    }
    let places = Reader { text, at: 0 }.plugins().ok_or(NotAList::NoPlugins)?;
    let ours = values.iter().map(|value| value["type"] == NAME);
    Ok(places.into_iter().zip(ours).map(|(at, ours)| Plugin { at, ours }).collect())
}

/// Walks through text that is known to be JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// Where the items of the object's field `plugins` are: of the last one, as JSON has it.
    fn plugins(mut self) -> Option<Vec<Range<usize>>> {
        let mut found = None;
        self.eat('{')?;
        while self.eat('}').is_none() {
            let name: String = self.value()?;
            self.eat(':')?;
            if name == "plugins" && self.eat('[').is_some() {
                found = Some(self.items()?);
            } else {
                self.value::<IgnoredAny>()?;
            }
            self.eat(',');
        }
        found
    }

    fn items(&mut self) -> Option<Vec<Range<usize>>> {
        let mut items = Vec::new();
        while self.eat(']').is_none() {
            let start = self.at;
            self.value::<IgnoredAny>()?;
            items.push(start..self.at);
            self.eat(',');
        }
        Some(items)
    }

    /// Takes this character, and the space on both its sides.
    fn eat(&mut self, expected: char) -> Option<()> {
        self.skip_space();
        self.text.get(self.at..)?.strip_prefix(expected)?;
        self.at += expected.len_utf8();
        self.skip_space();
        Some(())
    }

    fn value<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut values = serde_json::Deserializer::from_str(self.text.get(self.at..)?).into_iter();
        let value = values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(value)
    }

    fn skip_space(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const PRETTY: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel", "delegate": {"plugins": ["}"]}
    },
    {"type": "portmap"}
  ],
  "unknown": 1e3
}
"#;

    #[test]
    fn it_is_last_and_all_else_stays() {
        for text in [
            PRETTY,
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"ptp"}]}"#,
            r#"{"plu\u0067ins" : [ {"type":"ptp"} ,{"type":"a"} ] , "cniVersion":"1.1.0"}"#,
            r#"{"cniVersion":"1.0.0","plugins":[1],"plugins":[{"type":"ptp"}]}"#,
        ] {
            let with = add(text).unwrap().unwrap();
            let read: Value = serde_json::from_str(&with).unwrap();
            let last = read["plugins"].as_array().unwrap().last().unwrap();
            assert_eq!(last["type"], NAME, "{with}");
            assert_eq!(add(&with), Ok(None), "once is enough: {with}");
            assert_eq!(remove(&with), Ok(Some(text.to_owned())), "as it was");
            assert_eq!(remove(text), Ok(None));
        }
        assert!(
            add(PRETTY)
                .unwrap()
                .unwrap()
                .contains("{\"type\": \"portmap\"},\n    {\"type\":\"tulle-cni\"")
        );
    }

    #[test]
    fn what_an_older_one_wrote_is_replaced() {
        let ours = r#"{"type":"tulle-cni"}"#;
        for plugins in [
            format!(r#"{{"type":"a"}},{ours}"#),
            format!(r#"{ours}, {{"type":"a"}}"#),
            format!(r#"{ours},{{"type":"a"}},{ours}"#),
        ] {
            let text = format!(r#"{{"cniVersion":"1.0.0","plugins":[{plugins}]}}"#);
            let with = add(&text).unwrap().unwrap();
            let expected =
                format!(r#"{{"cniVersion":"1.0.0","plugins":[{{"type":"a"}},{ENTRY}]}}"#);
            assert_eq!(with, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_chained_to_says_why() {
        for (text, reason) in [
            ("", "it is no JSON: EOF"),
            (r#"{"cniVersion":"1.0.0","#, "it is no JSON"),
            (r#"{"cniVersion":"1.0.0","type":"ptp"}"#, "it has no list of plugins"),
            (r#"{"cniVersion":"1.0.0","plugins":[]}"#, "it has no list of plugins"),
            (r#"{"cniVersion":"1.0.0","plugins":{}}"#, "it has no list of plugins"),
            ("[]", "it has no list of plugins"),
            (r#"{"plugins":[{"type":"ptp"}]}"#, "its cniVersion is 0.1.0"),
            (r#"{"cniVersion":"0.2.0","plugins":[{"type":"ptp"}]}"#, "its cniVersion is 0.2.0"),
        ] {
            let error = add(text).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_list_comes_back(types in prop::collection::vec("[a-z\"\\\\{}\\[\\],é]{1,6}", 1..5), pretty: bool) {
            let plugins: Vec<_> = types.iter().map(|t| json!({"type": t, t.as_str(): [t]})).collect();
            let list = json!({"cniVersion": "1.0.0", "name": types[0], "plugins": plugins});
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) };
            let text = text.unwrap();
            let with = add(&text).unwrap().unwrap();
            prop_assert_eq!(remove(&with).unwrap().unwrap(), text);
        }

        #[test]
        fn any_text_is_a_list_or_not(text in "[\\[\\]{}\",: a-z0-9]{0,40}") {
            drop(add(&text));
        }
    }
}
