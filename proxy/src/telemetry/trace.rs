//! Where a request is in a distributed trace: what its headers say, and what they say when it goes on. Pure.
//!
//! ```text
//! headers ──► [ parent ] traceparent ─┐
//!             [ b3 ] if it is on ─────┴─► [ enter ] ──► a Position, and the headers of the next hop
//!             [ state ] tracestate ───┘       └─ [ sampling ] at the root of a trace
//! ```
//!
//! By W3C Trace Context, level 2 (<https://www.w3.org/TR/trace-context-2/>). gRPC's `grpc-trace-bin` is nobody's here: it
//! passes as it is.
//!
//! A request that is not drawn is in a trace all the same, so that nobody below draws again. Between two sidecars of ours that
//! is [`UNDRAWN`], the same for all such requests, which HPACK writes as one byte; the ids of the trace are made by whoever
//! sends it to somebody else.
//!
//! **Invariants.** A trace that was sampled stays sampled. Who makes no spans leaves the headers of others as they are.
//! The id that goes out is that of the span that sends it, where that is recorded.

mod b3;
mod enter;
mod parent;
mod sampling;
mod state;

pub use enter::{Entered, Origin, begin_undrawn, enter, resend};
pub use sampling::Threshold;

use std::{fmt, num::NonZeroU64};

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;
use tulle_xds::model::Traces;

/// `traceparent`.
const PARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`.
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The `traceparent` of a request that was not drawn, between two sidecars. To anybody else it is as good as none, as there
/// are no such ids.
const UNDRAWN: HeaderValue =
    HeaderValue::from_static("00-00000000000000000000000000000000-0000000000000000-00");

/// Its spans are recorded.
const SAMPLED: u8 = 1;
/// The last seven bytes of its id are random.
const RANDOM: u8 = 2;

/// What a proxy does about traces. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tracing {
    /// Somebody gets the spans. Else nothing is done, and headers pass as they are.
    pub spans: bool,
    /// Which of the requests that come without a trace have one whose spans are recorded. `None`: none begins here.
    pub threshold: Option<Threshold>,
    /// B3's headers are read and written, too.
    pub b3: bool,
}

/// Between whom a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the application to anybody.
    FromApplication,
    /// From a sidecar of ours to the application.
    FromSidecar,
    /// From anybody else to the application.
    FromStranger,
}

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The trace.
    pub trace: TraceId,
    /// This request's span.
    pub span: SpanId,
    /// The span that it is below; `None` at the root.
    pub parent: Option<SpanId>,
    flags: u8,
}

/// A trace's id. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// A span's id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

impl Tracing {
    /// What the control plane says.
    pub fn of(traces: &Traces) -> Self {
        if traces.destinations.is_empty() {
            return Self::default();
        }
        let threshold = Threshold::of_ppm(traces.sampling_ppm);
        Self { spans: true, threshold, b3: traces.b3 }
    }

    fn draws(&self, trace: TraceId) -> bool {
        self.threshold.is_some_and(|threshold| threshold.draws(trace))
    }
}

impl Position {
    /// Whether its spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags of W3C, of those that it defines.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// This span below this one.
    #[must_use]
    pub fn above(&self, span: SpanId) -> Self {
        Self { span, parent: Some(self.span), ..*self }
    }

    /// A new span below this one.
    #[must_use]
    pub fn below(&self, rng: &mut impl Rng) -> Self {
        self.above(SpanId::draw(rng))
    }

    /// A new span beside this one.
    #[must_use]
    pub fn beside(&self, rng: &mut impl Rng) -> Self {
        Self { span: SpanId::draw(rng), ..*self }
    }
}

impl TraceId {
    fn draw(rng: &mut impl Rng) -> Self {
        Self(rng.random::<u128>().max(1))
    }

    /// As it is in messages.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The last seven bytes, by which traces are drawn.
    fn randomness(self) -> u64 {
        let low = u64::try_from(self.0 & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        low & sampling::MAX
    }
}

impl SpanId {
    fn draw(rng: &mut impl Rng) -> Self {
        Self(NonZeroU64::new(rng.random()).unwrap_or(NonZeroU64::MIN))
    }

    /// As it is in messages.
    pub fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// The trace that `traceparent` names, if it can be read.
pub fn of(headers: &HeaderMap) -> Option<TraceId> {
    let parent = only(headers, &PARENT).ok()??;
    parent::read(parent).map(|parent| parent.trace)
}

/// Begins a trace for others: nobody here records it.
pub fn begin_for_others(headers: &mut HeaderMap, rng: &mut impl Rng) -> TraceId {
    let (trace, span) = (TraceId::draw(rng), SpanId::draw(rng));
    let position = Position { trace, span, parent: None, flags: SAMPLED | RANDOM };
    headers.insert(PARENT, parent::value(&position));
    headers.remove(STATE);
    trace
}

/// `LEN` digits of hexadecimal, in lower case alone, as a number. Each request has two hundred of them read and written.
fn hex<const LEN: usize>(digits: &[u8]) -> Option<u128> {
    let digits: &[u8; LEN] = digits.try_into().ok()?;
    let (mut number, mut all) = (0_u128, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        (number, all) = (number << 4 | u128::from(value), all | value);
    }
    (all < 16).then_some(number)
}

/// What stands for no digit.
const NONE: u8 = 0xff;

/// What each byte is as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut digit = 0;
    while digit < 16 {
        values[DIGITS[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The two digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// `bytes` as hexadecimal, at the beginning of `to`, which has room.
fn write_hex<const LEN: usize>(bytes: [u8; LEN], to: &mut [u8]) {
    let (pairs, _rest) = to.as_chunks_mut::<2>();
    for (byte, pair) in bytes.into_iter().zip(pairs) {
        *pair = PAIRS[usize::from(byte)];
    }
}

/// The one value of this header; `Err` if there are several.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (value, None) => Ok(value.map(HeaderValue::as_bytes).map(<[u8]>::trim_ascii)),
        _ => Err(()),
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
