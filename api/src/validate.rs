use std::fmt;

/// Something about an object that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, `spec.ejection.maxTime`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl Problem {
    /// A problem of `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// What the types of an object cannot rule out by themselves.
///
/// A Kubernetes API server checks the same by the CRD's schema; a directory of YAML has only this.
pub trait Validate {
    /// Everything that is wrong, not just the first; empty if the object can be used.
    fn problems(&self) -> Vec<Problem>;
}

/// Collects problems below one field.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem if `wrong`.
    pub(crate) fn check(&mut self, wrong: bool, field: &str, reason: impl FnOnce() -> String) {
        if wrong {
            self.0.push(Problem::new(field, reason()));
        }
    }

    /// Notes a value outside of `range`.
    pub(crate) fn range(
        &mut self,
        field: &str,
        value: Option<u32>,
        range: std::ops::RangeInclusive<u32>,
    ) {
        let Some(value) = value.filter(|value| !range.contains(value)) else {
            return;
        };
        let (low, high) = (range.start(), range.end());
        let reason = match *high {
            u32::MAX => format!("{value} is too small; the least is {low}"),
            _ => format!("{value} is not between {low} and {high}"),
        };
        self.0.push(Problem::new(field, reason));
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

/// Notes a list that is longer than is taken.
pub(crate) fn too_many(field: &str, count: usize, most: usize, problems: &mut Problems) {
    problems.check(count > most, field, || format!("there are {count}; at most {most} are taken"));
}

/// <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>, 2.1.
pub(crate) fn is_trust_domain(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_')
        })
}
