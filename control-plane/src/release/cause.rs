//! Why a release does not go on, or went back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::findings::Gate;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A gate says that the canary is worse.
    Gate(Gate),
    /// Somebody must say so before the next step.
    Approval,
    /// Somebody wants it so, in their words.
    Person(String),
    /// Too few sidecars tell what happens.
    NoData,
    /// Too few requests came.
    LowTraffic,
    /// There is nothing to compare with.
    StableUnhealthy,
    /// It took too long in all.
    Deadline,
}

impl Cause {
    /// Of two the one that weighs more is what a release is paused for: what is proven, or over, then what a person wants, then
    /// what may change by itself or is asked each time.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Gate(_) | Self::Deadline => 2,
            Self::Person(_) => 1,
            Self::Approval | Self::NoData | Self::LowTraffic | Self::StableUnhealthy => 0,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gate(gate @ (Gate::Webhook(_) | Gate::Step(_))) => {
                return write!(f, "{gate} says no");
            }
            Self::Gate(gate @ Gate::Query(_)) => return write!(f, "{gate} is out of its bounds"),
            Self::Gate(gate) => return write!(f, "{gate}: the canary is worse"),
            Self::Person(why) if why.is_empty() => "somebody wants it so",
            Self::Person(why) => why,
            Self::Approval => "the next step wants to be approved",
            Self::NoData => "too few sidecars tell what happens",
            Self::LowTraffic => "too few requests to know anything",
            Self::StableUnhealthy => {
                "the stable version is unhealthy: there is nothing to compare with"
            }
            Self::Deadline => "it took longer than its deadline",
        })
    }
}
