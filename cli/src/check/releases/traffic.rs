//! Whether as many requests come as the steps of a release wait for.

use tulle_api::OnLowTraffic;
use tulle_control_plane::release::{Plan, Share, Step};

use super::{super::report::Report, Look};

/// Longest time that is said in seconds.
const SOON: f64 = 120.0;

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    let rates = look.release.workloads().filter_map(|one| look.snapshot.rates.get(&one));
    let Some(rate) = rates.copied().reduce(|one, other| one + other) else { return };
    let plan = &look.release.plan;
    let late =
        |step: &&Step| step.weight > Share::NONE && takes(plan, step, rate) > waits(plan, step);
    let Some((at, step)) = plan.steps.iter().enumerate().find(|(_, step)| late(step)) else {
        return;
    };
    let then = match plan.low_traffic.then {
        OnLowTraffic::Pause => "the release is paused",
        OnLowTraffic::Rollback => "it is rolled back",
        OnLowTraffic::Widen => "the next step is taken without proof",
    };
    let (requests, waits) = (plan.gates.min_requests, waits(plan, step));
    let (when, remedy) = if rate > 0.0 {
        let enough = (100.0 * float(requests) / (rate * waits)).ceil();
        let remedy = match enough <= 100.0 {
            true => format!("a weight of {enough} or more, or fewer `gates.minRequests`"),
            false => "fewer `gates.minRequests`, or more time in `lowTraffic.wait`".to_owned(),
        };
        (format!("after {}", time(takes(plan, step, rate))), remedy)
    } else {
        (
            "never".to_owned(),
            "release while there are requests, or say `lowTraffic.then`".to_owned(),
        )
    };
    let (namespace, name) = (look.namespace(), &look.release.name.name);
    report.note(
        "release-traffic",
        look.title(),
        format!(
            "{rate:.1} requests a second came in the last ten minutes: by these step {} ({}) has its {requests} requests {when}; after {} {then}",
            at + 1,
            step.weight,
            time(waits),
        ),
        format!("{remedy}: kubectl -n {namespace} edit release {name}"),
    );
}

/// Seconds until a step has its requests; without end if there are none.
fn takes(plan: &Plan, step: &Step, rate: f64) -> f64 {
    let share = f64::from(step.weight.per_ten_thousand()) / 10_000.0;
    float(plan.gates.min_requests) / (rate * share)
}

/// Seconds that it waits for them.
fn waits(plan: &Plan, step: &Step) -> f64 {
    (step.lasts + plan.low_traffic.wait).as_secs_f64()
}

fn time(seconds: f64) -> String {
    if seconds < SOON { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
fn float(number: u64) -> f64 {
    number as f64
}
