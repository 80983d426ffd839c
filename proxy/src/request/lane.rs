//! In which lane is a request? And that it stays there.
//!
//! ```text
//! a request ──► baggage, tracestate ──► what a lane says of its entry ──► from the application: [ Flights ], by its trace
//!                      └────────────────────────┴────────────────────────────┴──► its baggage says so to the next hop
//! a request to the application is noted in [ Flights ] until it is over
//! a request from it in no lane ──► may it be of one? ──► a Passage, counted when it is over
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

pub use self::flights::{Flight, Flights, Sight};
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

/// How it is known that a request is in a lane; or, of one that the application sent in none while it answered some of the
/// lane, why it is not known whether it is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Its baggage says so.
    Baggage,
    /// The state of its trace does.
    State,
    /// It is one of those that enter.
    Entry,
    /// Its trace is in the lane, while that is answered.
    Trace,
    /// It has no trace.
    Nothing,
    /// Its trace is that of nothing that is answered.
    UnknownTrace,
    /// Its trace is answered in the lane and otherwise, or there are too many.
    Unclear,
}

impl By {
    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baggage => "baggage",
            Self::State => "tracestate",
            Self::Entry => "entry",
            Self::Trace => "traceparent",
            Self::Nothing => "nothing",
            Self::UnknownTrace => "unknown-trace",
            Self::Unclear => "unclear",
        }
    }
}

/// A request's lane, and what says that it is in it.
type Found = (Arc<str>, By);

/// What there is to count of a request, when it is known whom it went to.
#[derive(Debug)]
pub struct Passage {
    /// The lane that it is in; or those that it may be of.
    pub lanes: Vec<Arc<str>>,
    /// What says so.
    pub by: By,
    /// It is in no lane, and was sent while requests of this lane alone were answered.
    pub alone: bool,
}

/// What becomes of a request that has been looked at.
#[derive(Debug, Default)]
pub struct Stay {
    /// It is in flight as long as this is there.
    pub flight: Option<Flight>,
    /// If it is in a lane, or perhaps of one.
    pub passage: Option<Passage>,
}

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
    fn of_request(&self, head: &mut Parts) -> Option<Found> {
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

    /// The lane that its trace puts a request from the application into. Or why it may be of one all the same; `None`: it is not.
    fn of_trace(&self, flights: &Flights, head: &Parts, traced: bool) -> Result<Found, Option<By>> {
        if !matches!(said::baggage(&head.headers), Said::Nothing) {
            return Err(None);
        }
        let sight = trace::of(&head.headers).map_or(Sight::Unknown, |trace| flights.look(trace));
        match sight {
            // One that has ended meanwhile is none.
            Sight::Lane(lane) if self.named(lane.as_bytes()).is_some() => Ok((lane, By::Trace)),
            Sight::Lane(_) | Sight::Outside => Err(None),
            Sight::Unclear => Err(Some(By::Unclear)),
            Sight::Unknown => Err(Some(if traced { By::UnknownTrace } else { By::Nothing })),
        }
    }
}

/// Finds in which lane a request is, and has its baggage say so. `traced`: it came with a trace.
pub fn enter(
    lanes: &Lanes,
    flights: &Arc<Flights>,
    (direction, traced): (Direction, bool),
    head: &mut Parts,
    metrics: &Metrics,
) -> Stay {
    let found = match (lanes.of_request(head), direction) {
        (None, Direction::Outbound) => lanes.of_trace(flights, head, traced),
        (None, Direction::Inbound) => Err(None),
        (Some(found), _) => Ok(found),
    };
    let passage = match &found {
        Ok((lane, by)) => {
            if *by != By::Baggage {
                said::put(&mut head.headers, lane);
            }
            Some(Passage { lanes: vec![Arc::clone(lane)], by: *by, alone: false })
        }
        Err(why) => why.and_then(|by| {
            let (mut all, alone) = flights.lanes();
            all.retain(|lane| lanes.named(lane.as_bytes()).is_some());
            (!all.is_empty()).then_some(Passage { lanes: all, by, alone })
        }),
    };
    for (lane, by) in passage.iter().flat_map(|p| p.lanes.iter().map(|lane| (lane, p.by))) {
        metrics.in_lane(lane, direction, by.as_str());
    }
    let flight = (direction == Direction::Inbound).then(|| {
        let lane = found.ok().map(|(lane, _)| lane);
        let trace = trace::of(&head.headers).or_else(|| {
            // The application has something to forward.
            let begin = || trace::begin_for_others(&mut head.headers, &mut rand::rng());
            lane.is_some().then(begin)
        });
        flights.begin(trace, lane)
    });
    Stay { flight, passage }
}
