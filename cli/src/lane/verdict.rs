//! Which hop loses a lane. Pure.
//!
//! A request that leaves a workload in no lane while some of the lane are answered is of one of these, of others that are answered,
//! or of nobody's. It is said to be lost only if it was sent while nothing else was answered, there are about as many of them as
//! requests of the lane came, and none went the same way in the lane. All else is `perhaps`; or not worth more than a note, where as
//! many went the same way in the lane as came, and none of the others while nothing else was answered.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tulle_control_plane::{
    console::{LaneView, LaneWorkloadView, PassedView},
    telemetry::lanes::By,
};

/// How sure something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Sure {
    /// It loses it.
    Loses,
    /// It may.
    Perhaps,
    /// Something to know.
    Note,
}

/// Something about a hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) sure: Sure,
    /// NAMESPACE/NAME of the workload.
    pub(super) workload: String,
    /// Of whom it called.
    pub(super) to: String,
    pub(super) says: String,
    /// What to do; may be empty.
    pub(super) remedy: String,
}

/// All about lanes of one name, the surest first.
pub(super) fn findings(lanes: &[LaneView]) -> Vec<Finding> {
    let mut all = Vec::new();
    for lane in lanes {
        for workload in &lane.workloads {
            for (to, sent) in destinations(&workload.sent) {
                all.extend(lost(lane, workload, &to, &sent));
            }
            let mut told = BTreeSet::new();
            let within = workload.sent.iter().filter(|one| one.by.is_in());
            let first = within.filter(|one| told.insert((&one.namespace, &one.name)));
            all.extend(first.filter_map(|one| unseen(lanes, lane, workload, one)));
        }
        all.extend(pods(lane));
    }
    all.sort_by_key(|finding| finding.sure);
    all
}

/// What a program is told.
pub(super) fn code(lanes: &[LaneView], findings: &[Finding]) -> u8 {
    let seen = lanes.iter().any(|lane| lane.known_by.values().sum::<u64>() > 0);
    match findings.first().map(|first| first.sure) {
        Some(Sure::Loses) => 3,
        Some(Sure::Perhaps) => 4,
        _ if !seen => 4,
        Some(Sure::Note) | None => 0,
    }
}

/// What was sent, by the Service that was called: a lane's pods there are of another workload than everybody's. What is none is told
/// apart by who got it.
pub(super) fn destinations(sent: &[PassedView]) -> BTreeMap<String, Vec<&PassedView>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in sent {
        let to = match one.service.as_str() {
            "" => full(&one.namespace, &one.name),
            service => service.to_owned(),
        };
        all.entry(to).or_default().push(one);
    }
    all
}

