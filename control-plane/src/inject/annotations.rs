//! What a pod may say about its own sidecar.

use std::fmt;

use ipnet::IpNet;
use tulle_xds::model::Knob;

use super::{
    DataPlane, INJECTED, LABEL, REDIRECTION, Resources, UnknownDataPlane,
    drain::{self, DRAIN_TIME},
    resources,
};
use crate::convert::knobs::{self, ANNOTATION};

/// Ports that do not lead to the sidecar.
pub(crate) const EXCLUDE_INBOUND_PORTS: &str = "exclude-inbound-ports";
/// The only ports that do.
pub(crate) const INCLUDE_INBOUND_PORTS: &str = "include-inbound-ports";

const LOG_LEVEL: &str = "tulle.dev/proxy-log-level";
const DNS: &str = "tulle.dev/dns";
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

const DATA_PLANE: &str = "tulle.dev/data-plane";

/// Annotations that become an option of `tulle-proxy redirect`, named after it.
const REDIRECT: [(&str, Form); 6] = [
    (EXCLUDE_INBOUND_PORTS, Form::Ports),
    ("exclude-outbound-cidrs", Form::Cidrs),
    ("exclude-outbound-ports", Form::Ports),
    ("exclude-uids", Form::Uids),
    (INCLUDE_INBOUND_PORTS, Form::Ports),
    ("include-outbound-cidrs", Form::Cidrs),
];

/// An annotation of ours whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: {value:?}: {reason}")]
pub struct BadAnnotation {
    /// The annotation.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// What is wrong with an annotation of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slip {
    /// No pod with it gets a sidecar.
    Refused(String),
    /// It does nothing.
    Unknown(String),
}

/// What is wrong with those of ours among the annotations of a pod or of a pod's template, by name.
pub fn slips<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Vec<(&'a str, Slip)> {
    let mut found = Vec::new();
    for (name, value) in annotations {
        match Overrides::parse(std::iter::once((name, value))) {
            Ok((_, warnings)) => {
                found.extend(warnings.into_iter().map(|text| (name.as_str(), Slip::Unknown(text))));
            }
            Err(BadAnnotation { value, reason, .. }) => {
                found.push((name.as_str(), Slip::Refused(format!("{value:?}: {reason}"))));
            }
        }
    }
    found
}

/// What the annotations of a pod say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Overrides {
    /// Options of `tulle-proxy redirect`, each followed by its value.
    pub(super) redirect: Vec<String>,
    /// The sidecar's log level.
    pub(super) log_level: Option<String>,
    /// Whether the sidecar answers DNS.
    pub(super) dns: Option<bool>,
    /// Who carries the pod's traffic.
    pub(super) data_plane: Option<DataPlane>,
    /// What the sidecar asks for, and may use at most.
    pub(super) resources: Resources,
    /// For how many seconds the end of the pod's traffic is waited for at most.
    pub(super) drain_time: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Ports,
    Cidrs,
    Uids,
}

impl Overrides {
    /// Reads ours among all annotations, and warns about those that only look like ours.
    pub(super) fn parse<'a>(
        annotations: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<(Self, Vec<String>), BadAnnotation> {
        let mut overrides = Self::default();
        let mut warnings = Vec::new();
        for (name, value) in annotations {
            let Some(short) = name.strip_prefix(ANNOTATION) else {
                continue;
            };
            let bad = |reason| BadAnnotation { name: name.clone(), value: value.clone(), reason };
            if let Some((option, form)) = REDIRECT.into_iter().find(|(known, _)| *known == short) {
                let value = form.parse_list(value).map_err(bad)?;
                overrides.redirect.extend([format!("--{option}"), value]);
            } else if name == LOG_LEVEL {
                if !LEVELS.contains(&value.as_str()) {
                    return Err(bad(format!("it must be one of {}", LEVELS.join(", "))));
                }
                overrides.log_level = Some(value.clone());
            } else if name == DNS {
                let on =
                    value.parse().map_err(|_neither| bad("it must be true or false".to_owned()));
                overrides.dns = Some(on?);
            } else if name == DATA_PLANE {
                overrides.data_plane =
                    Some(value.parse().map_err(|unknown: UnknownDataPlane| bad(unknown.0))?);
            } else if let Some(said) = resources::ANNOTATIONS.iter().find(|said| said.name == name)
            {
                said.read(value, &mut overrides.resources).map_err(bad)?;
            } else if name == DRAIN_TIME {
                overrides.drain_time = Some(drain::read(value).map_err(bad)?);
            } else if let Some(knob) = knobs::of_annotation(name) {
                // The control plane reads it from the pod and tells the sidecar.
                knobs::parse(knob, value).map_err(bad)?;
            } else if name == LABEL {
                warnings.push(format!("annotation {name} does nothing: it must be a label"));
            } else if name != INJECTED && name != REDIRECTION {
                warnings.push(unknown(name));
            }
        }
        Ok((overrides, warnings))
    }
}

