//! What is published is known by: kind, name and dialect; and who sees which variant of it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    model::{Features, Here, Kind},
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
    /// Where its pod is.
    pub here: Here,
}

impl View {
    /// The view of a client in `namespace`, wherever it is.
    pub fn new(dialect: Dialect, namespace: impl Into<Arc<str>>) -> Self {
        Self { dialect, namespace: namespace.into(), here: Here::default() }
    }
}

/// What a key stands for; `None`: there is no such resource. From `Option<Bytes>`: the same for everybody.
pub type Contents = Variants<Option<Bytes>>;

/// One thing for most clients, and others for some, in place of it. A key differs by namespace or by place, not by both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variants<T> {
    /// For whoever is not named below.
    pub shared: T,
    /// For clients in these namespaces: only where a consumer route makes a difference.
    pub by_namespace: BTreeMap<Arc<str>, T>,
    /// For clients on these nodes, and for others in these zones: only where endpoints are for those who are near, and the
    /// client does not choose itself.
    pub by_node: BTreeMap<Arc<str>, T>,
    /// The same, by zone.
    pub by_zone: BTreeMap<Arc<str>, T>,
}

impl<T> Variants<T> {
    pub(super) fn of(&self, view: &View) -> &T {
        let by_place = self.by_node.get(&*view.here.node);
        let by_place = by_place.or_else(|| self.by_zone.get(&*view.here.zone));
        by_place.or_else(|| self.by_namespace.get(&view.namespace)).unwrap_or(&self.shared)
    }

    pub(super) fn map<U>(self, to: impl Fn(T) -> U) -> Variants<U> {
        let all = |some: BTreeMap<Arc<str>, T>| some.into_iter().map(|(k, v)| (k, to(v))).collect();
        Variants {
            by_namespace: all(self.by_namespace),
            by_node: all(self.by_node),
            by_zone: all(self.by_zone),
            shared: to(self.shared),
        }
    }
}

impl<T: Default> From<T> for Variants<T> {
    fn from(shared: T) -> Self {
        Self { shared, ..Self::default() }
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
