//! What the encodings share: paths for errors, the small messages, and the check that nothing on
//! the wire is left over.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use envoy_types::pb::{
    envoy::config::core::v3 as core,
    google::protobuf::{Any, BoolValue, Duration as ProtoDuration, UInt32Value},
};
use prost::{Message, Name};
use tulle_proto::xds::v1 as ours;

use super::{BadSpiffeId, Invalid, Origin, Protocol, Setter};

/// Under which key our own metadata rides on Envoy's messages.
const METADATA_KEY: &str = "dev.tulle";

/// `"type.googleapis.com/"` and our package.
const OURS: &str = "type.googleapis.com/tulle.xds.v1.";

/// A protobuf duration ends here: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// What is wrong with a field: the path grows from the inside out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    path: String,
    reason: String,
}

pub(super) type Result<T> = std::result::Result<T, Bad>;

/// `reason`, for a field that the callers name with [`At::at`].
pub(super) fn bad(reason: impl Into<String>) -> Bad {
    Bad { path: String::new(), reason: reason.into() }
}

/// Something that is not there and must be.
pub(super) fn missing() -> Bad {
    bad("must be set")
}

/// Names the field that an error is about.
pub(super) trait At<T> {
    /// Inside of `field`.
    fn at(self, field: &str) -> Result<T>;
    /// Inside of element `index` of the list `field`.
    fn at_index(self, field: &str, index: usize) -> Result<T>;
}

impl<T, E: Into<Bad>> At<T> for std::result::Result<T, E> {
    fn at(self, field: &str) -> Result<T> {
        self.map_err(|e| e.into().inside(field))
    }

    fn at_index(self, field: &str, index: usize) -> Result<T> {
        self.map_err(|e| e.into().inside(&format!("{field}[{index}]")))
    }
}

impl<T> At<T> for Option<T> {
    fn at(self, field: &str) -> Result<T> {
        self.ok_or_else(missing).at(field)
    }

    fn at_index(self, field: &str, index: usize) -> Result<T> {
        self.ok_or_else(missing).at_index(field, index)
    }
}

impl Bad {
    fn inside(self, field: &str) -> Self {
        let path = match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{field}.{path}"),
        };
        Self { path, ..self }
    }
}

impl From<prost::DecodeError> for Bad {
    fn from(error: prost::DecodeError) -> Self {
        bad(format!("no such message: {error}"))
    }
}

/// Decodes a whole resource: `read` makes the value, `write` says what the message would be for it.
/// Whatever the message says beyond that is an error, so nothing that would change behaviour is
/// skipped; `write` is given the message to repeat from it what does not change any.
pub(super) fn decode<M: Message + Default + PartialEq + fmt::Debug, T>(
    name: &str,
    bytes: &[u8],
    read: impl FnOnce(&M) -> Result<T>,
    write: impl FnOnce(&T, &M) -> M,
) -> std::result::Result<T, Invalid> {
    let decoded = || {
        let message: M = whole(bytes)?;
        let value = read(&message)?;
        nothing_else(&message, &write(&value, &message))?;
        Ok(value)
    };
    decoded().map_err(|Bad { path, reason }| Invalid {
        resource: name.to_owned(),
        field: if path.is_empty() { "message".to_owned() } else { path },
        reason,
    })
}

/// A message without fields that this version does not know.
fn whole<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    let message = M::decode(bytes)?;
    // What protobuf does not know it skips, and then the message is shorter than what was read.
    if message.encoded_len() == bytes.len() {
        Ok(message)
    } else {
        Err(bad("has fields that this version does not know"))
    }
}

/// That `message` says what `expected` says and nothing else.
fn nothing_else<M: PartialEq + fmt::Debug>(message: &M, expected: &M) -> Result<()> {
    if message == expected {
        return Ok(());
    }
    let path = super::difference::first(message, expected);
    Err(Bad { path, reason: "says something that is not supported here".to_owned() })
}

/// That the announced name is the one in the message.
pub(super) fn same_name(announced: &str, name: &str) -> Result<String> {
    if announced == name {
        Ok(name.to_owned())
    } else {
        Err(bad(format!("is {name:?} in a resource announced as {announced:?}"))).at("name")
    }
}

pub(super) fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(super) fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M> {
    if any.type_url != M::type_url() {
        return Err(bad(format!("is a {}; a {} is supported here", any.type_url, M::type_url())));
    }
    whole(&any.value)
}

/// Our metadata `message`, whose type is called `name`.
pub(super) fn metadata(name: &str, message: &impl Message) -> Option<core::Metadata> {
    let any = Any { type_url: format!("{OURS}{name}"), value: message.encode_to_vec() };
    let typed_filter_metadata = [(METADATA_KEY.to_owned(), any)].into();
    Some(core::Metadata { typed_filter_metadata, ..core::Metadata::default() })
}

