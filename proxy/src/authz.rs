//! May this caller connect? Pure: what policies say, and who asks.
//!
//! **Invariants.** Nothing is said: everybody may. Once a policy is enforced, only whom a rule of an
//! enforced one admits may. A policy that is only audited never changes what becomes of anybody.

use tulle_xds::model::{Access, AccessMode, Origin, SpiffeId};

/// What policies say of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It may connect.
    Admitted,
    /// It may; but this policy would refuse it, if it were enforced.
    Audited(&'a Origin),
    /// It may not, because of this policy.
    Refused(&'a Origin),
}

/// Whether `peer` may connect to `port`; `None` has proven no identity.
///
/// Of several policies that all admit nobody, the first one is named: the most specific.
pub fn check<'a>(policies: &'a [Access], port: u16, peer: Option<&SpiffeId>) -> Verdict<'a> {
    let admits = |policy: &Access| policy.rules.iter().any(|rule| rule.admits(port, peer));
    let of = |mode| policies.iter().filter(move |policy| policy.mode == mode);
    match of(AccessMode::Enforce).next() {
        Some(first) if !of(AccessMode::Enforce).any(admits) => {
            return Verdict::Refused(&first.origin);
        }
        _ => {}
    }
    // As if all were enforced.
    match of(AccessMode::Audit).next() {
        Some(first) if !policies.iter().any(admits) => Verdict::Audited(&first.origin),
        _ => Verdict::Admitted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tulle_xds::model::AccessRule;

    use super::*;

    const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
    const FAR: &str = "spiffe://example.org/ns/shop/sa/cart";

    /// Callers and ports.
    type Rule<'a> = (&'a [&'a str], &'a [u16]);
    /// Policies, who connects where, and what is said of it.
    type Row = (Vec<Access>, u16, Option<&'static str>, &'static str);

    fn policy(name: &str, mode: AccessMode, rules: &[Rule<'_>]) -> Access {
        let rule = |(from, ports): &Rule<'_>| AccessRule {
            from: from.iter().map(|caller| caller.parse().unwrap()).collect(),
            ports: ports.to_vec(),
        };
        let origin = Origin { name: name.to_owned(), ..Origin::default() };
        Access { origin, mode, rules: rules.iter().map(rule).collect() }
    }

    fn said(policies: &[Access], port: u16, peer: Option<&str>) -> String {
        let peer = peer.map(|peer| peer.parse().unwrap());
        match check(policies, port, peer.as_ref()) {
            Verdict::Admitted => "admitted".to_owned(),
            Verdict::Audited(origin) => format!("audited {}", origin.name),
            Verdict::Refused(origin) => format!("refused {}", origin.name),
        }
    }

    #[test]
    fn who_may_connect() {
        use AccessMode::{Audit, Enforce};
        let shop = "spiffe://cluster.local/ns/shop/*";
        let mesh = "spiffe://cluster.local/*";
        let nobody = || policy("none", Enforce, &[]);
        let cart = || policy("cart", Enforce, &[(&[CART], &[80])]);
        let table: [Row; 20] = [
            // No policy.
            (vec![], 80, None, "admitted"),
            // Denied by default.
            (vec![nobody()], 80, Some(CART), "refused none"),
            (vec![nobody()], 80, None, "refused none"),
            // A rule opens its port to its callers, and no other port, and to nobody else.
            (vec![cart()], 80, Some(CART), "admitted"),
            (vec![cart()], 81, Some(CART), "refused cart"),
            (vec![cart()], 80, Some(WEB), "refused cart"),
            (vec![cart()], 80, Some(FAR), "refused cart"),
            (vec![cart()], 80, None, "refused cart"),
            // Any policy's rule lets in; the first policy is named.
            (vec![cart(), nobody()], 80, Some(CART), "admitted"),
            (vec![cart(), nobody()], 80, Some(WEB), "refused cart"),
            // Namespaces and trust domains.
            (vec![policy("a", Enforce, &[(&[shop], &[])])], 1, Some(WEB), "admitted"),
            (vec![policy("a", Enforce, &[(&[shop], &[])])], 1, Some(FAR), "refused a"),
            (vec![policy("a", Enforce, &[(&[mesh], &[])])], 1, Some(WEB), "admitted"),
            (vec![policy("a", Enforce, &[(&[mesh], &[])])], 1, None, "refused a"),
            (vec![policy("a", Enforce, &[(&["*"], &[1])])], 1, None, "admitted"),
            // Audit tells, and refuses nobody.
            (vec![policy("a", Audit, &[])], 80, Some(WEB), "audited a"),
            (vec![policy("a", Audit, &[(&[WEB], &[])])], 80, Some(WEB), "admitted"),
            // It counts together with what is enforced, as it would then.
            (vec![policy("a", Audit, &[]), cart()], 80, Some(CART), "admitted"),
            (vec![policy("a", Audit, &[(&[WEB], &[])]), cart()], 80, Some(WEB), "refused cart"),
            // What it admits opens nothing.
            (vec![policy("a", Audit, &[(&["*"], &[])]), nobody()], 80, None, "refused none"),
        ];
        for (at, (policies, port, peer, expected)) in table.into_iter().enumerate() {
            assert_eq!(said(&policies, port, peer), expected, "row {at}");
        }
    }

    fn policies() -> impl Strategy<Value = Vec<Access>> {
        let callers =
            ["*", "spiffe://cluster.local/*", "spiffe://cluster.local/ns/shop/*", CART, FAR];
        let from = prop::collection::vec(prop::sample::select(callers.to_vec()), 0..3);
        let ports = prop::collection::vec(80_u16..83, 0..3);
        let rule = (from, ports).prop_map(|(from, ports)| AccessRule {
            from: from.iter().map(|caller| caller.parse().unwrap()).collect(),
            ports,
        });
        let mode = prop::sample::select(&[AccessMode::Enforce, AccessMode::Audit][..]);
        let one = (mode, prop::collection::vec(rule, 0..3));
        prop::collection::vec(one, 0..4).prop_map(|all| {
            let named = |(at, (mode, rules)): (usize, _)| Access {
                origin: Origin { name: at.to_string(), ..Origin::default() },
                mode,
                rules,
            };
            all.into_iter().enumerate().map(named).collect()
        })
    }

    fn peers() -> impl Strategy<Value = Option<SpiffeId>> {
        let all = [None, Some(CART), Some(WEB), Some(FAR)];
        prop::sample::select(all.to_vec()).prop_map(|peer| peer.map(|peer| peer.parse().unwrap()))
    }

    fn only(policies: &[Access], mode: AccessMode) -> Vec<Access> {
        policies.iter().filter(|policy| policy.mode == mode).cloned().collect()
    }

    proptest! {
        #[test]
        fn auditing_changes_nobodys_fate(all in policies(), port in 80_u16..84, peer in peers()) {
            let refused = |of: &[Access]| matches!(check(of, port, peer.as_ref()), Verdict::Refused(_));
            prop_assert_eq!(refused(&all), refused(&only(&all, AccessMode::Enforce)));
        }

        #[test]
        fn auditing_tells_what_enforcing_would_do(all in policies(), port in 80_u16..84, peer in peers()) {
            let enforced: Vec<_> = all
                .iter()
                .map(|policy| Access { mode: AccessMode::Enforce, ..policy.clone() })
                .collect();
            let would = matches!(check(&enforced, port, peer.as_ref()), Verdict::Refused(_));
            match check(&all, port, peer.as_ref()) {
                Verdict::Audited(_) => prop_assert!(would),
                Verdict::Admitted => prop_assert!(!would),
                // An audited policy may have been the one to let it in.
                Verdict::Refused(_) => {}
            }
        }

        #[test]
        fn a_rule_more_refuses_nobody_more(
            all in policies(), port in 80_u16..84, peer in peers(), at in 0_usize..4,
        ) {
            prop_assume!(at < all.len());
            let refused = |of: &[Access]| matches!(check(of, port, peer.as_ref()), Verdict::Refused(_));
            let mut more = all.clone();
            more[at].rules.push(AccessRule { from: vec!["*".parse().unwrap()], ports: vec![] });
            prop_assert!(!refused(&more) || refused(&all));
        }
    }
}
