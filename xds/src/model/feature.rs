//! What a proxy of ours may not understand yet.
//!
//! Pods live for weeks, so that a proxy may be older than its control plane. It announces the features
//! that it knows, by their names (`client_features`). What it lacks is left out of what it gets, and
//! the status of the object that says it tells on how many proxies that is so. A newer proxy announces
//! names that this control plane has nothing to say about.
//!
//! **Invariant.** What comes into the model after a release, and a proxy of that release would refuse,
//! is a feature. Numbers of features are of this process alone; names are for ever.

use serde::Serialize;

use super::{Knob, Near, Released, Resource};

/// Something that came into the language after its first version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Resources say who set each value.
    Setters,
    /// The workload says who may connect.
    Access,
    /// Endpoints say who is to use them, the workload where it is.
    Near,
    /// Listeners say where TLS connections go, by the server's name.
    ByName,
    /// The workload says what the proxy tells of its traffic.
    Telemetry,
    /// Clusters and workloads say that they are of a version that is being released.
    Release,
    /// Rules say what decides which backend gets a request.
    Sticky,
    /// The workload says which lanes there are.
    Lane,
    /// A setting in the workload.
    Knob(Knob),
}

/// What a proxy understands. The default is what this version does: all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Features(u64);

impl Feature {
    /// All that this version knows.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Setters, Self::Access, Self::Near, Self::ByName, Self::Telemetry, Self::Release]
            .into_iter()
            .chain([Self::Sticky, Self::Lane])
            .chain(Knob::ALL.into_iter().map(Self::Knob))
    }

    /// As it is announced.
    pub fn name(self) -> String {
        match self {
            Self::Setters => "tulle.setters".to_owned(),
            Self::Access => "tulle.access".to_owned(),
            Self::Near => "tulle.near".to_owned(),
            Self::ByName => "tulle.by-name".to_owned(),
            Self::Telemetry => "tulle.telemetry".to_owned(),
            Self::Release => "tulle.release".to_owned(),
            Self::Sticky => "tulle.sticky".to_owned(),
            Self::Lane => "tulle.lane".to_owned(),
            Self::Knob(knob) => format!("tulle.knob.{}", knob.name()),
        }
    }

    fn bit(self) -> u64 {
        let number = match self {
            Self::Setters => 0,
            Self::Access => 1,
            Self::Near => 2,
            Self::ByName => 3,
            Self::Telemetry => 4,
            Self::Release => 5,
            Self::Sticky => 6,
            Self::Lane => 7,
            Self::Knob(knob) => 8 + knob as u32,
        };
        1 << number
    }
}

impl Features {
    /// None of them: a proxy that announces nothing.
    pub const NONE: Self = Self(0);

    /// Those with these names, as far as this version knows them.
    pub fn named(names: &[String]) -> Self {
        Feature::all().filter(|feature| names.contains(&feature.name())).collect()
    }

    /// Their names.
    pub fn names(self) -> Vec<String> {
        Feature::all().filter(|feature| self.has(*feature)).map(Feature::name).collect()
    }

    /// Whether this is among them.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().fold(0, |bits, feature| bits | feature.bit()))
    }
}

impl Default for Features {
    fn default() -> Self {
        Feature::all().collect()
    }
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl Resource {
    /// The same without what a proxy with these features does not understand.
    #[must_use]
    pub fn within(mut self, features: Features) -> Self {
        if let Self::Workload(workload) = &mut self {
            workload.knobs.retain(|knob, _| features.has(Feature::Knob(*knob)));
            if !features.has(Feature::Access) {
                workload.access.clear();
            }
            if !features.has(Feature::Telemetry) {
                *workload.telemetry = Default::default();
            }
            if !features.has(Feature::Lane) {
                workload.lanes.clear();
            }
        }
        if !features.has(Feature::Near) {
            match &mut self {
                Self::Workload(workload) => {
                    workload.node.clear();
                    workload.zone.clear();
                }
                Self::Endpoints(told) => {
                    told.endpoints.iter_mut().for_each(|endpoint| endpoint.near = Near::default());
                }
                Self::Cluster(_) | Self::Listener(_) | Self::Route(_) | Self::Host(_) => {}
            }
        }
        if let Self::Listener(listener) = &mut self
            && !features.has(Feature::ByName)
        {
            listener.by_name.clear();
            listener.only_named = false;
        }
        if let Self::Route(route) = &mut self
            && !features.has(Feature::Sticky)
        {
            route.rules.iter_mut().for_each(|rule| rule.stick = None);
        }
        if !features.has(Feature::Release) {
            match &mut self {
                Self::Workload(workload) => workload.counted = false,
                Self::Cluster(cluster) => cluster.released = Released::No,
                Self::Listener(_) | Self::Route(_) | Self::Endpoints(_) | Self::Host(_) => {}
            }
        }
        if !features.has(Feature::Setters) {
            match &mut self {
                Self::Workload(workload) => workload.setters.clear(),
                Self::Cluster(cluster) => cluster.setters.clear(),
                Self::Listener(listener) => listener.setters.clear(),
                Self::Route(route) => route.rules.iter_mut().for_each(|rule| rule.setters.clear()),
                Self::Endpoints(_) | Self::Host(_) => {}
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_names_and_bits_of_their_own() {
        let all: Vec<_> = Feature::all().collect();
        for (at, feature) in all.iter().enumerate() {
            let same =
                |other: &Feature| other.name() == feature.name() || other.bit() == feature.bit();
            assert_eq!(all.iter().position(same), Some(at), "{feature:?}");
        }
        assert_eq!(Features::named(&Features::default().names()), Features::default());
        // Of a newer proxy this version knows a part, of the first one nothing.
        let newer = ["tulle.setters", "tulle.flux"].map(str::to_owned);
        assert_eq!(Features::named(&newer), Features::from_iter([Feature::Setters]));
        assert_eq!(Features::named(&[]), Features::NONE);
        // What a proxy of the first version gets is what it would take.
        assert!(all.len() < 64, "there is a bit for each");
    }
}
