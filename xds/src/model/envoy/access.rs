//! Who may connect, for stock Envoy: its filter for role-based access, and its shadow rules for what
//! is only audited.
//!
//! Envoy asks one list of policies about every connection, in which a name is the key; two of them
//! would be in no fixed order. So each chain of filters, which is about one port, gets the one list of
//! callers that are let in there.

use envoy_types::pb::envoy::{
    config::{
        listener::v3 as pb,
        rbac::v3::{Permission, Policy, Principal, Rbac, permission, principal, rbac::Action},
    },
    extensions::filters::network::rbac::v3::Rbac as Filter,
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};

use super::http;
use crate::model::{Access, AccessMode, Caller};

/// The filter for connections to `port` (`None`: any that no policy lists); `None` if nothing is said.
pub(super) fn filter(policies: &[Access], port: Option<u16>) -> Option<pb::Filter> {
    let admitted = |policies: &[&Access]| {
        let rules = policies.iter().flat_map(|policy| &policy.rules);
        let here = rules.filter(|rule| {
            rule.ports.is_empty() || port.is_some_and(|port| rule.ports.contains(&port))
        });
        rules_of(here.flat_map(|rule| &rule.from).collect())
    };
    let enforced: Vec<_> = policies.iter().filter(|p| p.mode == AccessMode::Enforce).collect();
    let all: Vec<_> = policies.iter().collect();
    let filter = Filter {
        stat_prefix: "access".to_owned(),
        rules: (!enforced.is_empty()).then(|| admitted(&enforced)),
        shadow_rules: (all.len() > enforced.len()).then(|| admitted(&all)),
        ..Filter::default()
    };
    let said = filter.rules.is_some() || filter.shadow_rules.is_some();
    said.then(|| http::filter("rbac", &filter))
}

/// Ports for which [`filter`] is not what it is for others.
pub(super) fn ports(policies: &[Access]) -> impl Iterator<Item = u16> {
    policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| rule.ports.iter().copied())
}

/// Whoever is none of these is refused.
fn rules_of(callers: Vec<&Caller>) -> Rbac {
    let policy = Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: callers.into_iter().map(principal).collect(),
        ..Policy::default()
    };
    // Without principals Envoy takes no policy; without policies it lets nobody in.
    let policies = [("access".to_owned(), policy)].into_iter();
    Rbac {
        action: Action::Allow.into(),
        policies: policies.filter(|(_, policy)| !policy.principals.is_empty()).collect(),
        ..Rbac::default()
    }
}

fn principal(caller: &Caller) -> Principal {
    let name = match caller {
        Caller::Anyone => return Principal { identifier: Some(principal::Identifier::Any(true)) },
        Caller::Is(id) => MatchPattern::Exact(id.as_str().to_owned()),
        // All up to the star.
        Caller::Domain(_) | Caller::Namespace(..) => {
            MatchPattern::Prefix(caller.to_string().trim_end_matches('*').to_owned())
        }
    };
    let name = StringMatcher { match_pattern: Some(name), ..StringMatcher::default() };
    let authenticated = principal::Authenticated { principal_name: Some(name) };
    Principal { identifier: Some(principal::Identifier::Authenticated(authenticated)) }
}
