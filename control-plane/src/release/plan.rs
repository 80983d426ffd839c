//! What shall happen: what a Release's `spec` says, every default filled in.

use std::time::Duration;

use tulle_api::{OnFail, OnLowTraffic, StickBy};
use tulle_xds::model::Match;

use super::share::Share;

/// A way from one version to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// One after the other. None: a rolling update that is only watched.
    pub steps: Vec<Step>,
    /// What must hold all the while.
    pub gates: Gates,
    /// What becomes of it when sidecars do not tell what happens.
    pub no_data: NoData,
    /// What becomes of it when too little happens.
    pub low_traffic: LowTraffic,
    /// Whether somebody must say so before the new version replaces the old one.
    pub approve_promotion: bool,
    /// What a gate that says no leads to.
    pub on_fail: OnFail,
    /// In all; then [`OnFail`].
    pub deadline: Duration,
    /// Whose requests stay with a version once they have come to it.
    pub stick_by: Option<StickBy>,
}

/// A part of the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Of all requests.
    pub weight: Share,
    /// How long it takes at least.
    pub lasts: Duration,
    /// Whether somebody must say so before it begins.
    pub approve: bool,
    /// Who is asked before it begins; empty: nobody.
    pub webhook: String,
    /// Requests that go to the canary, besides: those that match one of these.
    pub matches: Vec<Match>,
    /// Percent of the other requests of which the canary gets a copy, if they change nothing.
    pub mirror: u8,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Gates {
    /// Of so many releases of versions that are no worse, one is stopped: by all that is judged by chance, together.
    pub false_alarm: f64,
    /// Requests to the canary in each step, before it ends.
    pub min_requests: u64,
    /// Absent: errors are not judged.
    pub errors: Option<Errors>,
    /// Absent: durations are not judged.
    pub latency: Option<Latency>,
    /// How many restarts of its containers a step forgives; absent: all.
    pub restarts: Option<u32>,
    /// Questions to a Prometheus.
    pub queries: Vec<Query>,
    /// Others who are asked.
    pub webhooks: Vec<Webhook>,
}

/// How many errors are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Times as many as of the stable version.
    pub tolerate: f64,
    /// A share below which nobody minds.
    pub floor: f64,
    /// A share that is too much whatever the stable version does, unless it does that as well.
    pub most: f64,
}

/// What is too slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// The stable version's, which the canary may exceed as seldom as the stable version itself.
    pub quantile: f64,
    /// Times as often.
    pub tolerate: f64,
    /// Pods that have just come need not be quick yet.
    pub warmup: Duration,
}

/// A question to a Prometheus, whose answer must lie between bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What it is called.
    pub name: String,
    /// An expression with one number as its answer.
    pub promql: String,
    /// The most that it may be.
    pub max: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// How often it is asked.
    pub every: Duration,
    /// So many bad answers in a row are a no.
    pub failures: u32,
}

/// Somebody who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// How often it is asked.
    pub every: Duration,
    /// So often in a row it must say no.
    pub failures: u32,
}

impl Step {
    /// How often its webhook is asked: whoever waits for it wants to go on.
    pub const EVERY: Duration = Duration::from_secs(10);
}

impl Query {
    /// How often one is asked that does not say it; webhooks likewise.
    pub const EVERY: Duration = Duration::from_secs(30);
    /// How many bad answers are too many where it does not say it; of webhooks likewise.
    pub const FAILURES: u32 = 3;
}

/// How long to wait for what sidecars tell, and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoData {
    /// So long nothing happens but that no step ends.
    pub hold: Duration,
    /// Then this.
    pub then: OnFail,
}

/// How long to wait for [`Gates::min_requests`] after a step's time, and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowTraffic {
    /// So long.
    pub wait: Duration,
    /// Then this.
    pub then: OnLowTraffic,
}

impl Default for Plan {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let step =
            |percent, lasts| Step { weight: Share::percent(percent), lasts, ..Step::default() };
        Self {
            steps: vec![step(1, minutes(1)), step(5, minutes(2)), step(25, minutes(5))],
            gates: Gates::default(),
            no_data: NoData { hold: minutes(10), then: OnFail::Pause },
            low_traffic: LowTraffic { wait: minutes(5), then: OnLowTraffic::Pause },
            approve_promotion: false,
            on_fail: OnFail::Rollback,
            deadline: minutes(24 * 60),
            stick_by: None,
        }
    }
}

impl Default for Gates {
    fn default() -> Self {
        let warmup = Duration::from_secs(30);
        Self {
            false_alarm: 0.001,
            min_requests: 200,
            errors: Some(Errors { tolerate: 1.25, floor: 0.001, most: 0.05 }),
            latency: Some(Latency { quantile: 0.99, tolerate: 1.25, warmup }),
            restarts: Some(1),
            queries: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}
