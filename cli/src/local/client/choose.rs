//! Which pod and container are meant (pure).

use super::ClientError;
use crate::local::overview::{Overview, PodLine};

/// A pod by its name, the beginning of it, or either with the namespace in front.
pub(super) fn find<'a>(overview: &'a Overview, name: &str) -> Result<&'a PodLine, ClientError> {
    let (namespace, wanted) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    let pods = overview.pods.iter().filter(|pod| namespace.is_none_or(|n| n == pod.namespace));
    let exact: Vec<&PodLine> = pods.clone().filter(|pod| pod.name == wanted).collect();
    let fitting: Vec<&PodLine> = if exact.is_empty() {
        // `reviews` means reviews-6b8f…-x2x9k, but one that is ending only if nothing else is meant.
        let begins = |pod: &&PodLine| {
            pod.name.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
        };
        let all: Vec<&PodLine> = pods.clone().filter(begins).collect();
        let living: Vec<&PodLine> = all.iter().copied().filter(|pod| !pod.terminating).collect();
        if living.is_empty() { all } else { living }
    } else {
        exact
    };
    let names = |pods: &mut dyn Iterator<Item = &PodLine>| {
        let names: Vec<String> = pods.map(|p| format!("{}/{}", p.namespace, p.name)).collect();
        names.join(", ")
    };
    match fitting.as_slice() {
        [pod] => Ok(pod),
        [] => Err(ClientError::NoPod {
            name: name.to_owned(),
            there: names(&mut overview.pods.iter()),
        }),
        several => Err(ClientError::Ambiguous {
            name: name.to_owned(),
            fitting: names(&mut several.iter().copied()),
        }),
    }
}

/// The container asked for, or the first of the pod's own.
pub(super) fn container<'a>(
    pod: &'a PodLine,
    wanted: Option<&'a str>,
) -> Result<&'a str, ClientError> {
    let own = pod.containers.iter().find(|container| container.role == "app");
    let found = match wanted {
        Some(name) => pod.containers.iter().find(|container| container.name == name),
        None => own,
    };
    let all: Vec<&str> = pod.containers.iter().map(|c| c.name.as_str()).collect();
    found.map(|container| container.name.as_str()).ok_or_else(|| ClientError::NoContainer {
        pod: pod.name.clone(),
        what: wanted.map_or_else(|| "container".to_owned(), |name| format!("container `{name}`")),
        there: all.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview() -> Overview {
        let pod = |namespace: &str, name: &str, terminating| PodLine {
            namespace: namespace.into(),
            name: name.into(),
            terminating,
            ..PodLine::default()
        };
        Overview {
            pods: vec![
                pod("shop", "cart-1-a", true),
                pod("shop", "cart-1-b", false),
                pod("shop", "web-1-c", false),
                pod("test", "web-1-d", false),
            ],
            ..Overview::default()
        }
    }

    #[test]
    fn pods_are_found_by_the_beginning_of_their_name() {
        let overview = overview();
        let found = |name: &str| find(&overview, name).map(|pod| pod.name.as_str());
        assert_eq!(found("cart-1-a").unwrap(), "cart-1-a");
        assert_eq!(found("cart").unwrap(), "cart-1-b");
        assert_eq!(found("test/web").unwrap(), "web-1-d");
        assert!(matches!(found("web"), Err(ClientError::Ambiguous { .. })));
        assert!(matches!(found("we"), Err(ClientError::NoPod { .. })));
    }
}
