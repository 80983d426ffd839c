//! What a release makes of a Service as somebody's destination: two clusters, each with its share.

use tulle_xds::model::Backend;

use super::names::{Part, Target};
use crate::{
    release::Share,
    world::{World, objects::ObjectRef},
};

/// A backend, and what of it a release gives to a canary.
pub(super) struct Divided {
    pub(super) backend: Backend,
    pub(super) canary: Option<(String, Share)>,
}

impl Divided {
    /// What goes to a part of a Service.
    pub(super) fn of(world: &World, part: Part, backend: impl FnOnce(String) -> Backend) -> Self {
        let service = world.service(&part.service);
        let split = service.and_then(|service| world.split(service)).filter(|one| one.is_open());
        let canary = split.map(|split| {
            let canary = Part { canary: true, ..part.clone() };
            (Target::Service(canary).to_string(), split.share)
        });
        Self { backend: backend(Target::Service(part).to_string()), canary }
    }

    /// What no release divides.
    pub(super) fn whole(backend: Backend) -> Self {
        Self { backend, canary: None }
    }
}

/// All of them with their shares. The canary's comes before the other, so that it grows at one end: whoever is kept by a hash
/// stays with it.
pub(super) fn backends(all: Vec<Divided>) -> Vec<Backend> {
    if all.iter().all(|one| one.canary.is_none()) {
        return all.into_iter().map(|one| one.backend).collect();
    }
    let scale = scale(all.iter().map(|one| one.backend.weight));
    let mut found = Vec::new();
    for Divided { backend, canary } in all {
        let weight = backend.weight.saturating_mul(scale);
        let Some((cluster, share)) = canary else {
            found.push(Backend { weight, ..backend });
            continue;
        };
        let part = u64::from(weight) * u64::from(share.per_ten_thousand()) / 10_000;
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        found.push(Backend { cluster, weight: part, filters: backend.filters.clone() });
        found.push(Backend { weight: weight - part, ..backend });
    }
    found
}

/// By how much weights grow, so that each can be divided finely: their sum must stay within 32 bits.
fn scale(weights: impl Iterator<Item = u32>) -> u32 {
    let sum: u64 = weights.map(u64::from).sum();
    let most = u64::from(u32::MAX).checked_div(sum).unwrap_or(10_000);
    u32::try_from(most.clamp(1, 10_000)).unwrap_or(1)
}

/// The release that divides what goes to a cluster.
pub(super) fn divided_by(world: &World, cluster: &str) -> Option<ObjectRef> {
    let Target::Service(part) = Target::parse(cluster)? else { return None };
    let split = world.split(world.service(&part.service)?)?;
    split.is_open().then(|| split.release.reference())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn backend(cluster: &str, weight: u32) -> Backend {
        Backend { cluster: cluster.to_owned(), weight, filters: Vec::new() }
    }

    fn divided(weight: u32, share: Option<u8>) -> Divided {
        let canary = share.map(|share| ("canary".to_owned(), Share::percent(share)));
        Divided { backend: backend("stable", weight), canary }
    }

    #[test]
    fn a_canary_gets_its_share_and_others_keep_theirs() {
        let all = backends(vec![divided(1, Some(5)), divided(3, None)]);
        let weights: Vec<_> = all.iter().map(|one| (one.cluster.as_str(), one.weight)).collect();
        assert_eq!(weights, [("canary", 500), ("stable", 9500), ("stable", 30_000)]);
        assert_eq!(backends(vec![divided(7, None)]), [backend("stable", 7)]);
        let none = backends(vec![divided(1, Some(0))]);
        assert_eq!(none, [backend("canary", 0), backend("stable", 10_000)]);
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
            let after = backends(all.into_iter().map(|(weight, share)| divided(weight, share)).collect());
            let sum: u64 = after.iter().map(|one| u64::from(one.weight)).sum();
            prop_assert!(sum <= u64::from(u32::MAX));
            if before > 0 && split {
                prop_assert_eq!(sum % before, 0);
                let canary: u64 = after.iter().filter(|b| b.cluster == "canary").map(|b| u64::from(b.weight)).sum();
                #[expect(clippy::cast_precision_loss, reason = "below 2^32")]
                let shares = (canary as f64 / sum as f64, wanted / before as f64);
                prop_assert!((shares.0 - shares.1).abs() < 0.001, "{:?}", shares);
            }
        }
    }
}
