//! What Kubernetes' controllers would do, as functions: what is wanted and what is there in, what to
//! do out. Nothing here starts a process, reads a clock or writes a file.

pub(super) mod deployment;
pub(super) mod endpoints;
pub(super) mod replica_set;
pub(super) mod services;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Id {
    pub(super) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Labels as objects carry them.
pub(super) type Labels = BTreeMap<String, String>;

/// Does `selector` choose an object with these labels? An empty selector chooses everything.
pub(super) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let exact = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    exact.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|wanted| {
            let value = labels.get(&wanted.key);
            let listed =
                value.is_some_and(|value| wanted.values.iter().flatten().any(|v| v == value));
            match wanted.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Text in the alphabet of generated names: no vowels, so no words; nothing that looks like
/// something else.
pub(super) fn safe_name(seed: u128, length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let base = ALPHABET.len() as u128;
    let digits = std::iter::successors(Some(seed), |rest| Some(rest / base));
    digits
        .take(length)
        .filter_map(|rest| {
            let index = usize::try_from(rest % base).ok()?;
            ALPHABET.get(index).map(|byte| char::from(*byte))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn selectors() {
        let labels = Labels::from([("app".into(), "a".into()), ("tier".into(), "web".into())]);
        let expression = |operator: &str, values: &[&str]| LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "tier".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|&v| v.to_owned()).collect()),
            }]),
            ..LabelSelector::default()
        };
        let exact = |value: &str| LabelSelector {
            match_labels: Some(Labels::from([("app".into(), value.into())])),
            ..LabelSelector::default()
        };
        assert!(selects(&exact("a"), &labels));
        assert!(!selects(&exact("b"), &labels));
        assert!(selects(&expression("In", &["web"]), &labels));
        assert!(!selects(&expression("NotIn", &["web"]), &labels));
        assert!(selects(&expression("Exists", &[]), &labels));
        assert!(!selects(&expression("DoesNotExist", &[]), &labels));
        assert!(selects(&LabelSelector::default(), &labels));
    }

    #[test]
    fn names_are_of_the_asked_length() {
        assert_eq!(safe_name(0, 5), "bbbbb");
        assert_eq!(safe_name(u128::MAX, 10).len(), 10);
    }
}
