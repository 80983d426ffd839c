//! Which endpoint? Pure over weights and live load.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;
use tulle_xds::model::Balance;

/// The endpoints to choose from, by their weights.
#[derive(Debug)]
pub struct Candidates {
    /// Running sums of the weights: the last is the total.
    sums: Vec<u64>,
    equal: bool,
}

/// How often a cluster was asked in turn.
#[derive(Debug, Default)]
pub struct Ticket(AtomicU64);

impl Candidates {
    /// Candidates with these weights; a weight of 0 counts as 1.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.into_iter().map(|w| u64::from(w.max(1))).collect();
        let sums = weights
            .iter()
            .scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        Self { sums, equal: weights.windows(2).all(|w| w[0] == w[1]) }
    }

    /// The index of the endpoint that gets the next request. One for which `avoid` holds is chosen
    /// only if it holds for all. `None` exactly if there are no candidates.
    pub fn pick(
        &self,
        policy: Balance,
        ticket: &Ticket,
        load: impl Fn(usize) -> u32,
        avoid: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = match (self.len(), policy) {
            (0, _) => return None,
            (1, _) => return Some(0),
            (_, Balance::LeastRequest { choices }) => self.least_loaded(choices, &load),
            (_, Balance::RoundRobin) => self.in_turn(ticket),
            (_, Balance::Random) => self.random(),
        };
        if !avoid(first) {
            return Some(first);
        }
        // A second try, seldom: the least loaded of those that are left.
        let rest = (0..self.len()).filter(|&i| !avoid(i));
        Some(rest.min_by(|&a, &b| self.compare(a, b, &load)).unwrap_or(first))
    }

    fn len(&self) -> usize {
        self.sums.len()
    }

    fn weight(&self, index: usize) -> u64 {
        self.sums[index] - if index == 0 { 0 } else { self.sums[index - 1] }
    }

    /// Power of N choices. The first choice wins a tie, so that without load the shares are those
    /// of the weights.
    fn least_loaded(&self, choices: u32, load: &impl Fn(usize) -> u32) -> usize {
        let first = self.random();
        (1..choices.max(2)).fold(first, |best, _| {
            let mut other = self.random();
            if other == best && self.equal {
                // Two distinct choices: comparing one with itself says nothing.
                other = (best + 1 + rand::rng().random_range(0..self.len() - 1)) % self.len();
            }
            if self.compare(other, best, load).is_lt() { other } else { best }
        })
    }

    /// Compares load per weight.
    fn compare(&self, a: usize, b: usize, load: &impl Fn(usize) -> u32) -> std::cmp::Ordering {
        let cost = |i| {
            if self.equal { u64::from(load(i)) } else { u64::from(load(i)) * 1000 / self.weight(i) }
        };
        cost(a).cmp(&cost(b))
    }

    /// One after the other. With weights, turns are spread by the golden ratio (a low-discrepancy
    /// sequence), so that a heavy endpoint does not get its whole share in a row.
    fn in_turn(&self, ticket: &Ticket) -> usize {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let turn = ticket.0.fetch_add(1, Ordering::Relaxed);
        if self.equal {
            return usize::try_from(turn % self.sums.len() as u64).unwrap_or(0);
        }
        self.at(turn.wrapping_mul(GOLDEN))
    }

    fn random(&self) -> usize {
        if self.equal {
            rand::rng().random_range(0..self.len())
        } else {
            self.at(rand::rng().random())
        }
    }

    /// The candidate at `position` of 2^64, each being as wide as its weight.
    fn at(&self, position: u64) -> usize {
        let total = self.sums.last().copied().unwrap_or(0);
        let point = (u128::from(position) * u128::from(total)) >> 64;
        self.sums.partition_point(|&sum| u128::from(sum) <= point).min(self.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICIES: [Balance; 3] =
        [Balance::LeastRequest { choices: 2 }, Balance::RoundRobin, Balance::Random];

    fn shares(weights: &[u32], policy: Balance, load: impl Fn(usize) -> u32 + Copy) -> Vec<u32> {
        let (candidates, ticket) = (Candidates::new(weights.iter().copied()), Ticket::default());
        let mut counts = vec![0; weights.len()];
        for _ in 0..10_000 {
            counts[candidates.pick(policy, &ticket, load, |_| false).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn nothing_to_choose_is_none() {
        let candidates = Candidates::new([]);
        for policy in POLICIES {
            assert_eq!(candidates.pick(policy, &Ticket::default(), |_| 0, |_| false), None);
        }
    }

    #[test]
    fn equal_weights_get_equal_shares() {
        for policy in POLICIES {
            for count in shares(&[1, 1, 1, 1], policy, |_| 0) {
                assert!((2200..2800).contains(&count), "{policy:?}: {count}");
            }
        }
    }

    #[test]
    fn unequal_weights_get_their_shares_without_load() {
        for policy in POLICIES {
            let counts = shares(&[1, 4], policy, |_| 0);
            assert!((1700..2300).contains(&counts[0]), "{policy:?}: {counts:?}");
        }
    }

    #[test]
    fn the_loaded_one_of_two_gets_nothing() {
        let policy = Balance::LeastRequest { choices: 2 };
        assert_eq!(shares(&[1, 1], policy, |i| if i == 0 { 7 } else { 3 })[0], 0);
    }

    #[test]
    fn weighted_turns_are_interleaved() {
        let (candidates, ticket) = (Candidates::new([1, 1, 2]), Ticket::default());
        let turns: Vec<_> = (0..100)
            .map(|_| candidates.pick(Balance::RoundRobin, &ticket, |_| 0, |_| false).unwrap())
            .collect();
        assert!(!turns.windows(3).any(|w| w == [2, 2, 2]), "{turns:?}");
    }

    proptest! {
        #[test]
        fn what_is_avoided_is_not_chosen(
            weights in prop::collection::vec(0u32..1000, 1..20),
            tried in prop::collection::vec(0usize..20, 0..20),
            policy in 0usize..3,
        ) {
            let candidates = Candidates::new(weights.iter().copied());
            let picked = candidates
                .pick(POLICIES[policy], &Ticket::default(), |i| weights[i], |i| tried.contains(&i))
                .unwrap();
            prop_assert!(picked < weights.len());
            let all_tried = (0..weights.len()).all(|i| tried.contains(&i));
            prop_assert!(all_tried || !tried.contains(&picked));
        }
    }
}
