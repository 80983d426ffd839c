//! Which traces are in which lane, while requests of them are being answered.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::telemetry::trace::TraceId;

/// Workers seldom wait for each other.
const SHARDS: usize = 16;
/// Traces of a shard. One has a few dozen bytes.
const MOST: usize = 4096;

/// The traces of requests to the application that are not over.
#[derive(Debug, Default)]
pub struct Flights {
    shards: [Mutex<HashMap<TraceId, Trace>>; SHARDS],
    /// Requests for which there was no place: one of them may be of any trace, so that nothing is known while they last.
    unknown: AtomicUsize,
    /// Those of lanes, by lane; of all of them; and those of none.
    in_lanes: Mutex<BTreeMap<Arc<str>, usize>>,
    all_in_lanes: AtomicUsize,
    outside: AtomicUsize,
}

/// What is known of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// All that is answered of it is in this lane.
    Lane(Arc<str>),
    /// All that is answered of it is in none.
    Outside,
    /// It is answered in several ways, or there are too many.
    Unclear,
    /// Nothing of it is answered.
    Unknown,
}

#[derive(Debug)]
struct Trace {
    lane: Option<Arc<str>>,
    /// Not all of its requests are in that.
    mixed: bool,
    requests: usize,
}

/// A request to the application that is not over.
#[derive(Debug)]
pub struct Flight {
    flights: Arc<Flights>,
    trace: Option<TraceId>,
    lane: Option<Arc<str>>,
    noted: bool,
}

impl Flights {
    /// One of this trace begins, or of none.
    pub fn begin(self: &Arc<Self>, trace: Option<TraceId>, lane: Option<Arc<str>>) -> Flight {
        if let Some(lane) = &lane {
            *self.in_lanes.lock().entry(Arc::clone(lane)).or_default() += 1;
            self.all_in_lanes.fetch_add(1, Ordering::Relaxed);
        } else {
            self.outside.fetch_add(1, Ordering::Relaxed);
        }
        let noted = trace.is_none_or(|trace| self.note(trace, &lane));
        if !noted {
            self.unknown.fetch_add(1, Ordering::AcqRel);
        }
        Flight { flights: Arc::clone(self), trace, lane, noted }
    }

