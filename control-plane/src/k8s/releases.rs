//! Where releases are, in their objects' status: what it says of conditions another writes, [`super::statuses`].

use kube::Client;
use serde_json::Value;

use super::{book::Book, conflict, not_found, statuses};
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
        match statuses::patch(&self.client, &object, &page, told(kept)?).await {
            Ok(became) => {
                self.book.set(&object, Some(became));
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
