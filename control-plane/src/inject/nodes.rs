//! Which nodes a pod may run on, as far as it says so itself.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, PodSpec};

/// What images are made for: `deploy/images`.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Labels of nodes, each with its name of old, which nodes still have.
const ARCHITECTURE: [&str; 2] = ["kubernetes.io/arch", "beta.kubernetes.io/arch"];
const SYSTEM: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// Whether all of them are of architectures that there is no sidecar for.
pub(super) fn strange_architecture(spec: &PodSpec) -> bool {
    !ARCHITECTURES.iter().any(|architecture| admits(spec, &ARCHITECTURE, architecture))
}

/// Whether they run Windows, or what else is not Linux.
pub(super) fn not_linux(spec: &PodSpec) -> bool {
    spec.os.as_ref().is_some_and(|os| os.name == "windows") || !admits(spec, &SYSTEM, "linux")
}

/// Whether nodes whose labels of these names have this value are among them.
fn admits(spec: &PodSpec, labels: &[&str], value: &str) -> bool {
    let mut selector = spec.node_selector.iter().flatten();
    let selected = selector.all(|(key, said)| !labels.contains(&key.as_str()) || said == value);
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.map_or(&[][..], |required| &required.node_selector_terms);
    // One term is enough, and in it every expression must be true.
    let mut each = terms.iter().map(|term| {
        let mut of_label = term.match_expressions.iter().flatten();
        of_label.all(|said| !labels.contains(&said.key.as_str()) || is_true(said, value))
    });
    selected && (terms.is_empty() || each.any(|admitted| admitted))
}

fn is_true(said: &NodeSelectorRequirement, value: &str) -> bool {
    let listed = said.values.iter().flatten().any(|listed| listed == value);
    match said.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "DoesNotExist" => false,
        // `Exists`; numbers are compared of other labels.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> PodSpec {
        serde_yaml_ng::from_str(&format!("{{containers: [], {yaml}}}")).expect("a spec")
    }

    /// A spec with these terms, each a list of expressions.
    fn terms(terms: &[&str]) -> PodSpec {
        let terms: Vec<_> = terms.iter().map(|t| format!("{{matchExpressions: [{t}]}}")).collect();
        spec(&format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
             {{nodeSelectorTerms: [{}]}}}}}}",
            terms.join(", ")
        ))
    }

    #[test]
    fn a_pod_is_strange_if_no_node_of_ours_is_left() {
        for (expressions, strange) in [
            (&["{key: kubernetes.io/arch, operator: In, values: [s390x]}"][..], true),
            (&["{key: beta.kubernetes.io/arch, operator: In, values: [s390x, ppc64le]}"], true),
            (&["{key: kubernetes.io/arch, operator: In, values: [s390x, arm64]}"], false),
            (&["{key: kubernetes.io/arch, operator: NotIn, values: [amd64]}"], false),
            (&["{key: kubernetes.io/arch, operator: NotIn, values: [arm64, amd64]}"], true),
            (&["{key: kubernetes.io/arch, operator: Exists}"], false),
            (&["{key: kubernetes.io/arch, operator: DoesNotExist}"], true),
            (&["{key: example.org/arch, operator: In, values: [s390x]}"], false),
            // All of a term, any of the terms.
            (
                &["{key: kubernetes.io/arch, operator: Exists}, \
                   {key: kubernetes.io/arch, operator: In, values: [s390x]}"],
                true,
            ),
            (
                &[
                    "{key: kubernetes.io/arch, operator: In, values: [s390x]}",
                    "{key: zone, operator: In, values: [a]}",
                ],
                false,
            ),
            (
                &[
                    "{key: kubernetes.io/arch, operator: In, values: [s390x]}",
                    "{key: kubernetes.io/arch, operator: In, values: [riscv64]}",
                ],
                true,
            ),
        ] {
            assert_eq!(strange_architecture(&terms(expressions)), strange, "{expressions:?}");
        }
        for (said, strange) in [
            ("nodeSelector: {kubernetes.io/arch: s390x}", true),
            ("nodeSelector: {beta.kubernetes.io/arch: riscv64}", true),
            ("nodeSelector: {kubernetes.io/arch: amd64}", false),
            ("nodeSelector: {kubernetes.io/arch: arm64, disk: s390x}", false),
            ("nodeSelector: {}", false),
            // What is preferred binds nobody.
            (
                "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: \
                 [{weight: 1, preference: {matchExpressions: \
                 [{key: kubernetes.io/arch, operator: In, values: [s390x]}]}}]}}",
                false,
            ),
        ] {
            assert_eq!(strange_architecture(&spec(said)), strange, "{said}");
        }
    }

    #[test]
    fn windows_by_any_way_to_say_it() {
        let by_affinity = "{key: kubernetes.io/os, operator: In, values: [windows]}";
        assert!(not_linux(&terms(&[by_affinity])));
        assert!(!not_linux(&terms(&[by_affinity, ""])));
        for (said, windows) in [
            ("os: {name: windows}", true),
            ("os: {name: linux}", false),
            ("nodeSelector: {kubernetes.io/os: windows}", true),
            ("nodeSelector: {kubernetes.io/os: linux}", false),
        ] {
            assert_eq!(not_linux(&spec(said)), windows, "{said}");
        }
    }
}
