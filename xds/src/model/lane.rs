//! Lanes, as a proxy carries them on.

use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::{
    HeaderMatch, Match, QueryMatch, Regex, StringMatch,
    wire::{self, At as _, bad},
};

/// A lane of the workload's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// As requests have it in their baggage.
    pub name: String,
    /// Requests that enter it: those that one of these matches. On header fields and query parameters alone.
    pub entry: Vec<Match>,
}

impl Lane {
    pub(super) fn message(&self) -> ours::Lane {
        ours::Lane { name: self.name.clone(), entry: self.entry.iter().map(entry).collect() }
    }

    pub(super) fn read(message: ours::Lane) -> wire::Result<Self> {
        let entry = message.entry.into_iter().enumerate();
        let entry = entry.map(|(i, told)| read_entry(told).at_index("entry", i));
        Ok(Self { name: message.name, entry: entry.collect::<wire::Result<_>>()? })
    }
}

fn entry(matches: &Match) -> ours::LaneEntry {
    let headers = matches.headers.iter().map(|told| value(told.name.as_str(), &told.value));
    let query = matches.query.iter().map(|told| value(&told.name, &told.value));
    ours::LaneEntry { headers: headers.collect(), query: query.collect() }
}

fn value(name: &str, value: &StringMatch) -> ours::ValueMatch {
    let (value, regex) = match value {
        StringMatch::Exact(text) => (text.as_str(), false),
        StringMatch::Regex(regex) => (regex.source(), true),
    };
    ours::ValueMatch { name: name.to_owned(), value: value.to_owned(), regex }
}

fn read_entry(message: ours::LaneEntry) -> wire::Result<Match> {
    let mut found = Match::default();
    for (i, told) in message.headers.into_iter().enumerate() {
        let name = told.name.parse().map_err(|_invalid| bad("is no header name"));
        let name = name.at("name").at_index("headers", i)?;
        found.headers.push(HeaderMatch { name, value: text(told).at_index("headers", i)? });
    }
    for (i, told) in message.query.into_iter().enumerate() {
        let name = told.name.clone();
        found.query.push(QueryMatch { name, value: text(told).at_index("query", i)? });
    }
    Ok(found)
}

fn text(message: ours::ValueMatch) -> wire::Result<StringMatch> {
    if !message.regex {
        return Ok(StringMatch::Exact(message.value));
    }
    let regex = Regex::new(&message.value).map_err(|error| {
        let text = error.to_string();
        bad(text.lines().last().unwrap_or_default().trim())
    });
    regex.map(StringMatch::Regex).at("value")
}
