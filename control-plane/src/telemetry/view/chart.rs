//! How a workload did over time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{
    signals::float,
    stat::{Inbound, Tellers},
};
use crate::telemetry::{Totals, query::Answer};

/// Buckets of durations for each doubling, as a power of two: as many as can be told apart on a screen.
const SCALE: i8 = 1;

/// Golden signals over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// When the first point begins, in seconds since 1970.
    pub begin: f64,
    /// Seconds of a point.
    pub step: u32,
    /// The oldest first. Nothing is known of a time when the control plane was not there, or that it has forgotten.
    pub points: Vec<Option<Point>>,
    /// Replicas of the control plane that did not say what they know: it is missing.
    pub unheard: Vec<String>,
    /// Something was forgotten before its time, for want of memory.
    pub shortened: bool,
}

/// What happened within a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Requests per second.
    pub rps: f64,
    /// Those of them that ended badly.
    pub bad: f64,
    /// Seconds within which half of the requests ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 95 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Requests by how long they took: up to so many seconds, and how many.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub heat: Vec<(f64, u64)>,
    /// Not all replicas of the control plane were there then: what proxies told one that is gone is missing.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub partial: bool,
}

/// What was asked of the workloads that the answer is of, in steps of so many seconds up to `now`.
pub fn chart(answer: &Answer, (points, step): (u32, u32), now: SystemTime) -> Chart {
    let inbound = Inbound::of(answer);
    let tellers = Tellers::of(answer);
    let mut sums = vec![Totals::default(); points as usize];
    // What nothing was heard of is empty, as far back as anybody has listened.
    let since = u32::try_from(answer.known.since.as_secs()).unwrap_or(u32::MAX);
    let mut covers = None;
    for (workload, pods) in &answer.workloads {
        for row in inbound.rows(workload, tellers.tell(workload, pods)) {
            covers = covers.max(Some(row.covers));
            sums.iter_mut().zip(&row.points).for_each(|(sum, point)| sum.merge(point));
        }
    }
    let known = covers.unwrap_or(since) / step;
    let unknown = points.saturating_sub(known) as usize;
    let whole = answer.known.whole.as_secs() / u64::from(step);
    let partial = (points as usize).saturating_sub(usize::try_from(whole).unwrap_or(usize::MAX));
    let point = |(at, totals): (usize, Totals)| {
        (at >= unknown).then(|| Point { partial: at < partial, ..Point::of(&totals, step) })
    };
    let begin = now - Duration::from_secs(u64::from(points) * u64::from(step));
    Chart {
        begin: begin.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        step,
        points: sums.into_iter().enumerate().map(point).collect(),
        unheard: answer.unheard.clone(),
        shortened: answer.known.shortened,
    }
}

impl Point {
    fn of(totals: &Totals, step: u32) -> Self {
        let rate = |count: u64| float(count) / f64::from(step);
        let took = |part| totals.took.histogram.quantile(part);
        let mut coarse = totals.took.histogram.clone();
        coarse.coarsen(SCALE);
        let each = f64::from(coarse.scale()).exp2();
        let bound = |bucket: i16| ((f64::from(bucket) + 1.0) / each).exp2();
        let heat = coarse.buckets().iter().map(|(bucket, times)| (bound(*bucket), *times));
        Self {
            rps: rate(totals.requested()),
            bad: rate(totals.bad()),
            p50: took(0.5),
            p95: took(0.95),
            p99: took(0.99),
            heat: heat.collect(),
            partial: false,
        }
    }
}
