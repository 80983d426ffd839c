//! What a course is told each second.

use std::time::Duration;

use crate::release::{Answer, Gate, Seen};

/// What there is in a second.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// In seconds since 1970.
    pub now: u64,
    /// What each caller saw; `None`: too few sidecars say anything.
    pub seen: Option<&'a [Seen]>,
    /// The canary's pods.
    pub canary: Pods,
    /// The stable version's.
    pub stable: Pods,
    /// What was said since the second before by those who are asked.
    pub answers: &'a [(Gate, Answer)],
    /// Containers of the canary that have ended since the second before.
    pub restarts: u32,
    /// Whether all sidecars send as many to the canary as they shall.
    pub in_force: bool,
    /// What the stable version's quantile of the plan was in the last minute, in seconds.
    pub slow: Option<f64>,
    /// Whether the canary has taken the old version's place.
    pub replaced: bool,
    /// Whether there are no pods but the canary's.
    pub alone: bool,
}

/// Pods of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pods {
    /// That are asked for.
    pub wanted: u32,
    /// That requests can be sent to.
    pub serving: u32,
    /// That have become ready, so that the Deployment's controller has taken old ones away for them.
    pub let_in: u32,
    /// For how long the last of those that serve has been.
    pub youngest: Duration,
}
