//! Which traces are drawn, so that all who draw by the same trace's id draw alike:
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>.

use http::HeaderValue;

use super::TraceId;

/// Traces are drawn by 56 bits.
pub(super) const MAX: u64 = (1 << 56) - 1;

/// What is below it is not drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold(u64);

impl Threshold {
    /// That of so many in a million; `None` for none.
    pub fn of_ppm(ppm: u32) -> Option<Self> {
        const MILLION: u128 = 1_000_000;
        let drawn = u128::from(ppm).min(MILLION);
        let rejected = ((MILLION - drawn) << 56) / MILLION;
        (drawn > 0).then(|| Self(u64::try_from(rejected).unwrap_or(MAX).min(MAX)))
    }

    /// Whether this trace is drawn.
    pub(super) fn draws(self, trace: TraceId) -> bool {
        trace.randomness() >= self.0
    }

    /// What `tracestate` says at the root of a trace that was drawn. Where ids are random, that of the trace is all that
    /// is needed beside it, and no `rv`.
    pub(super) fn state(self) -> HeaderValue {
        let digits = format!("{:014x}", self.0);
        let short = digits.trim_end_matches('0');
        let text = format!("ot=th:{}", if short.is_empty() { "0" } else { short });
        HeaderValue::try_from(text).expect("letters and digits are a header's value")
    }
}
