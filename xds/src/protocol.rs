//! What the two ends say to one another, without Envoy's messages around it.
//!
//! The delta ("incremental") variant of xDS over one aggregated stream, after
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>: each kind of resource is a
//! conversation of its own, and nothing is said twice that the other side already knows.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use crate::model::{Features, Kind};

/// Longest name that either side accepts, in bytes.
pub const MAX_NAME: usize = 512;

/// In place of a name: all resources of the kind.
pub const WILDCARD: &str = "*";

/// Names that one session may subscribe to, all kinds together.
pub const MAX_SUBSCRIPTIONS: usize = 100_000;

/// Payload of one message stays below this, so that the message stays below gRPC's default limit
/// of 4 MiB. A single resource above it is sent alone.
pub const MAX_PAYLOAD: usize = (4 << 20) - (256 << 10);

/// Longest text of a NACK that is sent or kept, in bytes.
pub const MAX_NACK: usize = 4 << 10;

/// Which content a resource has: a hash of its bytes, so that it is the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(Arc<str>);

impl Version {
    /// The version with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Its text, as on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How our own proxy calls itself.
pub(crate) const PROGRAM: &str = "tulle-proxy";

/// Who opened a stream, in its own words: nothing here is proven.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Node {
    /// `NAMESPACE/POD`.
    pub id: String,
    /// Version of the program.
    pub version: String,
    /// What it understands, if it is our own proxy.
    pub features: Features,
}

/// From client to server: `DeltaDiscoveryRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which conversation.
    pub kind: Kind,
    /// On the first request of a stream.
    pub node: Option<Node>,
    /// Names that the client wants from now on, or wants again.
    pub subscribe: Vec<String>,
    /// Names that it does not want any more.
    pub unsubscribe: Vec<String>,
    /// What it already has, of the names in `subscribe`: only after a reconnection.
    pub versions: Vec<(String, Version)>,
    /// The answer to a response.
    pub answer: Option<Answer>,
}

/// ACK or NACK of a [`Response`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of the response.
    pub nonce: String,
    /// `None` is an ACK. A NACK has one line for each rejected resource, `NAME: FIELD: REASON`;
    /// resources that no line names were accepted, unless no line names any.
    pub error: Option<String>,
}

/// From server to client: `DeltaDiscoveryResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Which conversation.
    pub kind: Kind,
    /// To be repeated in the answer.
    pub nonce: String,
    /// New or changed.
    pub resources: Vec<Received>,
    /// Gone, or never there.
    pub removed: Vec<String>,
}

/// A resource as it came: not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its message, without the `Any` around it: for [`Resource::decode`](crate::model::Resource::decode).
    pub bytes: Bytes,
}
