//! Attempts: what was never sent is tried at another endpoint whatever its method; anything else
//! only as the rule's [`Retry`] says, within the cluster's budget.

use std::time::Duration;

use http::{Method, StatusCode};
use rand::Rng;
use tokio::time::{Instant, sleep, timeout_at};
use tulle_xds::model::{Retry, Rule};

use super::{body::grpc_status, target::Forward};
use crate::{
    context::Context,
    error::{Error, Reason},
    telemetry::{Outcome, Record, blame},
    upstream::{
        Cluster, eject,
        limits::{Bound, Permit},
        pool::Want,
        send::{self, Answer, Failure, Message},
    },
};

/// Attempts with what was never sent. Each is at another endpoint, or on a fresh connection.
const MOST_UNSENT: usize = 5;

/// Sends the request until there is an answer to give, at the latest at `deadline`.
///
/// # Errors
/// The last attempt's.
pub async fn run(
    cx: &Context,
    target: &Forward,
    deadline: Option<Instant>,
    message: &Message,
    record: &mut Record,
) -> Result<Answer, Error> {
    let (cluster, rule) = (&target.cluster, target.rule());
    let mut tries = Tries {
        rule,
        deadline,
        tried: Vec::new(),
        want: Want::Any,
        unsent: 0,
        retries: 0,
        permit: None,
    };
    loop {
        let endpoint = cluster.pick(&tries.tried).ok_or_else(|| nothing_there(cluster))?;
        tries.tried.push(endpoint.id());
        record.attempt(cluster, &endpoint);
        let attempt = send::once(cx, cluster, &endpoint, tries.want, message, record.place());
        let result = tries.bounded(attempt).await;
        let verdict = match &result {
            Ok(answer) => Some(answer.verdict()),
            Err(failure) => failure.verdict(),
        };
        if let Some(verdict) = verdict
            && eject::report(&cx.shared, cluster, &endpoint, verdict)
        {
            record.ejected(&endpoint);
        }
        let Some(pause) = tries.next(cx, cluster, message, &result) else {
            record.tried(match &result {
                Ok(_) => Outcome::Ok,
                Err(failure) => Outcome::Failed(failure.error.reason()),
            });
            message.upload.settle();
            return result.map_err(|failure| failure.error);
        };
        record.tried(Outcome::Retried);
        record.attempt_failed(match &result {
            Ok(Answer { response, .. }) => {
                Some(blame::answer(response.status(), grpc_status(response.headers())))
            }
            // Its connection may have been closed by a server that is well: the next attempt, on a new one, says more.
            Err(failure) if failure.stale => None,
            Err(failure) => blame::error(&failure.error),
        });
        record.retried(match &result {
            Ok(answer) => Ok(answer.response.status()),
            Err(failure) => Err(failure.error.reason()),
        });
        if tries.retries > 0 {
            record.set_by(&["spec.retries"]);
        }
        // An answer that is not given ends here, and with it its connection or stream.
        drop(result);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// What was tried so far.
struct Tries<'a> {
    rule: Option<&'a Rule>,
    deadline: Option<Instant>,
    tried: Vec<u64>,
    want: Want,
    unsent: usize,
    retries: u32,
    /// Held while an attempt is a retry: the budget counts retries in flight.
    permit: Option<Permit>,
}

impl Tries<'_> {
    /// An attempt, with the time that it may take.
    async fn bounded(
        &self,
        attempt: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let per_try = self.rule.and_then(|rule| rule.timeouts.per_try);
        let try_ends = per_try.map(|within| Instant::now() + within);
        let Some(ends) = try_ends.into_iter().chain(self.deadline).min() else {
            return attempt.await;
        };
        timeout_at(ends, attempt).await.unwrap_or_else(|_elapsed| {
            let timeouts = self.rule.map(|rule| rule.timeouts).unwrap_or_default();
            let within = |time: Option<Duration>| time.unwrap_or_default();
            let (detail, fields): (_, &[&str]) = if self.deadline == Some(ends) {
                let time = within(timeouts.request);
                let detail = format!("no answer within {time:?}, the rule's time for the request");
                (detail, &["timeouts.request"])
            } else {
                let time = within(timeouts.per_try);
                let detail = format!("no answer within {time:?}, the rule's time for one try");
                (detail, &["retries.perTryTimeout", "timeouts.backendRequest"])
            };
            let error = Error::new(Reason::Timeout, detail).set_by(fields);
            Err(Failure { error, stale: false })
        })
    }

    /// The pause before another attempt; `None` if none follows an attempt that ended so.
    fn next(
        &mut self,
        cx: &Context,
        cluster: &Cluster,
        message: &Message,
        result: &Result<Answer, Failure>,
    ) -> Option<Duration> {
        if !message.upload.is_replayable() {
            return None;
        }
        if let Err(failure) = result
            && self.for_free(cluster, message, failure)
        {
            return Some(Duration::ZERO);
        }
        let retry = self.rule?.retry.as_ref()?;
        if self.retries >= retry.attempts || !is_retried(retry, &message.head.method, result) {
            return None;
        }
        let pause = backoff(retry, self.retries);
        // With no time left for another try, the answer that is there is better than none.
        if self.deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
            return None;
        }
        // The last retry is over: it must not stand in the way of the next.
        self.permit = None;
        let permit = cluster.limits().take(Bound::Retries);
        self.permit = Some(permit.map_err(|_full| cx.metrics.budget_exhausted(cluster)).ok()?);
        self.retries += 1;
        self.want = Want::Any;
        Some(pause)
    }

    /// Whether the server did nothing with the request, so that another attempt does no harm.
    fn for_free(&mut self, cluster: &Cluster, message: &Message, failure: &Failure) -> bool {
        let harmless =
            failure.error.is_never_sent() || (failure.stale && message.head.method.is_idempotent());
        let overflow = failure.error.reason() == Reason::Overflow;
        self.unsent += 1;
        if !harmless || overflow || self.unsent >= MOST_UNSENT {
            return false;
        }
        if failure.stale {
            // The endpoint may be well: only its old connection was gone. The next one is new.
            self.want = Want::Fresh;
            return true;
        }
        cluster.endpoints().eligible().iter().any(|e| !self.tried.contains(&e.id()))
    }
}

