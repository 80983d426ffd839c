//! Deployment → ReplicaSets: the rolling update, step by step.
//!
//! The arithmetic is that of Kubernetes' Deployment controller: never more pods than `replicas` and
//! the surge, never fewer available ones than `replicas` less `maxUnavailable`; pods that never
//! became ready go first and do not count as available, so a broken template stops the rollout and
//! takes nothing away. One simplification: a Deployment scaled in the middle of a rollout grows its
//! new ReplicaSet instead of all in proportion.

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::PodTemplateSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use sha2::{Digest as _, Sha256};

use super::safe_name;

/// What of a Deployment decides about its ReplicaSets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Wanted {
    /// Pods wanted.
    pub(in crate::local) replicas: i32,
    /// Hash of the template: the ReplicaSet that shall hold all pods.
    pub(in crate::local) hash: String,
    /// How to get there.
    pub(in crate::local) strategy: Strategy,
}

/// How pods of an old template are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Strategy {
    /// All at once: down, then up.
    Recreate,
    /// Bit by bit.
    Rolling {
        /// Pods there may be on top.
        surge: i32,
        /// Pods that may be missing.
        unavailable: i32,
    },
}

/// A ReplicaSet of the Deployment, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Set {
    pub(in crate::local) hash: String,
    /// Its `spec.replicas`.
    pub(in crate::local) desired: i32,
    /// Pods of it that exist, those that are ending included.
    pub(in crate::local) pods: i32,
    /// Pods of it that are available (ready for `minReadySeconds`).
    pub(in crate::local) available: i32,
}

/// A step to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) enum Action {
    /// Make the ReplicaSet of the current template.
    Create { replicas: i32 },
    /// Change `spec.replicas` of the ReplicaSet with this hash.
    Scale { hash: String, replicas: i32 },
    /// Remove a ReplicaSet of an old template that has no pods.
    Delete { hash: String },
}

impl Wanted {
    /// Reads a Deployment, with Kubernetes' defaults (one replica, 25 % and 25 %).
    pub(in crate::local) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.strategy.unwrap_or_default();
        let strategy = if strategy.type_.as_deref() == Some("Recreate") {
            Strategy::Recreate
        } else {
            let rolling = strategy.rolling_update.unwrap_or_default();
            let quarter = || IntOrString::String("25%".to_owned());
            let surge = share(&rolling.max_surge.unwrap_or_else(quarter), replicas, Round::Up);
            let mut unavailable =
                share(&rolling.max_unavailable.unwrap_or_else(quarter), replicas, Round::Down);
            if surge == 0 && unavailable == 0 {
                // Otherwise nothing could ever move.
                unavailable = 1;
            }
            Strategy::Rolling { surge, unavailable }
        };
        Self { replicas, hash: template_hash(&spec.template), strategy }
    }
}

/// What to do next. Called again whenever something changed; no action means: wait.
pub(in crate::local) fn plan(wanted: &Wanted, sets: &[Set]) -> Vec<Action> {
    let Some(new) = sets.iter().find(|set| set.hash == wanted.hash) else {
        let others: i32 = sets.iter().map(|set| set.desired).sum();
        let replicas = match wanted.strategy {
            Strategy::Recreate if sets.iter().any(|set| set.pods > 0 || set.desired > 0) => {
                return scale_to_zero(sets);
            }
            Strategy::Recreate => wanted.replicas,
            Strategy::Rolling { surge, .. } => {
                (wanted.replicas + surge - others).clamp(0, wanted.replicas)
            }
        };
        return vec![Action::Create { replicas }];
    };
    let old: Vec<&Set> = sets.iter().filter(|set| set.hash != wanted.hash).collect();
    let mut actions = Vec::new();
    match wanted.strategy {
        Strategy::Recreate => {
            if old.iter().any(|set| set.desired > 0) {
                return old.iter().filter(|s| s.desired > 0).map(|s| scale(s, 0)).collect();
            }
            if old.iter().all(|set| set.pods == 0) && new.desired != wanted.replicas {
                actions.push(scale(new, wanted.replicas));
            }
        }
        Strategy::Rolling { surge, unavailable } => {
            if let Some(replicas) = new_size(wanted.replicas, surge, new, &old) {
                return vec![scale(new, replicas)];
            }
            actions.extend(shrink_old(wanted.replicas - unavailable, new, &old));
        }
    }
    let empty = old.iter().filter(|set| set.desired == 0 && set.pods == 0);
    actions.extend(empty.map(|set| Action::Delete { hash: set.hash.clone() }));
    actions
}

