//! How long a pod's containers are kept from ending, so that callers have gone elsewhere before.

use k8s_openapi::api::core::v1::PodSpec;
use tulle_api::Duration;

use super::BadAnnotation;

/// The pod's own word about it.
pub(super) const DRAIN_TIME: &str = "tulle.dev/drain-time";

/// Seconds at most, where the pod says nothing. Endpoints reach every caller within it, kube-proxy and ingress
/// controllers included.
const LONGEST: u32 = 10;
/// Seconds that Kubernetes grants a pod that says nothing.
const GRACE: i64 = 30;

/// The value of the annotation, in seconds.
///
/// # Errors
/// What it may be.
pub(super) fn read(value: &str) -> Result<u32, String> {
    let time = value.trim().parse::<Duration>().ok().map(Duration::get);
    let whole = time.filter(|time| time.subsec_nanos() == 0 && time.as_secs() <= 3600);
    let seconds = whole.and_then(|time| u32::try_from(time.as_secs()).ok());
    seconds.ok_or_else(|| {
        "it must be a time of whole seconds from 0s to 1h, written for example 20s".to_owned()
    })
}

/// For how many seconds: what the annotation `said`, or else a third of what the pod has, so that enough is
/// left to the application. `None` if nothing is to be held.
///
/// # Errors
/// The annotation leaves nothing to the application.
pub(super) fn hold(said: Option<u32>, spec: &PodSpec) -> Result<Option<u32>, BadAnnotation> {
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE);
    let seconds = match said {
        Some(seconds) if seconds > 0 && i64::from(seconds) >= grace => {
            return Err(BadAnnotation {
                name: DRAIN_TIME.to_owned(),
                value: format!("{seconds}s"),
                reason: format!(
                    "it must be less than the pod's terminationGracePeriodSeconds, {grace}: the application ends \
                     in what is left"
                ),
            });
        }
        Some(seconds) => seconds,
        None => (u32::try_from(grace).unwrap_or(0) / 3).min(LONGEST),
    };
    Ok((seconds > 0).then_some(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_or_a_third() {
        for (said, grace, expected) in [
            (None, None, Ok(Some(10))),
            (None, Some(9), Ok(Some(3))),
            (None, Some(600), Ok(Some(10))),
            (None, Some(2), Ok(None)),
            (None, Some(0), Ok(None)),
            (None, Some(-1), Ok(None)),
            (Some("25s"), None, Ok(Some(25))),
            (Some("1m30s"), Some(120), Ok(Some(90))),
            (Some("0s"), None, Ok(None)),
            (Some("0s"), Some(0), Ok(None)),
            (Some("30s"), None, Err("terminationGracePeriodSeconds, 30")),
            (Some("1h"), Some(60), Err("terminationGracePeriodSeconds, 60")),
            (Some("20"), None, Err("whole seconds from 0s to 1h, written for example 20s")),
            (Some("500ms"), None, Err("whole seconds")),
            (Some("2h"), Some(10_000), Err("from 0s to 1h")),
            (Some("long"), None, Err("whole seconds")),
        ] {
            let spec = PodSpec { termination_grace_period_seconds: grace, ..PodSpec::default() };
            let held = said
                .map(read)
                .transpose()
                .and_then(|said| hold(said, &spec).map_err(|bad| bad.to_string()));
            match (held, expected) {
                (Ok(held), Ok(expected)) => assert_eq!(held, expected, "{said:?} {grace:?}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (other, _) => panic!("{said:?} {grace:?}: {other:?}"),
            }
        }
    }
}
