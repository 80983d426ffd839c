//! An object as the API server sent it.

use std::borrow::Cow;

use futures_util::{StreamExt, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::{ApiResource, DynamicResourceScope, ObjectList, Request},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An object of any kind, as JSON: it is converted once, by the code that converts files too.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) value: Value,
    /// Of it, what listing and watching needs.
    metadata: ObjectMeta,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // Half of an object's bytes, and nobody's business here.
            metadata.remove("managedFields");
        }
        let text = |name: &str| {
            let pointer = format!("/metadata/{name}");
            value.pointer(&pointer).and_then(Value::as_str).map(str::to_owned)
        };
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { value, metadata })
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Raw {
    /// The object with the kind that objects of a list do not say.
    pub(super) fn of(mut self, resource: &ApiResource) -> Value {
        if let Some(object) = self.value.as_object_mut() {
            object.insert("apiVersion".to_owned(), resource.api_version.clone().into());
            object.insert("kind".to_owned(), resource.kind.clone().into());
        }
        self.value
    }

    /// The version of the object, for the server; empty if it says none.
    pub(super) fn resource_version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

/// What a watch says.
pub(super) type Events = BoxStream<'static, kube::Result<WatchEvent<Raw>>>;

/// All objects of a kind, at the API server.
pub(super) struct Objects {
    client: Client,
    request: Request,
    /// Or with their metadata only.
    whole: bool,
}

impl Objects {
    pub(super) fn new(client: Client, kind: &ApiResource, whole: bool) -> Self {
        Self { client, request: Request::new(Raw::url_path(kind, None)), whole }
    }

    pub(super) async fn watch(&self, params: &WatchParams, from: &str) -> kube::Result<Events> {
        let request = match self.whole {
            true => self.request.watch(params, from),
            false => self.request.watch_metadata(params, from),
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request_events(request).await?.boxed())
    }

    pub(super) async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<Raw>> {
        let request = match self.whole {
            true => self.request.list(params),
            false => self.request.list_metadata(params),
        };
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }
}
