//! A request enters a proxy.

use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};
use rand::Rng;

use super::{
    PARENT, Position, RANDOM, SAMPLED, STATE, SpanId, Threshold, TraceId, Tracing, UNDRAWN, Way,
    b3,
    parent::{self, Parent},
    state,
};

/// Where a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// In no trace.
    Nowhere,
    /// In one that is not recorded. It has no ids yet: its headers say [`UNDRAWN`], which only a sidecar may get.
    Undrawn,
    /// In a trace.
    At(Origin),
}

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
/// new trace. A `traceparent` that cannot be read is as good as none, and then no `tracestate` goes on.
///
/// Who makes no span leaves a caller's headers alone, so that what is below finds its parent. So it is with what a caller wants
/// recorded if `admits`, which is asked only then, says no.
pub fn enter(
    headers: &mut HeaderMap,
    tracing: &Tracing,
    way: Way,
    rng: &mut impl Rng,
    admits: impl FnOnce() -> bool,
) -> Entered {
    // Whether spans are made here or not: its application must know that the decision was no.
    let parent = headers.get_mut(PARENT).filter(|_| way == Way::FromSidecar);
    if let Some(parent) = parent.filter(|parent| **parent == UNDRAWN) {
        let position = begin_undrawn(rng);
        *parent = parent::value(&position);
        if tracing.b3 {
            b3::write(headers, &position);
        }
        let entered = tracing.spans.then_some(Origin { position, state: None });
        return entered.map_or(Entered::Nowhere, Entered::At);
    }
    if !tracing.spans {
        return Entered::Nowhere;
    }
    // Of nearly all requests that begin a trace this is all that is done.
    if let (Way::FromApplication, Some(threshold), false) = (way, tracing.threshold, tracing.b3)
        && let Entry::Vacant(parent) = headers.entry(PARENT)
    {
        let trace = TraceId::draw(rng);
        if threshold.draws(trace) {
            drop(parent);
            return root(headers, tracing, trace, Decided::Drawn(threshold), rng);
        }
        parent.insert(UNDRAWN);
        headers.remove(STATE);
        return Entered::Undrawn;
    }
    let found = find(headers, tracing.b3);
    let wanted = match found {
        Found::Parent { decided, .. } | Found::Nothing(decided) => decided == Some(true),
    };
    if wanted && !admits() {
        return Entered::Nowhere;
    }
    match found {
        Found::Parent { caller, decided, by_w3c } => {
            let yes = decided.unwrap_or_else(|| tracing.draws(caller.trace));
            let flags = caller.flags | if yes { SAMPLED } else { 0 };
            let state = if by_w3c { state::keep(headers) } else { clear(headers, &STATE) };
            let Parent { trace, span, as_it_is, .. } = caller;
            if as_it_is && !yes && !tracing.b3 && keep(headers) {
                let position = Position { trace, span, parent: None, flags };
                return Entered::At(Origin { position, state });
            }
            let own = SpanId::draw(rng);
            let position = Position { trace, span: own, parent: Some(span), flags };
            write(headers, &position, tracing.b3);
            Entered::At(Origin { position, state })
        }
        Found::Nothing(decided) => begin(headers, tracing, way, decided, rng),
    }
}

/// A request without a trace. `decided`: somebody said whether it is to be recorded.
fn begin(
    headers: &mut HeaderMap,
    tracing: &Tracing,
    way: Way,
    decided: Option<bool>,
    rng: &mut impl Rng,
) -> Entered {
    let trace = TraceId::draw(rng);
    let decided = match (decided, tracing.threshold) {
        (Some(true), _) => Decided::Yes,
        (None, Some(threshold)) if threshold.draws(trace) => Decided::Drawn(threshold),
        (_, Some(_)) => Decided::No,
        (_, None) => {
            headers.remove(PARENT);
            headers.remove(STATE);
            return Entered::Nowhere;
        }
    };
    if decided == Decided::No && way == Way::FromApplication && !tracing.b3 {
        headers.insert(PARENT, UNDRAWN);
        headers.remove(STATE);
        return Entered::Undrawn;
    }
    root(headers, tracing, trace, decided, rng)
}

/// Whether a trace that begins here is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    No,
    /// Somebody wants it.
    Yes,
    /// It was drawn, and stands for others.
    Drawn(Threshold),
}

/// The root of a trace.
fn root(
    headers: &mut HeaderMap,
    tracing: &Tracing,
    trace: TraceId,
    decided: Decided,
    rng: &mut impl Rng,
) -> Entered {
    let state = match decided {
        Decided::Drawn(threshold) => Some(threshold.state()),
        Decided::Yes | Decided::No => None,
    };
    match &state {
        Some(state) => drop(headers.insert(STATE, state.clone())),
        None => drop(headers.remove(STATE)),
    }
    let flags = RANDOM | if decided == Decided::No { 0 } else { SAMPLED };
    let position = Position { trace, span: SpanId::draw(rng), parent: None, flags };
    write(headers, &position, tracing.b3);
    Entered::At(Origin { position, state })
}

/// The place of a request that was not drawn, once somebody other than a sidecar gets it.
pub fn begin_undrawn(rng: &mut impl Rng) -> Position {
    let (trace, span) = (TraceId::draw(rng), SpanId::draw(rng));
    Position { trace, span, parent: None, flags: RANDOM }
}

/// Lets the caller's `traceparent` go on. It is random, and HPACK's tables must not see it, as those that are written here.
fn keep(headers: &mut HeaderMap) -> bool {
    let Some(value) = headers.get_mut(PARENT) else { return false };
    value.set_sensitive(true);
    true
}

/// Nothing is left of it.
fn clear<T>(headers: &mut HeaderMap, name: &HeaderName) -> Option<T> {
    headers.remove(name);
    None
}

/// Has the headers of another attempt, or of a copy, say where that is, as far as they still say anything: the filters of a route may
/// have removed it. What is not recorded has one place for all attempts, which filters may have written over.
pub fn resend(headers: &mut HeaderMap, position: &Position, tracing: &Tracing) {
    if headers.get(PARENT).is_some_and(|parent| position.is_sampled() || parent == UNDRAWN) {
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
            let caller = Parent { trace, span, flags: 0, as_it_is: false };
            Found::Parent { caller, decided: sampled, by_w3c: false }
        }
        Some(b3::Said { ids: None, sampled }) => Found::Nothing(sampled),
        None => Found::Nothing(None),
    }
}
