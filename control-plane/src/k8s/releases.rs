//! Where releases are, in their objects' status: what it says of conditions another writes, [`super::statuses`].

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    MANAGER,
    book::{Book, Page},
    conflict, kinds, not_found,
    raw::Raw,
};
use crate::{
    release::Course,
    steer::{Keep, Kept, NotKept},
    world::objects::{Kind, Name, ObjectRef},
};

/// Writes to the API server.
pub struct Statuses {
    pub(super) client: Client,
    pub(super) book: Book,
}

#[tonic::async_trait]
impl Keep for Statuses {
    async fn keep(&self, release: &Name, kept: &Kept) -> Result<(), NotKept> {
        let object = ObjectRef { kind: Kind::Release, name: release.clone() };
        let page = self.book.get(&object).ok_or(NotKept::Changed)?;
        if page.uid != kept.uid || written(&page.status) != kept.over {
            return Err(NotKept::Changed);
        }
        let resource = kinds::newest(Kind::Release).ok_or(NotKept::Changed)?;
        let api: Api<Raw> =
            Api::namespaced_with(self.client.clone(), &release.namespace, &resource);
        let patch = json!({
            "metadata": {"resourceVersion": page.resource_version, "uid": page.uid},
            "status": told(kept)?,
        });
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(&release.name, &params, &Patch::Merge(&patch)).await {
            Ok(became) => {
                self.book.set(&object, Some(Page::of(&became.value)));
                Ok(())
            }
            Err(error) if conflict(&error) || not_found(&error) => Err(NotKept::Changed),
            Err(error) => Err(NotKept::Failed(error.to_string())),
        }
    }
}

/// What is said, and of what is not said any more that it is not: a merge patch leaves what it does not name.
fn told(kept: &Kept) -> Result<Value, NotKept> {
    let failed = |error: serde_json::Error| NotKept::Failed(error.to_string());
    let mut status = serde_json::to_value(&kept.status).map_err(failed)?;
    for field in ["stepStartedAt", "verdicts", "history"] {
        if status.get(field).is_none() {
            status[field] = Value::Null;
        }
    }
    Ok(status)
}

/// How often a status has been written; what cannot be read is as if it had never been.
fn written(status: &Value) -> u64 {
    let memory = status.get("memory").and_then(Value::as_str).unwrap_or_default();
    serde_json::from_str::<Course>(memory).map_or(0, |course| course.written)
}

impl std::fmt::Debug for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statuses").finish_non_exhaustive()
    }
}
