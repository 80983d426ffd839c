//! HTTPRoute, GRPCRoute, TCPRoute, TLSRoute and ReferenceGrant.
//!
//! Matches and filters are the model's own types: what they may hold is what a proxy can do, and
//! conversion has checked it (a regular expression that is here compiles).

use std::time::Duration;

use tulle_xds::model::{Filter, Match, Redirect};

use super::objects::{Kind, Name, ObjectRef};

/// An HTTPRoute or GRPCRoute; or a TCPRoute or TLSRoute, whose one rule has backends alone and matches every
/// connection, or those whose clients name one of its servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Which of them.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// `metadata.creationTimestamp` as Kubernetes writes it, so that texts order as times do; empty
    /// if it says none.
    pub created: String,
    /// The Services that it is attached to.
    pub parents: Vec<ParentRef>,
    /// Of a TLSRoute, the servers that it is about, each once: `shop.example`, or `*.shop.example`, which is each
    /// name that has labels in place of the asterisk. In lower case. Of the others none.
    pub hostnames: Vec<String>,
    /// Its rules.
    pub rules: Vec<RouteRule>,
}

impl Route {
    /// Kind and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind, name: self.name.clone() }
    }

    /// Whether it is about opaque connections. The others are about requests.
    pub fn is_opaque(&self) -> bool {
        matches!(self.kind, Kind::TcpRoute | Kind::TlsRoute)
    }

    /// Every Service that its rules send requests or copies to.
    pub fn backends(&self) -> impl Iterator<Item = &Name> {
        self.rules.iter().flat_map(|rule| {
            let forward =
                if let RuleAction::Forward(backends) = &rule.action { &backends[..] } else { &[] };
            let backends = forward.iter().filter_map(|backend| backend.to.as_ref());
            let mirrors = rule.mirrors.iter().filter_map(|mirror| mirror.to.as_ref());
            backends.chain(mirrors).map(|(service, _)| service)
        })
    }

    /// The index of the rule with this name.
    pub fn rule_named(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name.as_deref() == Some(name))
    }
}

/// A Service that a route is attached to, or one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentRef {
    /// Index in `spec.parentRefs`.
    pub at: usize,
    /// The Service.
    pub service: Name,
    /// Number of the port; `None` is every port.
    pub port: Option<u16>,
    /// Name of the port; `None` is every port.
    pub section: Option<String>,
}

impl ParentRef {
    /// Whether a port of the Service is meant.
    pub fn covers(&self, number: u16, name: &str) -> bool {
        self.port.is_none_or(|port| port == number)
            && self.section.as_deref().is_none_or(|section| section == name)
    }
}

/// A rule of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteRule {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// One of them must match; never empty.
    pub matches: Vec<Match>,
    /// In the model's order, at most one of each kind.
    pub filters: Vec<Filter>,
    /// What happens to the request.
    pub action: RuleAction,
    /// Where copies go.
    pub mirrors: Vec<MirrorRef>,
    /// Bounds on time.
    pub timeouts: RuleTimeouts,
}

/// What a rule does with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleAction {
    /// It goes to one of these.
    Forward(Vec<BackendRef>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It cannot be done as the rule says, so that every request fails (which has been named).
    Fail,
}

/// Bounds on time as a rule says them: `None` says nothing, zero says "no bound".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleTimeouts {
    /// `timeouts.request`.
    pub request: Option<Duration>,
    /// `timeouts.backendRequest`.
    pub per_try: Option<Duration>,
}

/// A share of a rule's requests.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendRef {
    /// A Service and the number of its port; `None` if it cannot be a backend (which has been
    /// named).
    pub to: Option<(Name, u16)>,
    /// Relative to the others' weights.
    pub weight: u32,
    /// In the model's order.
    pub filters: Vec<Filter>,
}

/// Copies of a rule's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRef {
    /// Index in the rule's `filters`.
    pub at: usize,
    /// As in [`BackendRef`].
    pub to: Option<(Name, u16)>,
    /// Share in millionths.
    pub millionths: u32,
}

/// A ReferenceGrant: who may refer to Services of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Its name.
    pub name: Name,
    /// Routes that may.
    pub from: Vec<Grantee>,
    /// Names of the Services; `None` is all.
    pub to: Vec<Option<String>>,
}

/// Routes that a [`ReferenceGrant`] trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grantee {
    /// Their kind.
    pub kind: Kind,
    /// Their namespace.
    pub namespace: String,
}

impl ReferenceGrant {
    /// Whether routes of this kind and namespace may refer to `service`.
    pub fn allows(&self, kind: Kind, namespace: &str, service: &str) -> bool {
        self.from.iter().any(|from| from.kind == kind && from.namespace == namespace)
            && self.to.iter().any(|to| to.as_deref().is_none_or(|name| name == service))
    }
}
