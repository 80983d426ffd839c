//! What a release makes of a Service as somebody's destination: two clusters, each with its share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::HeaderName;
use tulle_api::StickBy;
use tulle_xds::model::{Backend, Stick};

use super::names::{Part, Target};
use crate::{
    release::Share,
    world::{
        Split, World,
        objects::{Name, Release},
    },
};

/// How releases divide some Services, each looked up once: pods are counted for it.
#[derive(Default)]
pub(super) struct Splits<'a>(BTreeMap<Name, Split<'a>>);

impl<'a> Splits<'a> {
    pub(super) fn of(world: &'a World, services: impl Iterator<Item = Name>) -> Self {
        let services: BTreeSet<Name> = services.collect();
        let split = |name: Name| {
            let split = world.split(world.service(&name)?)?;
            split.is_open().then_some((name, split))
        };
        Self(services.into_iter().filter_map(split).collect())
    }

    pub(super) fn get(&self, service: &Name) -> Option<Split<'a>> {
        self.0.get(service).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Split<'a>> {
        self.0.values()
    }

    /// The same, but that nothing is done for the steps that the releases are in but dividing by shares.
    pub(super) fn by_share(mut self) -> Self {
        self.0.values_mut().for_each(|split| split.step = None);
        self
    }
}

/// A backend, and what divides it.
pub(super) struct Divided<'a> {
    pub(super) backend: Backend,
    pub(super) canary: Option<Canary<'a>>,
}

/// A part of what goes to a backend.
pub(super) struct Canary<'a> {
    pub(super) part: Part,
    pub(super) split: Split<'a>,
}

impl<'a> Divided<'a> {
    /// What goes to a part of a Service.
    pub(super) fn of(
        splits: &Splits<'a>,
        part: Part,
        backend: impl FnOnce(String) -> Backend,
    ) -> Self {
        let canary = splits.get(&part.service);
        let canary =
            canary.map(|split| Canary { part: Part { canary: true, ..part.clone() }, split });
        Self { backend: backend(Target::Service(part).to_string()), canary }
    }

    /// What no release divides.
    pub(super) fn whole(backend: Backend) -> Self {
        Self { backend, canary: None }
    }
}

/// The backends of a rule.
pub(super) struct Division<'a>(pub(super) Vec<Divided<'a>>);

impl<'a> Division<'a> {
    /// All of them with their shares; the canaries of the releases in `whole` get all that there is for both versions. The canary's
    /// comes before the other, so that it grows at one end: whoever is kept by a hash stays with it.
    pub(super) fn backends(&self, whole: &[&Name]) -> Vec<Backend> {
        let scale = self.scale();
        let mut found = Vec::new();
        for Divided { backend, canary } in &self.0 {
            let weight = backend.weight.saturating_mul(scale);
            let Some(Canary { part, split }) = canary else {
                found.push(Backend { weight, ..backend.clone() });
                continue;
            };
            // Of two Services of one release one may have no endpoints of the canary.
            let all = split.step.is_some() && whole.contains(&&split.release.name);
            let share = if all { Share::ALL } else { split.share };
            let given = u64::from(weight) * u64::from(share.per_ten_thousand()) / 10_000;
            let given = u32::try_from(given).unwrap_or(u32::MAX);
            let cluster = Target::Service(part.clone()).to_string();
            found.push(Backend { cluster, weight: given, filters: backend.filters.clone() });
            found.push(Backend { weight: weight - given, ..backend.clone() });
        }
        found
    }

    /// By how much weights grow, so that each can be divided finely: their sum must stay within 32 bits.
    fn scale(&self) -> u32 {
        if self.0.iter().all(|one| one.canary.is_none()) {
            return 1;
        }
        let sum = self.weight();
        let most = u64::from(u32::MAX).checked_div(sum).unwrap_or(10_000);
        u32::try_from(most.clamp(1, 10_000)).unwrap_or(1)
    }

    /// Of all of them, before they grow.
    pub(super) fn weight(&self) -> u64 {
        self.0.iter().map(|one| u64::from(one.backend.weight)).sum()
    }

    /// Those that are divided.
    pub(super) fn divided(&self) -> impl Iterator<Item = (&Backend, &Canary<'a>)> {
        self.0.iter().filter_map(|one| Some((&one.backend, one.canary.as_ref()?)))
    }

