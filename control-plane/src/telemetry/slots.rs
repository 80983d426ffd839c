//! What happened on an edge, by slots of time: one open slot, and those before it as bytes, one behind the other.
//!
//! ```text
//!  log   [ slots since the one before | length | Counts ] [ … ] [ … ]      oldest first; a slot in which nothing happened is not there
//!  open  the slot that is counted in now
//! ```
//!
//! A slot that is closed is some ten bytes without traffic worth a histogram, and some hundred with 1,000 requests; as a
//! value it would be a kilobyte.

use std::collections::VecDeque;

use bytes::Buf;
use prost::{
    Message as _,
    encoding::{decode_varint, encode_varint},
};
use tulle_proto::telemetry::v1 as proto;

use super::totals::Totals;

/// Slots of one width. Numbers of slots count from when the store began.
#[derive(Debug, Default)]
pub(super) struct Slots {
    log: VecDeque<u8>,
    /// The slot before the first one of the log, to which that one's distance counts; and the last one of the log.
    before: u32,
    last: u32,
    open: Option<Box<(u32, Totals)>>,
}

impl Slots {
    /// Adds to a slot, which is the open one or later.
    pub(super) fn add(&mut self, slot: u32, totals: &Totals, scale: i8) {
        self.close(slot, scale);
        let open = self.open.get_or_insert_with(|| Box::new((slot, Totals::default())));
        open.1.merge(totals);
    }

    /// Nothing will come any more for slots before this one. Their durations keep 2^`scale` buckets for each doubling.
    pub(super) fn close(&mut self, slot: u32, scale: i8) {
        let Some(done) = self.open.take_if(|open| open.0 < slot) else { return };
        let (number, mut totals) = *done;
        totals.took.histogram.coarsen(scale);
        totals.flow.took.histogram.coarsen(scale);
        let bytes = totals.message().encode_to_vec();
        if self.log.is_empty() {
            (self.before, self.last) = (number, number);
        }
        let mut entry = Vec::with_capacity(bytes.len() + 8);
        encode_varint(u64::from(number - self.last), &mut entry);
        encode_varint(bytes.len() as u64, &mut entry);
        entry.extend(bytes);
        // A deque doubles its room by itself, half of which would stay empty.
        if self.log.capacity() - self.log.len() < entry.len() {
            self.log.reserve_exact(entry.len() + self.log.len() / 8);
        }
        self.log.extend(entry);
        self.last = number;
    }

    /// Forgets slots before this one.
    pub(super) fn expire(&mut self, slot: u32) {
        while let Some((number, rest)) = self.oldest().filter(|(number, _)| *number < slot) {
            self.before = number;
            self.log.drain(..self.log.len() - rest);
        }
        self.open.take_if(|open| open.0 < slot);
        if self.log.is_empty() {
            self.log = VecDeque::new();
        } else if self.log.capacity() > 2 * self.log.len() + 64 {
            self.log.shrink_to(self.log.len() + self.log.len() / 8);
        }
    }

    /// Forgets the oldest half of it; the last slot of that. `None`: there was nothing to forget.
    pub(super) fn halve(&mut self) -> Option<u32> {
        let half = self.log.len() / 2;
        let was = self.log.len();
        while self.log.len() > half
            && let Some((number, rest)) = self.oldest()
        {
            self.before = number;
            self.log.drain(..self.log.len() - rest);
        }
        self.log.shrink_to_fit();
        (self.log.len() < was).then_some(self.before)
    }

    /// The oldest slot of the log, and how many bytes are behind it.
    fn oldest(&self) -> Option<(u32, usize)> {
        let mut log = self.bytes_of_log();
        let (number, length) = entry(self.before, &mut log)?;
        Some((number, log.remaining() - length))
    }

    /// What happened from the slot `from` to the one before `to`, slot by slot.
    pub(super) fn each(&self, (from, to): (u32, u32), mut with: impl FnMut(u32, &proto::Counts)) {
        let mut log = self.bytes_of_log();
        let mut before = self.before;
        while let Some((number, length)) = entry(before, &mut log) {
            before = number;
            if number >= to {
                return;
            }
            if number < from {
                log.advance(length);
            } else if let Ok(counts) = proto::Counts::decode((&mut log).take(length)) {
                with(number, &counts);
            }
        }
        if let Some(open) = self.open.as_deref().filter(|open| (from..to).contains(&open.0)) {
            with(open.0, &open.1.message());
        }
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.log.capacity() + self.open.as_deref().map_or(0, |open| open.1.size())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.open.is_none()
    }

    fn bytes_of_log(&self) -> impl Buf {
        let (front, back) = self.log.as_slices();
        front.chain(back)
    }
}

/// Number and length of the next entry, the one before which has a number, too.
fn entry(before: u32, log: &mut impl Buf) -> Option<(u32, usize)> {
    if !log.has_remaining() {
        return None;
    }
    let distance = u32::try_from(decode_varint(log).ok()?).ok()?;
    let length = usize::try_from(decode_varint(log).ok()?).ok()?;
    Some((before + distance, length))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::{super::totals::tests::totals, *};

    /// What can be done to slots.
    #[derive(Debug, Clone)]
    enum Step {
        Add(u32, Box<Totals>),
        Close(u32),
        Expire(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_u32, totals()).prop_map(|(later, totals)| Step::Add(later, totals.into())),
            1 => (0..4_u32).prop_map(Step::Close),
            1 => (0..8_u32).prop_map(Step::Expire),
        ]
    }

    fn read(slots: &Slots, range: (u32, u32)) -> BTreeMap<u32, Totals> {
        let mut all = BTreeMap::new();
        slots.each(range, |number, counts| {
            let mut totals = Totals::default();
            totals.read(counts);
            assert!(all.insert(number, totals).is_none(), "each slot once");
        });
        all
    }

    proptest! {
        #[test]
        fn they_hold_what_a_map_of_all_slots_would(steps in vec(step(), 0..40), range in (0..60_u32, 0..60_u32)) {
            let (mut slots, mut map, mut now) = (Slots::default(), BTreeMap::<u32, Totals>::new(), 0);
            for step in steps {
                match step {
                    Step::Add(later, totals) => {
                        now += later;
                        slots.add(now, &totals, 3);
                        map.entry(now).or_default().merge(&totals);
                    }
                    Step::Close(later) => {
                        now += later;
                        slots.close(now, 3);
                    }
                    Step::Expire(ago) => {
                        slots.expire(now.saturating_sub(ago));
                        map = map.split_off(&now.saturating_sub(ago));
                    }
                }
                prop_assert_eq!(&read(&slots, (0, u32::MAX)), &map);
                prop_assert_eq!(slots.is_empty(), map.is_empty());
            }
            let within: BTreeMap<_, _> = map.into_iter().filter(|(slot, _)| (range.0..range.1).contains(slot)).collect();
            prop_assert_eq!(read(&slots, range), within);
            let before = read(&slots, (0, u32::MAX));
            while slots.halve().is_some() {}
            let after = read(&slots, (0, u32::MAX));
            prop_assert!(after.iter().all(|(slot, totals)| before.get(slot) == Some(totals)));
            prop_assert!(after.len() <= 1, "the open one");
        }
    }
}