/// Whether the rule wants another try after one that ended so. What a server may have acted on is
/// repeated for idempotent methods only (RFC 9110, 9.2.2); a gRPC call has no method that would say,
/// so there the rule's list of codes does.
fn is_retried(retry: &Retry, method: &Method, result: &Result<Answer, Failure>) -> bool {
    let failure = match result {
        Ok(Answer { response, .. }) => {
            let by_grpc = grpc_status(response.headers())
                .is_some_and(|status| retry.grpc_statuses.contains(&status));
            let by_status = retry.statuses.contains(&response.status());
            return by_grpc || (by_status && method.is_idempotent());
        }
        Err(failure) => failure,
    };
    let listed = match failure.error.reason() {
        Reason::Timeout => retry.on_reset || retry.statuses.contains(&StatusCode::GATEWAY_TIMEOUT),
        // Envoy's `reset` is about connections that cannot be made, too.
        Reason::Connect | Reason::Tls => retry.on_reset || retry.on_connect,
        Reason::Reset => retry.on_reset,
        _ => false,
    };
    listed && (method.is_idempotent() || failure.error.is_never_sent())
}

/// Exponential with full jitter:
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
fn backoff(retry: &Retry, earlier: u32) -> Duration {
    let most = retry.base_backoff.saturating_mul(1 << earlier.min(16)).min(retry.max_backoff);
    most.mul_f64(rand::rng().random_range(0.0..=1.0))
}

fn nothing_there(cluster: &Cluster) -> Error {
    let known = cluster.endpoints().all().len();
    let detail = format!("{} has no ready endpoint ({known} known)", cluster.label());
    Error::new(Reason::NoEndpoint, detail).never_sent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_bound() {
        let retry = Retry {
            attempts: 3,
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            on_connect: true,
            on_reset: true,
            base_backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(60),
        };
        for (earlier, most) in [(0, 25), (1, 50), (2, 60), (40, 60)] {
            assert!(backoff(&retry, earlier) <= Duration::from_millis(most));
        }
    }
}
