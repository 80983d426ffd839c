//! The CustomResourceDefinitions of all kinds, as `deploy/crds/` has them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::core::CustomResourceExt as _;

use crate::{MeshConfig, MeshTls, TrafficPolicy};

/// A definition for each kind, by name.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![MeshConfig::crd(), MeshTls::crd(), TrafficPolicy::crd()];
    for crd in &mut all {
        for version in &mut crd.spec.versions {
            let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
            if let Some(schema) = schema {
                schema.title = None; // the name of a Rust type
                make_structural(schema);
            }
        }
    }
    all
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
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        make_structural(values);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        make_structural(items);
    }
    schema.properties.iter_mut().flat_map(|p| p.values_mut()).for_each(make_structural);
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
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, found);
        }
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
