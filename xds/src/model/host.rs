use std::net::IpAddr;

use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::{Invalid, Origin, wire};

/// The addresses of a name of the cluster, for DNS in the sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The name, in lower case and without the last dot: `reviews.shop.svc.cluster.local`.
    pub name: String,
    /// Its addresses, of both IP versions, in order.
    pub addresses: Vec<IpAddr>,
    /// The object that the name stands for.
    pub origin: Origin,
}

impl Host {
    /// The bytes of our message, the same for equal hosts.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Reads our message.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, it has another name, or it says something that
    /// this type cannot.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, Invalid> {
        wire::decode(name, bytes, |message| Self::read(name, message), |value, _| value.message())
    }

    fn message(&self) -> ours::Host {
        ours::Host {
            name: self.name.clone(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            origin: wire::origin(&self.origin),
        }
    }

    fn read(announced: &str, message: &ours::Host) -> wire::Result<Self> {
        Ok(Self {
            name: wire::same_name(announced, &message.name)?,
            addresses: wire::read_list("addresses", &message.addresses)?,
            origin: wire::read_origin(message.origin.clone()),
        })
    }
}
