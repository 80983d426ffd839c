//! Proxies spread over the replicas: one that has more than its share of streams ends some. Their clients come back at once
//! to whichever replica the Service gives them, with what they have, so that nothing is sent anew.

use std::time::Duration;

use tokio::{sync::watch, time};
use tulle_xds::server::AdsService;

use super::Others;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(5);
/// Streams that are ended at once, at most: each comes back with a handshake.
const AT_ONCE: usize = 100;
/// Rounds to sit out, at most, when it does not help.
const MOST: u32 = 120;

/// Keeps this replica at its share.
#[derive(Debug)]
pub(super) struct Balance {
    /// Its streams.
    pub(super) ads: AdsService,
    /// Those who tell us how many they have, if we are asked.
    pub(super) others: Others,
    /// How many it has, for whom we tell.
    pub(super) streams: watch::Sender<usize>,
    /// The share that we were told; `None`: nobody tells us.
    pub(super) told: watch::Receiver<Option<usize>>,
}

impl Balance {
    /// Looks, again and again.
    pub(super) async fn run(self) {
        let mut rounds = Rounds::default();
        let mut clock = time::interval(ROUND);
        clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let streams = self.ads.streams();
            self.streams.send_if_modified(|last| std::mem::replace(last, streams) != streams);
            let share = self.others.share(streams);
            let share = self.told.borrow().unwrap_or(share);
            let due = rounds.due(streams, share);
            if due > 0 {
                tracing::info!(streams, share, ended = due, "other replicas have fewer streams");
                self.ads.end(due);
            }
        }
    }
}

/// What the rounds before did.
#[derive(Debug, Default)]
struct Rounds {
    /// Streams before some were ended last.
    before: Option<usize>,
    /// Rounds to sit out after an attempt, and how many of them are left.
    pause: u32,
    left: u32,
}

impl Rounds {
    /// How many streams are to be ended now. Whoever is a fifth above the share has too many, and ends some until it is a
    /// twentieth. Of those that are ended some come back, by chance; if all do (a replica that cannot be reached), the next
    /// try comes ever later.
    fn due(&mut self, streams: usize, share: usize) -> usize {
        let far = if self.before.is_some() { 20 } else { 5 };
        if streams <= share + (share / far).max(1) {
            *self = Self::default();
            return 0;
        }
        if self.left > 0 {
            self.left -= 1;
            return 0;
        }
        let in_vain = self.before.is_some_and(|before| streams >= before);
        self.pause = if in_vain { (self.pause * 2).clamp(1, MOST) } else { 0 };
        self.left = self.pause;
        self.before = Some(streams);
        (streams - share).min(AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_more_than_its_share_ends_some() {
        for (streams, share, due) in [
            (0, 0, 0),
            (1, 0, 0),
            (2, 0, 2),
            (2, 1, 0),
            (3, 1, 2),
            (120, 100, 0),
            (121, 100, 21),
            (1000, 100, 100),
            (80, 100, 0),
        ] {
            assert_eq!(Rounds::default().due(streams, share), due, "{streams} of {share}");
        }
    }

    #[test]
    fn in_vain_is_tried_ever_more_seldom() {
        let mut rounds = Rounds::default();
        let tries: Vec<_> = (0..1000).filter(|_| rounds.due(10, 5) > 0).collect();
        assert_eq!(tries, [0, 1, 3, 6, 11, 20, 37, 70, 135, 256, 377, 498, 619, 740, 861, 982]);
        // It helps: no pause.
        assert_eq!(rounds.due(5, 5), 0);
        assert_eq!([rounds.due(10, 5), rounds.due(8, 5), rounds.due(7, 5)], [5, 3, 2]);
    }

    #[test]
    fn a_new_replica_gets_its_share() {
        // Those who come back land anywhere, as the Service gives them.
        let mut replicas =
            [(500, Rounds::default()), (500, Rounds::default()), (0, Rounds::default())];
        let mut next = 0;
        let rounds = (0..100).take_while(|_| {
            let share = 1000_usize.div_ceil(3);
            let mut loose = 0;
            for (streams, rounds) in &mut replicas {
                let due = rounds.due(*streams, share);
                *streams -= due;
                loose += due;
            }
            for _ in 0..loose {
                next = (next + 1) % 3;
                replicas[next].0 += 1;
            }
            loose > 0
        });
        let rounds = rounds.count();
        assert!(rounds < 15, "{rounds} rounds");
        assert!(replicas.iter().all(|(streams, _)| (300..=350).contains(streams)), "{replicas:?}");
    }
}
