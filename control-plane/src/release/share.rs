//! A share of all requests.

use std::fmt;

use serde::{Deserialize, Serialize};

/// So many of ten thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u16);

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(10_000);

    /// More than all are all.
    pub fn percent(percent: u8) -> Self {
        Self(u16::from(percent.min(100)) * 100)
    }

    /// So many of so many, rounded down; of nobody all.
    pub fn of(part: u32, all: u32) -> Self {
        let all = u64::from(all);
        match (u64::from(part) * 10_000).checked_div(all) {
            Some(share) => Self(u16::try_from(share).map_or(10_000, |share| share.min(10_000))),
            None => Self::ALL,
        }
    }

    /// Of ten thousand.
    pub fn per_ten_thousand(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    /// `5 %`, `0.25 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, format!("{:02}", self.0 % 100));
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole} %"),
            part => write!(f, "{whole}.{part} %"),
        }
    }
}
