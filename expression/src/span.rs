//! CEL's durations, in nanoseconds.

const UNITS: [(&str, f64); 6] =
    [("h", 3.6e12), ("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("m", 6e10), ("s", 1e9)];
/// About 290 years, which is what 64 bits hold.
const MOST: f64 = 9.2e18;

/// Reads `1h30m`, `1.5s`, `200ms`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut nanos = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = rest.strip_suffix(after)?.parse().ok()?;
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        nanos += number * scale;
        rest = after.strip_prefix(unit)?;
    }
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is refused")]
    (nanos < MOST).then_some((sign * nanos).round() as i64)
}

/// In seconds, `1.5s`.
pub(crate) fn show(nanos: i64) -> String {
    let (whole, rest) =
        (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}s"),
        digits => format!("{sign}{whole}.{digits}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, nanos, shown) in [
            ("1s", 1_000_000_000, "1s"),
            ("200ms", 200_000_000, "0.2s"),
            ("1h30m", 5_400_000_000_000, "5400s"),
            ("-1.5s", -1_500_000_000, "-1.5s"),
            ("3us", 3_000, "0.000003s"),
            ("0s", 0, "0s"),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
            assert_eq!(show(nanos), shown);
        }
        for text in ["", "-", "1", "s", "1 s", "1d", "1..2s", "9999999999h", "1s-", "NaNs"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
