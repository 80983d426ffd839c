//! What happened on an edge, by slots of time, as bytes one behind the other.
//!
//! ```text
//!  [ slots since the one before | length | packed | bytes of this, from the last to the first ] [ … ] [ … ]      oldest first
//! ```
//!
//! A slot in which nothing happened is not there. Questions are read from the newest one on: most are about the last minute, and
//! to go past all that is older took a quarter of their time.

use prost::encoding::{encode_varint, encoded_len_varint};

use super::{packed, totals::Totals};

/// Slots of one width. Numbers of slots count from when the store began.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    log: Vec<u8>,
    /// The first one of the log, whose distance means nothing, and the last one.
    first: u32,
    last: u32,
}

/// A slot of the log.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    /// From the one before.
    distance: u32,
    packed: &'a [u8],
}

impl Slots {
    /// Adds to a slot, which is the last one or later. Durations keep 2^`scale` buckets for each doubling.
    pub(super) fn add(&mut self, slot: u32, totals: &Totals, scale: i8) {
        let mut adder = packed::Adder::new(true);
        if self.log.is_empty() {
            (self.first, self.last) = (slot, slot);
        }
        let mut distance = slot.saturating_sub(self.last);
        if distance == 0
            && let Some((older, open)) = last(&self.log)
        {
            distance = open.distance;
            adder.add(open.packed);
            self.log.truncate(older.len());
        }
        let mut sum = adder.take();
        sum.merge(totals);
        sum.took.histogram.coarsen(scale);
        sum.flow.took.histogram.coarsen(scale);
        let mut bytes = Vec::with_capacity(64);
        packed::write(&sum, &mut bytes);
        self.push(distance, &bytes);
        self.last = slot.max(self.last);
    }

    fn push(&mut self, distance: u32, packed: &[u8]) {
        let mut head = Vec::with_capacity(8);
        encode_varint(distance.into(), &mut head);
        encode_varint(packed.len() as u64, &mut head);
        let mut back = Vec::with_capacity(4);
        encode_varint((head.len() + packed.len()) as u64, &mut back);
        back.reverse();
        let more = head.len() + packed.len() + back.len();
        // A vector doubles its room by itself, half of which would stay empty.
        if self.log.capacity() - self.log.len() < more {
            self.log.reserve_exact(more + self.log.len() / 8);
        }
        self.log.extend(head);
        self.log.extend(packed);
        self.log.extend(back);
    }

    /// Forgets slots before this one.
    pub(super) fn expire(&mut self, slot: u32) {
        // Without a look at the log, which is in nobody's cache.
        if self.first >= slot {
            return;
        }
        self.forget(|oldest, _, _| oldest < slot);
        if self.log.capacity() > 2 * self.log.len() + 64 {
            self.log.shrink_to(self.log.len() + self.log.len() / 8);
        }
    }

    /// Forgets the oldest half of it, but for the last slot; the last one that it forgot. `None`: there was nothing to forget.
    pub(super) fn halve(&mut self) -> Option<u32> {
        let was = self.log.len();
        let gone = self.forget(|_, length, newer| length > was / 2 && newer > 0);
        self.log.shrink_to_fit();
        gone
    }

    /// Forgets the oldest slots, as long as `old` says so of the oldest one's number, and of how many bytes are left with it and
    /// without it. The last one that it forgot.
    fn forget(&mut self, old: impl Fn(u32, usize, usize) -> bool) -> Option<u32> {
        let (mut left, mut gone) = (self.log.as_slice(), None);
        while let Some((_, newer)) =
            first(left).filter(|(_, newer)| old(self.first, left.len(), newer.len()))
        {
            gone = Some(self.first);
            let distance = first(newer).map_or(0, |(next, _)| next.distance);
            (self.first, left) = (self.first.saturating_add(distance), newer);
        }
        let bytes = self.log.len() - left.len();
        self.log.drain(..bytes);
        gone
    }

    /// What happened from the slot `from` to the one before `to`, slot by slot and the newest first, for [`packed::Adder`].
    pub(super) fn each(&self, (from, to): (u32, u32), mut with: impl FnMut(u32, &[u8])) {
        let (mut number, mut log) = (self.last, self.log.as_slice());
        while number >= from
            && let Some((older, Entry { distance, packed })) = last(log)
        {
            if number < to {
                with(number, packed);
            }
            (number, log) = (number.saturating_sub(distance), older);
        }
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.log.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }
}

/// The first one of a log, and what comes after it.
fn first(mut log: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let all = log;
    let (distance, length) = (number(&mut log)?, number(&mut log)?);
    let (packed, rest) = log.split_at_checked(usize::try_from(length).ok()?)?;
    let back = encoded_len_varint((all.len() - rest.len()) as u64);
    Some((Entry { distance, packed }, rest.get(back..)?))
}

/// What comes before the last one of a log, and that one.
fn last(log: &[u8]) -> Option<(&[u8], Entry<'_>)> {
    let (mut length, mut back) = (0, 0);
    for (at, byte) in log.iter().rev().take(4).enumerate() {
        (length, back) = (length | usize::from(byte & 0x7f) << (7 * at), at + 1);
        if *byte < 0x80 {
            break;
        }
    }
    let (older, last) = log.split_at_checked(log.len().checked_sub(length + back)?)?;
    let (entry, _) = first(last)?;
    Some((older, entry))
}

fn number(log: &mut &[u8]) -> Option<u32> {
    u32::try_from(packed::number(log)?).ok()
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
        Expire(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_u32, totals()).prop_map(|(later, totals)| Step::Add(later, totals.into())),
            1 => (0..8_u32).prop_map(Step::Expire),
        ]
    }

    fn read(slots: &Slots, range: (u32, u32)) -> BTreeMap<u32, Totals> {
        let mut all = BTreeMap::new();
        slots.each(range, |number, packed| {
            let mut adder = packed::Adder::new(true);
            adder.add(packed).unwrap();
            assert!(all.insert(number, adder.take()).is_none(), "each slot once");
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
            prop_assert!(after.len() <= 1, "the last one");
        }
    }
}
