//! Attempts: what was never sent is tried at another endpoint whatever its method; anything else
//! only as the rule's [`Retry`] says, within the cluster's budget.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use rand::Rng;
use tokio::time::{sleep, timeout};
use tulle_xds::model::{Retry, Rule};

use super::body::grpc_status;
use crate::{
    context::Context,
    error::{Error, Reason},
    telemetry::{Outcome, Record},
    upstream::{
        Cluster,
        limits::{Bound, Permit},
        pool::Want,
        send::{self, Answer, Failure, Message},
    },
};

/// Attempts with what was never sent. Each is at another endpoint, or on a fresh connection.
const MOST_UNSENT: usize = 5;

/// Sends the request until there is an answer to give.
///
/// # Errors
/// The last attempt's.
pub async fn run(
    cx: &Context,
    cluster: &Arc<Cluster>,
    rule: Option<&Rule>,
    message: &Message,
    record: &mut Record,
) -> Result<Answer, Error> {
    let mut tries = Tries { rule, tried: Vec::new(), want: Want::Any, unsent: 0, retries: 0 };
    // Held while an attempt is a retry: the budget counts retries in flight.
    let mut _retrying = None;
    loop {
        let endpoint = cluster.pick(&tries.tried).ok_or_else(|| nothing_there(cluster))?;
        tries.tried.push(endpoint.id());
        record.attempt(cluster, &endpoint);
        let attempt = send::once(cx, cluster, &endpoint, tries.want, message);
        let result = bounded(rule.and_then(|rule| rule.timeouts.per_try), attempt).await;
        let next = tries.next(cluster, message, &result);
        let Some(Again { pause, permit }) = next else {
            cx.metrics.attempt(if result.is_ok() { Outcome::Ok } else { Outcome::Failed });
            message.upload.settle();
            return result.map_err(|failure| failure.error);
        };
        cx.metrics.attempt(Outcome::Retried);
        // An answer that is not given ends here, and with it its connection or stream.
        drop(result);
        _retrying = permit.or(_retrying);
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
}

/// What was tried so far.
struct Tries<'a> {
    rule: Option<&'a Rule>,
    tried: Vec<u64>,
    want: Want,
    unsent: usize,
    retries: u32,
}

/// Another attempt follows.
struct Again {
    pause: Option<Duration>,
    permit: Option<Permit>,
}

impl Tries<'_> {
    /// Whether another attempt follows an attempt that ended so.
    fn next(
        &mut self,
        cluster: &Cluster,
        message: &Message,
        result: &Result<Answer, Failure>,
    ) -> Option<Again> {
        if !message.upload.is_replayable() {
            return None;
        }
        if let Err(failure) = result
            && self.for_free(cluster, message, failure)
        {
            return Some(Again { pause: None, permit: None });
        }
        let retry = self.rule?.retry.as_ref()?;
        let wanted = is_idempotent(&message.head.method)
            || matches!(result, Err(failure) if failure.error.is_never_sent());
        if !wanted || self.retries >= retry.attempts || !is_retried(retry, result) {
            return None;
        }
        let permit = cluster.limits().take(Bound::Retries).ok()?;
        let pause = backoff(retry, self.retries);
        self.retries += 1;
        self.want = Want::Any;
        Some(Again { pause: Some(pause), permit: Some(permit) })
    }

    /// Whether the server did nothing with the request, so that another attempt does no harm.
    fn for_free(&mut self, cluster: &Cluster, message: &Message, failure: &Failure) -> bool {
        let harmless =
            failure.error.is_never_sent() || (failure.stale && is_idempotent(&message.head.method));
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

async fn bounded(
    per_try: Option<Duration>,
    attempt: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, Failure> {
    let Some(within) = per_try else {
        return attempt.await;
    };
    timeout(within, attempt).await.unwrap_or_else(|_elapsed| {
        let detail = format!("no answer within {within:?}, the time for one try");
        Err(Failure { error: Error::new(Reason::Timeout, detail), stale: false })
    })
}

fn is_retried(retry: &Retry, result: &Result<Answer, Failure>) -> bool {
    match result {
        Ok(Answer { response, .. }) => {
            retry.statuses.contains(&response.status())
                || grpc_status(response.headers())
                    .is_some_and(|status| retry.grpc_statuses.contains(&status))
        }
        Err(failure) => match failure.error.reason() {
            Reason::Timeout => {
                retry.on_reset || retry.statuses.contains(&StatusCode::GATEWAY_TIMEOUT)
            }
            Reason::Connect | Reason::Reset | Reason::Tls => retry.on_reset,
            _ => false,
        },
    }
}

/// Exponential with full jitter:
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
fn backoff(retry: &Retry, earlier: u32) -> Duration {
    let most = retry.base_backoff.saturating_mul(1 << earlier.min(16)).min(retry.max_backoff);
    most.mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
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
            on_reset: true,
            base_backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(60),
        };
        for (earlier, most) in [(0, 25), (1, 50), (2, 60), (40, 60)] {
            assert!(backoff(&retry, earlier) <= Duration::from_millis(most));
        }
    }
}
