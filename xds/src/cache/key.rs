//! What is published is known by: kind, name and dialect; and who sees which variant of it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    model::{Features, Kind},
    protocol::WILDCARD,
};

/// Which clients a resource is made for. The same name may need other bytes for another dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Dialect {
    /// Our own proxy, as it is today.
    Tulle,
    /// Our own proxy of another version, which understands these features.
    Other(Features),
    /// Stock Envoy, as a sidecar.
    Envoy,
    /// gRPC without a proxy.
    Grpc,
}

impl Dialect {
    /// That of our own proxy with these features.
    pub fn of(features: Features) -> Self {
        if features == Features::default() { Self::Tulle } else { Self::Other(features) }
    }
}

/// Who looks at what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What it understands.
    pub dialect: Dialect,
    /// Namespace of its pod, as its certificate proves.
    pub namespace: Arc<str>,
}

impl View {
    /// The view of a client in `namespace`.
    pub fn new(dialect: Dialect, namespace: impl Into<Arc<str>>) -> Self {
        Self { dialect, namespace: namespace.into() }
    }
}

/// What a key stands for. From `Option<Bytes>`: the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// For whoever is not in `by_caller`; `None`: there is no such resource.
    pub shared: Option<Bytes>,
    /// For callers in these namespaces, in place of `shared`: only where a consumer route makes a
    /// difference.
    pub by_caller: BTreeMap<Arc<str>, Option<Bytes>>,
}

impl From<Option<Bytes>> for Contents {
    fn from(shared: Option<Bytes>) -> Self {
        Self { shared, by_caller: BTreeMap::new() }
    }
}

/// What is published: a resource for a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// Kind of the resource.
    pub kind: Kind,
    /// Its name.
    #[serde(serialize_with = "as_str")]
    pub name: Arc<str>,
    /// For whom.
    pub dialect: Dialect,
}

impl Key {
    /// The key of a resource for our own proxy.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into(), dialect: Dialect::Tulle }
    }

    /// Everything of this key's kind.
    #[must_use]
    pub fn wildcard(&self) -> Self {
        Self { name: WILDCARD.into(), ..self.clone() }
    }

    pub(super) fn group(&self) -> (Kind, Dialect) {
        (self.kind, self.dialect)
    }
}

fn as_str<S: serde::Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}
