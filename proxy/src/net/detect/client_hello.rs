//! The little of a ClientHello that decides where a connection goes.
//!
//! RFC 8446, 4.1.2 and 5.1; SNI: RFC 6066, 3; ALPN: RFC 7301, 3.1. A hello may be cut into several
//! records, and post-quantum key shares make it longer than a segment.

/// What a TLS client says first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server name, if it is ASCII.
    pub server_name: Option<String>,
    /// The protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientHello {
    /// Whether one of our own protocols is offered: the peer is a sidecar.
    pub fn is_sidecar(&self) -> bool {
        self.alpn.iter().any(|protocol| protocol.starts_with(b"tulle-"))
    }
}

/// Longest handshake message that is looked at.
const LONGEST: usize = 64 << 10;

/// `None` if more bytes are needed; `Some(None)` if this is no ClientHello. One whose inside is
/// malformed is a hello that offers nothing: its server will say what is wrong.
pub(super) fn parse(seen: &[u8]) -> Option<Option<ClientHello>> {
    let message = match handshake_message(seen) {
        Handshake::Whole(message) => message,
        Handshake::Incomplete => return None,
        Handshake::Other => return Some(None),
    };
    Some(Some(body(&message).unwrap_or_default()))
}

enum Handshake {
    Whole(Vec<u8>),
    Incomplete,
    Other,
}

/// The body of the first handshake message, put together from its records.
fn handshake_message(mut records: &[u8]) -> Handshake {
    let mut message = Vec::new();
    loop {
        // type (22, handshake), version (3, any), length.
        let header = &records[..records.len().min(5)];
        let is_handshake = header.first().is_none_or(|&b| b == 0x16)
            && header.get(1).is_none_or(|&b| b == 3)
            && header.get(2).is_none_or(|&b| b <= 4);
        if !is_handshake {
            return Handshake::Other;
        }
        let &[_, _, _, high, low] = header else {
            return Handshake::Incomplete;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > 1 << 14 {
            return Handshake::Other;
        }
        let rest = &records[5..];
        message.extend_from_slice(&rest[..length.min(rest.len())]);
        if message.first().is_some_and(|&kind| kind != 1) {
            return Handshake::Other;
        }
        if let Some(&[_, a, b, c]) = message.first_chunk::<4>() {
            let whole = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if whole > LONGEST {
                return Handshake::Other;
            }
            if message.len() >= 4 + whole {
                message.truncate(4 + whole);
                message.drain(..4);
                return Handshake::Whole(message);
            }
        }
        if rest.len() <= length {
            return Handshake::Incomplete;
        }
        records = &rest[length..];
    }
}

fn body(message: &[u8]) -> Option<ClientHello> {
    let mut rest = Bytes(message);
    rest.take(2 + 32)?; // legacy_version, random
    rest.vector8()?; // legacy_session_id
    rest.vector16()?; // cipher_suites
    rest.vector8()?; // legacy_compression_methods
    let mut hello = ClientHello::default();
    let mut extensions = Bytes(rest.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = Bytes(extensions.vector16()?);
        match kind {
            0 => hello.server_name = server_name(data.vector16()?),
            16 => {
                let mut names = Bytes(data.vector16()?);
                while !names.0.is_empty() {
                    hello.alpn.push(names.vector8()?.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The first name of type `host_name`.
fn server_name(list: &[u8]) -> Option<String> {
    let mut list = Bytes(list);
    while let Some(&[kind]) = list.take(1) {
        let name = list.vector16()?;
        if kind == 0 {
            let text = std::str::from_utf8(name).ok()?;
            return text.bytes().all(|b| b.is_ascii_graphic()).then(|| text.to_owned());
        }
    }
    None
}

/// A reader of TLS's presentation language: each step is `None` beyond the end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let n = usize::from(*self.take(1)?.first()?);
        self.take(n)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let n = usize::from(self.u16()?);
        self.take(n)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(bytes);
        out
    }

    /// A hello with these protocols and so much padding, in records of `cut` bytes.
    pub(crate) fn hello(alpn: &[&[u8]], padding: usize, cut: usize) -> Vec<u8> {
        let mut names = Vec::new();
        for name in alpn {
            names.push(u8::try_from(name.len()).unwrap());
            names.extend_from_slice(name);
        }
        let mut host = vec![0];
        host.extend(vector16(b"reviews.example"));
        let extensions: Vec<u8> =
            [(0u16, vector16(&host)), (51, vec![0; padding]), (16, vector16(&names))]
                .iter()
                .flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), vector16(data)].concat())
                .collect();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(vector16(&[0x13, 1]));
        body.extend([1, 0]);
        body.extend(vector16(&extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1, length[1], length[2], length[3]], &body[..]].concat();
        message.chunks(cut).flat_map(|c| [&[0x16, 3, 1][..], &vector16(c)].concat()).collect()
    }

    #[test]
    fn a_long_hello_in_small_records_is_understood() {
        let bytes = hello(&[b"tulle-h2"], 1800, 500);
        let hello = parse(&bytes).unwrap().unwrap();
        assert!(hello.is_sidecar());
        assert_eq!(hello.server_name.as_deref(), Some("reviews.example"));
    }

    proptest! {
        #[test]
        fn any_part_of_a_hello_needs_more(
            padding in 0usize..3000, cut in 1usize..4000, part in 0.0f64..1.0, sidecar: bool,
        ) {
            let name: &[u8] = if sidecar { b"tulle-tcp" } else { b"h2" };
            let bytes = hello(&[b"http/1.1", name], padding, cut);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a length")]
            let n = (bytes.len() as f64 * part) as usize;
            prop_assert_eq!(parse(&bytes[..n]), None);
            prop_assert_eq!(parse(&bytes).unwrap().unwrap().is_sidecar(), sidecar);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _answer = parse(&[&[0x16, 3, 1, 0, 200, 1, 0, 0, 196][..], &bytes].concat());
        }
    }
}
