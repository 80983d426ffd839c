//! One root takes over from another, which nobody noticed to plan: who is trusted until when, and by which root is signed.
//!
//! ```text
//! Secret    old │ new
//! trusted   old │ old and new ─────────────────────────────────────────────────┐ new
//! signs     old │ old ── overlap: everybody learns of the new ──► new ─────────┴──────────
//!               │                                                 └ lifetime + overlap ┘ the last certificate of the old has ended
//! ```
//!
//! All replicas go by one [`Record`], which one of them writes: none goes by its own clock. Pure: what is and what the time is
//! come in, what is to be comes out.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::root::{Root, certificates_of_roots, pem};

/// How long the steps take.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Until everybody trusts what is trusted now.
    pub overlap: Duration,
    /// For which a certificate of a workload is valid.
    pub lifetime: Duration,
}

/// All roots that are trusted, and the one by which certificates are signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    roots: Vec<Known>,
}

/// A root that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Known {
    /// PEM.
    certificate: String,
    /// Whether certificates are signed by it, or by who is below it.
    #[serde(default)]
    signs: bool,
    /// Since when everybody is told to trust it.
    since: Instant,
    /// The longest that any certificate below it is valid; 0 if it never signed.
    #[serde(default)]
    lifetime_seconds: i64,
    /// When it is trusted no more; absent while the Secret has it, or it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Instant>,
}

/// As RFC 3339, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Instant(OffsetDateTime);

impl Record {
    /// Reads what [`Self::text`] has written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (at, known) in record.roots.iter().enumerate() {
            let read = certificates_of_roots(&known.certificate);
            let read = read.map_err(|reason| format!("root {}: {reason}", at + 1))?;
            if read.len() != 1 {
                return Err(format!("root {}: holds {} certificates", at + 1, read.len()));
            }
        }
        Ok(record)
    }

    /// As text, for [`Self::read`].
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What is trusted by it, as PEM: first who signs.
    pub fn trusted_pem(&self) -> String {
        let (first, others): (Vec<_>, Vec<_>) = self.roots.iter().partition(|known| known.signs);
        first.into_iter().chain(others).map(|known| known.certificate.as_str()).collect()
    }

    /// As it is to be from `now` on, where the Secret holds `wanted`.
    pub fn next(&self, wanted: &Root, now: OffsetDateTime, terms: Terms) -> Self {
        let first = self.roots.is_empty();
        let (signing, now) = (pem("CERTIFICATE", wanted.anchor()), Instant::to_the_second(now));
        let roots: Vec<_> = wanted.trusted().iter().map(|root| pem("CERTIFICATE", root)).collect();
        let mut next = self.clone();
        for certificate in &roots {
            match next.roots.iter_mut().find(|known| known.certificate == *certificate) {
                Some(known) => known.until = None,
                None => next.roots.push(Known {
                    certificate: certificate.clone(),
                    signs: first && *certificate == signing,
                    since: now,
                    lifetime_seconds: 0,
                    until: None,
                }),
            }
        }
        if next.may_sign(&signing, now, terms) {
            for known in &mut next.roots {
                known.signs = known.certificate == signing;
            }
        }
        let turned = next.is_signing(&signing);
        for known in &mut next.roots {
            if known.signs {
                known.lifetime_seconds = known.lifetime_seconds.max(terms.lifetime.whole_seconds());
            }
            // Not before: what was to take over may itself be replaced, and the old one signs on.
            if turned && known.until.is_none() && !roots.contains(&known.certificate) {
                let rest = Duration::seconds(known.lifetime_seconds) + terms.overlap;
                known.until = Some(now.after(rest));
            }
        }
        next.roots.retain(|known| known.until.is_none_or(|until| now < until));
        next
    }

    /// What is in force by it: `last` was before, and the Secret holds `wanted`. Nothing that only one of them trusts is left
    /// out, and it is signed by the root that the record says. Who has no key for it signs nothing for workloads.
    pub fn in_force(&self, last: &Root, wanted: &Root, now: OffsetDateTime) -> Root {
        let Ok(mut trusted) = certificates_of_roots(&self.trusted_pem()) else {
            return wanted.trusting(wanted.trusted().to_vec(), true); // there is no record
        };
        trusted.extend(wanted.trusted().iter().filter(|r| !self.knows(r)).cloned());
        let signs = |root: &Root| self.is_signing(&pem("CERTIFICATE", root.anchor()));
        if signs(wanted) {
            wanted.trusting(trusted, true)
        } else if signs(last) && now < last.not_after() {
            last.trusting(trusted, true)
        } else {
            wanted.trusting(trusted, false)
        }
    }

    fn knows(&self, root: &[u8]) -> bool {
        let root = pem("CERTIFICATE", root);
        self.roots.iter().any(|known| known.certificate == root)
    }

    fn is_signing(&self, certificate: &str) -> bool {
        self.roots.iter().any(|known| known.signs && known.certificate == certificate)
    }

    /// Whether everybody has been told of it for long enough.
    fn may_sign(&self, certificate: &str, now: Instant, terms: Terms) -> bool {
        let mut known = self.roots.iter();
        known.any(|k| k.certificate == certificate && k.since.after(terms.overlap) <= now)
    }
}

/// For the log: without the roots themselves.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, known) in self.roots.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}trusted since {}", known.since)?;
            if let Some(until) = known.until {
                write!(f, " until {until}")?;
            }
            f.write_str(if known.signs { ", signs" } else { "" })?;
        }
        Ok(())
    }
}

impl Instant {
    fn to_the_second(at: OffsetDateTime) -> Self {
        Self(at.to_offset(UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at))
    }

    fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).unwrap_or_default())
    }
}

impl From<Instant> for String {
    fn from(instant: Instant) -> Self {
        instant.to_string()
    }
}

impl TryFrom<String> for Instant {
    type Error = time::error::Parse;

    fn try_from(text: String) -> Result<Self, time::error::Parse> {
        OffsetDateTime::parse(&text, &Rfc3339).map(Self)
    }
}

#[cfg(test)]
mod tests;
