//! What happened in a slot, in as few bytes as it takes: some twenty for requests that all ended well, where the same as a
//! message would be sixty, and as a value some seven hundred.
//!
//! ```text
//!  head       3 bits: which of the usual ways all requests ended in, 0 for none | durations | zeros | 2 bits: their scale | rest
//!  [ times ]                                          how many requests ended so
//!  [ zeros ] [ first, bytes, one or more of them each ] [ nanoseconds ]       durations
//!  [ Counts ]                                         whatever else there is, as a message
//! ```
//!
//! It never leaves the process: nothing of it is promised to another version.

use std::mem;

use bytes::Buf as _;
use prost::{
    Message as _,
    encoding::{decode_varint, encode_varint},
};
use tulle_proto::telemetry::v1 as proto;
use tulle_runtime::histogram;

use super::totals::{Outcome, Totals};

/// How nearly all requests end: HTTP's status and gRPC's. Each is one shape without attempts told, and one in which each
/// request took one attempt, as callers' proxies tell.
const USUAL: [(u32, Option<u32>); 2] = [(200, None), (0, Some(0))];
const TRIED: &str = "ok";

const SHAPE: u8 = 0b111;
const DURATIONS: u8 = 1 << 3;
const ZEROS: u8 = 1 << 4;
const SCALE: u32 = 5;
const REST: u8 = 1 << 7;
/// In each half of a bucket's byte: the number follows.
const LONG: u8 = 15;

/// Appends them.
pub(super) fn write(totals: &Totals, to: &mut Vec<u8>) {
    let usual = usual(totals);
    let Totals { requests: _, took, tries: _, flow, denials } = totals;
    let rest = usual.is_none() || *flow != Default::default() || !denials.is_empty();
    let histogram = &took.histogram;
    let timed = histogram.count() > 0;
    let scale = histogram.scale().unsigned_abs() & 0b11;
    to.push(
        usual.map_or(0, |(shape, _)| shape)
            | if timed { DURATIONS | scale << SCALE } else { 0 }
            | if timed && histogram.zero() > 0 { ZEROS } else { 0 }
            | if rest { REST } else { 0 },
    );
    if let Some((_, times)) = usual {
        encode_varint(times, to);
    }
    if timed {
        if histogram.zero() > 0 {
            encode_varint(histogram.zero(), to);
        }
        write_buckets(histogram.buckets(), to);
        encode_varint(took.nanoseconds, to);
    }
    if rest {
        let mut message = totals.message();
        message.took = None;
        if usual.is_some() {
            (message.requests, message.tries) = (Vec::new(), Vec::new());
        }
        to.extend(message.encode_to_vec());
    }
}

/// Adds up what was written: what is usual has a place each, in which nothing is searched for.
#[derive(Debug)]
pub(super) struct Adder {
    /// Whether durations and attempts are added; else they are passed by.
    durations: bool,
    /// By their shape less one.
    usual: [u64; 2 * USUAL.len()],
    histogram: histogram::Adder,
    nanoseconds: u64,
    /// Whatever else there was; mostly nothing.
    rest: Option<Box<Totals>>,
}

impl Adder {
    /// Adds durations and attempts as well only if they are asked for.
    pub(super) fn new(durations: bool) -> Self {
        let histogram = histogram::Adder::default();
        Self { durations, usual: Default::default(), histogram, nanoseconds: 0, rest: None }
    }

    /// Adds what was written. `None`: it was not by [`write()`].
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Option<()> {
        let head = bytes.try_get_u8().ok()?;
        if let Some(shape) = (head & SHAPE).checked_sub(1) {
            let times = number(&mut bytes)?;
            let sum = self.usual.get_mut(usize::from(shape))?;
            *sum = sum.saturating_add(times);
        }
        if !self.durations && head & REST == 0 {
            return Some(());
        }
        if head & DURATIONS != 0 {
            let zeros = if head & ZEROS != 0 { number(&mut bytes)? } else { 0 };
            let first = number(&mut bytes)?;
            let length = usize::try_from(number(&mut bytes)?).ok()?;
            let mut packed = bytes.split_off(..length)?;
            let nanoseconds = number(&mut bytes)?;
            if self.durations {
                let scale = i8::try_from(head >> SCALE & 0b11).ok()?;
                let mut next = i16::MIN.checked_add_unsigned(u16::try_from(first).ok()?)?;
                let buckets = std::iter::from_fn(|| {
                    let (step, times) = read_bucket(&mut packed)?;
                    next = next.checked_add(step)?;
                    Some((next, times))
                });
                self.histogram.add(scale, zeros, buckets);
                self.nanoseconds = self.nanoseconds.saturating_add(nanoseconds);
            }
        }
        if head & REST != 0 {
            let mut counts = proto::Counts::decode(bytes).ok()?;
            if !self.durations {
                counts.tries.clear();
                counts.flow.iter_mut().for_each(|flow| flow.took = None);
            }
            self.rest.get_or_insert_default().read(&counts);
        }
        Some(())
    }

