//! TrafficPolicy.

use std::time::Duration;

use tulle_xds::model::Balance;

use super::objects::{Name, ObjectRef};

/// A TrafficPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficPolicy {
    /// Its name.
    pub name: Name,
    /// As in [`Route`](super::objects::Route).
    pub created: String,
    /// What it is attached to, and the section of it: a port's or a rule's name.
    pub targets: Vec<(ObjectRef, Option<String>)>,
    /// What it says.
    pub settings: Settings,
}

/// What policies say, field by field; `None` says nothing. Zero durations say "no bound".
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of TrafficPolicy of that name")]
pub struct Settings {
    pub attempts: Option<u32>,
    pub retry_on: Option<RetryOn>,
    pub per_try_timeout: Option<Duration>,
    pub backoff_base: Option<Duration>,
    pub backoff_max: Option<Duration>,
    pub budget_percent: Option<u32>,
    pub budget_min_concurrency: Option<u32>,
    pub request_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub connections: Option<u32>,
    pub pending: Option<u32>,
    pub requests: Option<u32>,
    pub consecutive_5xx: Option<u32>,
    pub consecutive_local_failures: Option<u32>,
    pub ejection_base_time: Option<Duration>,
    pub ejection_max_time: Option<Duration>,
    pub ejection_interval: Option<Duration>,
    pub ejection_max_percent: Option<u32>,
    pub balance: Option<Balance>,
    /// There is an `ejection`, be it empty.
    pub ejects: Option<()>,
    /// There are `retries`, be they empty.
    pub retries: Option<()>,
}

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// Statuses.
    pub statuses: Vec<u16>,
    /// gRPC statuses that the model can say, ascending.
    pub grpc_statuses: Vec<u32>,
    /// What could not connect.
    pub connect: bool,
    /// Resets, and tries that take too long.
    pub reset: bool,
}

/// One list of fields for everything that goes through all of them.
macro_rules! fields {
    ($apply:ident) => {
        $apply! {
            attempts "spec.retries.attempts" Rule,
            retry_on "spec.retries.when" Rule,
            per_try_timeout "spec.retries.perTryTimeout" Rule,
            backoff_base "spec.retries.backoff.base" Rule,
            backoff_max "spec.retries.backoff.max" Rule,
            request_timeout "spec.timeouts.request" Rule,
            idle_timeout "spec.timeouts.idle" Rule,
            budget_percent "spec.retries.budget.percent" Cluster,
            budget_min_concurrency "spec.retries.budget.minConcurrency" Cluster,
            connections "spec.limits.connections" Cluster,
            pending "spec.limits.pending" Cluster,
            requests "spec.limits.requests" Cluster,
            consecutive_5xx "spec.ejection.consecutive5xx" Cluster,
            consecutive_local_failures "spec.ejection.consecutiveLocalFailures" Cluster,
            ejection_base_time "spec.ejection.baseTime" Cluster,
            ejection_max_time "spec.ejection.maxTime" Cluster,
            ejection_interval "spec.ejection.interval" Cluster,
            ejection_max_percent "spec.ejection.maxPercent" Cluster,
            ejects "spec.ejection" Presence,
            retries "spec.retries" Presence,
            balance "spec.loadBalancing" Cluster,
        }
    };
}

/// What a setting is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Single requests: it can differ from rule to rule.
    Rule,
    /// All requests to a cluster together.
    Cluster,
    /// Nothing of its own: other settings count because of it.
    Presence,
}

impl Settings {
    /// What `self` says, and where it says nothing, what `less` says.
    #[must_use]
    pub fn over(self, less: &Self) -> Self {
        macro_rules! merge {
            ($($field:ident $path:literal $scope:ident,)*) => {
                Self { $($field: self.$field.or_else(|| less.$field.clone()),)* }
            };
        }
        fields!(merge)
    }

    /// The same without the fields that are not wanted.
    #[must_use]
    pub fn only(self, wanted: impl Fn(&str) -> bool) -> Self {
        macro_rules! only {
            ($($field:ident $path:literal $scope:ident,)*) => {
                Self { $($field: self.$field.filter(|_| wanted($path)),)* }
            };
        }
        fields!(only)
    }

    /// The fields of which `other` says something else; what one of them is silent about is none.
    pub fn contradicted(&self, other: &Self) -> Vec<&'static str> {
        macro_rules! contradicted {
            ($($field:ident $path:literal $scope:ident,)*) => {
                [$((self.$field.is_some() && other.$field.is_some() && self.$field != other.$field, $path),)*]
            };
        }
        let all = fields!(contradicted);
        all.into_iter().filter(|(differs, _)| *differs).map(|(_, path)| path).collect()
    }

    /// Whether it says something about all requests to a cluster together.
    pub fn is_about_clusters(&self) -> bool {
        self.ejects.is_some() || self.said().iter().any(|(_, scope)| *scope == Scope::Cluster)
    }

    /// The fields about which it says something, with what they are about.
    pub fn said(&self) -> Vec<(&'static str, Scope)> {
        macro_rules! said {
            ($($field:ident $path:literal $scope:ident,)*) => {
                [$((self.$field.is_some(), $path, Scope::$scope),)*]
            };
        }
        let all = fields!(said);
        all.into_iter().filter(|(said, ..)| *said).map(|(_, path, scope)| (path, scope)).collect()
    }
}
