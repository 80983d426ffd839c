//! What policies say together, with who said it.

use std::collections::{BTreeMap, BTreeSet};

use tulle_xds::model::Setter;

use super::port;
use crate::world::{
    objects::{Kind, Name, Settings, TrafficPolicy},
    policy::Scope,
};

const RETRIES: &str = "spec.retries";

/// Settings merged from several policies.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Settled {
    /// The values.
    pub(super) settings: Settings,
    /// The policies behind each field that is said.
    said: BTreeMap<&'static str, Said>,
}

/// What a field is about, and the policies behind it.
type Said = (Scope, BTreeSet<Name>);

impl Settled {
    /// What one policy says.
    pub(super) fn of(policy: &TrafficPolicy) -> Self {
        let said = policy.settings.said().into_iter();
        let by = || BTreeSet::from([policy.name.clone()]);
        Self {
            settings: policy.settings.clone(),
            said: said.map(|(field, scope)| (field, (scope, by()))).collect(),
        }
    }

    /// What `self` says, and where it says nothing, what `less` says.
    #[must_use]
    pub(super) fn over(mut self, less: &Self) -> Self {
        for (field, by) in &less.said {
            self.said.entry(field).or_insert_with(|| by.clone());
        }
        Self { settings: self.settings.over(&less.settings), said: self.said }
    }

    /// The same without the fields that are not wanted.
    #[must_use]
    pub(super) fn only(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        self.said.retain(|field, _| wanted(field));
        Self { settings: self.settings.only(wanted), said: self.said }
    }

    /// What each of `all` says or at least does not contradict; and the fields that some do contradict.
    pub(super) fn agreed(all: &[Self]) -> (Self, BTreeSet<&'static str>) {
        let mut agreed = Self::default();
        let mut disputed = BTreeSet::new();
        for one in all {
            disputed.extend(agreed.settings.contradicted(&one.settings));
            for (field, (scope, by)) in &one.said {
                let known = agreed.said.entry(field).or_insert((*scope, BTreeSet::new()));
                known.1.extend(by.iter().cloned());
            }
            agreed.settings = agreed.settings.over(&one.settings);
        }
        // Half of one retry policy beside half of another would be a third.
        if disputed.iter().any(|field| field.starts_with(RETRIES)) {
            disputed.extend(agreed.said.keys().filter(|field| field.starts_with(RETRIES)));
        }
        (agreed.only(|field| !disputed.contains(field)), disputed)
    }

    /// The policies behind a field.
    pub(super) fn by(&self, field: &str) -> impl Iterator<Item = &Name> {
        self.said.get(field).into_iter().flat_map(|(_, by)| by)
    }

    /// Who set what of this scope.
    pub(super) fn setters(&self, scope: Scope) -> Vec<Setter> {
        let said = self.said.iter().filter(|(field, (of, _))| {
            // That there are retries is about requests, that there is ejection about clusters.
            let presence = if **field == "spec.ejection" { Scope::Cluster } else { Scope::Rule };
            *of == scope || *of == Scope::Presence && presence == scope
        });
        let setter = |field: &str, by: &Name| Setter {
            field: field.to_owned(),
            origin: port::origin(Kind::TrafficPolicy.as_str(), &by.namespace, &by.name),
        };
        said.flat_map(|(field, (_, by))| by.iter().map(move |by| setter(field, by))).collect()
    }
}
