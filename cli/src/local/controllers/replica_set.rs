//! ReplicaSet → pods: how many more, or which to end.

/// A pod of the ReplicaSet that is not ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Member {
    pub(in crate::local) name: String,
    pub(in crate::local) ready: bool,
    /// The later made, the higher.
    pub(in crate::local) age_rank: u64,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) enum Action {
    /// Make this many pods.
    Create(usize),
    /// End the pods with these names.
    End(Vec<String>),
}

/// Compares what is wanted with what is there. Those that are not ready end first, then the younger
/// ones: what has served longest stays.
pub(in crate::local) fn plan(desired: i32, mut members: Vec<Member>) -> Option<Action> {
    let desired = usize::try_from(desired).unwrap_or(0);
    match members.len().checked_sub(desired) {
        Some(0) => None,
        None => Some(Action::Create(desired - members.len())),
        Some(surplus) => {
            members.sort_by_key(|member| (member.ready, std::cmp::Reverse(member.age_rank)));
            let victims = members.into_iter().take(surplus).map(|member| member.name);
            Some(Action::End(victims.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, ready: bool, age_rank: u64) -> Member {
        Member { name: name.into(), ready, age_rank }
    }

    #[test]
    fn creates_what_is_missing_and_ends_the_least_useful() {
        let members = || vec![member("a", true, 1), member("b", false, 2), member("c", true, 3)];
        assert_eq!(plan(3, members()), None);
        assert_eq!(plan(5, members()), Some(Action::Create(2)));
        assert_eq!(plan(2, members()), Some(Action::End(vec!["b".into()])));
        assert_eq!(plan(1, members()), Some(Action::End(vec!["b".into(), "c".into()])));
        assert_eq!(plan(-1, vec![]), None);
    }
}