/// Our metadata of type `name`; without any, that which says nothing.
pub(super) fn read_metadata<M: Message + Default>(
    name: &str,
    metadata: Option<&core::Metadata>,
) -> Result<M> {
    let Some(any) = metadata.and_then(|m| m.typed_filter_metadata.get(METADATA_KEY)) else {
        return Ok(M::default());
    };
    let read = match any.type_url.strip_prefix(OURS) {
        Some(found) if found == name => whole(&any.value),
        _ => Err(bad(format!("is a {}; a {OURS}{name} is supported here", any.type_url))),
    };
    read.at("metadata.typed_filter_metadata[dev.tulle]")
}

pub(super) fn origin(origin: &Origin) -> Option<ours::Origin> {
    let Origin { kind, namespace, name, rule } = origin.clone();
    Some(ours::Origin { kind, namespace, name, rule })
}

pub(super) fn read_origin(origin: Option<ours::Origin>) -> Origin {
    let ours::Origin { kind, namespace, name, rule } = origin.unwrap_or_default();
    Origin { kind, namespace, name, rule }
}

pub(super) fn setters(setters: &[Setter]) -> Vec<ours::Setter> {
    let message = |setter: &Setter| ours::Setter {
        field: setter.field.clone(),
        origin: origin(&setter.origin),
    };
    setters.iter().map(message).collect()
}

pub(super) fn read_setters(setters: Vec<ours::Setter>) -> Vec<Setter> {
    let read = |ours::Setter { field, origin }| Setter { field, origin: read_origin(origin) };
    setters.into_iter().map(read).collect()
}

pub(super) fn protocol(protocol: Protocol) -> i32 {
    let protocol = match protocol {
        Protocol::Detect => ours::Protocol::Unspecified,
        Protocol::Http => ours::Protocol::Http,
        Protocol::Http2 => ours::Protocol::Http2,
        Protocol::Grpc => ours::Protocol::Grpc,
        Protocol::Tcp => ours::Protocol::Tcp,
    };
    protocol.into()
}

pub(super) fn read_protocol(number: i32) -> Result<Protocol> {
    let protocol = ours::Protocol::try_from(number)
        .map_err(|_unknown| bad(format!("{number} is no protocol that this version knows")))?;
    Ok(match protocol {
        ours::Protocol::Unspecified => Protocol::Detect,
        ours::Protocol::Http => Protocol::Http,
        ours::Protocol::Http2 => Protocol::Http2,
        ours::Protocol::Grpc => Protocol::Grpc,
        ours::Protocol::Tcp => Protocol::Tcp,
    })
}

/// `NAMESPACE/NAME` in its two parts.
pub(super) fn read_pair(text: &str) -> Result<(String, String)> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(bad(format!("{text:?} is not of the form NAMESPACE/NAME"))),
    }
}

pub(super) fn not_an_id(error: BadSpiffeId) -> Bad {
    bad(error.to_string())
}

pub(super) fn read_port(number: u32) -> Result<u16> {
    u16::try_from(number).map_err(|_large| bad(format!("{number} is no port")))
}

pub(super) fn address(address: SocketAddr) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(address.port().into())),
        ..core::SocketAddress::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

pub(super) fn read_address(address: Option<&core::Address>) -> Result<SocketAddr> {
    let Some(core::address::Address::SocketAddress(socket)) =
        address.and_then(|a| a.address.as_ref())
    else {
        return Err(bad("must be a socket_address"));
    };
    let ip = socket
        .address
        .parse()
        .map_err(|_invalid| bad(format!("{:?} is no IP address", socket.address)))
        .at("socket_address.address")?;
    let Some(core::socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return Err(missing()).at("socket_address.port_value");
    };
    Ok(SocketAddr::new(ip, read_port(port).at("socket_address.port_value")?))
}

/// "Ask for it on this stream."
pub(super) fn ads() -> Option<core::ConfigSource> {
    use core::config_source::ConfigSourceSpecifier::Ads;
    Some(core::ConfigSource {
        config_source_specifier: Some(Ads(core::AggregatedConfigSource {})),
        resource_api_version: core::ApiVersion::V3.into(),
        ..core::ConfigSource::default()
    })
}

pub(super) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn duration(duration: Duration) -> Option<ProtoDuration> {
    let seconds = duration.as_secs().min(MAX_SECONDS);
    Some(ProtoDuration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    })
}

/// A duration that is not negative.
pub(super) fn read_duration(duration: Option<&ProtoDuration>) -> Result<Duration> {
    let ProtoDuration { seconds, nanos } = duration.ok_or_else(missing)?;
    match (u64::try_from(*seconds), u32::try_from(*nanos)) {
        (Ok(seconds @ 0..=MAX_SECONDS), Ok(nanos @ 0..=999_999_999)) => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(bad(format!("{seconds} s and {nanos} ns is no duration from 0 to 10,000 years"))),
    }
}

/// Every text of the list `field`, as an address or a range of addresses.
pub(super) fn read_list<T: FromStr>(field: &str, texts: &[String]) -> Result<Vec<T>> {
    let read = |(i, text): (usize, &String)| {
        let invalid = |_invalid| bad(format!("{text:?} is no address or range of addresses"));
        text.parse().map_err(invalid).at_index(field, i)
    };
    texts.iter().enumerate().map(read).collect()
}
