//! Answers that stand. What happened in slots of time that are over does not change, so that a question has one answer until the
//! next slot is over, however often it is asked and by however many. Those that are asked are renewed as soon as it is: nobody
//! waits for it.

use std::{sync::Arc, time::Duration};

use super::{Ask, Row, Store};

/// Bytes of all of them: in a mesh of 1,000 workloads and 5,000 edges, what the pages that show all of it ask takes 20 MiB.
const MOST_BYTES: usize = 24 << 20;
/// Of different questions.
const MOST: usize = 64;
/// Who has not asked for so long is not waited for any more.
const ASKED: Duration = Duration::from_secs(30);

/// See the [module](self). Time is what [`Store`] takes for it.
#[derive(Debug, Default)]
pub struct Answers(Vec<Answer>);

#[derive(Debug)]
struct Answer {
    ask: Ask,
    rows: Arc<Vec<Row>>,
    bytes: usize,
    /// When it was read.
    read: Duration,
    /// When it was last asked for.
    asked: Duration,
}

impl Answers {
    /// What [`Store::read`] says, or said when the last slot was over.
    pub fn ask(&mut self, store: &Store, ask: &Ask, now: Duration) -> Arc<Vec<Row>> {
        let known = self.0.iter().position(|one| one.ask == *ask);
        let standing = known.map(|at| self.0.swap_remove(at)).filter(|one| one.stands(now));
        let answer = match standing {
            Some(one) => Answer { asked: now, ..one },
            None => Answer::read(store, ask.clone(), now, now),
        };
        let rows = Arc::clone(&answer.rows);
        self.0.push(answer);
        self.shorten();
        rows
    }

    /// Renews what is still asked, and forgets the rest. To be called when a slot is over.
    pub fn renew(&mut self, store: &Store, now: Duration) {
        self.0.retain(|one| now.saturating_sub(one.asked) < ASKED);
        for one in self.0.iter_mut().filter(|one| !one.stands(now)) {
            *one = Answer::read(store, one.ask.clone(), one.asked, now);
        }
        self.shorten();
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|one| one.bytes).sum()
    }

    /// Forgets what was not asked for longest, as long as it is too much.
    fn shorten(&mut self) {
        self.0.sort_by_key(|one| std::cmp::Reverse(one.asked));
        self.0.truncate(MOST);
        while self.bytes() > MOST_BYTES {
            self.0.pop();
        }
    }
}

impl Answer {
    fn read(store: &Store, ask: Ask, asked: Duration, now: Duration) -> Self {
        let rows = store.read(&ask, now);
        let bytes = rows.iter().map(Row::size).sum();
        Self { ask, rows: Arc::new(rows), bytes, read: now, asked }
    }

    fn stands(&self, now: Duration) -> bool {
        self.ask.slot(self.read) == self.ask.slot(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{
            Of,
            store::tests::{edge, seconds, take},
        },
        *,
    };

    fn asks() -> Vec<Ask> {
        let of = Of::All;
        [(60, 1, false), (60, 1, true), (900, 15, false), (900, 90, false), (7200, 1, false)]
            .map(|(window, points, routes)| {
                let (window, of) = (seconds(window), of.clone());
                Ask { of, window, points, routes, durations: true }
            })
            .to_vec()
    }

    fn sorted(rows: &[Row]) -> Vec<Row> {
        let mut rows = rows.to_vec();
        rows.sort_by(|one, other| (&one.edge, &one.route).cmp(&(&other.edge, &other.route)));
        rows
    }

    proptest! {
        #[test]
        fn they_are_what_would_be_read(steps in vec((0..25_u64, 0..4_u8, 0..5_usize), 1..60)) {
            let (mut store, mut answers, mut now, mut number) = (Store::default(), Answers::default(), 0, 0);
            for (later, step, which) in steps {
                now += later;
                match step {
                    0 => {
                        number += 1;
                        take(&mut store, number, &[(edge("web", "cart"), ["", "a"][which % 2], now)], now);
                    }
                    1 => {
                        store.sweep(seconds(now));
                        answers.renew(&store, seconds(now));
                    }
                    _ => {
                        let ask = &asks()[which];
                        let told = answers.ask(&store, ask, seconds(now));
                        prop_assert_eq!(sorted(&told), sorted(&store.read(ask, seconds(now))));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_asked_is_read_once_a_slot_and_before_somebody_asks_again() {
        let (mut store, mut answers) = (Store::default(), Answers::default());
        let ask = |answers: &mut Answers, at| answers.ask(&store, &asks()[0], seconds(at));
        let first = ask(&mut answers, 0);
        assert!(Arc::ptr_eq(&first, &ask(&mut answers, 9)), "the slot is not over");
        assert!(!Arc::ptr_eq(&first, &ask(&mut answers, 10)));
        answers.renew(&store, seconds(20));
        let renewed = Arc::clone(&answers.0[0].rows);
        assert!(Arc::ptr_eq(&renewed, &answers.ask(&store, &asks()[0], seconds(29))));
        answers.renew(&store, seconds(59));
        assert!(answers.0.is_empty(), "nobody has asked for half a minute");
        take(&mut store, 1, &[(edge("web", "cart"), "", 1)], 60);
        assert_eq!(answers.ask(&store, &asks()[0], seconds(70)).len(), 1);
    }

    #[test]
    fn they_are_bounded() {
        let (mut store, mut answers) = (Store::default(), Answers::default());
        take(&mut store, 1, &[(edge("web", "cart"), "", 1)], 0);
        let ask = |window| Ask { window: seconds(window), ..asks().remove(0) };
        for window in 10..10 + 2 * MOST as u64 {
            answers.ask(&store, &ask(window), seconds(10 + window));
        }
        assert_eq!(answers.0.len(), MOST);
        assert!(answers.bytes() > 0);
        // What takes too much by itself is answered, and not kept.
        answers.0[0].bytes = MOST_BYTES + 1;
        answers.shorten();
        assert!(answers.bytes() <= MOST_BYTES);
    }
}
