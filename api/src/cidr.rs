use std::{borrow::Cow, fmt, str::FromStr};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A range of addresses, `10.244.0.0/16` or `fd00:10:244::/56`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

/// Why a text is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadCidr {
    #[error("{0:?} is no address range; write for example 10.0.0.0/8")]
    Form(String),
    #[error("{found} has bits set after its prefix; write {meant}")]
    HostBits { found: IpNet, meant: IpNet },
}

impl Cidr {
    /// The range.
    pub const fn get(self) -> IpNet {
        self.0
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let form = || BadCidr::Form(text.chars().take(60).collect());
        // A bare address parses in some tools and not in others: ask for the prefix.
        let found: IpNet = text.parse().ok().ok_or_else(form)?;
        let mapped = match found {
            IpNet::V4(_) => None,
            IpNet::V6(range) => range.addr().to_ipv4_mapped(),
        };
        if mapped.is_some() {
            return Err(form());
        }
        let meant = found.trunc();
        (found == meant).then_some(Self(found)).ok_or(BadCidr::HostBits { found, meant })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;

    fn try_from(text: String) -> Result<Self, BadCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 43,
            "x-kubernetes-validations": [
                {
                    "rule": "isCIDR(self)",
                    "message": "it is no address range; write for example 10.0.0.0/8",
                },
                {
                    "rule": "!isCIDR(self) || cidr(self) == cidr(self).masked()",
                    "message": "bits are set after its prefix; clear them, as in 10.0.0.0/8",
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for good in ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32", "0.0.0.0/0"] {
            assert_eq!(good.parse::<Cidr>().map(|c| c.to_string()), Ok(good.to_owned()));
        }
        for (bad, reason) in [
            ("10.0.0.1", "\"10.0.0.1\" is no address range; write for example 10.0.0.0/8"),
            ("10.0.0.0/33", "\"10.0.0.0/33\" is no address range; write for example 10.0.0.0/8"),
            (
                "::ffff:10.0.0.0/104",
                "\"::ffff:10.0.0.0/104\" is no address range; write for example 10.0.0.0/8",
            ),
            ("10.1.0.0/8", "10.1.0.0/8 has bits set after its prefix; write 10.0.0.0/8"),
        ] {
            assert_eq!(bad.parse::<Cidr>().expect_err(bad).to_string(), reason);
        }
    }
}
