//! The CustomResourceDefinitions of all kinds, as `deploy/crds/` has them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::core::CustomResourceExt as _;

use crate::{AccessPolicy, Lane, MeshConfig, MeshTls, Release, Telemetry, TrafficPolicy, duration};

/// A definition for each kind, by name.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        AccessPolicy::crd(),
        Lane::crd(),
        MeshConfig::crd(),
        MeshTls::crd(),
        Release::crd(),
        Telemetry::crd(),
        TrafficPolicy::crd(),
    ];
    for crd in &mut all {
        for version in &mut crd.spec.versions {
            version.additional_printer_columns.get_or_insert_default().extend(columns());
            let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
            if let Some(schema) = schema {
                schema.title = None; // the name of a Rust type
                make_structural(schema);
                make_readable(schema);
            }
        }
    }
    all
}

/// What `kubectl get` shows of every kind, behind its own columns.
fn columns() -> impl Iterator<Item = CustomResourceColumnDefinition> {
    let columns = [
        ("Accepted", "string", r#".status.conditions[?(@.type=="Accepted")].status"#),
        ("In Force", "string", ".status.inForce"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ];
    columns.into_iter().map(|(name, kind, path)| CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: kind.to_owned(),
        json_path: path.to_owned(),
        ..CustomResourceColumnDefinition::default()
    })
}

/// Kubernetes forbids `additionalProperties` beside `properties`, and drops or refuses unknown
/// fields by itself; schemars writes `additionalProperties: false` for them. Nor does it know
/// formats of unsigned numbers.
fn make_structural(schema: &mut JSONSchemaProps) {
    if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Bool(false))) {
        schema.additional_properties = None;
    }
    let unsigned = match schema.format.as_deref() {
        Some("uint16") => Some(("int32", f64::from(u16::MAX))),
        Some("uint32") => Some(("int64", f64::from(u32::MAX))),
        Some("uint64") => Some(("int64", u64::MAX as f64)),
        _ => None,
    };
    if let Some((format, maximum)) = unsigned {
        schema.format = Some(format.to_owned());
        schema.maximum.get_or_insert(maximum);
    }
    // What is null is left out by the API server, which is what our types make of it.
    schema.nullable = None;
    below(schema).for_each(make_structural);
}

/// Texts are shown by tools that break lines by themselves; a pattern says nothing to people, so a
/// rule with a message takes its place.
fn make_readable(schema: &mut JSONSchemaProps) {
    if let Some(text) = &mut schema.description {
        let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    if schema.pattern.as_deref() == Some(duration::PATTERN) {
        schema.pattern = None;
        let form = ValidationRule {
            rule: format!("self.matches('{}')", duration::PATTERN),
            message: Some("it is no duration; write for example 10s, 1h30m or 500ms".to_owned()),
            ..ValidationRule::default()
        };
        schema.x_kubernetes_validations.get_or_insert_default().insert(0, form);
    }
    below(schema).for_each(make_readable);
}

/// The schemas of what is directly in it.
fn below(schema: &mut JSONSchemaProps) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let values = match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(&mut **values),
        _ => None,
    };
    let items = match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&mut **items),
        _ => None,
    };
    let properties = schema.properties.iter_mut().flat_map(|properties| properties.values_mut());
    values.into_iter().chain(items).chain(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        let described = schema.description.is_some() || path.ends_with("[]");
        if !described {
            found.push(format!("{path} has no description"));
        }
        if schema.additional_properties.is_some() && schema.properties.is_some() {
            found.push(format!("{path} is not structural"));
        }
        let texts = schema.enum_.iter().flatten().filter_map(|value| value.0.as_str());
        let names = schema.properties.iter().flatten().map(|(name, _)| &**name);
        for word in texts.chain(names).filter(|word| is_bool_to_kubectl(word)) {
            found.push(format!("{path}: {word} is no text to kubectl"));
        }
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, found);
        }
    }

    /// YAML 1.1, which kubectl and Helm read, takes these words for booleans: `on: [5xx]` would
    /// arrive as `true: [5xx]`.
    fn is_bool_to_kubectl(word: &str) -> bool {
        ["y", "n", "yes", "no", "on", "off", "true", "false"].contains(&&*word.to_lowercase())
    }

    #[test]
    fn every_field_is_explained_and_structural() {
        let mut found = Vec::new();
        for crd in all() {
            for version in crd.spec.versions {
                let schema = version.schema.and_then(|s| s.open_api_v3_schema).expect("a schema");
                walk(&crd.spec.names.kind, &schema, &mut found);
            }
        }
        assert_eq!(found, [""; 0]);
    }
}
