//! Telemetry: what pods tell of their traffic.

use std::{cmp::Reverse, sync::Arc};

use tulle_xds::model::{LogFormat, Otlp, Tag};

use super::{
    Dirty, World,
    attach::age,
    changes,
    objects::{Name, Pod, Scope},
    replace,
};

/// A Telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Its name.
    pub name: Name,
    /// `metadata.creationTimestamp`, as written.
    pub created: String,
    /// What it is about.
    pub scope: Scope,
    /// What it says.
    pub said: Said,
}

/// What Telemetries say, field by field; `None` says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is the field of Telemetry that `fields` names")]
pub struct Said {
    pub traces_disabled: Option<bool>,
    /// Of a million.
    pub sampling_ppm: Option<u32>,
    pub b3: Option<bool>,
    pub traces_to: Option<Vec<Otlp>>,
    pub attributes: Option<Vec<Tag>>,
    pub format: Option<LogFormat>,
    pub filter: Option<String>,
    pub fields: Option<Vec<Tag>>,
    pub logs_to: Option<Vec<Otlp>>,
    pub metrics_disabled: Option<bool>,
    pub metrics_to: Option<Vec<Otlp>>,
    pub interval_ms: Option<u32>,
    pub labels: Option<Vec<Tag>>,
}

/// One list of fields for everything that goes through all of them.
macro_rules! fields {
    ($apply:ident) => {
        $apply! {
            traces_disabled "spec.traces.disabled",
            sampling_ppm "spec.traces.sampling",
            b3 "spec.traces.propagation",
            traces_to "spec.traces.destinations",
            attributes "spec.traces.tags",
            format "spec.logs.format",
            filter "spec.logs.filter",
            fields "spec.logs.fields",
            logs_to "spec.logs.destinations",
            metrics_disabled "spec.metrics.disabled",
            metrics_to "spec.metrics.destinations",
            interval_ms "spec.metrics.interval",
            labels "spec.metrics.tags",
        }
    };
}

impl Said {
    /// What `self` says, and where it says nothing, what `less` says.
    #[must_use]
    pub fn over(self, less: &Self) -> Self {
        macro_rules! merge {
            ($($field:ident $path:literal,)*) => {
                Self { $($field: self.$field.or_else(|| less.$field.clone()),)* }
            };
        }
        fields!(merge)
    }

    /// The fields about which it says something.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        macro_rules! said {
            ($($field:ident $path:literal,)*) => {
                [$((self.$field.is_some(), $path),)*]
            };
        }
        let all = fields!(said);
        all.into_iter().filter(|(said, _)| *said).map(|(_, path)| path)
    }
}

impl World {
    /// A Telemetry.
    pub fn telemetry(&self, name: &Name) -> Option<&Arc<Telemetry>> {
        self.telemetries.get(name)
    }

    /// The Telemetries that are about `pod`: the most specific first, among equals the oldest, then by
    /// name.
    pub fn telemetry_for(&self, pod: &Pod) -> Vec<&Arc<Telemetry>> {
        let mesh_wide = self.telemetries_by_namespace.get("");
        let mut found: Vec<_> = mesh_wide
            .chain(self.telemetries_by_namespace.get(&pod.name.namespace))
            .filter_map(|name| self.telemetries.get(name))
            .filter(|telemetry| telemetry.scope.has(pod))
            .collect();
        found.sort_by_key(|telemetry| {
            let Telemetry { name, created, scope, .. } = &***telemetry;
            (Reverse(scope.specificity()), age(created), name)
        });
        found
    }

    /// The Telemetry by which this pod's proxy counts nothing of its edges, if there is one.
    pub fn uncounted_by(&self, pod: &Pod) -> Option<&Name> {
        let all = self.telemetry_for(pod);
        let says = all.into_iter().find(|one| one.said.metrics_disabled.is_some())?;
        says.said.metrics_disabled.unwrap_or_default().then_some(&says.name)
    }

    pub(super) fn set_telemetry(
        &mut self,
        name: &Name,
        new: Option<&Arc<Telemetry>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.telemetries, name, new) else {
            return;
        };
        for (telemetry, present) in changes(&old, new) {
            let home = telemetry.scope.home(name);
            self.telemetries_by_namespace.set(home, name, present);
            self.touch_pods_of(name, &telemetry.scope, dirty);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn said()(
            (traces_disabled, sampling_ppm, b3) in any::<(Option<bool>, Option<u32>, Option<bool>)>(),
            (metrics_disabled, interval_ms) in any::<(Option<bool>, Option<u32>)>(),
            filter in prop::option::of("[a-c]"),
            format in prop::option::of(prop::sample::select(vec![LogFormat::Json, LogFormat::Envoy, LogFormat::Off])),
            names in prop::collection::vec(prop::option::of("[a-c]"), 6),
        ) -> Said {
            let tags = |name: &Option<String>| {
                name.clone().map(|name| vec![Tag { name, expression: "route".to_owned(), max_values: 0 }])
            };
            let to = |endpoint: &Option<String>| {
                let otlp = |endpoint| Otlp {
                    endpoint, protocol: Default::default(), headers: Default::default(),
                };
                endpoint.clone().map(|endpoint| vec![otlp(endpoint)])
            };
            Said {
                traces_disabled, sampling_ppm, b3, format, filter, metrics_disabled, interval_ms,
                traces_to: to(&names[0]), logs_to: to(&names[1]), metrics_to: to(&names[2]),
                attributes: tags(&names[3]), fields: tags(&names[4]), labels: tags(&names[5]),
            }
        }
    }

    proptest! {
        /// However the levels are put together, each field is the first that says something.
        #[test]
        fn the_first_that_says_a_field_counts(all in prop::collection::vec(said(), 3)) {
            let [a, b, c] = <[Said; 3]>::try_from(all).unwrap();
            let merged = a.clone().over(&b).over(&c);
            prop_assert_eq!(&merged, &a.clone().over(&b.clone().over(&c)));
            let first = a.filter.clone().or_else(|| b.filter.clone()).or_else(|| c.filter.clone());
            prop_assert_eq!(&merged.filter, &first);
            let paths: std::collections::BTreeSet<_> = [&a, &b, &c].into_iter().flat_map(Said::paths).collect();
            prop_assert_eq!(merged.paths().collect::<std::collections::BTreeSet<_>>(), paths);
            prop_assert_eq!(&Said::default().over(&merged), &merged);
            prop_assert_eq!(&merged.clone().over(&merged), &merged);
        }
    }
}
