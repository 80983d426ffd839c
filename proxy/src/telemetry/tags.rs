//! Tags of a Telemetry's metrics: labels more of the series of edges, and the bound on what values they have.
//!
//! Workers count by whatever value comes; where their tallies come together, a value that is one too many is `other`. So
//! nobody on the data path waits for another to learn whether a value is known.

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use tulle_xds::{model, text};

use super::edge::OTHER;

/// Bytes of a value.
const MAX_VALUE: usize = 128;

/// A label that a Telemetry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    /// As Prometheus has it.
    pub(super) name: Arc<str>,
    /// As it was written.
    pub(super) attribute: Arc<str>,
    /// Values that are told apart.
    most: usize,
}

/// A label with a value. It is another one if its name or its value is another, whatever else has changed about it.
#[derive(Debug, Clone)]
pub(super) struct Tag<'a> {
    pub(super) label: Cow<'a, Label>,
    pub(super) value: Cow<'a, str>,
}

/// Values that have series, by label: of how many edges. What is `other` is none of them.
#[derive(Debug, Default)]
pub(super) struct Values(HashMap<Arc<str>, HashMap<String, usize>>);

impl Label {
    pub(super) fn of(tag: &model::Tag) -> Self {
        Self {
            name: tag.name.replace('.', "_").into(),
            attribute: tag.name.as_str().into(),
            most: usize::try_from(tag.max_values).unwrap_or(usize::MAX),
        }
    }

    /// It, with this value, as far as it fits into a label: Prometheus takes any text, but its readers do not.
    pub(super) fn with<'a>(&'a self, value: Cow<'a, str>) -> Tag<'a> {
        let long = value.len() > MAX_VALUE;
        let value = if long || value.chars().any(char::is_control) {
            let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
            let plain: String = value.chars().take(MAX_VALUE).map(plain).collect();
            Cow::Owned(text::bounded(&plain, MAX_VALUE).to_owned())
        } else {
            value
        };
        Tag { label: Cow::Borrowed(self), value }
    }
}

impl Tag<'_> {
    pub(super) fn into_owned(self) -> Tag<'static> {
        Tag {
            label: Cow::Owned(self.label.into_owned()),
            value: Cow::Owned(self.value.into_owned()),
        }
    }

    fn said(&self) -> (&str, &str) {
        (&self.label.name, &self.value)
    }
}

impl PartialEq for Tag<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.said() == other.said()
    }
}

impl Eq for Tag<'_> {}

impl Hash for Tag<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.said().hash(state);
    }
}

impl Values {
    /// These with `other` in place of values for which there is no room, and how many these are, if there are any.
    pub(super) fn bounded<'a>(&self, tags: &'a [Tag<'static>]) -> Option<(Vec<Tag<'a>>, u64)> {
        let many = tags.iter().filter(|tag| !self.has_room(tag)).count();
        if many == 0 {
            return None;
        }
        let other = |tag: &'a Tag<'static>| Tag {
            label: Cow::Borrowed(&*tag.label),
            value: Cow::Borrowed(if self.has_room(tag) { &*tag.value } else { OTHER }),
        };
        Some((tags.iter().map(other).collect(), many as u64))
    }

    fn has_room(&self, tag: &Tag<'_>) -> bool {
        let (label, value) = tag.said();
        let of_label = self.0.get(label);
        let known = |of: &HashMap<_, _>| of.len() < tag.label.most || of.contains_key(value);
        value == OTHER || of_label.map_or(tag.label.most > 0, known)
    }

    /// An edge with these comes.
    pub(super) fn come(&mut self, tags: &[Tag<'static>]) {
        for tag in tags.iter().filter(|tag| tag.value != OTHER) {
            let of_label = self.0.entry(Arc::clone(&tag.label.name)).or_default();
            *of_label.entry(tag.value.clone().into_owned()).or_default() += 1;
        }
    }

    /// An edge with these goes. With its last one a value makes room.
    pub(super) fn leave(&mut self, tags: &[Tag<'static>]) {
        for tag in tags {
            let (label, value) = tag.said();
            let Some(of_label) = self.0.get_mut(label) else { continue };
            if let Some(edges) = of_label.get_mut(value) {
                *edges -= 1;
                if *edges == 0 {
                    of_label.remove(value);
                }
            }
            if of_label.is_empty() {
                self.0.remove(label);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, max_values: u32) -> Label {
        let (name, expression) = (name.to_owned(), "route".to_owned());
        Label::of(&model::Tag { name, expression, max_values })
    }

    #[test]
    fn names_are_prometheus_own_and_values_fit() {
        let label = label("shop.tenant_id", 10);
        assert_eq!((&*label.name, &*label.attribute), ("shop_tenant_id", "shop.tenant_id"));
        let (long, wide) = ("x".repeat(300), "é".repeat(100));
        let (cut, half) = ("x".repeat(MAX_VALUE), "é".repeat(MAX_VALUE / 2));
        for (value, expected) in [
            ("blue", "blue"),
            ("a\"b\\c # {", "a\"b\\c # {"),
            ("a\nb\r\0\u{1b}\u{9b}c", "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}\u{fffd}c"),
            (&long, &cut),
            (&wide, &half),
        ] {
            assert_eq!(label.with(Cow::Borrowed(value)).value, expected);
        }
        // What stands for a control character is longer than that.
        let value = label.with("\n".repeat(MAX_VALUE).into()).value;
        assert_eq!((value.len(), value.chars().count()), (126, 42));
    }

    #[test]
    fn a_tag_is_the_same_whatever_else_is_said_of_it() {
        let (one, other) = (label("a.b", 10), label("a_b", 20));
        let tag = |label: &Label, value: &str| label.with(value.into()).into_owned();
        assert_eq!(tag(&one, "x"), tag(&other, "x"));
        assert_ne!(tag(&one, "x"), tag(&one, "y"));
        assert_ne!(tag(&one, "x"), tag(&label("b", 10), "x"));
    }

    #[test]
    fn a_value_keeps_its_place_as_long_as_an_edge_has_it() {
        let label = label("a", 2);
        let tag = |value: &str| [label.with(value.into()).into_owned()];
        let mut values = Values::default();
        for value in ["x", "x", "y", OTHER] {
            assert!(values.has_room(&tag(value)[0]));
            values.come(&tag(value));
        }
        let has_room =
            |values: &Values| ["x", "y", "z", OTHER].map(|v| values.has_room(&tag(v)[0]));
        assert_eq!(has_room(&values), [true, true, false, true]);
        values.leave(&tag("x"));
        values.leave(&tag(OTHER));
        assert_eq!(has_room(&values), [true, true, false, true]);
        values.leave(&tag("x"));
        assert_eq!(has_room(&values), [true; 4]);
        values.leave(&tag("y"));
        assert!(values.0.is_empty());
    }
}
