//! What happened on an edge, by slots of time, as bytes one behind the other.
//!
//! ```text
//!  [ slots since the one before | length | packed ] [ … ] [ … ]      oldest first; a slot in which nothing happened is not there
//! ```

use prost::encoding::{decode_varint, encode_varint};

use super::{packed, totals::Totals};

/// Slots of one width. Numbers of slots count from when the store began.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    log: Vec<u8>,
    /// The slot before the first one of the log, to which that one's distance counts.
    before: u32,
    /// The last one, and where it begins in the log.
    last: u32,
    tail: u32,
}

/// A slot of the log.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    number: u32,
    packed: &'a [u8],
    /// What comes after it.
    rest: &'a [u8],
}

impl Slots {
    /// Adds to a slot, which is the last one or later. Durations keep 2^`scale` buckets for each doubling.
    pub(super) fn add(&mut self, slot: u32, totals: &Totals, scale: i8) {
        let mut sum = Totals::default();
        if self.log.is_empty() {
            (self.before, self.last) = (slot, slot);
        }
        let mut distance = slot.saturating_sub(self.last);
        let tail = self.tail as usize;
        if distance == 0
            && let Some(open) = entry(0, self.log.get(tail..).unwrap_or_default())
        {
            distance = open.number;
            packed::read(open.packed, true, &mut sum);
            self.log.truncate(tail);
        }
        sum.merge(totals);
        sum.took.histogram.coarsen(scale);
        sum.flow.took.histogram.coarsen(scale);
        let mut bytes = Vec::with_capacity(64);
        packed::write(&sum, &mut bytes);
        let mut head = Vec::with_capacity(8);
        encode_varint(distance.into(), &mut head);
        encode_varint(bytes.len() as u64, &mut head);
        let more = head.len() + bytes.len();
        // A vector doubles its room by itself, half of which would stay empty.
        if self.log.capacity() - self.log.len() < more {
            self.log.reserve_exact(more + self.log.len() / 8);
        }
        self.tail = u32::try_from(self.log.len()).unwrap_or(u32::MAX);
        self.log.extend(head);
        self.log.extend(bytes);
        self.last = slot.max(self.last);
    }

    /// Forgets slots before this one.
    pub(super) fn expire(&mut self, slot: u32) {
        self.forget(|oldest, _| oldest.number < slot);
        if self.log.capacity() > 2 * self.log.len() + 64 {
            self.log.shrink_to(self.log.len() + self.log.len() / 8);
        }
    }

    /// Forgets the oldest half of it, but for the last slot; the last one that it forgot. `None`: there was nothing to forget.
    pub(super) fn halve(&mut self) -> Option<u32> {
        let was = self.log.len();
        self.forget(|oldest, length| length > was / 2 && !oldest.rest.is_empty());
        self.log.shrink_to_fit();
        (self.log.len() < was).then_some(self.before)
    }

    /// Forgets the oldest slots, as long as `old` says so of the oldest one and the bytes that are left with it.
    fn forget(&mut self, old: impl Fn(Entry<'_>, usize) -> bool) {
        let mut left = self.log.as_slice();
        while let Some(oldest) = entry(self.before, left).filter(|one| old(*one, left.len())) {
            (self.before, left) = (oldest.number, oldest.rest);
        }
        let gone = self.log.len() - left.len();
        self.log.drain(..gone);
        self.tail = self.tail.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
    }

    /// What happened from the slot `from` to the one before `to`, slot by slot, for [`packed::read`].
    pub(super) fn each(&self, (from, to): (u32, u32), mut with: impl FnMut(u32, &[u8])) {
        let (mut before, mut log) = (self.before, self.log.as_slice());
        while let Some(Entry { number, packed, rest }) = entry(before, log) {
            (before, log) = (number, rest);
            if number >= to {
                return;
            }
            if number >= from {
                with(number, packed);
            }
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

/// The first one of a log, the one before which has a number, too.
fn entry(before: u32, mut log: &[u8]) -> Option<Entry<'_>> {
    if log.is_empty() {
        return None;
    }
    let distance = u32::try_from(decode_varint(&mut log).ok()?).ok()?;
    let length = usize::try_from(decode_varint(&mut log).ok()?).ok()?;
    let (packed, rest) = log.split_at_checked(length)?;
    Some(Entry { number: before.checked_add(distance)?, packed, rest })
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
            let mut totals = Totals::default();
            packed::read(packed, true, &mut totals).unwrap();
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
