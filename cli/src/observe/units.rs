//! Figures as people read them.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest window: the store goes back two hours, and the control plane may have a Prometheus to ask.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// `30s`, `5m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: write 30s, 5m, 2h or 7d, at least 1s and at most 31d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_none| wrong())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    let duration = seconds.map(Duration::from_secs).ok_or_else(wrong)?;
    let allowed = Duration::from_secs(1)..=LONGEST;
    allowed.contains(&duration).then_some(duration).ok_or_else(wrong)
}

/// In RFC 3339's form, of seconds since 1970; `None`: there is no such year.
pub(crate) fn instant(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// Per second, with as many digits as say something.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{rate:.2}"),
        ..100.0 => format!("{rate:.1}"),
        _ => short(rate),
    }
}

/// Bytes per second.
pub(crate) fn bytes(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        _ => format!("{}B/s", short(rate)),
    }
}

/// A time in seconds, as people say it: 45s, 5m, 3h, 2d.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        ..119.5 => format!("{seconds:.0}s"),
        ..7170.0 => format!("{:.0}m", seconds / 60.0),
        ..172_000.0 => format!("{:.0}h", seconds / 3600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

/// A count as a figure, of which people see a few digits.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// With a letter for thousands.
fn short(number: f64) -> String {
    match number {
        ..9_999.5 => format!("{number:.0}"),
        ..999_950.0 => format!("{:.1}k", number / 1e3),
        ..999_950_000.0 => format!("{:.1}M", number / 1e6),
        _ => format!("{:.1}G", number / 1e9),
    }
}

/// Percent, of which 100 means all.
pub(crate) fn percent(percent: Option<f64>) -> String {
    match percent {
        None => String::new(),
        Some(all) if all >= 100.0 => "100".to_owned(),
        // Rounded it would be all.
        Some(nearly) if nearly > 99.99 => "99.99".to_owned(),
        Some(percent) => format!("{percent:.2}"),
    }
}

/// A time in seconds.
pub(crate) fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds @ ..0.000_999_5) => format!("{:.0}us", seconds * 1e6),
        Some(seconds @ ..0.009_95) => format!("{:.1}ms", seconds * 1e3),
        Some(seconds @ ..0.999_5) => format!("{:.0}ms", seconds * 1e3),
        Some(seconds @ ..99.95) => format!("{seconds:.1}s"),
        Some(seconds) => format!("{seconds:.0}s"),
    }
}

/// A line that goes up and down, from nothing to the most, with a dot where nothing is known.
pub(crate) fn trend(values: &[Option<f64>]) -> String {
    scaled(values, values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max))
}

/// The same, up to `most`.
pub(crate) fn scaled(values: &[Option<f64>], most: f64) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if values.iter().all(Option::is_none) {
        return String::new();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
    let step = |value: f64| STEPS[((value / most * 7.0).round() as usize).min(7)];
    values.iter().map(|value| value.map_or('·', step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_never_say_more_than_is_so() {
        let cases = [
            (0.0, "0"),
            (0.004, "0.00"),
            (0.5, "0.50"),
            (38.04, "38.0"),
            (412.4, "412"),
            (9_999.4, "9999"),
            (12_345.0, "12.3k"),
            (999_949.0, "999.9k"),
            (3.2e6, "3.2M"),
        ];
        for (number, text) in cases {
            assert_eq!(rate(number), text);
        }
        for (number, text) in
            [(None, ""), (Some(100.0), "100"), (Some(99.999), "99.99"), (Some(0.0), "0.00")]
        {
            assert_eq!(percent(number), text);
        }
        for (seconds, text) in [
            (0.000_5, "500us"),
            (0.001_5, "1.5ms"),
            (0.061, "61ms"),
            (0.999_9, "1.0s"),
            (1.94, "1.9s"),
            (300.0, "300s"),
        ] {
            assert_eq!(time(Some(seconds)), text);
        }
        assert_eq!((bytes(0.0), bytes(1500.0)), ("0".to_owned(), "1500B/s".to_owned()));
        assert_eq!(trend(&[0.0, 1.0, 2.0, 7.0].map(Some)), "▁▂▃█");
        assert_eq!(trend(&[None, Some(0.0), Some(0.0)]), "·▁▁");
        assert_eq!((trend(&[]), trend(&[None, None])), (String::new(), String::new()));
    }

    #[test]
    fn windows_are_read() {
        for (text, seconds) in
            [("1s", 1), ("90s", 90), ("5m", 300), ("3h", 10_800), ("31d", 31 * 86_400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "5", "0s", "32d", "-1s", "5 m", "é", "1w"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
