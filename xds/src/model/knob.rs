//! Settings of a sidecar's own data path: one table for the wire, for the annotations and for the
//! MeshConfig that set them.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::wire::{self, At as _, bad};

/// What is said; of everything else the proxy has its default.
pub type Knobs = BTreeMap<Knob, u64>;

/// A setting. `docs/limits.md` says what each bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named after the field of MeshConfig, which has a text for each")]
pub enum Knob {
    MaxConnections,
    DetectTimeout,
    HeadTimeout,
    ClientIdleTimeout,
    MaxHeadBytes,
    MaxUriBytes,
    MaxHeaders,
    MaxBodyBytes,
    MaxStreams,
    PreserveHeaderCase,
    ForwardedClientCert,
    AccessLogSample,
}

/// What kind of value a [`Knob`] has, and which are allowed. On the wire all are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number from the first to the second.
    Count(u64, u64),
    /// Milliseconds from the first to the second.
    Time(u64, u64),
    /// 1 is on, 0 is off.
    Switch,
    /// One of these words, by its index.
    Word(&'static [&'static str]),
}

/// What becomes of `x-forwarded-client-cert`, which tells an application who calls: the words of
/// [`Knob::ForwardedClientCert`]. What did not come over mTLS is removed in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    /// It names the caller, and nobody before it.
    #[default]
    Set,
    /// The caller comes behind those that it names itself.
    Append,
    /// There is none.
    Remove,
}

impl Knob {
    /// All, in the order of the table.
    pub const ALL: [Self; 12] = [
        Self::MaxConnections,
        Self::DetectTimeout,
        Self::HeadTimeout,
        Self::ClientIdleTimeout,
        Self::MaxHeadBytes,
        Self::MaxUriBytes,
        Self::MaxHeaders,
        Self::MaxBodyBytes,
        Self::MaxStreams,
        Self::PreserveHeaderCase,
        Self::ForwardedClientCert,
        Self::AccessLogSample,
    ];

    /// As the field of MeshConfig's `spec.proxy` is called, and on the wire.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// As the pod's annotation is called, after `tulle.dev/`.
    pub fn annotation(self) -> &'static str {
        self.row().1
    }

    /// Which values it may have.
    pub fn form(self) -> Form {
        self.row().2
    }

    fn row(self) -> (&'static str, &'static str, Form) {
        use Form::{Count, Switch, Time, Word};
        // The longest that any timer of the data path is tested with.
        let day = 86_400_000;
        match self {
            Self::MaxConnections => ("maxConnections", "max-connections", Count(1, 1_000_000)),
            Self::DetectTimeout => ("detectTimeout", "detect-timeout", Time(1, 60_000)),
            Self::HeadTimeout => ("headTimeout", "head-timeout", Time(1, 3_600_000)),
            Self::ClientIdleTimeout => ("clientIdleTimeout", "client-idle-timeout", Time(1, day)),
            // Less than 8 KiB would refuse what ordinary clients send.
            Self::MaxHeadBytes => ("maxHeadBytes", "max-head-bytes", Count(8 << 10, 1 << 20)),
            Self::MaxUriBytes => ("maxUriBytes", "max-uri-bytes", Count(1, 1 << 20)),
            Self::MaxHeaders => ("maxHeaders", "max-headers", Count(1, 10_000)),
            // 0 is no bound, for a pod that wants none where the mesh has one.
            Self::MaxBodyBytes => ("maxBodyBytes", "max-body-bytes", Count(0, 1 << 40)),
            Self::MaxStreams => ("maxStreams", "max-streams", Count(1, 10_000)),
            Self::PreserveHeaderCase => ("preserveHeaderCase", "preserve-header-case", Switch),
            Self::ForwardedClientCert => {
                ("forwardedClientCert", "forwarded-client-cert", Word(&ClientCert::WORDS))
            }
            // 0 logs what failed alone.
            Self::AccessLogSample => ("accessLogSample", "access-log-sample", Count(0, 1_000_000)),
        }
    }

    /// Whether it may have this value.
    ///
    /// # Errors
    /// What it may have.
    pub fn check(self, value: u64) -> Result<(), String> {
        let form = self.form();
        let (least, most) = match form {
            Form::Count(least, most) | Form::Time(least, most) => (least, most),
            Form::Switch => (0, 1),
            Form::Word(words) => (0, words.len() as u64 - 1),
        };
        match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("it must be {form}")),
        }
    }

    /// A value, for people.
    pub fn show(self, value: u64) -> String {
        match self.form() {
            Form::Count(..) => value.to_string(),
            Form::Time(..) => format!("{:?}", Duration::from_millis(value)),
            Form::Switch => (value == 1).to_string(),
            Form::Word(words) => {
                let index = usize::try_from(value).unwrap_or(usize::MAX);
                words.get(index).copied().unwrap_or("?").to_owned()
            }
        }
    }
}