fn full(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// What it sent there in no lane, if it did.
fn lost(
    lane: &LaneView,
    workload: &LaneWorkloadView,
    to: &str,
    sent: &[&PassedView],
) -> Option<Finding> {
    let got: u64 = workload.received.iter().map(|one| one.requests).sum();
    let sum = |of: &dyn Fn(&PassedView) -> u64| -> u64 { sent.iter().map(|one| of(one)).sum() };
    let within = sum(&|one| if one.by.is_in() { one.requests } else { 0 });
    let outside = sum(&|one| if one.by.is_in() { 0 } else { one.requests });
    let alone = sum(&|one| one.alone);
    let most = sent.iter().filter(|one| !one.by.is_in()).max_by_key(|one| one.requests)?;
    let who = full(&lane.namespace, &workload.name);
    let loses = within == 0 && got > 0 && alone.saturating_mul(2) >= got;
    let (sure, says) = match loses {
        false if alone == 0 && within > 0 && within >= got => (
            Sure::Note,
            format!(
                "{who} sent {within} requests to {to} in the lane, as many as came at least, and {outside} in none: most likely of others that \
                 it answered at the same time"
            ),
        ),
        true => (
            Sure::Loses,
            format!(
                "{who} loses it on the way to {to}: it got {got} requests of the lane, and sent {outside} there without it, {alone} of them \
                 while it answered nothing else"
            ),
        ),
        false => (
            Sure::Perhaps,
            format!(
                "{who} sent {outside} requests to {to} in no lane while it answered some of its {got} of the lane, and {within} in it. They \
                 may be of the lane, of other requests that it answered at the same time, or its own ({alone} were sent while it \
                 answered nothing else)"
            ),
        ),
    };
    let remedy = match (most.by, sure) {
        (_, Sure::Note) => String::new(),
        (_, Sure::Perhaps) if alone.saturating_mul(2) < got => {
            "to be sure, send into the lane while nobody else calls it, and check again".to_owned()
        }
        (By::UnknownTrace, _) => format!(
            "their `traceparent` is of a trace that {} began itself: let it go on with the one of the request that it answers (the \
             context must be passed to its client), or forward `baggage`",
            workload.name
        ),
        (By::Unclear, _) => format!(
            "the same trace came to {} in the lane and otherwise at once, so that its sidecar knows neither: let it forward `baggage`",
            workload.name
        ),
        _ => format!(
            "{} forwards neither `baggage` nor `traceparent`: let it send on `traceparent` of the request that it answers, its sidecar \
             does the rest",
            workload.name
        ),
    };
    Some(Finding { sure, workload: who, to: to.to_owned(), says, remedy })
}

/// Whether the next hop tells what it does with the lane.
fn unseen(
    lanes: &[LaneView],
    lane: &LaneView,
    workload: &LaneWorkloadView,
    one: &PassedView,
) -> Option<Finding> {
    if one.namespace.is_empty() {
        return None;
    }
    let to = full(&one.namespace, &one.name);
    let there = lanes.iter().find(|other| other.namespace == one.namespace);
    let (says, remedy) = match there {
        Some(there) if there.workloads.iter().any(|other| other.name == one.name && !other.received.is_empty()) => return None,
        Some(_) => (
            format!("{to} got requests of the lane, and its sidecar does not tell of them: what it does with them is not known"),
            "it has no sidecar, an older one, or has only just been called; `tulle proxy status` says which".to_owned(),
        ),
        None => (
            format!("{to} got requests of the lane, and its namespace has no Lane {} that you may see: there only applications carry it on, by `baggage`", lane.name),
            format!("make one there, too: tulle lane open {} -n {}", lane.name, one.namespace),
        ),
    };
    let workload = full(&lane.namespace, &workload.name);
    Some(Finding { sure: Sure::Note, workload, to, says, remedy })
}

/// Pods that get nothing.
fn pods(lane: &LaneView) -> Vec<Finding> {
    let note = |says: String, remedy: &str| Finding {
        sure: Sure::Note,
        workload: String::new(),
        to: String::new(),
        says,
        remedy: remedy.to_owned(),
    };
    let instead = if lane.denies { "are refused" } else { "go to everybody's pods" };
    let unready = lane.services.iter().filter(|one| one.ready == 0).map(|one| {
        let says = format!(
            "no pod of the lane behind {} is ready: its requests there {instead}",
            full(&lane.namespace, &one.name)
        );
        note(says, "")
    });
    let strays = (!lane.strays.is_empty()).then(|| {
        let says =
            format!("to these pods of the lane no Service leads: {}", lane.strays.join(", "));
        note(says, "give them the labels that the Service selects")
    });
    let none = lane.services.is_empty() && lane.strays.is_empty();
    let none = none.then(|| {
        let members = lane.members.iter().map(|(key, value)| format!("{key}: {value}"));
        let members: Vec<_> = members.collect();
        let says =
            format!("{} has no pods: its requests {instead}", full(&lane.namespace, &lane.name));
        note(says, &format!("its pods are those with the labels {}", members.join(", ")))
    });
    unready.chain(strays).chain(none).collect()
}
