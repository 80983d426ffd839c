use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration as Gateway API writes it: `10s`, `1h30m`, `500ms` (GEP-2257).
///
/// One to four parts, each of one to five digits and `h`, `m`, `s` or `ms`. No sign, no fraction,
/// nothing below a millisecond. <https://gateway-api.sigs.k8s.io/geps/gep-2257/>
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(time::Duration);

/// Why a text is no [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration: {reason}")]
pub struct BadDuration {
    /// The text, shortened if it is long.
    pub text: String,
    /// What is wrong, and what would be right.
    pub reason: &'static str,
}

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const MAX_PARTS: usize = 4;
const MAX_DIGITS: usize = 5;
pub(crate) const PATTERN: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";

impl Duration {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }

    /// The same for the standard library.
    pub const fn get(self) -> time::Duration {
        self.0
    }

    /// Whether it is `0s`; for timeouts that means none.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Duration {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let bad = |reason| BadDuration { text: text.chars().take(40).collect(), reason };
        let mut rest = text;
        let mut millis = 0;
        let mut parts = 0;
        while !rest.is_empty() {
            let (part, after) = part(rest).map_err(bad)?;
            millis += part;
            rest = after;
            parts += 1;
        }
        match parts {
            0 => Err(bad("it is empty; write for example 10s")),
            1..=MAX_PARTS => Ok(Self::from_millis(millis)),
            _ => Err(bad("it has more than four parts; write for example 1h30m10s500ms")),
        }
    }
}

/// The milliseconds of the first part, `15s`, and what follows it.
fn part(text: &str) -> Result<(u64, &str), &'static str> {
    let after_digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(after_digits).unwrap_or(text);
    let after_unit = after_digits.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let unit = after_digits.strip_suffix(after_unit).unwrap_or(after_digits);
    if digits.is_empty() {
        return Err(match text.chars().next() {
            Some('-' | '+') => "it must have no sign",
            Some('.' | ',') => "it must have no fraction; write 1500ms for 1.5s",
            _ => "a number must come before each unit; write for example 10s",
        });
    }
    if digits.len() > MAX_DIGITS {
        return Err("a part has more than five digits; use a larger unit");
    }
    if unit.is_empty() {
        return Err(match after_unit.chars().next() {
            Some('.' | ',') => "it must have no fraction; write 1500ms for 1.5s",
            _ => "the unit is missing; write h, m, s or ms after the number, for example 10s",
        });
    }
    let (_, scale) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or("the units are h, m, s and ms; write for example 10s")?;
    let number: u64 = digits.parse().ok().ok_or("a part is no number")?;
    Ok((number * scale, after_unit))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in UNITS {
            let scale = u128::from(scale);
            if millis >= scale {
                write!(f, "{}{unit}", millis / scale)?;
                millis %= scale;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Duration {
    type Error = BadDuration;

    fn try_from(text: String) -> Result<Self, BadDuration> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 28, "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_duration() {
        for (text, millis) in [
            ("0s", 0),
            ("10s", 10_000),
            ("500ms", 500),
            ("1h30m10s500ms", 5_410_500),
            ("5m", 300_000),
            ("1s1s", 2_000),
            ("99999h", 359_996_400_000),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_none_and_why() {
        for (text, reason) in [
            ("", "it is empty"),
            ("10", "the unit is missing"),
            ("s", "a number must come before"),
            ("-1s", "no sign"),
            ("1.5s", "no fraction"),
            (".5s", "no fraction"),
            ("10d", "the units are"),
            ("10S", "the units are"),
            ("1µs", "the unit is missing"),
            ("100000ms", "five digits"),
            ("1h1m1s1ms1ms", "four parts"),
            ("10s ", "a number must come before"),
        ] {
            let error = text.parse::<Duration>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(millis in 0_u64..359_996_400_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            drop(text.parse::<Duration>());
        }
    }
}
