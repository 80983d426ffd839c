//! Which endpoints are left out because they fail: Envoy's outlier detection, the detectors that
//! count failures in a row.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier>, gRFC A50.
//!
//! ```text
//!  an attempt ended ─► [ Verdict ] ─► [ Streaks ] of its endpoint     atomics, every request
//!                                          │ so many in a row
//!                                          ▼
//!                     [ Outs ] of the cluster: may it be left out?    under a lock, seldom
//!                                          ▲
//!                     [ bring_back ] looks once per interval          while anybody is out
//! ```
//!
//! Counts and decisions are shared by all workers, and stay with an endpoint through updates of its
//! cluster. Time is an argument everywhere but in [`bring_back`].
//!
//! **Invariants.** One endpoint that may get requests always stays; of one alone nothing is left
//! out. With no policy nothing is counted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tulle_xds::model::Ejection;

use super::{Cluster, EndpointState};
use crate::context::Shared;

/// What an attempt says about the endpoint at which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, and not with a server error.
    Good,
    /// It answers; how that ends is yet to come (gRPC says it last).
    Answers,
    /// It answered with 5xx, or with a gRPC status that means one.
    ServerError,
    /// No connection, a reset, or no answer in time.
    LocalFailure,
}

impl Verdict {
    /// What a `grpc-status` says, by the HTTP status that Envoy takes it for.
    pub fn of_grpc(status: u32) -> Self {
        match status {
            // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
            2 | 4 | 12 | 13 | 14 | 15 => Self::ServerError,
            _ => Self::Good,
        }
    }
}

/// Why an endpoint is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Server errors in a row.
    ServerErrors,
    /// Local failures in a row.
    LocalFailures,
}

impl Cause {
    /// The word for logs, labels and dumps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerErrors => "consecutive_5xx",
            Self::LocalFailures => "consecutive_local_failures",
        }
    }
}

/// How often an endpoint failed in a row.
#[derive(Debug, Default)]
pub struct Streaks {
    server_errors: AtomicU32,
    local_failures: AtomicU32,
}

impl Streaks {
    /// Counts one attempt; says why the endpoint is to be left out once it failed so often in a row
    /// as `told` allows. The streak then begins anew, whatever comes of that.
    pub fn count(&self, told: &Ejection, verdict: Verdict) -> Option<Cause> {
        match verdict {
            Verdict::Good => {
                end(&self.server_errors);
                end(&self.local_failures);
                None
            }
            Verdict::Answers => {
                end(&self.local_failures);
                None
            }
            Verdict::ServerError => {
                end(&self.local_failures);
                lengthen(&self.server_errors, told.consecutive_5xx).then_some(Cause::ServerErrors)
            }
            // Says nothing about the answers that the endpoint would give: as in Envoy, which tells
            // the two apart (`split_external_local_origin_errors`).
            Verdict::LocalFailure => {
                lengthen(&self.local_failures, told.consecutive_local_failures)
                    .then_some(Cause::LocalFailures)
            }
        }
    }

    /// An endpoint that comes back begins anew.
    fn forget(&self) {
        end(&self.server_errors);
        end(&self.local_failures);
    }
}

fn end(streak: &AtomicU32) {
    // Nearly always there is none: a read does not take the cache line away from other workers.
    if streak.load(Ordering::Relaxed) != 0 {
        streak.store(0, Ordering::Relaxed);
    }
}

fn lengthen(streak: &AtomicU32, most: Option<u32>) -> bool {
    let reached = most.is_some_and(|most| streak.fetch_add(1, Ordering::Relaxed) + 1 >= most);
    if reached {
        streak.store(0, Ordering::Relaxed);
    }
    reached
}

/// The endpoints of a cluster that are out, and those that were until lately, by their ids.
#[derive(Debug, Default)]
pub struct Outs {
    pasts: HashMap<u64, Past>,
    /// Somebody looks regularly, see [`bring_back`].
    watched: bool,
}

/// What an endpoint did.
#[derive(Debug, Default)]
struct Past {
    out: Option<(Instant, Cause)>,
    /// How often it was left out, less one for each look at which it was well.
    times: u32,
}

/// An endpoint that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Instant,
    /// For how long at least: it comes back at the first look after that.
    pub time: Duration,
    /// The factor in this time.
    pub times: u32,
}

