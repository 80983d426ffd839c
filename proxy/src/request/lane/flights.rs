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
    /// Those of lanes, by lane; and of all of them.
    in_lanes: Mutex<BTreeMap<Arc<str>, usize>>,
    all_in_lanes: AtomicUsize,
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
    trace: TraceId,
    lane: Option<Arc<str>>,
    noted: bool,
}

impl Flights {
    /// One of this trace begins.
    pub fn begin(self: &Arc<Self>, trace: TraceId, lane: Option<Arc<str>>) -> Flight {
        if let Some(lane) = &lane {
            *self.in_lanes.lock().entry(Arc::clone(lane)).or_default() += 1;
            self.all_in_lanes.fetch_add(1, Ordering::Relaxed);
        }
        let mut shard = self.shard(trace).lock();
        let full = shard.len() >= MOST;
        let noted = match shard.entry(trace) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.mixed |= known.lane != lane;
                known.requests += 1;
                true
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(place) => {
                place.insert(Trace { lane: lane.clone(), mixed: false, requests: 1 });
                true
            }
        };
        drop(shard);
        if !noted {
            self.unknown.fetch_add(1, Ordering::AcqRel);
        }
        Flight { flights: Arc::clone(self), trace, lane, noted }
    }

    /// The lane that all requests of this trace are in.
    pub fn find(&self, trace: TraceId) -> Option<Arc<str>> {
        // Nearly always there is nothing to find.
        if self.all_in_lanes.load(Ordering::Relaxed) == 0
            || self.unknown.load(Ordering::Acquire) > 0
        {
            return None;
        }
        let shard = self.shard(trace).lock();
        shard.get(&trace).filter(|known| !known.mixed).and_then(|known| known.lane.clone())
    }

    /// Says of which lanes there are requests.
    pub fn lanes(&self, mut say: impl FnMut(&str)) {
        if self.all_in_lanes.load(Ordering::Relaxed) > 0 {
            self.in_lanes.lock().keys().for_each(|lane| say(lane));
        }
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
        match self.noted {
            true => flights.end(self.trace),
            false => drop(flights.unknown.fetch_sub(1, Ordering::AcqRel)),
        }
        let Some(lane) = &self.lane else { return };
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

    fn named(flights: &Flights) -> Vec<String> {
        let mut all = Vec::new();
        flights.lanes(|lane| all.push(lane.to_owned()));
        all
    }

    #[test]
    fn a_trace_is_in_a_lane_as_long_as_one_of_its_requests() {
        let flights = Arc::new(Flights::default());
        let (one, other) = (trace(1), trace(2));
        let first = flights.begin(one, lane("a"));
        let second = flights.begin(one, lane("a"));
        assert_eq!((flights.find(one), flights.find(other)), (lane("a"), None));
        drop(first);
        assert_eq!((flights.find(one), named(&flights)), (lane("a"), vec!["a".to_owned()]));
        drop(second);
        assert_eq!((flights.find(one), named(&flights)), (None, Vec::new()));
        assert!(flights.shards.iter().all(|shard| shard.lock().is_empty()), "nothing is left");
    }

    #[test]
    fn no_lane_is_guessed() {
        for other in [lane("b"), None] {
            let flights = Arc::new(Flights::default());
            let id = trace(1);
            for (first, second) in [(lane("a"), other.clone()), (other.clone(), lane("a"))] {
                let first = flights.begin(id, first);
                let second = flights.begin(id, second);
                assert_eq!(flights.find(id), None);
                drop(first);
                assert_eq!(flights.find(id), None, "which of them goes on is not known");
                drop(second);
            }
            let _again = flights.begin(id, lane("a"));
            assert_eq!(flights.find(id), lane("a"));
        }
    }

    #[test]
    fn while_one_could_not_be_noted_nothing_is_known() {
        let flights = Arc::new(Flights::default());
        let mut rng = StdRng::seed_from_u64(7);
        let (mut open, mut unknown) = (Vec::new(), None);
        let first = trace(1);
        open.push(flights.begin(first, lane("a")));
        while unknown.is_none() {
            let flight = flights.begin(trace(rng.random()), None);
            match flight.noted {
                true => open.push(flight),
                false => unknown = Some(flight),
            }
        }
        assert!(open.len() >= MOST && open.len() <= MOST * SHARDS);
        assert_eq!(flights.find(first), None);
        // What is known already can always be counted.
        assert!(flights.begin(first, lane("a")).noted);
        drop(unknown);
        assert_eq!(flights.find(first), lane("a"));
    }
}