/// The next size of the new ReplicaSet, if it changes.
fn new_size(replicas: i32, surge: i32, new: &Set, old: &[&Set]) -> Option<i32> {
    if new.desired > replicas {
        return Some(replicas);
    }
    let total = new.desired + old.iter().map(|set| set.desired).sum::<i32>();
    let grow = (replicas + surge - total).min(replicas - new.desired);
    (grow > 0).then(|| new.desired + grow)
}

/// Old ReplicaSets get smaller as far as `min_available` pods stay available.
fn shrink_old(min_available: i32, new: &Set, old: &[&Set]) -> Vec<Action> {
    let total = new.desired + old.iter().map(|set| set.desired).sum::<i32>();
    let new_unavailable = (new.desired - new.available).max(0);
    let mut room = total - min_available - new_unavailable;
    if room <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<i32> = old.iter().map(|set| set.desired).collect();
    // First those that serve nobody anyway.
    for (size, set) in sizes.iter_mut().zip(old) {
        let unhealthy = (set.desired - set.available).clamp(0, room);
        *size -= unhealthy;
        room -= unhealthy;
    }
    let available: i32 =
        new.available + old.iter().map(|set| set.available.min(set.desired)).sum::<i32>();
    let mut spare = (available - min_available).max(0).min(room);
    for size in &mut sizes {
        let down = (*size).min(spare);
        *size -= down;
        spare -= down;
    }
    let changed = sizes.into_iter().zip(old).filter(|(size, set)| *size != set.desired);
    changed.map(|(size, set)| scale(set, size)).collect()
}

fn scale_to_zero(sets: &[Set]) -> Vec<Action> {
    sets.iter().filter(|set| set.desired > 0).map(|set| scale(set, 0)).collect()
}

fn scale(set: &Set, replicas: i32) -> Action {
    Action::Scale { hash: set.hash.clone(), replicas }
}

#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

/// A number, or a percentage of `of`.
fn share(value: &IntOrString, of: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(0);
            let exact = percent.saturating_mul(of);
            match round {
                Round::Up => (exact + 99).div_euclid(100),
                Round::Down => exact.div_euclid(100),
            }
        }
    }
    .max(0)
}

