//! What people ask: how workloads do, who calls whom, and by which rule. Pure functions of what the stores say.
//!
//! A request is seen at both ends. A workload's own figures are those of its own proxies, or if it has none those of its
//! callers; an edge's and a rule's are the caller's, or if that has no proxy those of the one who is called.

mod chart;
mod edges;
mod routes;
mod signals;
mod stat;
pub(super) mod tap;
mod why;

pub use self::{
    chart::{Chart, Point, chart},
    edges::{EdgeView, End, Travels, edges},
    routes::{BackendView, RouteView, routes},
    signals::{BadBy, DeniedBy, Signals},
    stat::{TREND, TREND_POINT, WorkloadView, stat},
    tap::{HeaderView, RecordView, TapView},
};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::query::Answer;

/// Seconds of a slot of time where nobody watches.
const SLOT: u64 = 10;

/// Rows, and how much they can be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View<T> {
    /// Seconds that rates are of, at most: of slots of time that are over. 0: nothing is known yet.
    pub window: f64,
    /// For so many seconds all replicas of the control plane have been there. What was before is known in part: what proxies
    /// told a replica that is gone is lost.
    #[serde(default = "always")]
    pub whole: f64,
    /// What was asked for.
    pub items: Vec<T>,
    /// Replicas of the control plane that did not say what they know: it is missing.
    pub unheard: Vec<String>,
    /// Something was forgotten before its time, for want of memory.
    pub shortened: bool,
}

impl<T> View<T> {
    pub(crate) fn of(answer: &Answer, window: Duration, items: Vec<T>) -> Self {
        let (unheard, shortened) = (answer.unheard.clone(), answer.known.shortened);
        let window = covered(answer, window).as_secs_f64();
        let whole = answer.known.whole.as_secs_f64();
        Self { window, whole, items, unheard, shortened }
    }
}

/// What part of the window is known.
fn covered(answer: &Answer, window: Duration) -> Duration {
    let covers = answer.known.rows.iter().map(|row| row.covers).max();
    // Where nothing has come, nothing is known of the time before the store began either.
    let known = window.as_secs().min(answer.known.since.as_secs() / SLOT * SLOT);
    Duration::from_secs(covers.map_or(known, u64::from))
}

/// An older control plane does not say it.
fn always() -> f64 {
    f64::MAX
}

#[cfg(test)]
mod tests;
