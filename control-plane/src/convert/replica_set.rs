//! ReplicaSet: which template of a Deployment is the one that is wanted.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{
    Fault, Field, Name,
    typed::{self, Unknown},
};
use crate::world::objects::{Object, ReplicaSet};

/// Written by the Deployment's controller.
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const HASH: &str = "pod-template-hash";

/// One that belongs to no Deployment is none of our business. Of others the metadata says nearly all, and nothing else may be
/// there.
pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let mut inner = Vec::new();
    let metadata = value.get("metadata").unwrap_or(&Value::Null);
    let metadata: Option<ObjectMeta> = typed::read(metadata, Unknown::Note, &mut inner);
    faults.extend(inner.into_iter().map(|fault| fault.within(&Field::from("metadata"))));
    let metadata = metadata?;
    let owners = metadata.owner_references.unwrap_or_default();
    let mut owners = owners.into_iter().filter(|owner| owner.controller == Some(true));
    let deployment = owners.find(|owner| owner.kind == "Deployment")?.name;
    let hash = metadata.labels.unwrap_or_default().remove(HASH)?;
    let annotations = metadata.annotations.unwrap_or_default();
    let said = |name: &str| annotations.get(name)?.parse::<u64>().ok();
    let replicas = || value.pointer("/spec/replicas").and_then(Value::as_u64);
    Some(Object::ReplicaSet(Arc::new(ReplicaSet {
        name: name.clone(),
        deployment,
        hash,
        revision: said(REVISION).unwrap_or(0),
        wanted: said(DESIRED)
            .or_else(replicas)
            .map_or(1, |wanted| u32::try_from(wanted).unwrap_or(u32::MAX)),
    })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert::convert;

    fn set(metadata: Value, replicas: Option<u32>) -> Option<Arc<ReplicaSet>> {
        let mut value =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata});
        if let Some(replicas) = replicas {
            // `cpu: 1` is text to Kubernetes; what is in a template is not looked at.
            let container = json!({"name": "a", "resources": {"limits": {"cpu": 1}}});
            let template = json!({"spec": {"containers": [container]}});
            value["spec"] = json!({"replicas": replicas, "selector": {}, "template": template});
        }
        let outcome = convert(&value);
        assert_eq!(outcome.faults, []);
        match outcome.object {
            Some(Object::ReplicaSet(set)) => Some(set),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_controller_says_whose_it_is_and_which_template_is_newer() {
        let owner = |kind| json!([{"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "u", "controller": true}]);
        let mut metadata = json!({
            "namespace": "shop", "name": "web-7d9c", "ownerReferences": owner("Deployment"),
            "labels": {"pod-template-hash": "7d9c"},
        });
        for (annotations, replicas, revision, wanted) in [
            (json!({REVISION: "12", DESIRED: "10"}), Some(2), 12, 10),
            (json!({REVISION: "12", DESIRED: "10"}), None, 12, 10),
            (json!({REVISION: "12"}), Some(0), 12, 0),
            (json!({REVISION: "12", DESIRED: "-1"}), Some(2), 12, 2),
            (json!({REVISION: "twelve"}), None, 0, 1),
            (Value::Null, Some(2), 0, 2),
        ] {
            metadata["annotations"] = annotations.clone();
            let expected = ReplicaSet {
                name: Name::new("shop", "web-7d9c"),
                deployment: "web".to_owned(),
                hash: "7d9c".to_owned(),
                revision,
                wanted,
            };
            let found = set(metadata.clone(), replicas);
            assert_eq!(found.as_deref(), Some(&expected), "{annotations} {replicas:?}");
        }
        let mut other = metadata.clone();
        other["ownerReferences"][0]["controller"] = json!(false);
        assert_eq!(set(other, None), None, "an owner that is not its controller");
        let mut other = metadata.clone();
        other["ownerReferences"] = owner("Rollout");
        assert_eq!(set(other, Some(2)), None);
        metadata.as_object_mut().unwrap().remove("ownerReferences");
        assert_eq!(set(metadata, Some(2)), None, "one of a user's");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": "shop", "name": "a", "annotations": {REVISION: 1}},
        });
        let faults = convert(&value).faults;
        assert!(faults[0].field.to_string().starts_with("metadata.annotations"), "{faults:?}");
    }
}
