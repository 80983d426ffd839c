use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::local::controllers::services::Family;

/// The IP versions of a mesh's pods and Services, the primary one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
pub(in crate::local) enum Families {
    /// IPv4 alone.
    #[value(name = "ipv4")]
    V4,
    /// IPv6 alone.
    #[value(name = "ipv6")]
    V6,
    /// Both; Services that do not say it have IPv4.
    #[default]
    #[value(name = "ipv4,ipv6")]
    V4V6,
    /// Both; Services that do not say it have IPv6.
    #[value(name = "ipv6,ipv4")]
    V6V4,
}

impl Families {
    pub(in crate::local) fn list(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::V4V6 => &[Family::V4, Family::V6],
            Self::V6V4 => &[Family::V6, Family::V4],
        }
    }

    pub(in crate::local) fn primary(self) -> Family {
        match self {
            Self::V4 | Self::V4V6 => Family::V4,
            Self::V6 | Self::V6V4 => Family::V6,
        }
    }
}