impl Outs {
    /// Leaves out endpoint `id`, one of the `ready` ones that may get requests but for ejection.
    /// `None` if it stays: it is out already, it would be the last, or too many are.
    pub fn eject(
        &mut self,
        told: &Ejection,
        id: u64,
        ready: impl IntoIterator<Item = u64>,
        cause: Cause,
        now: Instant,
    ) -> Option<Out> {
        let (mut all, mut out, mut here) = (0_u64, 0_u64, false);
        for other in ready {
            all += 1;
            out += u64::from(self.is_out(other));
            here |= other == id;
        }
        let after = out + 1;
        // The first one may always go, so that a small cluster has ejection at all (Envoy's
        // `always_eject_one_host`).
        let few = out == 0 || after * 100 <= u64::from(told.max_percent) * all;
        if !here || self.is_out(id) || after >= all || !few {
            return None;
        }
        let past = self.pasts.entry(id).or_default();
        // Beyond the longest time the factor would only have to come down again.
        if time(told, past.times) < told.max_time || past.times == 0 {
            past.times = past.times.saturating_add(1);
        }
        past.out = Some((now, cause));
        self.out(told, id)
    }

    /// Once per interval: brings back whose time is over and returns their ids, and forgets a little
    /// of what the others did. Endpoints that are not `known` any more are forgotten.
    pub fn look(&mut self, told: &Ejection, known: impl Fn(u64) -> bool, now: Instant) -> Vec<u64> {
        let mut back = Vec::new();
        self.pasts.retain(|&id, past| {
            match past.out {
                Some((since, _)) if now.duration_since(since) >= time(told, past.times) => {
                    past.out = None;
                    back.push(id);
                }
                Some(_) => {}
                None => past.times = past.times.saturating_sub(1),
            }
            known(id) && (past.out.is_some() || past.times > 0)
        });
        back
    }

    /// Whether endpoint `id` is out.
    pub fn is_out(&self, id: u64) -> bool {
        self.pasts.get(&id).is_some_and(|past| past.out.is_some())
    }

    /// What there is to say about an endpoint that is out.
    pub fn out(&self, told: &Ejection, id: u64) -> Option<Out> {
        let past = self.pasts.get(&id)?;
        let (since, cause) = past.out?;
        Some(Out { cause, since, time: time(told, past.times), times: past.times })
    }

    /// Policy ejects nobody any more.
    pub fn clear(&mut self) {
        self.pasts.clear();
    }

    /// Whether the caller has to see to it that somebody looks from now on.
    pub(super) fn watch(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true)
    }

    /// Whether there is nothing left to look at; then nobody does.
    pub(super) fn is_over(&mut self) -> bool {
        let over = self.pasts.is_empty();
        self.watched &= !over;
        over
    }
}

/// How long an endpoint is out that was so often.
fn time(told: &Ejection, times: u32) -> Duration {
    told.base_time.saturating_mul(times).min(told.max_time.max(told.base_time))
}

/// Notes what an attempt said about its endpoint. If that ejects it, sees to its return. Whether it does.
pub fn report(
    shared: &Shared,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<EndpointState>,
    verdict: Verdict,
) -> bool {
    let Some(out) = cluster.judge(endpoint, verdict, Instant::now()) else {
        return false;
    };
    shared.metrics.ejected(cluster, out.cause.as_str());
    let told = endpoint.told();
    tracing::warn!(
        cluster = cluster.settings().name,
        address = %told.address,
        pod = told.pod,
        cause = out.cause.as_str(),
        time = ?out.time,
        times = out.times,
        "endpoint ejected"
    );
    if cluster.outs().watch() {
        tokio::spawn(bring_back(Arc::downgrade(cluster)));
    }
    true
}

/// Looks once per interval as long as anybody is out, or was until lately.
async fn bring_back(cluster: Weak<Cluster>) {
    loop {
        let Some(interval) = cluster.upgrade().map(|cluster| {
            cluster.settings().ejection.map_or(Duration::ZERO, |told| told.interval)
        }) else {
            return;
        };
        sleep(interval.max(Duration::from_millis(1))).await;
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        for endpoint in cluster.look(Instant::now()) {
            endpoint.streaks().forget();
            let told = endpoint.told();
            tracing::info!(
                cluster = cluster.settings().name,
                address = %told.address,
                pod = told.pod,
                "endpoint is back"
            );
        }
        if cluster.outs().is_over() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
