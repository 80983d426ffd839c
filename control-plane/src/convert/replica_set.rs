//! ReplicaSet: which template of a Deployment is the one that is wanted.

use std::sync::Arc;

use k8s_openapi::api::apps::v1;
use serde_json::Value;

use super::{
    Fault, Name,
    typed::{self, Unknown},
};
use crate::world::objects::{Object, ReplicaSet};

/// Written by the Deployment's controller.
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const HASH: &str = "pod-template-hash";

/// One that belongs to no Deployment is none of our business.
pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let set: v1::ReplicaSet = typed::read(value, Unknown::Note, faults)?;
    let owners = set.metadata.owner_references.unwrap_or_default();
    let mut owners = owners.into_iter().filter(|owner| owner.controller == Some(true));
    let deployment = owners.find(|owner| owner.kind == "Deployment")?.name;
    let hash = set.metadata.labels.unwrap_or_default().remove(HASH)?;
    let annotations = set.metadata.annotations.unwrap_or_default();
    let said = |name: &str| annotations.get(name).and_then(|number| number.parse().ok());
    let replicas = set.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    Some(Object::ReplicaSet(Arc::new(ReplicaSet {
        name: name.clone(),
        deployment,
        hash,
        revision: said(REVISION).unwrap_or(0),
        wanted: said(DESIRED)
            .and_then(|wanted| u32::try_from(wanted).ok())
            .unwrap_or_else(|| u32::try_from(replicas).unwrap_or(0)),
    })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert::convert;

    fn set(metadata: Value) -> Option<Arc<ReplicaSet>> {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata,
            "spec": {"replicas": 2, "selector": {}},
        });
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
            "annotations": {REVISION: "12", DESIRED: "10"},
        });
        let wanted = ReplicaSet {
            name: Name::new("shop", "web-7d9c"),
            deployment: "web".to_owned(),
            hash: "7d9c".to_owned(),
            revision: 12,
            wanted: 10,
        };
        assert_eq!(set(metadata.clone()).as_deref(), Some(&wanted));
        metadata["annotations"] = json!({});
        let bare = set(metadata.clone()).unwrap();
        assert_eq!((bare.revision, bare.wanted), (0, 2));
        metadata["ownerReferences"] = owner("Rollout");
        assert_eq!(set(metadata), None);
    }
}
