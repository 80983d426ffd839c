//! Which rule, which backend? Pure.
//!
//! The control plane has put the rules into Gateway API's order of precedence, so that here the
//! first that matches wins.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, request::Parts};
use tulle_xds::model::{Backend, Match, PathMatch, RouteConfiguration, StringMatch};

/// The index of the first rule that matches.
pub fn find(route: &RouteConfiguration, head: &Parts) -> Option<usize> {
    route.rules.iter().position(|rule| matches(&rule.matches, head))
}

/// What decides between backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// Uniform over all of `u32`.
    Chance(u32),
    /// The hash of what the request sticks by.
    Hash(u64),
}

/// The index of the backend that is drawn: each is as wide as its weight. `None` if all weights are 0.
pub fn choose(backends: &[Backend], draw: Draw) -> Option<usize> {
    let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut rest = match draw {
        Draw::Chance(point) => (u64::from(point) * total) >> 32,
        Draw::Hash(hash) => hash.checked_rem(total)?,
    };
    backends.iter().position(|backend| {
        let weight = u64::from(backend.weight);
        let here = rest < weight;
        rest = rest.saturating_sub(weight);
        here
    })
}

/// Whether all of its conditions hold.
pub fn matches(rule: &Match, head: &Parts) -> bool {
    path(&rule.path, head.uri.path())
        && rule.method.as_ref().is_none_or(|method| *method == head.method)
        && rule.headers.iter().all(|m| header(&m.name, &m.value, &head.headers))
        && rule.query.iter().all(|m| query(&m.name, &m.value, head.uri.query().unwrap_or_default()))
}

fn path(rule: &PathMatch, path: &str) -> bool {
    match rule {
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => {
            path.strip_prefix(prefix.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
                || prefix.is_empty()
        }
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}

fn header(name: &HeaderName, rule: &StringMatch, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
    let Some(first) = values.next() else {
        return false;
    };
    let joined = values.fold(first, |all, value| Cow::Owned(format!("{all},{value}")));
    text(rule, &joined)
}

fn query(name: &str, rule: &StringMatch, query: &str) -> bool {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value =
        pairs.into_iter().find(|(n, _)| decoded(n) == name).map(|(_, value)| decoded(value));
    value.is_some_and(|value| text(rule, &value))
}

fn text(rule: &StringMatch, text: &str) -> bool {
    match rule {
        StringMatch::Exact(exact) => text == exact,
        StringMatch::Regex(regex) => regex.is_match(text),
    }
}

/// Percent-decoded; what is no valid escape stays as it is.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |i: usize| after.get(i).and_then(|&b| char::from(b).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, hex(0), hex(1)) {
            bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;
    use tulle_xds::model::{HeaderMatch, QueryMatch, Regex};

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let prefix = |p: &str| PathMatch::Prefix(p.to_owned());
        for (rule, text, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a", "/", false),
            ("", "/anything", true),
            ("", "*", true),
        ] {
            assert_eq!(path(&prefix(rule), text), expected, "{rule} {text}");
        }
    }

    #[test]
    fn a_regex_matches_the_whole_path() {
        let regex = PathMatch::Regex(Regex::new("/v[0-9]+|/x").unwrap());
        assert!(path(&regex, "/v12") && path(&regex, "/x"));
        assert!(!path(&regex, "/v12/a") && !path(&regex, "/x/"));
    }

    #[test]
    fn all_conditions_must_hold() {
        let rule = Match {
            path: PathMatch::Exact("/p".into()),
            method: Some(http::Method::GET),
            headers: vec![HeaderMatch {
                name: HeaderName::from_static("x-a"),
                value: StringMatch::Exact("1,2".into()),
            }],
            query: vec![QueryMatch {
                name: "q x".into(),
                value: StringMatch::Regex(Regex::new("[a-z]+&").unwrap()),
            }],
        };
        let both = [("x-a", "1"), ("x-a", "2")];
        assert!(matches(&rule, &head("/p?z&q%20x=ab%26&q%20x=9", &both)));
        assert!(!matches(&rule, &head("/p?q%20x=ab%26", &both[..1])));
        assert!(!matches(&rule, &head("/p?q%20x=9&q%20x=ab%26", &both)));
        assert!(!matches(&rule, &head("/p", &both)));
    }

    #[test]
    fn shares_follow_weights() {
        let backend = |cluster: &str, weight| Backend {
            cluster: cluster.into(),
            weight,
            filters: Vec::new(),
        };
        let chance = Draw::Chance;
        let backends = [backend("a", 0), backend("b", 1), backend("c", 3)];
        let count = (0..1000u32)
            .filter(|i| choose(&backends, chance(i * (u32::MAX / 1000))) == Some(1))
            .count();
        assert!((249..=252).contains(&count), "{count}");
        assert_eq!(choose(&backends[..1], chance(7)), None);
        assert_eq!(choose(&backends[..1], Draw::Hash(7)), None);
        let huge = [backend("a", 1), backend("b", u32::MAX - 1)];
        assert_eq!(choose(&huge, chance(u32::MAX)), Some(1));
        assert_eq!(choose(&huge, chance(0)), Some(0));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in "\\PC{0,12}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(decoded(&encoded), text);
        }

        #[test]
        fn any_query_is_bounded(text in "[%&=a-f0-9]{0,40}") {
            let _matched = query("a", &StringMatch::Exact("b".into()), &text);
        }
    }
}
