//! Zipkin's headers, in both forms: <https://github.com/openzipkin/b3-propagation>. They are written in the form in which
//! they came; where none came in several headers, which is the form that most applications pass on.

use std::num::NonZeroU64;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Position, SpanId, TraceId, hex, only};

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What a caller said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// The trace and the caller's span; `None`: only whether it is to be recorded.
    pub(super) ids: Option<(TraceId, SpanId)>,
    /// Whether it is recorded; `None`: whoever reads it decides.
    pub(super) sampled: Option<bool>,
}

/// What the headers say; `None` if that is nothing, or nothing that can be read.
pub(super) fn read(headers: &HeaderMap) -> Option<Said> {
    match only(headers, &SINGLE).ok()? {
        Some(value) => single(value),
        None => several(headers),
    }
}

fn single(value: &[u8]) -> Option<Said> {
    let mut fields = value.split(|byte| *byte == b'-');
    let (first, second) = (fields.next()?, fields.next());
    let Some(span) = second else {
        return Some(Said { ids: None, sampled: Some(decision(first)?) });
    };
    let ids = Some((trace(first)?, span_id(span)?));
    let sampled = fields.next().map(|state| decision(state).ok_or(())).transpose().ok()?;
    Some(Said { ids, sampled })
}

fn several(headers: &HeaderMap) -> Option<Said> {
    let debug = only(headers, &FLAGS).ok()? == Some(b"1");
    let sampled = only(headers, &SAMPLED).ok()?.and_then(decision);
    let sampled = if debug { Some(true) } else { sampled };
    let ids = match (only(headers, &TRACE).ok()?, only(headers, &SPAN).ok()?) {
        (Some(of_trace), Some(span)) => Some((trace(of_trace)?, span_id(span)?)),
        _ => None,
    };
    (ids.is_some() || sampled.is_some()).then_some(Said { ids, sampled })
}

/// Older ones have ids of 64 bits.
fn trace(digits: &[u8]) -> Option<TraceId> {
    let number = hex::<32>(digits).or_else(|| hex::<16>(digits));
    number.filter(|number| *number != 0).map(TraceId)
}

fn span_id(digits: &[u8]) -> Option<SpanId> {
    u64::try_from(hex::<16>(digits)?).ok().and_then(NonZeroU64::new).map(SpanId)
}

fn decision(state: &[u8]) -> Option<bool> {
    match state {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// Writes where a request is.
pub(super) fn write(headers: &mut HeaderMap, position: &Position) {
    let Position { trace, span, parent, .. } = position;
    let sampled = if position.is_sampled() { "1" } else { "0" };
    let parent = parent.map(|parent| parent.to_string());
    if headers.contains_key(SINGLE) {
        let parent = parent.map_or_else(String::new, |parent| format!("-{parent}"));
        headers.insert(SINGLE, value(format!("{trace}-{span}-{sampled}{parent}")));
        if !headers.contains_key(TRACE) {
            return;
        }
    }
    headers.insert(TRACE, value(trace.to_string()));
    headers.insert(SPAN, value(span.to_string()));
    headers.insert(SAMPLED, HeaderValue::from_static(sampled));
    match position.parent {
        Some(parent) => drop(headers.insert(PARENT, value(parent.to_string()))),
        None => drop(headers.remove(PARENT)),
    }
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and dashes are a header's value")
}
