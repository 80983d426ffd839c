//! In which lane is a request? And that it stays there.
//!
//! ```text
//! a request ──► baggage, tracestate ──► what a lane says of its entry ──► from the application: [ Flights ], by its trace
//!                      └────────────────────────┴────────────────────────────┴──► its baggage says so to the next hop
//! a request to the application is noted in [ Flights ] until it is over
//! ```
//!
//! What routes a request is its baggage alone, by the rules of whatever it calls. A lane is where a request goes, and not what it
//! may do: whoever can send a request can say in which lane it is.
//!
//! **Invariants.** No lane is ever guessed: of a trace that is in flight twice, in a lane and in none, or that could not be noted,
//! nothing is known. Without lanes nothing of this is done.

mod flights;
pub mod said;

use std::sync::Arc;

use http::request::Parts;
use tulle_xds::model::{Lane, Match};

pub use self::flights::{Flight, Flights};
use self::said::Said;
use super::route;
use crate::telemetry::{Direction, Metrics, trace};

/// The lanes of the workload's namespace, by name.
#[derive(Debug)]
pub struct Lanes(Vec<Known>);

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    entry: Vec<Match>,
}

/// How it is known that a request is in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Baggage,
    State,
    Entry,
    Trace,
}

impl By {
    /// The word for labels.
    fn as_str(self) -> &'static str {
        match self {
            Self::Baggage => "baggage",
            Self::State => "tracestate",
            Self::Entry => "entry",
            Self::Trace => "traceparent",
        }
    }
}

/// In labels, of what was sent without a lane while requests of the lane were being answered.
const BY_NOTHING: &str = "nothing";

impl Lanes {
    /// Those that the control plane tells of, if there are any.
    pub fn of(told: &[Lane]) -> Option<Arc<Self>> {
        let known =
            |lane: &Lane| Known { name: lane.name.as_str().into(), entry: lane.entry.clone() };
        (!told.is_empty()).then(|| Arc::new(Self(told.iter().map(known).collect())))
    }

    fn named(&self, name: &[u8]) -> Option<&Arc<str>> {
        self.0.iter().map(|lane| &lane.name).find(|known| known.as_bytes() == name)
    }

    /// The lane that a request's own words put it into. Who is in a lane, though it is not known here, enters no other.
    fn of_request(&self, head: &mut Parts) -> Option<(Arc<str>, By)> {
        match said::baggage(&head.headers) {
            Said::Lane(name) => {
                return self.named(name).map(|name| (Arc::clone(name), By::Baggage));
            }
            Said::Several => {
                said::take_out(&mut head.headers);
                return None;
            }
            Said::Nothing => {}
        }
        match said::state(&head.headers) {
            Said::Lane(name) => self.named(name).map(|name| (Arc::clone(name), By::State)),
            Said::Several => None,
            Said::Nothing => {
                let enters = |lane: &&Known| lane.entry.iter().any(|one| route::matches(one, head));
                self.0.iter().find(enters).map(|lane| (Arc::clone(&lane.name), By::Entry))
            }
        }
    }
}

/// Finds in which lane a request is, and has its baggage say so. What comes to the application is in flight as long as what this
/// returns is there.
pub fn enter(
    lanes: &Lanes,
    flights: &Arc<Flights>,
    direction: Direction,
    head: &mut Parts,
    metrics: &Metrics,
) -> Option<Flight> {
    let inbound = direction == Direction::Inbound;
    let mut found = lanes.of_request(head);
    if !inbound && found.is_none() && matches!(said::baggage(&head.headers), Said::Nothing) {
        let lane = trace::of(&head.headers).and_then(|trace| flights.find(trace));
        // One that has ended meanwhile is none.
        let lane = lane.filter(|lane| lanes.named(lane.as_bytes()).is_some());
        found = lane.map(|lane| (lane, By::Trace));
    }
    match &found {
        Some((lane, by)) => {
            metrics.in_lane(lane, direction, by.as_str());
            if *by != By::Baggage {
                said::put(&mut head.headers, lane);
            }
        }
        None if inbound => {}
        None => flights.lanes(|lane| metrics.in_lane(lane, direction, BY_NOTHING)),
    }
    if !inbound {
        return None;
    }
    let lane = found.map(|(lane, _)| lane);
    let trace = trace::of(&head.headers).or_else(|| {
        // The application has something to forward.
        let begin = || trace::begin_for_others(&mut head.headers, &mut rand::rng());
        lane.is_some().then(begin)
    })?;
    Some(flights.begin(trace, lane))
}
