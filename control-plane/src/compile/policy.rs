//! TrafficPolicies merged, field by field: a route's rule before the route, before the Service's
//! port, before the Service, before the Namespace.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tulle_xds::model::{Ejection, Limits, Retry, RetryBudget, Timeouts};

use super::settled::Settled;
use crate::world::{
    World,
    objects::{
        Kind, Name, ObjectRef, Route, RuleTimeouts, Service, ServicePort, Settings, TrafficPolicy,
    },
    policy::RetryOn,
};

/// The defaults that the texts of TrafficPolicy promise.
const ATTEMPTS: u32 = 2;
const BASE_BACKOFF: Duration = Duration::from_millis(25);
const CONSECUTIVE_5XX: u32 = 5;
const CONSECUTIVE_LOCAL_FAILURES: u32 = 5;
const EJECTION_BASE: Duration = Duration::from_secs(30);
const EJECTION_MAX: Duration = Duration::from_secs(300);
const EJECTION_INTERVAL: Duration = Duration::from_secs(10);
const EJECTION_PERCENT: u32 = 10;

/// What the policies say of a Service's port.
pub(super) fn of_port(world: &World, service: &Service, port: &ServicePort) -> Settled {
    of_port_alone(world, service, port).over(&of_namespace(world, &service.name.namespace))
}

/// What they say of it in particular, and not of all in its Namespace.
pub(super) fn of_port_alone(world: &World, service: &Service, port: &ServicePort) -> Settled {
    let object = ObjectRef { kind: Kind::Service, name: service.name.clone() };
    merged([world.policies_of(&object, Some(&port.name)), world.policies_of(&object, None)])
}

/// What they say of all in a Namespace.
pub(super) fn of_namespace(world: &World, namespace: &str) -> Settled {
    let object = ObjectRef { kind: Kind::Namespace, name: Name::new("", namespace) };
    merged([world.policies_of(&object, None)])
}

/// What the policies say of a rule of a route in particular.
pub(super) fn of_rule(world: &World, route: &Route, rule: Option<&str>) -> Settled {
    let object = route.reference();
    let rule = rule.map(|rule| world.policies_of(&object, Some(rule))).unwrap_or_default();
    merged([rule, world.policies_of(&object, None)])
}

/// The most specific first; within a level the one that counts first.
fn merged<const N: usize>(levels: [Vec<&Arc<TrafficPolicy>>; N]) -> Settled {
    let policies = levels.into_iter().flatten();
    policies.fold(Settled::default(), |settled, policy| settled.over(&Settled::of(policy)))
}

/// Bounds on time; what the route itself says comes before any policy.
pub(super) fn timeouts(settings: &Settings, route: RuleTimeouts) -> Timeouts {
    Timeouts {
        request: bound(route.request.or(settings.request_timeout)),
        per_try: bound(route.per_try.or(settings.per_try_timeout)),
        idle: idle(settings),
    }
}

/// How long nothing may be carried.
pub(super) fn idle(settings: &Settings) -> Option<Duration> {
    bound(settings.idle_timeout)
}

/// Zero switches off what a less specific level asks for.
fn bound(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

/// Retries, if any policy asks for them.
pub(super) fn retry(settings: &Settings) -> Option<Retry> {
    settings.retries?;
    let attempts = settings.attempts.unwrap_or(ATTEMPTS);
    let base_backoff = settings.backoff_base.unwrap_or(BASE_BACKOFF);
    let max_backoff = settings.backoff_max.unwrap_or_else(|| base_backoff.saturating_mul(10));
    let all = RetryOn {
        statuses: (500..600).collect(),
        grpc_statuses: Vec::new(),
        connect: true,
        reset: true,
    };
    let on = settings.retry_on.clone().unwrap_or(all);
    let statuses = on.statuses.into_iter().filter_map(|status| StatusCode::from_u16(status).ok());
    (attempts > 0).then(|| Retry {
        attempts,
        statuses: statuses.collect(),
        grpc_statuses: on.grpc_statuses,
        on_connect: on.connect,
        on_reset: on.reset,
        base_backoff,
        // Base and maximum may come from different policies.
        max_backoff: max_backoff.max(base_backoff),
    })
}

/// Bounds on what one caller has open.
pub(super) fn limits(settings: &Settings) -> Limits {
    let default = RetryBudget::default();
    Limits {
        connections: settings.connections,
        pending: settings.pending,
        requests: settings.requests,
        retry_budget: RetryBudget {
            percent: settings.budget_percent.map_or(default.percent, f64::from),
            min_concurrency: settings.budget_min_concurrency.unwrap_or(default.min_concurrency),
        },
    }
}

/// Removal of endpoints that fail, if any policy asks for it.
pub(super) fn ejection(settings: &Settings) -> Option<Ejection> {
    settings.ejects?;
    let count = |told: Option<u32>, default| Some(told.unwrap_or(default)).filter(|n| *n > 0);
    let base_time = settings.ejection_base_time.unwrap_or(EJECTION_BASE);
    Some(Ejection {
        consecutive_5xx: count(settings.consecutive_5xx, CONSECUTIVE_5XX),
        consecutive_local_failures: count(
            settings.consecutive_local_failures,
            CONSECUTIVE_LOCAL_FAILURES,
        ),
        base_time,
        max_time: settings.ejection_max_time.unwrap_or(EJECTION_MAX).max(base_time),
        interval: settings.ejection_interval.unwrap_or(EJECTION_INTERVAL),
        max_percent: settings.ejection_max_percent.unwrap_or(EJECTION_PERCENT),
    })
}
