//! TrafficPolicy.

use std::sync::Arc;

use serde_json::Value;
use tulle_api::{BalancePolicy, LoadBalancing, RetryOn as ApiRetryOn, TargetKind, TargetRef};
use tulle_xds::model::Balance;

use super::{Fault, Kind, Name, metadata::created, typed::read_ours};
use crate::world::{
    objects::{Object, ObjectRef, Settings, TrafficPolicy},
    policy::RetryOn,
};

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let policy: tulle_api::TrafficPolicy = read_ours(value, faults)?;
    let targets = policy.spec.target_refs.iter();
    let targets = targets.filter_map(|target| self::target(name, target)).collect();
    let settings = settings(policy.spec);
    Some(Object::TrafficPolicy(Arc::new(TrafficPolicy {
        name: name.clone(),
        created: created(value),
        targets,
        settings,
    })))
}

fn target(policy: &Name, target: &TargetRef) -> Option<(ObjectRef, Option<String>)> {
    let (kind, namespace) = match target.target_kind()? {
        TargetKind::Service => (Kind::Service, &*policy.namespace),
        TargetKind::HttpRoute => (Kind::HttpRoute, &*policy.namespace),
        TargetKind::GrpcRoute => (Kind::GrpcRoute, &*policy.namespace),
        TargetKind::Namespace => (Kind::Namespace, ""),
    };
    let name = Name::new(namespace, &target.name);
    Some((ObjectRef { kind, name }, target.section_name.clone()))
}

fn settings(spec: tulle_api::TrafficPolicySpec) -> Settings {
    let (retries, ejects) = (spec.retries.is_some(), spec.ejection.is_some());
    let retry = spec.retries.unwrap_or_default();
    let backoff = retry.backoff.unwrap_or_default();
    let budget = retry.budget.unwrap_or_default();
    let timeouts = spec.timeouts.unwrap_or_default();
    let limits = spec.limits.unwrap_or_default();
    let ejection = spec.ejection.unwrap_or_default();
    let time = |duration: tulle_api::Duration| duration.get();
    Settings {
        attempts: retry.attempts,
        retry_on: (!retry.when.is_empty()).then(|| retry_on(&retry.when)),
        per_try_timeout: retry.per_try_timeout.map(time),
        backoff_base: backoff.base.map(time),
        backoff_max: backoff.max.map(time),
        budget_percent: budget.percent,
        budget_min_concurrency: budget.min_concurrency,
        request_timeout: timeouts.request.map(time),
        idle_timeout: timeouts.idle.map(time),
        connections: limits.connections,
        pending: limits.pending,
        requests: limits.requests,
        consecutive_5xx: ejection.consecutive_5xx,
        consecutive_local_failures: ejection.consecutive_local_failures,
        ejection_base_time: ejection.base_time.map(time),
        ejection_max_time: ejection.max_time.map(time),
        ejection_interval: ejection.interval.map(time),
        ejection_max_percent: ejection.max_percent,
        balance: spec.load_balancing.as_ref().and_then(balance),
        ejects: ejects.then_some(()),
        retries: retries.then_some(()),
    }
}

fn retry_on(list: &[ApiRetryOn]) -> RetryOn {
    let mut on =
        RetryOn { statuses: Vec::new(), grpc_statuses: Vec::new(), connect: false, reset: false };
    for item in list {
        match item {
            ApiRetryOn::ServerError => on.statuses.extend(500..600),
            ApiRetryOn::Status(status) => on.statuses.push(*status),
            ApiRetryOn::Connect => on.connect = true,
            ApiRetryOn::Reset => on.reset = true,
            // The others have been refused before.
            ApiRetryOn::Grpc(code) => on.grpc_statuses.push(code.number().into()),
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on.grpc_statuses.sort_unstable();
    on
}

/// `None` only for a number of choices that has been refused before.
fn balance(told: &LoadBalancing) -> Option<Balance> {
    match told.policy {
        BalancePolicy::LeastRequest => Balance::least_request(told.choices.unwrap_or(2)).ok(),
        BalancePolicy::RoundRobin => Some(Balance::RoundRobin),
        BalancePolicy::Random => Some(Balance::Random),
    }
}
