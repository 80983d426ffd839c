//! Who may connect to a workload.

use std::{fmt, str::FromStr};

use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::{
    BadSpiffeId, Origin, SpiffeId,
    wire::{self, At as _, bad},
};

/// What one policy says. Of those of a workload the most specific comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The policy.
    pub origin: Origin,
    /// Whether it refuses anybody.
    pub mode: AccessMode,
    /// Who is let in: whom any of these admits.
    pub rules: Vec<AccessRule>,
}

/// Whether a policy refuses anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AccessMode {
    /// It refuses whom no policy admits.
    Enforce,
    /// It only tells whom it would refuse.
    Audit,
}

/// Callers that are let in, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessRule {
    /// Each that one of these is about.
    pub from: Vec<Caller>,
    /// The ports; none: all of them.
    pub ports: Vec<u16>,
}

/// One caller, or several. Only [`Caller::Anyone`] is about who has proven no identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Caller {
    /// `*`: everybody.
    Anyone,
    /// `spiffe://TRUST-DOMAIN/*`: every identity of a trust domain.
    Domain(String),
    /// `spiffe://TRUST-DOMAIN/ns/NAMESPACE/*`: every identity of a namespace.
    Namespace(String, String),
    /// A whole SPIFFE id: this identity.
    Is(SpiffeId),
}

impl AccessRule {
    /// Whether it lets `peer` in at `port`; `None` has proven no identity.
    pub fn admits(&self, port: u16, peer: Option<&SpiffeId>) -> bool {
        (self.ports.is_empty() || self.ports.contains(&port))
            && self.from.iter().any(|caller| caller.is(peer))
    }
}

impl Caller {
    /// Whether it is about `peer`.
    pub fn is(&self, peer: Option<&SpiffeId>) -> bool {
        match (self, peer) {
            (Self::Anyone, _) => true,
            (_, None) => false,
            (Self::Domain(domain), Some(peer)) => peer.trust_domain() == domain,
            (Self::Namespace(domain, namespace), Some(peer)) => {
                peer.trust_domain() == domain && peer.namespace() == namespace
            }
            (Self::Is(id), Some(peer)) => id == peer,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("*"),
            Self::Domain(domain) => write!(f, "spiffe://{domain}/*"),
            Self::Namespace(domain, namespace) => write!(f, "spiffe://{domain}/ns/{namespace}/*"),
            Self::Is(id) => f.write_str(id.as_str()),
        }
    }
}

impl FromStr for Caller {
    type Err = BadSpiffeId;

    fn from_str(text: &str) -> Result<Self, BadSpiffeId> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        let Some(most) = text.strip_suffix("/*") else {
            return text.parse().map(Self::Is);
        };
        // A whole id is made of what is there, so that its parts are held to the same form.
        let rest = if most.matches('/').count() == 2 { "/ns/a/sa/a" } else { "/sa/a" };
        let id: SpiffeId = format!("{most}{rest}").parse()?;
        let domain = id.trust_domain().to_owned();
        Ok(match rest {
            "/sa/a" => Self::Namespace(domain, id.namespace().to_owned()),
            _ => Self::Domain(domain),
        })
    }
}

impl Serialize for Caller {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Access {
    pub(super) fn message(&self) -> ours::AccessPolicy {
        let rule = |rule: &AccessRule| ours::AccessRule {
            from: rule.from.iter().map(ToString::to_string).collect(),
            ports: rule.ports.iter().copied().map(u32::from).collect(),
        };
        ours::AccessPolicy {
            origin: wire::origin(&self.origin),
            mode: match self.mode {
                AccessMode::Enforce => ours::AccessMode::Enforce,
                AccessMode::Audit => ours::AccessMode::Audit,
            }
            .into(),
            rules: self.rules.iter().map(rule).collect(),
        }
    }

    pub(super) fn read(message: ours::AccessPolicy) -> wire::Result<Self> {
        let rules = message.rules.into_iter().enumerate();
        Ok(Self {
            origin: wire::read_origin(message.origin),
            mode: match ours::AccessMode::try_from(message.mode) {
                Ok(ours::AccessMode::Enforce) => AccessMode::Enforce,
                Ok(ours::AccessMode::Audit) => AccessMode::Audit,
                Err(_) => {
                    let number = message.mode;
                    return Err(bad(format!("{number} is no mode that this version knows")))
                        .at("mode");
                }
            },
            rules: rules
                .map(|(i, rule)| AccessRule::read(&rule).at_index("rules", i))
                .collect::<wire::Result<_>>()?,
        })
    }
}

impl AccessRule {
    fn read(message: &ours::AccessRule) -> wire::Result<Self> {
        let (from, ports) = (message.from.iter().enumerate(), message.ports.iter().enumerate());
        Ok(Self {
            from: from
                .map(|(i, text)| text.parse().map_err(wire::not_an_id).at_index("from", i))
                .collect::<wire::Result<_>>()?,
            ports: ports
                .map(|(i, port)| wire::read_port(*port).at_index("ports", i))
                .collect::<wire::Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_written_as_they_are_read() {
        for text in
            ["*", "spiffe://a.b/*", "spiffe://a.b/ns/shop/*", "spiffe://a.b/ns/shop/sa/cart"]
        {
            let caller: Caller = text.parse().expect(text);
            assert_eq!(caller.to_string(), text);
        }
        for text in [
            "",
            "/*",
            "**",
            "spiffe://*",
            "spiffe:///*",
            "spiffe://a/ns/*",
            "spiffe://a/ns/b/sa/*",
            "spiffe://a/sa/b/*",
            "spiffe://a/ns/b/c/*",
            "spiffe://a/ns/b/sa/c/*",
            "https://a/*",
        ] {
            assert!(text.parse::<Caller>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_caller_is_who_it_is() {
        let cart: SpiffeId = "spiffe://a/ns/shop/sa/cart".parse().expect("an id");
        for (text, known, stranger) in [
            ("*", true, true),
            ("spiffe://a/*", true, false),
            ("spiffe://b/*", false, false),
            ("spiffe://a/ns/shop/*", true, false),
            ("spiffe://a/ns/sho/*", false, false),
            ("spiffe://b/ns/shop/*", false, false),
            ("spiffe://a/ns/shop/sa/cart", true, false),
            ("spiffe://a/ns/shop/sa/cart2", false, false),
        ] {
            let caller: Caller = text.parse().expect(text);
            assert_eq!((caller.is(Some(&cart)), caller.is(None)), (known, stranger), "{text}");
        }
    }
}