    /// What was added, all of it since this was last called.
    pub(super) fn take(&mut self) -> Totals {
        let mut sum = self.rest.take().map_or_else(Totals::default, |rest| *rest);
        for (shape, times) in mem::take(&mut self.usual).into_iter().enumerate() {
            let (status, grpc) = USUAL[shape / 2];
            sum.count(&Outcome { status, grpc, error: String::new() }, times);
            if shape % 2 == 1 && self.durations {
                sum.tried_so(TRIED, times);
            }
        }
        sum.took.histogram = self.histogram.take();
        sum.took.nanoseconds = mem::take(&mut self.nanoseconds);
        sum
    }
}

/// A number as [`encode_varint`] writes it.
#[inline]
pub(super) fn number(bytes: &mut &[u8]) -> Option<u64> {
    // Most are of one byte, and this is much of what a question does.
    if let Some((byte @ ..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some((*byte).into());
    }
    decode_varint(bytes).ok()
}

/// Which of the usual ways all of them ended in, and how many.
fn usual(totals: &Totals) -> Option<(u8, u64)> {
    let [(Outcome { status, grpc, error }, times)] = totals.requests.as_slice() else {
        return None;
    };
    let at = USUAL.iter().position(|usual| usual == &(*status, *grpc))?;
    let tried = match totals.tries.as_slice() {
        [] => false,
        [(outcome, tries)] if outcome == TRIED && tries == times => true,
        _ => return None,
    };
    error.is_empty().then_some((u8::try_from(1 + 2 * at).ok()? + u8::from(tried), *times))
}

/// The first bucket's index counts from the lowest that there is, each other one's from the one before.
fn write_buckets(buckets: &[(i16, u64)], to: &mut Vec<u8>) {
    let mut before = buckets.first().map_or(i16::MIN, |(first, _)| *first);
    encode_varint(u64::from(before.abs_diff(i16::MIN)), to);
    let mut packed = Vec::with_capacity(2 * buckets.len());
    for (bucket, times) in buckets {
        let (step, more) = (u64::from(bucket.abs_diff(before)), times.saturating_sub(1));
        before = *bucket;
        let half = |number: u64| u8::try_from(number).map_or(LONG, |number| number.min(LONG));
        packed.push(half(step) << 4 | half(more));
        for number in [step, more].into_iter().filter(|number| *number >= u64::from(LONG)) {
            encode_varint(number - u64::from(LONG), &mut packed);
        }
    }
    encode_varint(packed.len() as u64, to);
    to.extend(packed);
}

#[inline]
fn read_bucket(bytes: &mut &[u8]) -> Option<(i16, u64)> {
    let both = bytes.try_get_u8().ok()?;
    let mut number = |half: u8| match half {
        LONG => decode_varint(bytes).ok()?.checked_add(u64::from(LONG)),
        half => Some(half.into()),
    };
    let (step, more) = (number(both >> 4)?, number(both & 0b1111)?);
    Some((i16::try_from(step).ok()?, more.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::totals::tests::totals, *};

    fn written(totals: &Totals) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(totals, &mut bytes);
        bytes
    }

    fn read(all: &[&Totals], durations: bool) -> Totals {
        let mut adder = Adder::new(durations);
        all.iter().for_each(|totals| adder.add(&written(totals)).unwrap());
        adder.take()
    }

    /// In which order things are counted means nothing.
    fn in_order(mut totals: Totals) -> Totals {
        totals.requests.sort();
        totals.tries.sort();
        totals.denials.sort();
        totals
    }

    fn usual_totals(status: u32, grpc: Option<u32>, tries: &[(&str, u64)]) -> Totals {
        let mut totals = Totals::default();
        totals.count(&Outcome { status, grpc, error: String::new() }, 300);
        tries.iter().for_each(|(outcome, times)| totals.tried_so(outcome, *times));
        (0..300_u32).for_each(|n| totals.took.histogram.observe(0.001 * f64::from(1 + n % 20)));
        totals.took.nanoseconds = 3_150_000_000;
        totals
    }

    proptest! {
        #[test]
        fn there_and_back_and_added(one in totals(), other in totals(), scale in 0..4_i8) {
            let mut coarse = one.clone();
            if coarse.took.histogram.count() > 0 {
                coarse.took.histogram.coarsen(scale);
            }
            prop_assert_eq!(&in_order(read(&[&coarse], true)), &in_order(coarse.clone()));
            let both = read(&[&coarse, &other], true);
            coarse.merge(&other);
            prop_assert_eq!(in_order(both), in_order(coarse));
            let without = read(&[&one], false);
            let mut expected = one;
            (expected.took, expected.flow.took, expected.tries) = Default::default();
            prop_assert_eq!(in_order(without), in_order(expected));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), durations: bool) {
            let mut adder = Adder::new(durations);
            adder.add(&bytes);
            adder.take();
        }
    }

    #[test]
    fn what_is_usual_takes_few_bytes() {
        for (status, grpc, tries, most) in [
            (200, None, &[][..], 45),
            (200, None, &[("ok", 300)], 45),
            (0, Some(0), &[("ok", 300)], 45),
            (200, None, &[("ok", 299), ("retried", 1)], 75),
            (503, None, &[("ok", 300)], 65),
        ] {
            let totals = usual_totals(status, grpc, tries);
            let bytes = written(&totals);
            assert!(bytes.len() <= most, "{status} {grpc:?} {tries:?}: {}", bytes.len());
            assert_eq!(in_order(read(&[&totals], true)), in_order(totals));
        }
    }
}