    /// What the first release of which it is said keeps requests by. It decides among all backends of the rule.
    pub(super) fn stick(&self) -> Option<Stick> {
        self.divided().find_map(|(_, canary)| stick(canary.split.release.plan.stick_by.as_ref()?))
    }
}

fn stick(told: &StickBy) -> Option<Stick> {
    match told {
        StickBy { source_ip: true, .. } => Some(Stick::SourceIp),
        // Conversion has refused what is no name.
        StickBy { header: Some(name), .. } => name.parse::<HeaderName>().ok().map(Stick::Header),
        StickBy { cookie, .. } => cookie.clone().filter(|name| !name.is_empty()).map(Stick::Cookie),
    }
}

/// The releases that divide what goes to these clusters, each once for each Service.
pub(super) fn releases(
    world: &World,
    clusters: impl IntoIterator<Item = impl AsRef<str>>,
) -> Vec<&Arc<Release>> {
    let service = |cluster: &str| match Target::parse(cluster)? {
        Target::Service(part) => Some(part.service),
        Target::Pod(..) => None,
    };
    let services = clusters.into_iter().filter_map(|cluster| service(cluster.as_ref()));
    Splits::of(world, services).iter().map(|split| split.release).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        release::{Course, Plan},
        world::objects::Target as Released,
    };

    fn backend(cluster: &str, weight: u32) -> Backend {
        Backend { cluster: cluster.to_owned(), weight, filters: Vec::new() }
    }

    /// What becomes of these backends, which a release divides by these percents.
    fn backends(all: &[(u32, Option<u8>)]) -> Vec<Backend> {
        let release = Arc::new(Release {
            name: Name::new("shop", "web"),
            uid: String::new(),
            created: String::new(),
            target: Released::Deployment("web".to_owned()),
            services: Vec::new(),
            plan: Plan::default(),
            course: None,
        });
        let course = Course::default();
        let canary = |share| Canary {
            part: Part { canary: true, ..Part::whole(&Name::new("shop", "web"), 80) },
            split: Split {
                helped: false,
                release: &release,
                course: &course,
                share: Share::percent(share),
                step: None,
            },
        };
        let divided = |&(weight, share): &(u32, Option<u8>)| Divided {
            backend: backend("stable", weight),
            canary: share.map(canary),
        };
        Division(all.iter().map(divided).collect()).backends(&[])
    }

    const CANARY: &str = "canary/shop/web/80";

    #[test]
    fn a_canary_gets_its_share_and_others_keep_theirs() {
        let all = backends(&[(1, Some(5)), (3, None)]);
        let weights: Vec<_> = all.iter().map(|one| (one.cluster.as_str(), one.weight)).collect();
        assert_eq!(weights, [(CANARY, 500), ("stable", 9500), ("stable", 30_000)]);
        assert_eq!(backends(&[(7, None)]), [backend("stable", 7)]);
        let none = backends(&[(1, Some(0))]);
        assert_eq!(none, [backend(CANARY, 0), backend("stable", 10_000)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_overflows(
            all in vec((0..=1_000_000_u32, prop::option::of(0..=100_u8)), 1..16),
        ) {
            let before: u64 = all.iter().map(|(weight, _)| u64::from(*weight)).sum();
            let wanted: f64 = all.iter().map(|(weight, share)| {
                f64::from(*weight) * f64::from(share.unwrap_or(0)) / 100.0
            }).sum();
            let split = all.iter().any(|(_, share)| share.is_some());
            let after = backends(&all);
            let sum: u64 = after.iter().map(|one| u64::from(one.weight)).sum();
            prop_assert!(sum <= u64::from(u32::MAX));
            if before > 0 && split {
                prop_assert_eq!(sum % before, 0);
                let canary: u64 = after.iter().filter(|b| b.cluster == CANARY).map(|b| u64::from(b.weight)).sum();
                #[expect(clippy::cast_precision_loss, reason = "below 2^32")]
                let shares = (canary as f64 / sum as f64, wanted / before as f64);
                prop_assert!((shares.0 - shares.1).abs() < 0.001, "{:?}", shares);
            }
        }
    }
}
