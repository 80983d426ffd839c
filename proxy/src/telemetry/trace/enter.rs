//! A request enters a proxy.

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

use super::{
    PARENT, Position, RANDOM, SAMPLED, STATE, SpanId, TraceId, Tracing, b3,
    parent::{self, Parent},
    state,
};

/// What a request brought along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where it is by now.
    pub position: Position,
    /// The `tracestate` that goes on with it.
    pub state: Option<HeaderValue>,
}

/// What headers say.
enum Found {
    /// A caller's span. Where the caller has not decided, which only B3 knows, whoever reads it does.
    Parent { caller: Parent, decided: Option<bool>, by_w3c: bool },
    /// No trace; perhaps whether one is to be recorded.
    Nothing(Option<bool>),
}

/// Finds where a request is, and has its headers say so to the next hop: below its caller's span, or at the root of a
/// new trace. A `traceparent` that cannot be read is as good as none, and then no `tracestate` goes on. `None`: it is in no
/// trace.
///
/// Who makes no spans leaves a caller's headers alone, so that what is below finds its parent.
pub fn enter(headers: &mut HeaderMap, tracing: &Tracing, rng: &mut impl Rng) -> Option<Origin> {
    if tracing.is_off() {
        return None;
    }
    let draws = |trace| tracing.threshold.is_some_and(|threshold| threshold.draws(trace));
    let sampled = |yes| if yes { SAMPLED } else { 0 };
    let (position, state) = match find(headers, tracing.b3) {
        Found::Parent { caller: Parent { trace, span, flags }, decided, .. } if !tracing.spans => {
            let flags = flags | sampled(decided == Some(true));
            let position = Position { trace, span, parent: None, flags };
            return Some(Origin { position, state: None });
        }
        Found::Parent { caller: Parent { trace, span, flags }, decided, by_w3c } => {
            let flags = flags | sampled(decided.unwrap_or_else(|| draws(trace)));
            let state = if by_w3c { state::keep(headers) } else { clear(headers, &STATE) };
            let own = SpanId::draw(rng);
            (Position { trace, span: own, parent: Some(span), flags }, state)
        }
        Found::Nothing(decided) => {
            if tracing.threshold.is_none() && decided != Some(true) {
                headers.remove(PARENT);
                return clear(headers, &STATE);
            }
            let trace = TraceId::draw(rng);
            let flags = RANDOM | sampled(decided.unwrap_or_else(|| draws(trace)));
            let drawn = tracing.threshold.filter(|_| flags & SAMPLED != 0 && decided.is_none());
            let state = drawn.map(super::Threshold::state);
            match &state {
                Some(state) => drop(headers.insert(STATE, state.clone())),
                None => drop(headers.remove(STATE)),
            }
            (Position { trace, span: SpanId::draw(rng), parent: None, flags }, state)
        }
    };
    write(headers, &position, tracing.b3);
    Some(Origin { position, state })
}

/// Nothing is left of it.
fn clear<T>(headers: &mut HeaderMap, name: &HeaderName) -> Option<T> {
    headers.remove(name);
    None
}

/// Has the headers of another attempt, or of a copy, say where that is, as far as they still say anything: the filters of a route may
/// have removed it.
pub fn resend(headers: &mut HeaderMap, position: &Position, tracing: &Tracing) {
    if headers.contains_key(PARENT) {
        write(headers, position, tracing.b3);
    }
}

fn write(headers: &mut HeaderMap, position: &Position, b3: bool) {
    headers.insert(PARENT, parent::value(position));
    if b3 {
        b3::write(headers, position);
    }
}

/// W3C's header comes first: whoever sends both means the same by them.
fn find(headers: &HeaderMap, b3: bool) -> Found {
    let caller = super::only(headers, &PARENT).ok().flatten().and_then(parent::read);
    if let Some(caller) = caller {
        let decided = Some(caller.flags & SAMPLED != 0);
        return Found::Parent { caller, decided, by_w3c: true };
    }
    match if b3 { b3::read(headers) } else { None } {
        Some(b3::Said { ids: Some((trace, span)), sampled }) => {
            let caller = Parent { trace, span, flags: 0 };
            Found::Parent { caller, decided: sampled, by_w3c: false }
        }
        Some(b3::Said { ids: None, sampled }) => Found::Nothing(sampled),
        None => Found::Nothing(None),
    }
}
