//! What the API server holds of the objects whose status we write: as last seen by the watches.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::world::objects::ObjectRef;

/// What is known of each object. The source writes it, whoever writes statuses reads it. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pages: Mutex<HashMap<ObjectRef, Page>>,
    changed: Notify,
}

/// An object, as far as writing its status goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Page {
    pub(super) api_version: String,
    pub(super) uid: String,
    /// Writing against an older one is refused, and tried again with what is there by then.
    pub(super) resource_version: String,
    pub(super) status: Value,
    /// As `observedGeneration` has it.
    pub(super) generation: Value,
    /// The Services that a route names as its parents, as it names them.
    pub(super) parents: Vec<Value>,
}

impl Page {
    pub(super) fn of(object: &Value) -> Self {
        let text = |pointer| {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let parents = object.pointer("/spec/parentRefs").and_then(Value::as_array);
        let service = |parent: &&Value| parent["group"] == "" && parent["kind"] == "Service";
        Self {
            api_version: text("/apiVersion"),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
            status: object.get("status").cloned().unwrap_or_default(),
            generation: object.pointer("/metadata/generation").cloned().unwrap_or_default(),
            parents: parents.into_iter().flatten().filter(service).cloned().collect(),
        }
    }
}

impl Book {
    pub(super) fn set(&self, object: &ObjectRef, page: Option<Page>) {
        let mut pages = self.0.pages.lock();
        let changed = match page {
            Some(page) => {
                pages.get(object) != Some(&page) && {
                    pages.insert(object.clone(), page);
                    true
                }
            }
            None => pages.remove(object).is_some(),
        };
        drop(pages);
        if changed {
            self.0.changed.notify_one();
        }
    }

    pub(super) fn get(&self, object: &ObjectRef) -> Option<Page> {
        self.0.pages.lock().get(object).cloned()
    }

    /// Resolves once something has changed since this was asked last.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }
}
