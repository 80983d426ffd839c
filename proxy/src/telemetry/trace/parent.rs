//! `traceparent`: <https://www.w3.org/TR/trace-context-2/#traceparent-header>.

use std::{cell::RefCell, num::NonZeroU64};

use bytes::BytesMut;
use http::HeaderValue;

use super::{Position, RANDOM, SAMPLED, SpanId, TraceId, hex, write_hex};

/// Bytes of version 00.
const LEN: usize = 55;

/// What a caller said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// [`SAMPLED`] and [`RANDOM`]. What else there may be is not known here, and must not be sent on.
    pub(super) flags: u8,
    /// It says nothing else, in the version that is written here.
    pub(super) as_it_is: bool,
}

/// Reads a value; of a version that is not known yet its first four fields. `None` if it is none.
pub(super) fn read(value: &[u8]) -> Option<Parent> {
    let (known, more) = value.split_at_checked(LEN)?;
    let version = hex::<2>(&known[..2]).filter(|version| *version != 0xff)?;
    let well_ended = more.is_empty() || (version > 0 && more[0] == b'-');
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    if !well_ended || !dashes {
        return None;
    }
    let trace = hex::<32>(&known[3..35]).filter(|trace| *trace != 0)?;
    let span = u64::try_from(hex::<16>(&known[36..52])?).ok().and_then(NonZeroU64::new)?;
    let said = u8::try_from(hex::<2>(&known[53..])?).ok()?;
    let flags = said & (SAMPLED | RANDOM);
    let as_it_is = version == 0 && said == flags;
    Some(Parent { trace: TraceId(trace), span: SpanId(span), flags, as_it_is })
}

/// The value that goes on. HPACK's tables never see it again (RFC 7541, 7.1.3): each would push out what others share.
pub(super) fn value(position: &Position) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(position.trace.bytes(), &mut text[3..35]);
    write_hex(position.span.bytes(), &mut text[36..52]);
    write_hex([position.flags], &mut text[53..]);
    let text = SHEET.with_borrow_mut(|sheet| {
        if sheet.capacity() < LEN {
            *sheet = BytesMut::with_capacity(LEN * VALUES_OF_A_SHEET);
        }
        sheet.extend_from_slice(&text);
        sheet.split().freeze()
    });
    let mut value =
        HeaderValue::from_maybe_shared(text).expect("digits and dashes are a header's value");
    value.set_sensitive(true);
    value
}

/// So many values have one piece of memory. It is given back when the last of them is gone.
const VALUES_OF_A_SHEET: usize = 18;

thread_local! {
    /// What is left of the piece from which values are cut: each alone would be allocated and, as requests are copied, made
    /// shared.
    static SHEET: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}