impl Form {
    /// A comma-separated list, checked item by item; without spaces.
    fn parse_list(self, value: &str) -> Result<String, String> {
        if value.trim().is_empty() {
            return Err(format!("it is empty; leave it out, or write {}", self.example()));
        }
        let items: Result<Vec<String>, String> =
            value.split(',').map(|item| self.parse(item.trim())).collect();
        Ok(items?.join(","))
    }

    fn parse(self, item: &str) -> Result<String, String> {
        let wrong = || format!("{item:?} is no {self}; write for example {}", self.example());
        match self {
            Self::Ports => {
                let port: u16 = item.parse().ok().ok_or_else(wrong)?;
                (port != 0).then(|| port.to_string()).ok_or_else(wrong)
            }
            // -1 as an unsigned number means "no uid" to the kernel.
            Self::Uids => {
                let uid: u32 = item.parse().ok().ok_or_else(wrong)?;
                (uid != u32::MAX).then(|| uid.to_string()).ok_or_else(wrong)
            }
            Self::Cidrs => {
                let range: IpNet = item.parse().ok().ok_or_else(wrong)?;
                if range.trunc() != range {
                    let meant = range.trunc();
                    return Err(format!("{item} has bits set after its prefix; write {meant}"));
                }
                Ok(range.to_string())
            }
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Ports => "22,9090",
            Self::Uids => "1000,1001",
            Self::Cidrs => "192.0.2.0/24,2001:db8::/32",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ports => "port",
            Self::Uids => "user id",
            Self::Cidrs => "address range",
        })
    }
}

/// The warning about an annotation of our prefix that nothing reads.
fn unknown(name: &str) -> String {
    let known = REDIRECT.iter().map(|(short, _)| format!("{ANNOTATION}{short}"));
    let nearest = known
        .chain(Knob::ALL.map(|knob| format!("{ANNOTATION}{}", knob.annotation())))
        .chain([LOG_LEVEL, DATA_PLANE, DNS, DRAIN_TIME].map(str::to_owned))
        .chain(resources::ANNOTATIONS.map(|said| said.name.to_owned()))
        .map(|known| (edit_distance(&known, name), known))
        .min();
    match nearest {
        // Further away it is not a slip of the finger, and a guess would mislead.
        Some((distance, known)) if distance <= 8 => {
            format!("annotation {name} is unknown and does nothing; is {known} meant?")
        }
        _ => format!("annotation {name} is unknown and does nothing"),
    }
}

/// What is wrong with a label of our prefix, on a pod or a namespace, that nothing reads.
pub fn unknown_label(name: &str, value: &str) -> Option<String> {
    if !name.starts_with(ANNOTATION) || name == LABEL {
        return None;
    }
    let (name, value) = (name.to_owned(), value.to_owned());
    let known = !slips([(&name, &value)].into_iter())
        .iter()
        .any(|(_, slip)| matches!(slip, Slip::Unknown(_)));
    Some(if known {
        format!("label {name} does nothing: it must be an annotation of the pods")
    } else if edit_distance(LABEL, &name) <= 4 {
        format!("label {name} is unknown and does nothing; is {LABEL} meant?")
    } else {
        format!("label {name} is unknown and does nothing")
    })
}

