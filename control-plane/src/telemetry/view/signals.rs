//! The golden signals of some requests and connections.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::telemetry::{Row, Security, Totals};

/// Requests, how they ended, how long they took; and opaque connections. Rates are per second. What there is nothing to say
/// of is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signals {
    /// Requests that ended.
    pub requests: u64,
    /// Of these, the ones that ended badly: not by their caller's fault, nor its policy's.
    pub bad: u64,
    /// Requests per second.
    pub rps: f64,
    /// Percent of requests that did not end badly; where there are none, of connections that no proxy ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<f64>,
    /// Seconds within which half of all requests ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 95 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Attempts at endpoints for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<f64>,
    /// Opaque connections that were opened, per second.
    pub connections: f64,
    /// Bytes per second of opaque connections that ended, from clients and to them.
    pub received: f64,
    /// To clients.
    pub sent: f64,
    /// Percent of requests and connections that came or went by mTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<f64>,
    /// What did not end well, the most frequent first; also what was the caller's fault.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub bad_by: Vec<BadBy>,
    /// What policy forbade, or would have.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub denied_by: Vec<DeniedBy>,
}

/// A way in which requests did not end well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BadBy {
    /// The proxy's reason, or the status.
    pub reason: String,
    /// How many.
    pub requests: u64,
}

/// A policy that forbade something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeniedBy {
    /// KIND/NAMESPACE/NAME.
    pub policy: String,
    /// It would have, were it not only audited.
    pub audit: bool,
    /// How many.
    pub requests: u64,
}

/// What is added up to be shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum<'a> {
    /// Mostly there is one row, which need not be copied.
    totals: Option<Cow<'a, Totals>>,
    rates: Rates,
    /// Requests and connections by mTLS, and all whose security is known.
    mtls: (u64, u64),
}

/// Per second. Rows may be of windows that are not equally long.
#[derive(Debug, Clone, Default)]
struct Rates {
    requests: f64,
    connections: f64,
    received: f64,
    sent: f64,
}

impl<'a> Sum<'a> {
    pub(super) fn add(&mut self, row: &'a Row) {
        let per_second = |count: u64| float(count) / f64::from(row.covers.max(1));
        for totals in &row.points {
            let (requests, flow) = (totals.requested(), &totals.flow);
            self.rates.requests += per_second(requests);
            self.rates.connections += per_second(flow.opened);
            self.rates.received += per_second(flow.received);
            self.rates.sent += per_second(flow.sent);
            let all = requests.saturating_add(flow.opened);
            let (by_mtls, known) = &mut self.mtls;
            if row.edge.security != Security::Unknown {
                *known = known.saturating_add(all);
            }
            if row.edge.security == Security::Mtls {
                *by_mtls = by_mtls.saturating_add(all);
            }
            match &mut self.totals {
                Some(sum) => sum.to_mut().merge(totals),
                none => *none = Some(Cow::Borrowed(totals)),
            }
        }
    }

    pub(super) fn signals(&self) -> Signals {
        let Self { totals, rates, mtls } = self;
        let nothing = Totals::default();
        let totals = totals.as_deref().unwrap_or(&nothing);
        let (requests, bad) = (totals.requested(), totals.bad());
        let took = |part| totals.took.histogram.quantile(part);
        let flow = &totals.flow;
        let (ended, well) = match requests {
            0 => (flow.closed, flow.closed.saturating_sub(flow.failed)),
            _ => (requests, requests.saturating_sub(bad)),
        };
        Signals {
            requests,
            bad,
            rps: rates.requests,
            ok: percent(well, ended),
            p50: took(0.5),
            p95: took(0.95),
            p99: took(0.99),
            attempts: (requests > 0 && totals.tried() > 0)
                .then(|| float(totals.tried()) / float(requests)),
            connections: rates.connections,
            received: rates.received,
            sent: rates.sent,
            mtls: percent(mtls.0, mtls.1),
            bad_by: bad_by(totals),
            denied_by: denied_by(totals),
        }
    }
}

fn bad_by(totals: &Totals) -> Vec<BadBy> {
    let mut by: BTreeMap<String, u64> = BTreeMap::new();
    for (outcome, times) in &totals.requests {
        if outcome.is_bad() || !outcome.error.is_empty() {
            let sum = by.entry(outcome.word()).or_default();
            *sum = sum.saturating_add(*times);
        }
    }
    let mut all: Vec<_> =
        by.into_iter().map(|(reason, requests)| BadBy { reason, requests }).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.requests));
    all
}

fn denied_by(totals: &Totals) -> Vec<DeniedBy> {
    let mut by: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for (denial, times) in &totals.denials {
        let sum = by.entry((denial.policy.as_str(), denial.audit)).or_default();
        *sum = sum.saturating_add(*times);
    }
    let one = |((policy, audit), requests): ((&str, bool), u64)| DeniedBy {
        policy: policy.to_owned(),
        audit,
        requests,
    };
    by.into_iter().map(one).collect()
}

fn percent(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| 100.0 * float(part) / float(of))
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with a few digits")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