    /// Whether there was a place for it.
    fn note(&self, trace: TraceId, lane: &Option<Arc<str>>) -> bool {
        let mut shard = self.shard(trace).lock();
        let full = shard.len() >= MOST;
        match shard.entry(trace) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.mixed |= known.lane != *lane;
                known.requests += 1;
                true
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(place) => {
                place.insert(Trace { lane: lane.clone(), mixed: false, requests: 1 });
                true
            }
        }
    }

    /// What all requests of this trace are in.
    pub fn look(&self, trace: TraceId) -> Sight {
        // Nearly always there is nothing to find.
        if self.all_in_lanes.load(Ordering::Relaxed) == 0 {
            return Sight::Unknown;
        }
        if self.unknown.load(Ordering::Acquire) > 0 {
            return Sight::Unclear;
        }
        match self.shard(trace).lock().get(&trace) {
            None => Sight::Unknown,
            Some(Trace { mixed: true, .. }) => Sight::Unclear,
            Some(Trace { lane: Some(lane), .. }) => Sight::Lane(Arc::clone(lane)),
            Some(Trace { lane: None, .. }) => Sight::Outside,
        }
    }

    /// Of which lanes there are requests; and whether they are of one alone, and nothing else is answered.
    pub fn lanes(&self) -> (Vec<Arc<str>>, bool) {
        if self.all_in_lanes.load(Ordering::Relaxed) == 0 {
            return (Vec::new(), false);
        }
        let lanes: Vec<_> = self.in_lanes.lock().keys().cloned().collect();
        let alone = lanes.len() == 1 && self.outside.load(Ordering::Relaxed) == 0;
        (lanes, alone)
    }

    fn shard(&self, trace: TraceId) -> &Mutex<HashMap<TraceId, Trace>> {
        let last = trace.bytes()[15];
        &self.shards[usize::from(last) % SHARDS]
    }

    fn end(&self, trace: TraceId) {
        if let Entry::Occupied(mut known) = self.shard(trace).lock().entry(trace) {
            known.get_mut().requests -= 1;
            if known.get().requests == 0 {
                known.remove();
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let flights = &self.flights;
        match (self.noted, self.trace) {
            (true, Some(trace)) => flights.end(trace),
            (true, None) => {}
            (false, _) => drop(flights.unknown.fetch_sub(1, Ordering::AcqRel)),
        }
        let Some(lane) = &self.lane else {
            flights.outside.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut in_lanes = flights.in_lanes.lock();
        flights.all_in_lanes.fetch_sub(1, Ordering::Relaxed);
        if let Some(requests) = in_lanes.get_mut(lane) {
            *requests -= 1;
            if *requests == 0 {
                in_lanes.remove(lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::telemetry::trace;

    fn trace(number: u64) -> TraceId {
        trace::begin_for_others(&mut HeaderMap::new(), &mut StdRng::seed_from_u64(number))
    }

    fn lane(name: &str) -> Option<Arc<str>> {
        Some(name.into())
    }

    fn within(name: &str) -> Sight {
        Sight::Lane(name.into())
    }

    fn named(flights: &Flights) -> Vec<String> {
        flights.lanes().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_trace_is_in_a_lane_as_long_as_one_of_its_requests() {
        let flights = Arc::new(Flights::default());
        let (one, other) = (trace(1), trace(2));
        let first = flights.begin(Some(one), lane("a"));
        let second = flights.begin(Some(one), lane("a"));
        assert_eq!((flights.look(one), flights.look(other)), (within("a"), Sight::Unknown));
        drop(first);
        assert_eq!((flights.look(one), named(&flights)), (within("a"), vec!["a".to_owned()]));
        let outside = flights.begin(Some(other), None);
        assert_eq!(flights.look(other), Sight::Outside, "it is known to be of no lane");
        drop((second, outside));
        assert_eq!((flights.look(one), named(&flights)), (Sight::Unknown, Vec::new()));
        assert!(flights.shards.iter().all(|shard| shard.lock().is_empty()), "nothing is left");
    }

    #[test]
    fn no_lane_is_guessed() {
        for other in [lane("b"), None] {
            let flights = Arc::new(Flights::default());
            let id = trace(1);
            for (first, second) in [(lane("a"), other.clone()), (other.clone(), lane("a"))] {
                let first = flights.begin(Some(id), first);
                let second = flights.begin(Some(id), second);
                assert_eq!(flights.look(id), Sight::Unclear);
                drop(first);
                // Without a lane in flight there is nothing to find, however it came.
                let left = flights.look(id);
                assert!(matches!(left, Sight::Unclear | Sight::Unknown), "{left:?}");
                drop(second);
            }
            let _again = flights.begin(Some(id), lane("a"));
            assert_eq!(flights.look(id), within("a"));
        }
    }

    #[test]
    fn a_lane_is_alone_while_nothing_else_is_answered() {
        let flights = Arc::new(Flights::default());
        let alone = |flights: &Flights| flights.lanes().1;
        assert!(!alone(&flights), "there is none");
        let _first = flights.begin(Some(trace(1)), lane("a"));
        let _second = flights.begin(Some(trace(2)), lane("a"));
        assert!(alone(&flights));
        for (trace, other) in [(None, None), (Some(trace(3)), None), (Some(trace(3)), lane("b"))] {
            let other = flights.begin(trace, other);
            assert!(!alone(&flights), "{other:?}");
            drop(other);
            assert!(alone(&flights));
        }
    }

    #[test]
    fn while_one_could_not_be_noted_nothing_is_known() {
        let flights = Arc::new(Flights::default());
        let mut rng = StdRng::seed_from_u64(7);
        let (mut open, mut unknown) = (Vec::new(), None);
        let first = trace(1);
        open.push(flights.begin(Some(first), lane("a")));
        while unknown.is_none() {
            let flight = flights.begin(Some(trace(rng.random())), None);
            match flight.noted {
                true => open.push(flight),
                false => unknown = Some(flight),
            }
        }
        assert!(open.len() >= MOST && open.len() <= MOST * SHARDS);
        assert_eq!(flights.look(first), Sight::Unclear);
        // What is known already can always be counted.
        assert!(flights.begin(Some(first), lane("a")).noted);
        drop(unknown);
        assert_eq!(flights.look(first), within("a"));
    }
}