impl ClientCert {
    /// As people write them.
    pub const WORDS: [&str; 3] = ["Set", "Append", "Remove"];

    /// That with this number.
    pub fn of(value: u64) -> Self {
        match value {
            1 => Self::Append,
            2 => Self::Remove,
            _ => Self::Set,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(least, most) => write!(f, "a number from {least} to {most}"),
            Self::Time(least, most) => {
                let [least, most] = [*least, *most].map(Duration::from_millis);
                write!(f, "a time from {least:?} to {most:?}, written for example 5s or 500ms")
            }
            Self::Switch => f.write_str("true or false"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

impl Serialize for Knob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

pub(super) fn message(knobs: &Knobs) -> Vec<ours::Knob> {
    let message =
        |(knob, value): (&Knob, &u64)| ours::Knob { name: knob.name().to_owned(), value: *value };
    knobs.iter().map(message).collect()
}

pub(super) fn read(messages: Vec<ours::Knob>) -> wire::Result<Knobs> {
    let mut knobs = Knobs::new();
    for (index, ours::Knob { name, value }) in messages.into_iter().enumerate() {
        let known = Knob::ALL.into_iter().find(|knob| knob.name() == name);
        let knob = known
            .ok_or_else(|| bad(format!("{name:?} is no setting that this version knows")))
            .at_index("knobs", index)?;
        knob.check(value).map_err(bad).at_index("knobs", index)?;
        knobs.insert(knob, value);
    }
    Ok(knobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_row_of_its_own_and_knows_its_range() {
        for (at, knob) in Knob::ALL.into_iter().enumerate() {
            let same = |other: &Knob| {
                other.name() == knob.name() || other.annotation() == knob.annotation()
            };
            assert_eq!(Knob::ALL.iter().position(same), Some(at), "{knob:?}");
            // `maxHeadBytes` and `max-head-bytes` are the same words.
            let words = knob.annotation().replace('-', "");
            assert_eq!(knob.name().to_lowercase(), words);
            let (least, most) = match knob.form() {
                Form::Count(least, most) | Form::Time(least, most) => (least, most),
                Form::Switch => (0, 1),
                Form::Word(words) => (0, words.len() as u64 - 1),
            };
            assert!(knob.check(least).is_ok() && knob.check(most).is_ok(), "{knob:?}");
            assert!(knob.check(most + 1).is_err(), "{knob:?}");
            assert!(least == 0 || knob.check(least - 1).is_err(), "{knob:?}");
        }
        assert_eq!(
            Knob::HeadTimeout.check(0),
            Err("it must be a time from 1ms to 3600s, written for example 5s or 500ms".to_owned())
        );
        for (at, word) in ClientCert::WORDS.into_iter().enumerate() {
            assert_eq!(format!("{:?}", ClientCert::of(at as u64)), word);
            assert_eq!(Knob::ForwardedClientCert.show(at as u64), word);
        }
    }
}