/// How many characters must be inserted, removed or replaced to get from one to the other
/// (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn parse(name: &str, value: &str) -> Result<(Overrides, Vec<String>), String> {
        let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Overrides::parse(annotations.iter()).map_err(|e| e.to_string())
    }

    #[test]
    fn lists_become_options() {
        for (name, value, option) in [
            ("exclude-inbound-ports", "22, 9090", "22,9090"),
            ("exclude-outbound-ports", "3306", "3306"),
            ("include-inbound-ports", "80,443", "80,443"),
            ("exclude-outbound-cidrs", "192.0.2.0/24", "192.0.2.0/24"),
            ("include-outbound-cidrs", "10.0.0.0/8,fd00::/8", "10.0.0.0/8,fd00::/8"),
            ("exclude-uids", "1000,0", "1000,0"),
        ] {
            let (overrides, warnings) = parse(&format!("tulle.dev/{name}"), value).expect(name);
            assert_eq!(overrides.redirect, [format!("--{name}"), option.to_owned()]);
            assert_eq!(warnings, [""; 0]);
        }
        let (overrides, _) = parse(LOG_LEVEL, "debug").expect("a level");
        assert_eq!(overrides.log_level.as_deref(), Some("debug"));
        assert_eq!(parse(DNS, "false").expect("a choice").0.dns, Some(false));
        assert_eq!(parse(DRAIN_TIME, "1m").expect("a time").0.drain_time, Some(60));
        let (overrides, _) = parse("tulle.dev/proxy-memory-limit", "64Mi").expect("an amount");
        assert_eq!(overrides.resources, Resources::new(&[], &[("memory", "64Mi")]));
    }

    #[test]
    fn bad_values_are_named() {
        for (name, value, reason) in [
            ("exclude-inbound-ports", "80,http", "\"http\" is no port"),
            ("exclude-inbound-ports", "0", "\"0\" is no port"),
            ("exclude-inbound-ports", "65536", "\"65536\" is no port"),
            ("exclude-inbound-ports", "80,", "\"\" is no port"),
            ("exclude-outbound-ports", " ", "it is empty"),
            ("exclude-outbound-cidrs", "10.0.0.1", "\"10.0.0.1\" is no address range"),
            ("include-outbound-cidrs", "10.0.0.1/8", "write 10.0.0.0/8"),
            ("exclude-uids", "root", "\"root\" is no user id"),
            ("proxy-log-level", "verbose", "one of error, warn, info, debug, trace"),
            ("data-plane", "nginx", "it must be tulle, envoy or grpc"),
            ("dns", "on", "it must be true or false"),
            ("access-log-sample", "1%", "it must be a number"),
            ("max-streams", "0", "it must be a number from 1 to 10000"),
            ("head-timeout", "2h", "it must be a time from 1ms to 3600s"),
            ("proxy-cpu-limit", "many", "it must be an amount of cpu of 10m or more"),
            ("proxy-memory-request", "64", "it must be an amount of memory of 1Mi or more"),
            ("drain-time", "20", "it must be a time of whole seconds from 0s to 1h"),
        ] {
            let error = parse(&format!("tulle.dev/{name}"), value).expect_err(value);
            assert!(error.contains(reason), "{error}");
            assert!(
                error.starts_with(&format!("annotation tulle.dev/{name}: {value:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_probably_meant() {
        for (name, warning) in [
            ("tulle.dev/exclude-inbond-ports", "is tulle.dev/exclude-inbound-ports meant?"),
            ("tulle.dev/exclude-inbound-port", "is tulle.dev/exclude-inbound-ports meant?"),
            ("tulle.dev/max-stream", "is tulle.dev/max-streams meant?"),
            ("tulle.dev/log-level", "is tulle.dev/proxy-log-level meant?"),
            ("tulle.dev/proxy-cpu-limits", "is tulle.dev/proxy-cpu-limit meant?"),
            ("tulle.dev/draintime", "is tulle.dev/drain-time meant?"),
            ("tulle.dev/sauerkraut-and-beer", "is unknown and does nothing"),
            ("tulle.dev/inject", "it must be a label"),
        ] {
            let (_, warnings) = parse(name, "x").expect(name);
            assert!(warnings.len() == 1 && warnings[0].ends_with(warning), "{warnings:?}");
        }
        for silent in
            ["tulle.dev/injected", "tulle.dev/redirect", "example.org/exclude-inbound-ports"]
        {
            assert_eq!(parse(silent, "x"), Ok((Overrides::default(), vec![])));
        }
    }

    #[test]
    fn labels_that_do_nothing() {
        for (name, reason) in [
            ("tulle.dev/injekt", Some("is tulle.dev/inject meant?")),
            ("tulle.dev/dns", Some("it must be an annotation of the pods")),
            ("tulle.dev/sauerkraut", Some("is unknown and does nothing")),
            ("tulle.dev/inject", None),
            ("example.org/injekt", None),
        ] {
            let said = unknown_label(name, "true");
            assert_eq!(said.is_some(), reason.is_some(), "{name}");
            assert!(said.unwrap_or_default().ends_with(reason.unwrap_or_default()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn edit_distance_is_a_distance(a in "[ab-]{0,6}", b in "[ab-]{0,6}", c in "[ab-]{0,6}") {
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            let (ab, bc) = (edit_distance(&a, &b), edit_distance(&b, &c));
            prop_assert!(edit_distance(&a, &c) <= ab + bc);
        }

        #[test]
        fn any_value_is_parsed_or_refused(value in ".{0,40}|[0-9.]{0,40}[a-zA-Z]{0,2}[-+]?[0-9]{0,12}") {
            for (name, _) in REDIRECT {
                drop(parse(&format!("tulle.dev/{name}"), &value));
            }
            for name in resources::ANNOTATIONS.map(|said| said.name).into_iter().chain([DRAIN_TIME]) {
                drop(parse(name, &value));
            }
        }
    }
}
