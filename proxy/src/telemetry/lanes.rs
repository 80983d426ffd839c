//! Requests of lanes, and those that may be of one: for the control plane, which says where a lane is lost.
//!
//! As long as nobody is in a lane nobody comes here.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;
use tulle_proto::telemetry::v1 as proto;

use super::{Direction, words};
use crate::request::lane::{By, Passage};

/// What is told apart at once. What is more is not counted here: the control plane would not take more of one proxy either.
const MOST: usize = 512;

/// Which way a request went, namespace and name of the workload on the other side, and the host name of the Service that was
/// called.
pub(super) type Edge<'a> = (Direction, (&'a str, &'a str), &'a str);

/// See the [module](self). Clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes(Arc<Mutex<HashMap<Kind, Counted>>>);

/// What is counted by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    lane: Arc<str>,
    direction: Direction,
    namespace: String,
    peer: String,
    host: String,
    by: By,
}

/// The same, borrowed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Of<'a> {
    lane: &'a str,
    direction: Direction,
    namespace: &'a str,
    peer: &'a str,
    host: &'a str,
    by: By,
}

#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    alone: u64,
}

impl Equivalent<Kind> for Of<'_> {
    fn equivalent(&self, key: &Kind) -> bool {
        let Kind { lane, direction, namespace, peer, host, by } = key;
        *self == Of { lane, direction: *direction, namespace, peer, host, by: *by }
    }
}

impl Lanes {
    /// A request has ended.
    pub(super) fn count(&self, edge: Edge<'_>, passage: &Passage) {
        let (direction, (namespace, peer), host) = edge;
        let Passage { lanes, by, alone } = passage;
        let mut all = self.0.lock();
        for lane in lanes {
            let of = Of { lane, direction, namespace, peer, host, by: *by };
            if !all.contains_key(&of) {
                if all.len() >= MOST {
                    continue;
                }
                let [namespace, peer, host] = [namespace, peer, host].map(str::to_owned);
                let (lane, by) = (Arc::clone(lane), *by);
                let kind = Kind { lane, direction, namespace, peer, host, by };
                all.insert(kind, Counted::default());
            }
            if let Some(counted) = all.get_mut(&of) {
                counted.requests += 1;
                counted.alone += u64::from(*alone);
            }
        }
    }

    /// What was counted since this was asked last.
    pub(super) fn take(&self) -> Vec<proto::LaneRequests> {
        let counted = std::mem::take(&mut *self.0.lock());
        let told = counted.into_iter().map(|(kind, Counted { requests, alone })| {
            let Kind { lane, direction, namespace, peer, host, by } = kind;
            proto::LaneRequests {
                lane: lane.to_string(),
                direction: words::direction(direction),
                peer_namespace: namespace,
                peer,
                by: words::lane_by(by),
                requests,
                alone,
                host,
            }
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(lanes: &[&str], by: By, alone: bool) -> Passage {
        Passage { lanes: lanes.iter().map(|lane| (*lane).into()).collect(), by, alone }
    }

    #[test]
    fn what_is_told_apart_is_bounded_and_counted_once() {
        let lanes = Lanes::default();
        let edge = (Direction::Outbound, ("shop", "ratings"), "ratings.shop");
        lanes.count(edge, &passage(&["a"], By::Trace, false));
        lanes.count(edge, &passage(&["a"], By::Trace, false));
        lanes.count(edge, &passage(&["a", "b"], By::Nothing, false));
        lanes.count(edge, &passage(&["a"], By::Nothing, true));
        let mut told: Vec<_> = lanes.take();
        told.sort_by(|a, b| (&a.lane, a.by).cmp(&(&b.lane, b.by)));
        let counts: Vec<_> =
            told.iter().map(|one| (&*one.lane, one.by(), one.requests, one.alone)).collect();
        use proto::LaneBy::{Nothing, Traceparent};
        assert_eq!(counts, [("a", Traceparent, 2, 0), ("a", Nothing, 2, 1), ("b", Nothing, 1, 0)]);
        assert_eq!(lanes.take(), []);
        for peer in 0..2 * MOST {
            let peer = peer.to_string();
            let edge = (Direction::Inbound, ("", peer.as_str()), "");
            lanes.count(edge, &passage(&["a"], By::Entry, false));
        }
        assert_eq!(lanes.take().len(), MOST);
    }
}
