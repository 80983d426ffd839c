//! The table of `tests/cluster/crds.yaml`, which a real API server is also asked about.

use serde_json::Value;

use super::*;

const TABLE: &str = include_str!("../../../tests/cluster/crds.yaml");

#[test]
fn our_validation_and_the_api_server_mean_the_same() {
    let documents: Vec<_> = TABLE.split("\n---\n").skip(1).collect();
    assert!(documents.len() > 50, "{} documents", documents.len());
    for document in documents {
        let (expected, yaml) = document.split_once('\n').unwrap();
        let value: Value = serde_yaml_ng::from_str(yaml).unwrap();
        let outcome = convert(&value);
        let told: Vec<_> =
            outcome.faults.iter().map(|f| format!("{}: {}", f.field, f.reason)).collect();
        let refused = expected
            .strip_prefix("# refused ")
            .map(|rest| rest.split_once(": ").unwrap().0)
            .or_else(|| expected.strip_prefix("# ours refuses "));
        let Some(field) = refused else {
            assert_eq!(expected, "# taken", "{document}");
            assert_eq!(told, [""; 0], "{document}");
            assert!(outcome.object.is_some(), "{document}");
            continue;
        };
        assert!(outcome.object.is_none(), "taken:\n{document}");
        // Where a parser stops at the whole object, its words name the field.
        let last = field.rsplit(['.', '[']).next().unwrap();
        let named = |told: &String| told.starts_with(field) || told.contains(&format!("`{last}`"));
        assert!(told.iter().any(named), "{told:?} does not name {field}:\n{document}");
    }
}

#[test]
fn the_examples_of_the_documentation_are_taken() {
    let policy = include_str!("../../../docs/policy.md");
    let telemetry = include_str!("../../../docs/telemetry.md");
    let texts = [policy, telemetry];
    let blocks = texts.iter().flat_map(|text| text.split("```yaml\n").skip(1));
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let documents: Vec<_> = blocks.flat_map(|block| block.split("---\n")).collect();
    assert!(documents.len() >= 8, "{} examples", documents.len());
    for document in documents {
        let outcome = convert(&serde_yaml_ng::from_str(document).unwrap());
        assert_eq!(outcome.faults, [], "{document}");
        assert!(outcome.object.is_some(), "{document}");
    }
}

#[test]
fn a_status_that_we_do_not_know_costs_no_policy() {
    let yaml = "
apiVersion: tulle.dev/v1alpha1
kind: MeshTLS
metadata: {name: a, namespace: b}
spec: {mode: Strict}
status: {inForce: {of: a, newer: form}, conditions: none}";
    let outcome = convert(&serde_yaml_ng::from_str(yaml).unwrap());
    assert_eq!(outcome.faults, []);
    assert!(outcome.object.is_some());
}
