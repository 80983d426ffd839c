//! Whether as many requests come as the steps of a release wait for.

use tulle_api::OnLowTraffic;
use tulle_control_plane::release::{Plan, Share, Step};

use super::{super::report::Report, Look};
use crate::observe::units::{float, span};

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
        (format!("after {}", span(takes(plan, step, rate))), remedy)
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
            span(waits),
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
