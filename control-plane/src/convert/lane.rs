//! Lane: with every default.

use std::sync::Arc;

use serde_json::Value;
use tulle_api::LaneFallback;
use tulle_xds::model::{HeaderMatch, Match, StringMatch};

use super::{Fault, Field, Name, release, typed::read_ours};
use crate::world::{
    lane::LANE_LABEL,
    objects::{Labels, Lane, Object},
};

/// Whose value names the lane that a request enters, where the lane says nothing else.
const ENTRY: http::HeaderName = http::HeaderName::from_static("x-tulle-lane");

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let lane: tulle_api::Lane = read_ours(value, faults)?;
    let spec = lane.spec;
    let own = || name.name.to_string();
    let entry = match spec.entry.as_slice() {
        [] => {
            let header = HeaderMatch { name: ENTRY, value: StringMatch::Exact(own()) };
            vec![Match { headers: vec![header], ..Match::default() }]
        }
        told => {
            let field = |at| Field::from("spec.entry").index(at);
            let told = told.iter().enumerate();
            told.filter_map(|(at, told)| release::matches(&field(at), told, faults)).collect()
        }
    };
    let members = spec.members.map(|pods| pods.match_labels);
    Some(Object::Lane(Arc::new(Lane {
        name: name.clone(),
        entry,
        members: members.unwrap_or_else(|| Labels::from([(LANE_LABEL.to_owned(), own())])),
        denies: spec.fallback == Some(LaneFallback::Deny),
    })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lane(spec: Value) -> (Option<Arc<Lane>>, Vec<String>) {
        let value = json!({
            "apiVersion": "tulle.dev/v1alpha1", "kind": "Lane",
            "metadata": {"namespace": "shop", "name": "pr-1"},
            "spec": spec, "status": {"inForce": "1/1"},
        });
        let outcome = super::super::convert(&value);
        let faults = outcome.faults.iter().map(|f| format!("{}: {}", f.field, f.reason)).collect();
        match outcome.object {
            Some(Object::Lane(lane)) => (Some(lane), faults),
            None => (None, faults),
            other => panic!("{other:?}"),
        }
    }

    fn header(name: &'static str, value: &str) -> Match {
        let name = http::HeaderName::from_static(name);
        let value = StringMatch::Exact(value.to_owned());
        Match { headers: vec![HeaderMatch { name, value }], ..Match::default() }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let (found, faults) = lane(json!({}));
        let expected = Lane {
            name: Name::new("shop", "pr-1"),
            entry: vec![header("x-tulle-lane", "pr-1")],
            members: Labels::from([("tulle.dev/lane".to_owned(), "pr-1".to_owned())]),
            denies: false,
        };
        assert_eq!((found.as_deref(), faults), (Some(&expected), Vec::new()));
    }

    #[test]
    fn everything_that_is_said_is_heard() {
        let (found, faults) = lane(json!({
            "entry": [{"headers": [{"name": "X-Lane", "value": "1"}]}],
            "members": {"matchLabels": {"branch": "one"}},
            "fallback": "Deny",
            "ttl": "0s",
        }));
        let found = found.unwrap();
        assert_eq!(found.entry, [header("x-lane", "1")]);
        assert_eq!(found.members, Labels::from([("branch".to_owned(), "one".to_owned())]));
        assert!(found.denies);
        assert_eq!(faults, [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (spec, fault) in [
            (json!({"entry": [{}]}), "spec.entry[0]: it says nothing"),
            (
                json!({"entry": [{"headers": [{"name": "a b", "value": "1"}]}]}),
                "spec.entry[0].headers[0].name: \"a b\" is no header name",
            ),
            (json!({"ttl": "1h"}), "spec.ttl: a lane does not end by itself"),
            (json!({"lane": 1}), "spec.lane: unknown field"),
        ] {
            let (found, faults) = lane(spec.clone());
            assert!(found.is_none() && faults[0].starts_with(fault), "{spec}: {faults:?}");
        }
    }
}
