use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A share, `1%`, `0.1%` or `100%`: to a millionth.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u32);

/// Why a text is no [`Percent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share; write a number from 0 to 100 and %, for example 0.1%")]
pub struct BadPercent(String);

const PATTERN: &str = r"^([0-9]{1,2}([.][0-9]{1,4})?|100([.]0{1,4})?)%$";
/// Millionths of a percent point.
const POINT: u32 = 10_000;

impl Percent {
    /// So many of a million.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// The share that this many of a million are, of which more than all are all.
    pub fn of_ppm(ppm: u32) -> Self {
        Self(ppm.min(100 * POINT))
    }
}

impl FromStr for Percent {
    type Err = BadPercent;

    fn from_str(text: &str) -> Result<Self, BadPercent> {
        let read = || {
            let number = text.strip_suffix('%')?;
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str, most| {
                (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
            };
            let fits = digits(whole, 3) && digits(part, 4);
            let (whole, part): (u32, u32) =
                (whole.parse().ok().filter(|_| fits)?, format!("{part:0<4}").parse().ok()?);
            Some(Self(whole * POINT + part)).filter(|percent| percent.0 <= 100 * POINT)
        };
        read().ok_or_else(|| BadPercent(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / POINT, format!("{:04}", self.0 % POINT));
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Percent {
    type Error = BadPercent;

    fn try_from(text: String) -> Result<Self, BadPercent> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 9,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{PATTERN}')"),
                "message": "it is no share; write a number from 0 to 100 and %, for example 0.1%",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_shown() {
        for (text, ppm, shown) in [
            ("1%", 10_000, "1%"),
            ("0.1%", 1000, "0.1%"),
            ("100%", 1_000_000, "100%"),
            ("100.0%", 1_000_000, "100%"),
            ("0%", 0, "0%"),
            ("12.3456%", 123_456, "12.3456%"),
            ("05.50%", 55_000, "5.5%"),
        ] {
            let percent: Percent = text.parse().expect(text);
            assert_eq!((percent.ppm(), percent.to_string().as_str()), (ppm, shown), "{text}");
        }
        for text in
            ["", "%", "1", "0.01", "101%", "100.1%", "-1%", ".5%", "1.%", "1.00001%", "1 %", "1e1%"]
        {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
