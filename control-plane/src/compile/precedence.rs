//! Which of several matches comes first (Gateway API, `HTTPRouteRule.matches`).

use std::cmp::Reverse;

use tulle_xds::model::{Match, PathMatch};

use crate::world::{
    attach::age,
    objects::{Name, Route},
};

/// Orders matches: the least comes first. Among equals the order in the route decides.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence<'a> {
    path: (u8, Reverse<usize>),
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    age: (bool, &'a str),
    route: &'a Name,
}

pub(super) fn of<'a>(route: &'a Route, matches: &Match) -> Precedence<'a> {
    Precedence {
        path: match &matches.path {
            PathMatch::Exact(_) => (0, Reverse(0)),
            PathMatch::Prefix(prefix) if !prefix.is_empty() => (1, Reverse(prefix.len())),
            // Gateway API leaves their place open. After what matches everything they would be dead.
            PathMatch::Regex(_) => (2, Reverse(0)),
            PathMatch::Prefix(_) => (3, Reverse(0)),
        },
        without_method: matches.method.is_none(),
        headers: Reverse(matches.headers.len()),
        query: Reverse(matches.query.len()),
        age: age(&route.created),
        route: &route.name,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method};
    use tulle_xds::model::{HeaderMatch, QueryMatch, Regex, StringMatch};

    use super::*;
    use crate::world::objects::Kind;

    fn route(created: &str, namespace: &str, name: &str) -> Route {
        Route {
            kind: Kind::HttpRoute,
            name: Name::new(namespace, name),
            created: created.to_owned(),
            parents: Vec::new(),
            hostnames: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// `METHOD PATH-CONDITION hH qQ`.
    fn matches(text: &str) -> Match {
        let mut matches = Match::default();
        for word in text.split_whitespace() {
            let rest = word.get(1..).unwrap();
            match word.as_bytes()[0] {
                b'=' => matches.path = PathMatch::Exact(rest.to_owned()),
                b'/' => matches.path = PathMatch::Prefix(word.trim_end_matches('/').to_owned()),
                b'~' => matches.path = PathMatch::Regex(Regex::new(rest).unwrap()),
                b'h' => {
                    matches.headers = vec![
                        HeaderMatch {
                            name: HeaderName::from_static("x"),
                            value: StringMatch::Exact("1".to_owned()),
                        };
                        rest.parse().unwrap()
                    ];
                }
                b'q' => {
                    matches.query = vec![
                        QueryMatch {
                            name: "x".to_owned(),
                            value: StringMatch::Exact("1".to_owned()),
                        };
                        rest.parse().unwrap()
                    ];
                }
                _ => matches.method = Some(word.parse::<Method>().unwrap()),
            }
        }
        matches
    }

    #[test]
    fn the_more_specific_match_comes_first() {
        let in_order = [
            "=/a/b GET",
            "=/a",
            "/a/b/c",
            "/a/b h1 GET",
            "/a/b h2",
            "/a/b h1 q2",
            "/a/b h1",
            "/a/b q9",
            "/a/b",
            "~/a.* h1",
            "~/a/b/c/d/e.*",
            "/ GET",
            "/ h1",
            "/",
        ];
        let route = route("", "shop", "r");
        let parsed: Vec<_> = in_order.iter().map(|text| matches(text)).collect();
        for (i, first) in parsed.iter().enumerate() {
            for (j, second) in parsed.iter().enumerate() {
                let ordering = of(&route, first).cmp(&of(&route, second));
                assert_eq!(ordering, i.cmp(&j), "{} and {}", in_order[i], in_order[j]);
            }
        }
    }

    #[test]
    fn among_equals_the_older_route_comes_first_then_the_name() {
        let (old, new) = ("2024-01-01T00:00:00Z", "2024-10-01T00:00:00Z");
        let in_order = [
            route(old, "z", "z"),
            route(new, "a", "y"),
            route(new, "a", "z"),
            route(new, "b", "a"),
            route("", "a", "a"),
            route("", "a", "b"),
        ];
        let same = Match::default();
        for pair in in_order.windows(2) {
            assert!(of(&pair[0], &same) < of(&pair[1], &same), "{pair:?}");
        }
        assert!(of(&in_order[5], &matches("=/a")) < of(&in_order[0], &same), "age comes last");
    }
}