/// `pod-template-hash`: the same for the same content, whatever its order in the file.
pub(in crate::local) fn template_hash(template: &PodTemplateSpec) -> String {
    // serde_json's maps are sorted.
    let canonical = serde_json::to_value(template).unwrap_or_default().to_string();
    let digest = Sha256::digest(canonical);
    let seed = digest.iter().take(16).fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
    safe_name(seed, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolling(replicas: i32, surge: i32, unavailable: i32) -> Wanted {
        let strategy = Strategy::Rolling { surge, unavailable };
        Wanted { replicas, hash: "new".into(), strategy }
    }

    fn set(hash: &str, desired: i32, available: i32) -> Set {
        Set { hash: hash.into(), desired, pods: desired, available }
    }

    fn to(hash: &str, replicas: i32) -> Action {
        Action::Scale { hash: hash.into(), replicas }
    }

    #[test]
    fn percentages_round_as_kubernetes_rounds_them() {
        let percent = |text: &str| IntOrString::String(text.into());
        for (text, of, up, down) in
            [("25%", 1, 1, 0), ("25%", 3, 1, 0), ("25%", 4, 1, 1), ("25%", 10, 3, 2)]
        {
            assert_eq!(share(&percent(text), of, Round::Up), up, "{text} of {of} up");
            assert_eq!(share(&percent(text), of, Round::Down), down, "{text} of {of} down");
        }
        assert_eq!(share(&IntOrString::Int(2), 10, Round::Up), 2);
    }

    #[test]
    fn steps_of_a_rollout() {
        // (what is wanted, what is there, what to do)
        let table = [
            ("first", rolling(3, 1, 0), vec![], vec![Action::Create { replicas: 3 }]),
            (
                "surge",
                rolling(3, 1, 0),
                vec![set("old", 3, 3)],
                vec![Action::Create { replicas: 1 }],
            ),
            (
                "new pod is not ready: hold",
                rolling(3, 1, 0),
                vec![set("old", 3, 3), set("new", 1, 0)],
                vec![],
            ),
            (
                "new pod is ready: one old goes",
                rolling(3, 1, 0),
                vec![set("old", 3, 3), set("new", 1, 1)],
                vec![to("old", 2)],
            ),
            (
                "room again: one new",
                rolling(3, 1, 0),
                vec![set("old", 2, 2), set("new", 1, 1)],
                vec![to("new", 2)],
            ),
            (
                "an old one that is not ready goes first",
                rolling(3, 1, 1),
                vec![set("older", 1, 0), set("old", 2, 2), set("new", 1, 0)],
                vec![to("older", 0)],
            ),
            (
                "without surge, take before giving",
                rolling(2, 0, 1),
                vec![set("old", 2, 2), set("new", 0, 0)],
                vec![to("old", 1)],
            ),
            ("scale down", rolling(1, 1, 0), vec![set("new", 3, 3)], vec![to("new", 1)]),
            ("scale up", rolling(5, 2, 1), vec![set("new", 3, 3)], vec![to("new", 5)]),
            (
                "done",
                rolling(3, 1, 0),
                vec![set("old", 0, 0), set("new", 3, 3)],
                vec![Action::Delete { hash: "old".into() }],
            ),
            ("nothing to do", rolling(3, 1, 0), vec![set("new", 3, 3)], vec![]),
        ];
        for (name, wanted, sets, actions) in table {
            assert_eq!(plan(&wanted, &sets), actions, "{name}");
        }
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        let wanted = Wanted { replicas: 2, hash: "new".into(), strategy: Strategy::Recreate };
        assert_eq!(plan(&wanted, &[set("old", 2, 2)]), vec![to("old", 0)]);
        let ending = Set { pods: 2, ..set("old", 0, 0) };
        assert_eq!(plan(&wanted, std::slice::from_ref(&ending)), vec![]);
        let gone = Set { pods: 0, ..ending };
        assert_eq!(plan(&wanted, &[gone]), vec![Action::Create { replicas: 2 }]);
    }

    #[test]
    fn the_hash_follows_the_content() {
        let template = |yaml: &str| -> PodTemplateSpec { serde_yaml_ng::from_str(yaml).unwrap() };
        let a = template("metadata: {labels: {a: x, b: y}}\nspec: {containers: [{name: c}]}");
        let b = template("spec: {containers: [{name: c}]}\nmetadata: {labels: {b: y, a: x}}");
        let c = template("spec: {containers: [{name: d}]}\nmetadata: {labels: {b: y, a: x}}");
        assert_eq!(template_hash(&a), template_hash(&b));
        assert_ne!(template_hash(&a), template_hash(&c));
        assert_eq!(template_hash(&a).len(), 10);
    }

    proptest::proptest! {
        /// However a rollout begins, with pods that become ready it ends, within its bounds.
        #[test]
        fn a_rollout_ends_within_its_bounds(
            replicas in 1..12i32, surge in 0..5i32, unavailable in 0..5i32, old in 0..12i32,
        ) {
            let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
            let old = old.min(replicas);
            let wanted = rolling(replicas, surge, unavailable);
            let mut sets = vec![set("old", old, old)];
            for _ in 0..100 {
                let actions = plan(&wanted, &sets);
                if actions.is_empty() && sets.iter().all(|s| s.available == s.desired) {
                    break;
                }
                for action in actions {
                    match action {
                        Action::Create { replicas } => sets.push(set("new", replicas, 0)),
                        Action::Scale { hash, replicas } => {
                            let set = sets.iter_mut().find(|s| s.hash == hash).unwrap();
                            set.desired = replicas;
                            set.pods = replicas;
                            set.available = set.available.min(replicas);
                        }
                        Action::Delete { hash } => sets.retain(|s| s.hash != hash),
                    }
                }
                let total: i32 = sets.iter().map(|s| s.desired).sum();
                let available: i32 = sets.iter().map(|s| s.available).sum();
                proptest::prop_assert!(total <= replicas + surge);
                proptest::prop_assert!(available >= old.min(replicas - unavailable));
                // One more pod becomes ready.
                if let Some(s) = sets.iter_mut().find(|s| s.available < s.desired) { s.available += 1; }
            }
            proptest::prop_assert_eq!(sets, vec![set("new", replicas, replicas)]);
        }
    }
}
